"""The command line: help, errors in one sentence, exit codes, the simulator in a terminal."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import get_args

import httpx
import pytest

from prefect_docjobs import __version__
from prefect_docjobs.cli import main
from prefect_docjobs.cli.console import print_json
from prefect_docjobs.cli.errors import CommandFailed, run_command
from prefect_docjobs.cli.jobs import StateName
from prefect_docjobs.errors import DocJobsError, InvalidDocument, Unavailable
from prefect_docjobs.ledger import State
from prefect_docjobs.providers.registry import BUILT_IN
from prefect_docjobs.simulator.samples import SAMPLES

PROGRAM = (sys.executable, "-m", "prefect_docjobs.cli")
COMMANDS = ["demo", "extract", "simulate", "providers", "jobs", "accounts", "webhooks", "watch", "completion"]


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


class TestHelp:
    def test_it_lists_the_commands_and_nothing_that_does_not_exist(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["--help"]) == 0
        listed = re.findall(r"^│ (\w+)  ", capsys.readouterr().out, re.MULTILINE)
        assert listed == COMMANDS

    def test_no_command_at_all_shows_it(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([]) == 0
        assert "Usage: prefect-docjobs" in capsys.readouterr().out

    @pytest.mark.parametrize("command", COMMANDS)
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
            (["extract", "a.pdf"], "requires an argument"),
            (["extract", "--job", "mindee-job/invoices"], "There is no document"),
            (["extract", "a.pdf", "--job", "mindee-job/x", "--timeout", "0"], "--timeout. Must be > 0."),
            (["simulate", "--port", "many"], 'unable to convert "many" into int'),
            (["simulate", "--port", "70000"], "--port. Must be <= 65535."),
            (["webhooks", "--block", "mindee-credentials/x", "--port", "-1"], "--port. Must be >= 0."),
            (["simulate", "--failed-share", "3"], "failed_share: Input should be less than or equal to 1"),
            (["simulate", "--set", "faults.status.gone=1"], "no setting faults.status.gone"),
            (["simulate", "--set", "seed"], "--set takes NAME=VALUE"),
            (["demo", "--folder", "no-such-folder"], "no-such-folder does not exist"),
            (["extract", "a.pdf", "--job", ""], "--job needs the name of a job block"),
            (["extract", "a.pdf", "--job", "mindee-job/x", "--budget", "-1"], "must be a number"),
            (["watch", "--stop-after", "0"], "--stop-after. Must be > 0."),
            (["completion", "tcsh"], "tcsh"),
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
            (PermissionError(errno.EACCES, "Permission denied", "a.pdf"), 1, "Permission denied: a.pdf"),
            (OSError("odd"), 1, "OSError: odd (--debug shows where)"),
            (KeyboardInterrupt(), 130, "Stopped."),
        ],
    )
    def test_every_way_to_fail_has_its_sentence_and_code(
        self, problem: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def fail() -> None:
            raise problem

        assert run_command(fail) == code
        assert capsys.readouterr().err == f"prefect-docjobs: {said}\n"

    def test_debug_shows_the_traceback(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["simulate", "--failed-share", "3", "--debug"]) == 2
        told = capsys.readouterr().err
        assert told.startswith("Traceback")
        assert told.splitlines()[-1].startswith("prefect-docjobs: Setting failed_share")

    @pytest.mark.parametrize("arguments", [["providers"], ["providers", "--json"], ["completion", "bash"]])
    def test_a_reader_that_leaves_early_is_no_error(self, arguments: list[str]) -> None:
        with subprocess.Popen(
            [*PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout
            assert process.stderr
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode == 141

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is full")
    @pytest.mark.parametrize("arguments", [["providers"], ["providers", "--json"], ["--help"]])
    def test_a_full_disk_is_one_sentence(self, arguments: list[str]) -> None:
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(
                [*PROGRAM, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )
        assert done.returncode == 1
        assert done.stderr == f"prefect-docjobs: {os.strerror(errno.ENOSPC)}.\n"

    @pytest.mark.skipif(sys.platform == "win32", reason="needs a shell that closes streams")
    @pytest.mark.parametrize(
        ("arguments", "code"), [("providers", 0), ("providers --json", 0), ("--help", 0), ("webhook", 2)]
    )
    @pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
    def test_a_stream_that_is_closed_changes_nothing_else(
        self, arguments: str, code: int, closed: str
    ) -> None:
        command = f"{shlex.join(PROGRAM)} {arguments}"
        whole, part = (
            subprocess.run(["sh", "-c", each], capture_output=True, text=True, check=False)
            for each in (command, f"{command} {closed}")
        )
        assert (whole.returncode, part.returncode) == (code, code)
        assert part.stdout == (whole.stdout if closed == "2>&-" else "")
        assert part.stderr == (whole.stderr if closed == ">&-" else "")

    @pytest.mark.parametrize(
        ("name", "setting"),
        [
            ("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "0"),  # too late
            ("PREFECT_SERVER_EPHEMERAL_ENABLED", "false"),
        ],
    )
    def test_without_any_prefect_server_it_says_how_to_get_one(
        self, name: str, setting: str, tmp_path: Path
    ) -> None:
        others = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_API")}
        done = subprocess.run(
            [*PROGRAM, "extract", __file__, "--job", "mindee-job/x", "--dry-run"],
            env={**others, "PREFECT_HOME": str(tmp_path), name: setting},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("prefect-docjobs: No PREFECT_API_URL is set, and Prefect's own")
        assert "prefect server start" in done.stderr
        assert done.stderr.count("\n") == 1


class TestTerminals:
    def test_another_encoding_than_utf_8_gets_what_it_has(self) -> None:
        plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
        done = subprocess.run(
            [*PROGRAM, "--help"], env={**os.environ, **plain}, capture_output=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"+- Commands ---" in done.stdout
        assert b"?" not in done.stdout

    def test_json_loses_nothing_where_the_encoding_lacks_a_character(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for encoding, shown in (("latin-1", b'"na\\u00efve \\u0142"'), ("utf-8", '"naïve ł"'.encode())):
            written = io.BytesIO()
            monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding))
            print_json("naïve ł")
            assert written.getvalue().rstrip() == shown

    @pytest.mark.parametrize("arguments", [["providers"], ["jobs", "--help"], ["--help"]])
    def test_a_narrow_terminal_is_not_overrun(self, arguments: list[str]) -> None:
        narrow = {**os.environ, "COLUMNS": "44"}
        shown = subprocess.run([*PROGRAM, *arguments], env=narrow, capture_output=True, text=True, check=True)
        assert max(map(len, shown.stdout.splitlines())) <= 44

    @pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
    @pytest.mark.parametrize("no_color", [True, False])
    def test_colours_are_for_terminals_that_want_them(
        self, no_color: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.delenv("NO_COLOR", raising=False)
        if no_color:
            monkeypatch.setenv("NO_COLOR", "1")
        coloured = bool(re.search(rb"\x1b\[[0-9;]*3[0-9]", on_a_terminal(_COLOURED)))
        assert coloured is not no_color

    @pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
    def test_a_progress_bar_is_there_on_a_terminal_only(self) -> None:
        assert "Extracting" in on_a_terminal(_WITH_BAR).decode()
        quiet = subprocess.run([sys.executable, "-c", _WITH_BAR], capture_output=True, check=True)
        assert (quiet.stdout, quiet.stderr) == (b"", b"")


_COLOURED = """
from prefect_docjobs.cli.console import cell, output
output().print(cell("succeeded", "green"))
"""
_WITH_BAR = """
from prefect_docjobs.cli.console import progress_bar
with progress_bar("Extracting", 2) as bar:
    bar.advance(1)
