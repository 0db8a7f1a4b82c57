"""`prefect-docjobs watch`: where it cannot watch, and what it does as lines of JSON."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from support.pages import ROOT, table
from support.patient_time import patient_time
from support.suspended import Town, town

from prefect_docjobs.cli import main
from prefect_docjobs.cli.watch import JsonEvents, ReportedRuns, run_watcher
from prefect_docjobs.flows.watch_jobs import Accounts, Watcher
from prefect_docjobs.waiting.durations import Durations

COMMAND = (sys.executable, "-m", "prefect_docjobs.cli", "watch", "--json")
AWAY = {"PREFECT_API_URL": "http://127.0.0.1:9/api"}


def started(*more: str, **streams: Any) -> subprocess.Popen[str]:
    """The command, beside a Prefect that does not answer."""
    return subprocess.Popen([*COMMAND, *more], env={**os.environ, **AWAY}, text=True, **streams)


def keys_on_the_page(event: str) -> list[str]:
    rows = table(ROOT / "docs" / "cli.md", "JSON")
    (cell,) = (row[1] for row in rows if row[0].startswith("watch --json") and f"({event})" in row[1])
    return cell.replace(f" ({event})", "").split(", ")


def told_watcher(place: Town, lines: JsonEvents) -> Watcher:
    accounts = Accounts(place.ledger, place.load, Durations())
    return Watcher(place.ledger, accounts, ReportedRuns(place.runs, lines), lines.log)


def lines_of(printed: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed.splitlines()]


def test_it_says_that_it_watches_and_what_it_logs_and_nothing_else() -> None:
    with started("--stop-after", "1", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        printed, _ = process.communicate(timeout=110)
    assert process.returncode == 0
    begun, away, *others = lines_of(printed)
    assert (begun["event"], begun["stop_after"]) == ("watching", 1.0)
    assert (away["event"], away["level"]) == ("log", "warning")
    assert away["message"].endswith("The watcher keeps trying.")
    assert {line["event"] for line in others} <= {"log"}
    assert list(begun) == keys_on_the_page("watching")
    assert list(away) == keys_on_the_page("log")


def test_the_first_line_is_there_at_once_and_sigterm_is_exit_code_143() -> None:
    with started(stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout
        assert json.loads(process.stdout.readline())["event"] == "watching"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 143


def test_a_reader_that_leaves_is_exit_code_141() -> None:
    with started(stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout
        process.stdout.close()
    assert process.returncode == 141


@patient_time
async def test_each_resumed_run_is_a_line_and_each_minute_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with town("mindee", tmp_path) as place:
        for run_id in ("run-1", "run-2"):
            await place.suspended(run_id, 1)
        lines = JsonEvents()
        await run_watcher(told_watcher(place, lines), lines, stop_after=90.0)
        assert place.runs.resumed == {"run-1": 1, "run-2": 1}
    told = lines_of(capsys.readouterr().out)
    resumed = [line for line in told if line["event"] == "resumed"]
    assert sorted(line["flow_run_id"] for line in resumed) == ["run-1", "run-2"]
    assert list(resumed[0]) == keys_on_the_page("resumed")
    assert told[-1]["message"].endswith("2 runs resumed so far")


@patient_time
async def test_a_run_that_was_not_suspended_is_no_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    async with town("mindee", tmp_path) as place:
        place.runs.run("run-1")
        assert not await ReportedRuns(place.runs, JsonEvents()).resume("run-1")
    assert capsys.readouterr().out == ""


class _NobodyReads(io.StringIO):
    """A standard output whose reader has left when a run is resumed."""

    def write(self, text: str) -> int:
        if 'resumed"' in text:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        return super().write(text)


@patient_time
async def test_a_reader_that_leaves_ends_the_watch_and_not_the_resuming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with town("mindee", tmp_path) as place:
        await place.suspended("run-1", 1)
        lines = JsonEvents()
        monkeypatch.setattr(sys, "stdout", _NobodyReads())
        with pytest.raises(BrokenPipeError):
            await asyncio.wait_for(run_watcher(told_watcher(place, lines), lines), 600.0)
        assert place.runs.resumed == {"run-1": 1}


def test_without_a_prefect_server_it_says_what_to_set(capsys: pytest.CaptureFixture[str]) -> None:
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert main(["watch"]) == 2
    assert "prefect config set PREFECT_API_URL" in capsys.readouterr().err


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_without_a_ledger_it_is_a_sentence_and_no_line(
    more: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_DOCJOBS_LEDGER", "")
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert main(["watch", *more]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "PREFECT_DOCJOBS_LEDGER is empty" in printed.err.splitlines()[-1]


def test_it_stops_by_itself_when_told_to_although_prefect_is_away() -> None:
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert main(["watch", "--stop-after", "1"]) == 0
