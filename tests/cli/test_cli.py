"""The command line: help, errors in one sentence, exit codes, the simulator in a terminal."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from prefect_docjobs import __version__
from prefect_docjobs.cli import main
from prefect_docjobs.cli.exits import CommandFailed, guarded
from prefect_docjobs.errors import DocJobsError, InvalidDocument, Unavailable
from prefect_docjobs.providers import PROVIDERS

PROGRAM = (sys.executable, "-m", "prefect_docjobs.cli")


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


class TestHelp:
    def test_it_lists_the_commands_and_nothing_that_does_not_exist(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["--help"]) == 0
        listed = re.findall(r"^│ (\w+)  ", capsys.readouterr().out, re.MULTILINE)
        assert listed == ["demo", "extract", "simulate", "providers", "jobs", "webhooks", "watch"]

    def test_no_command_at_all_shows_it(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([]) == 0
        assert "Usage: prefect-docjobs" in capsys.readouterr().out

    @pytest.mark.parametrize(
        "command", ["demo", "extract", "simulate", "providers", "jobs", "webhooks", "watch"]
    )
    def test_each_option_is_explained(self, command: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([command, "--help"]) == 0
        options = re.findall(
            r"^│ (?:\* )?\s*(?:[A-Z]+ )?--([\w-]+) *(.*?)│$", capsys.readouterr().out, re.MULTILINE
        )
        assert options
        assert all(text.strip() for _, text in options), options

    def test_it_fits_into_eighty_columns(self, capsys: pytest.CaptureFixture[str]) -> None:
        main(["simulate", "--help"])
        assert max(map(len, capsys.readouterr().out.splitlines())) <= 80

    def test_it_is_there_at_once_and_without_prefect(self) -> None:
        code = (
            "import sys, time\n"
            "from prefect_docjobs.cli import main\n"
            "main(['--help'])\n"
            "print('prefect' in sys.modules, time.process_time(), file=sys.stderr)\n"
        )
        runs = [
            subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True
            ).stderr.split()
            for _ in range(3)
        ]
        assert {imported for imported, _ in runs} == {"False"}
        assert min(float(seconds) for _, seconds in runs) < 1.0

    def test_the_version_is_the_package_s(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--version"]) == 0
        assert capsys.readouterr().out == f"{__version__}\n"


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (["webhook"], 'Unknown command "webhook"'),
            (["extract", "a.pdf"], "--job requires an argument"),
            (["extract", "--job", "mindee-job/invoices"], "There is no document"),
            (["extract", "a.pdf", "--job", "mindee-job/x", "--timeout", "0"], "--timeout needs a number"),
            (["simulate", "--port", "many"], 'unable to convert "many" into int'),
            (["simulate", "--port", "70000"], "There is no port 70000"),
            (["simulate", "--failed-share", "3"], "failed_share: Input should be less than or equal to 1"),
            (["simulate", "--set", "faults.status.gone=1"], "no setting faults.status.gone"),
            (["simulate", "--set", "seed"], "--set takes NAME=VALUE"),
            (["demo", "--folder", "no-such-folder"], "no-such-folder does not exist"),
        ],
    )
    def test_wrong_use_is_one_sentence_and_exit_code_2(
        self, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(arguments) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.startswith("prefect-docjobs: ")
        assert sentence in told.err
        assert told.err.count("\n") == 1

    def test_a_folder_without_documents_is_wrong_use(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["demo", "--folder", str(tmp_path)]) == 2
        assert "There is no document in" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("problem", "code", "said"),
        [
            (CommandFailed("Two of three have no result."), 1, "Two of three have no result."),
            (InvalidDocument("a.pdf is empty."), 2, "a.pdf is empty."),
            (Unavailable("No connection.", provider="mindee"), 1, "No connection. [mindee]"),
            (DocJobsError("It is over."), 1, "It is over."),
            (KeyError("surprise"), 1, "KeyError: 'surprise' (--debug shows where)"),
            (KeyboardInterrupt(), 130, "Stopped."),
        ],
    )
    def test_every_way_to_fail_has_its_sentence_and_code(
        self, problem: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def fail() -> None:
            raise problem

        assert guarded(fail) == code
        assert capsys.readouterr().err == f"prefect-docjobs: {said}\n"

    def test_debug_shows_the_traceback(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["simulate", "--failed-share", "3", "--debug"]) == 2
        told = capsys.readouterr().err
        assert told.startswith("Traceback")
        assert told.splitlines()[-1].startswith("prefect-docjobs: Setting failed_share")

    def test_a_reader_that_leaves_early_is_no_error(self) -> None:
        with subprocess.Popen(
            [*PROGRAM, "providers"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout
            assert process.stderr
            process.stdout.close()
            assert process.stderr.read() == b""


class TestProviders:
    def test_the_table_has_each_of_them_in_eighty_columns(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["providers"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert set(PROVIDERS) <= {line.split(" ", 1)[0] for line in lines}
        assert max(map(len, lines)) <= 80

    def test_json_has_the_capabilities_of_each(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["providers", "--json"]) == 0
        described = {service["name"]: service for service in json.loads(capsys.readouterr().out)}
        assert set(described) == set(PROVIDERS)
        assert described["numind"]["cancel"] is True
        assert described["mindee"]["cancel"] is False
        assert "application/pdf" in described["mindee_v1"]["media_types"]
        assert described["unsiloed"]["api_key_variable"] == "UNSILOED_API_KEY"


@contextmanager
def simulator(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`prefect-docjobs simulate` on a free port: the process, and the address that it says it is at."""
    command = [*PROGRAM, "simulate", "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            said = process.stdout.readline()
            yield process, said.split()[-1]
        finally:
            process.kill()


class TestSimulate:
    def test_it_serves_with_the_settings_that_were_given(self) -> None:
        options = ("--api-key", "k1", "--seed", "5", "--duration", "0.5", "--set", "duration.law=fixed")
        with simulator(*options, "--set", "rates.status.per_second=7") as (_, url):
            settings = httpx.get(f"{url}/_simulator/settings").json()
            assert settings["api_key"] == "k1"
            assert settings["seed"] == 5
            assert (settings["duration"]["law"], settings["duration"]["seconds"]) == ("fixed", 0.5)
            assert settings["rates"]["status"]["per_second"] == 7
            job = f"{url}/v2/jobs/7f3c6a52-9d0e-4b1a-8c55-2e4d1b6f0a93"
            assert httpx.get(job, headers={"Authorization": "simulator"}).status_code == 401
            assert httpx.get(job, headers={"Authorization": "k1"}).status_code == 404

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
    def test_it_ends_when_told_to(self, number: signal.Signals, code: int) -> None:
        with simulator() as (process, url):
            process.send_signal(number)
            _, errors = process.communicate(timeout=20)
            assert (process.returncode, errors) == (code, "")
            with pytest.raises(httpx.ConnectError):
                httpx.get(url)

    def test_a_port_that_is_taken_is_one_sentence(self, capsys: pytest.CaptureFixture[str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            assert main(["simulate", "--port", str(port)]) == 2
        said = capsys.readouterr().err
        assert said.startswith(
            f"prefect-docjobs: Cannot listen on 127.0.0.1 port {port}: {os.strerror(errno.EADDRINUSE)}."
        )
