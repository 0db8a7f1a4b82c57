"""The demo as a stranger runs it, and what of it can be seen without running it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path

import pytest

from prefect_docjobs.cli.console import output
from prefect_docjobs.cli.demo.run import OutcomeTable, output_folder
from prefect_docjobs.cli.errors import CommandFailed
from prefect_docjobs.errors import Reason
from prefect_docjobs.models import Outcome
from prefect_docjobs.providers.registry import BUILT_IN

DEMO = (sys.executable, "-m", "prefect_docjobs.cli", "demo")
MARK = "DOCJOBS_DEMO_OF_A_TEST"
INVOICES = {
    "invoice-brightwater.pdf": ("BW-10442", 1452.17),
    "invoice-cascade-3-pages.pdf": ("CP/2026/00731", 4177.38),
    "receipt-green-leaf.png": ("R-20931", 25.5),
    "rechnung-bergmann.pdf": ("2026-0317", 1432.4),
}


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    """An environment that all processes of a demo bear, with a folder of its own for temporary files."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    unwanted = "http://127.0.0.1:9/api"  # what a user may have set must not be used
    return {
        **os.environ,
        "COLUMNS": "80",
        "TMPDIR": str(temporary),
        MARK: uuid.uuid4().hex,
        "PREFECT_API_URL": unwanted,
    }


def left_over(settings: Mapping[str, str]) -> list[str]:
    """Processes of a demo that are still there, and its temporary files."""
    mark = f"{MARK}={settings[MARK]}".encode()
    processes = [
        _line_of(process) for process in Path("/proc").glob("[0-9]*") if mark in _read(process / "environ")
    ]
    return [*os.listdir(settings["TMPDIR"]), *processes]


def _line_of(process: Path) -> str:
    return _read(process / "cmdline").replace(b"\0", b" ").decode()


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # a process that has just ended
        return b""


@pytest.mark.timeout(180)
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
class TestDemo:
    def test_documents_travel_through_all_services_into_one_table(
        self, tmp_path: Path, settings: dict[str, str]
    ) -> None:
        done = subprocess.run(
            DEMO, cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=170, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        assert left_over(settings) == []
        self._check_table(done.stdout)
        self._check_files(tmp_path / "docjobs-out")

    def _check_table(self, shown: str) -> None:
        assert "24 of 24 results in" in shown
        assert max(len(line) for line in shown.splitlines() if not line.startswith("Results ")) <= 80
        sections = shown.split("\n\n")
        for document, (number, total) in INVOICES.items():
            lines = next(section for section in sections if document in section).splitlines()[
                -len(BUILT_IN) :
            ]
            assert [line.split()[0] for line in lines] == list(BUILT_IN)
            for line in lines:
                assert number in line
                assert f"{total:,.2f}" in line
        text = next(section for section in sections if "order-alpine-tools.txt" in section).splitlines()
        assert [line.split(None, 1)[1].rstrip() for line in text[1:3]] == ["not offered", "not offered"]

    def _check_files(self, folder: Path) -> None:
        assert sorted(os.listdir(folder)) == ["failures.jsonl", "results.jsonl", "rows.jsonl"]
        assert (folder / "failures.jsonl").read_text() == ""
        outcomes = [
            Outcome.model_validate_json(line) for line in (folder / "results.jsonl").read_text().splitlines()
        ]
        assert len(outcomes) == 24
        for provider in BUILT_IN:
            rows = [outcome.row() for outcome in outcomes if outcome.ref and outcome.ref.provider == provider]
            found = {row["document"]: (row.get("invoice_number"), row.get("total_amount")) for row in rows}
            assert {document: found[document] for document in INVOICES} == INVOICES

    def test_an_interrupt_while_documents_are_under_way_leaves_nothing_behind(
        self, tmp_path: Path, settings: dict[str, str]
    ) -> None:
        with subprocess.Popen(
            DEMO, cwd=tmp_path, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout
            next(line for line in process.stdout if "server was ready" in line)
            assert len(left_over(settings)) > 2
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (130, "prefect-docjobs: Stopped.\n")
        assert left_over(settings) == []
        assert os.listdir(tmp_path / "docjobs-out") == []

    def test_a_server_that_does_not_start_is_one_sentence(
        self, tmp_path: Path, settings: dict[str, str]
    ) -> None:
        (tmp_path / "prefect.py").write_text("raise SystemExit('Prefect is out of order')")
        broken = {**settings, "PYTHONPATH": str(tmp_path)}
        done = subprocess.run(DEMO, cwd=tmp_path, env=broken, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert (
            done.stderr
            == "prefect-docjobs: The local Prefect server did not start: Prefect is out of order\n"
        )
        assert left_over(settings) == []

    def test_a_server_ends_with_whoever_started_it(self, tmp_path: Path, settings: dict[str, str]) -> None:
        command = [sys.executable, "-m", "prefect_docjobs.cli.demo.subprocesses", "127.0.0.1", "0"]
        own = {**settings, "PREFECT_HOME": str(tmp_path)}
        process = subprocess.Popen(command, env=own, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdin
        process.stdin.close()
        assert process.wait(timeout=20) != 0
        assert left_over(settings) == []


class TestFiles:
    def test_results_of_a_real_service_are_not_replaced(self, tmp_path: Path) -> None:
        self._write_result(tmp_path, "https://api-v2.mindee.net")
        with pytest.raises(CommandFailed, match="not the demo's"):
            output_folder(tmp_path)

    def test_results_of_an_earlier_demo_are(self, tmp_path: Path) -> None:
        self._write_result(tmp_path, "http://127.0.0.1:4321")
        assert output_folder(tmp_path) == tmp_path

    def test_a_file_that_holds_something_else_is_not_replaced(self, tmp_path: Path) -> None:
        (tmp_path / "results.jsonl").write_bytes(b"\xff\x00 my notes")
        with pytest.raises(CommandFailed, match="not the demo's"):
            output_folder(tmp_path)

    def test_a_folder_that_was_asked_for_and_cannot_be_written_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(CommandFailed, match=r"Cannot write to .*file/out: .* Give another --output"):
            output_folder(tmp_path / "file" / "out")

    def test_without_a_place_here_files_go_to_a_temporary_folder_and_it_says_so(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "docjobs-out").touch()  # in the way, also for root
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        folder = output_folder(None)
        assert folder.parent == tmp_path
        assert folder.is_dir()
        assert str(folder) in capsys.readouterr().err

    def _write_result(self, folder: Path, base_url: str) -> None:
        ref = {
            "provider": "mindee",
            "base_url": base_url,
            "tenant": "t",
            "product": "extraction",
            "job_id": "1",
            "document_name": "a.pdf",
            "submitted_at": "2026-01-01T00:00:00Z",
        }
        (folder / "results.jsonl").write_text(json.dumps({"document": "a.pdf", "ref": ref}) + "\n")


class TestOutcomeTable:
    def test_of_many_documents_the_first_and_the_failed_are_shown(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        names = [f"d{number:03}.pdf" for number in range(100)]
        outcomes = OutcomeTable(names, ["mindee"])
        for name in names:
            failed = name == "d077.pdf"
            outcome = Outcome(
                document=name, reason=Reason.FAILED if failed else None, error=f"{name}: unreadable"
            )
            outcomes.add("mindee", outcome)
        output().print(outcomes.table())
        shown = capsys.readouterr().out
        assert "d039.pdf" in shown
        assert "d040.pdf" not in shown
        assert "d077.pdf" in shown
        assert "unreadable" in shown
        assert "59 more documents, all succeeded" in shown
        assert (outcomes.sent, outcomes.failed) == (100, 1)
