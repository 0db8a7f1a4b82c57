"""How commands end: one sentence on standard error, and an exit code."""

from __future__ import annotations

import errno
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from prefect_docjobs.cli import main
from prefect_docjobs.cli.errors import CommandFailed, run_command
from prefect_docjobs.errors import DocJobsError, InvalidDocument, Unavailable

PROGRAM = (sys.executable, "-m", "prefect_docjobs.cli")


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


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
        self, arguments: str, code: int, closed: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(arguments.split()) == code
        whole = capsys.readouterr()
        command = f"{shlex.join(PROGRAM)} {arguments} {closed}"
        part = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
        assert part.returncode == code
        assert part.stdout == (whole.out if closed == "2>&-" else "")
        assert part.stderr == (whole.err if closed == ">&-" else "")

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