"""


def on_a_terminal(code: str) -> bytes:
    """What a program writes to a pseudo-terminal that is its standard output and standard error."""
    import pty

    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", code], stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        written = b""
        with suppress(OSError):  # how Linux says that the other end is closed
            while some := os.read(ours, 4096):
                written += some
    os.close(ours)
    assert process.returncode == 0, written
    return written


class TestCompletion:
    @pytest.mark.parametrize(
        ("line", "offered"),
        [
            ("prefect-docjobs ", set(COMMANDS)),
            ("prefect-docjobs si", {"simulate"}),
            ("prefect-docjobs extract --dr", {"--dry-run"}),
            ("prefect-docjobs jobs --state f", {"fetched", "failed"}),
            ("prefect-docjobs completion z", {"zsh"}),
            ("prefect-docjobs accounts pau", {"pause"}),
            ("prefect-docjobs accounts pause --fo", {"--for"}),
            ("prefect-docjobs extract invoice-b", {"invoice-brightwater.pdf"}),
        ],
    )
    def test_bash_completes_commands_options_values_and_files(self, line: str, offered: set[str]) -> None:
        words = line.split(" ")
        asked = f"""
            source <({shlex.join(PROGRAM)} completion bash)
            handler=$(complete -p prefect-docjobs | sed 's/.* -F \\([^ ]*\\) .*/\\1/')
            COMP_WORDS=({" ".join(map(shlex.quote, words))}) COMP_CWORD={len(words) - 1}
            "$handler" prefect-docjobs {shlex.quote(words[-1])} {shlex.quote(words[-2])}
            printf '%s\\n' "${{COMPREPLY[@]}}"
        """
        done = subprocess.run(
            ["bash", "--norc", "-c", asked], cwd=SAMPLES, capture_output=True, text=True, check=True
        )
        assert set(done.stdout.split()) == offered, done.stderr

    @pytest.mark.parametrize(
        ("shell", "mark"), [("zsh", "#compdef prefect-docjobs"), ("fish", "complete -c")]
    )
    def test_other_shells_get_a_script_with_every_command(
        self, shell: str, mark: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["completion", shell]) == 0
        script = capsys.readouterr().out
        assert mark in script
        assert all(command in script for command in COMMANDS)

    def test_it_is_installed_where_bash_looks(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        for _ in range(2):
            assert main(["completion", "bash", "--install"]) == 0
        (script,) = tmp_path.glob(".local/share/bash-completion/completions/*")
        assert str(script) in capsys.readouterr().out
        assert (tmp_path / ".bashrc").read_text().count(f'. "{script}"') == 1


class TestWords:
    def test_the_words_of_the_help_are_those_of_the_code(self) -> None:
        assert get_args(StateName) == tuple(State)


class TestProviders:
    def test_the_table_has_each_of_them_in_eighty_columns(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["providers"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert set(BUILT_IN) <= {line.split(" ", 1)[0] for line in lines}
        assert max(map(len, lines)) <= 80

    def test_json_has_the_capabilities_of_each(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["providers", "--json"]) == 0
        described = {service["name"]: service for service in json.loads(capsys.readouterr().out)}
        assert set(described) == set(BUILT_IN)
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

    def test_json_says_where_on_one_line(self) -> None:
        command = [*PROGRAM, "simulate", "--port", "0", "--json", "--api-key", "k2"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout
            told = json.loads(process.stdout.readline())
            process.kill()
            assert process.stdout.read() == b""
        assert told["api_key"] == "k2"
        assert told["control"] == f"{told['url']}/_simulator"
        assert told.keys() == {"url", "api_key", "control"}

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
