"""`prefect-docjobs jobs`: what the ledger knows, for people and for programs."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, get_args

import pytest
from support.ledgers import entry, ref

from prefect_docjobs.cli import main
from prefect_docjobs.cli.jobs import StateName, length, moment
from prefect_docjobs.errors import Reason
from prefect_docjobs.ledger import Ledger, State
from prefect_docjobs.models import JobRef

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=timezone.utc)


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def write(work: Callable[[Ledger], Awaitable[Any]]) -> None:
    """Write into the ledger that the command reads."""

    async def run() -> None:
        async with Ledger(os.environ["PREFECT_DOCJOBS_LEDGER"]) as ledger:
            await work(ledger)

    asyncio.run(run())


@pytest.fixture
def known() -> None:
    """One document submitted, one failed and one uncertain, in this order."""

    async def work(ledger: Ledger) -> None:
        submitted = await ledger.claim(entry("running", provider="numind", flow_run_id="run-1"))
        await ledger.submitted(submitted, ref("job-running"))
        failed = await ledger.submitted(await ledger.claim(entry("blank")), ref("job-blank"))
        await ledger.failed(failed, Reason.FAILED, "The page is blank.")
        lost = await ledger.claim(entry("lost"))
        await ledger.failed(lost, Reason.UNCERTAIN, "The answer is lost.", candidates=["job-x"])

    write(work)


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert main(["jobs", "--json", *arguments]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def names(rows: list[dict[str, Any]]) -> list[str]:
    return [row["document_name"] for row in rows]


@pytest.mark.usefixtures("known")
class TestWhatIsListed:
    def test_the_newest_come_first(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert names(listed(capsys)) == ["lost.pdf", "blank.pdf", "running.pdf"]

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            (["--state", "submitted"], ["running.pdf"]),
            (["--state", "submitted", "--state", "failed"], ["lost.pdf", "blank.pdf", "running.pdf"]),
            (["--reason", "uncertain"], ["lost.pdf"]),
            (["--provider", "numind"], ["running.pdf"]),
            (["--flow-run", "run-1"], ["running.pdf"]),
            (["--since", "2100-01-01"], []),
            (["--since", "1h"], ["lost.pdf", "blank.pdf", "running.pdf"]),
            (["--limit", "2"], ["lost.pdf", "blank.pdf"]),
        ],
    )
    def test_filters(
        self, options: list[str], expected: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert names(listed(capsys, *options)) == expected

    def test_json_tells_all_that_is_known_and_never_a_result(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        lost, blank, running = listed(capsys)
        assert (lost["reason"], lost["candidates"], lost["ref"]) == ("uncertain", ["job-x"], None)
        assert (blank["state"], blank["error"], blank["lease_left"] <= 0) == (
            "failed",
            "The page is blank.",
            True,
        )
        assert JobRef.model_validate(running["ref"]).job_id == "job-running"
        assert not {"body", "claim"} & running.keys()

    def test_the_table_fits_and_says_what_is_left_out(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["jobs", "--limit", "2"]) == 0
        shown = capsys.readouterr()
        assert max(map(len, shown.out.splitlines())) <= 80
        assert "uncertain" in shown.out
        assert "running.pdf" not in shown.out
        assert shown.err == "2 jobs; there are more, see --limit.\n"


def test_refs_are_imported_before_they_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "refs.jsonl"
    file.write_text("".join(f"{ref(job, provider='mindee').model_dump_json()}\n" for job in ("a", "b")))
    assert main(["jobs", "--import", str(file), "--json"]) == 0
    shown = capsys.readouterr()
    assert {json.loads(line)["job_id"] for line in shown.out.splitlines()} == {"a", "b"}
    assert shown.err == "2 imported, 0 known already.\n"
    (tmp_path / "again.jsonl").write_text(shown.out)
    assert main(["jobs", "--import", str(tmp_path / "again.jsonl")]) == 0
    assert "0 imported, 2 known already." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--state", "lost"], "lost"),
        (["--provider", "nobody"], "There is no service 'nobody'. There are: mindee"),
        (["--since", "yesterday"], "--since: 'yesterday' is no date"),
        (["--limit", "0"], "--limit. Must be > 0."),
        (["--import", "no-such-file"], "no-such-file cannot be read"),
    ],
)
def test_a_wrong_option_is_one_sentence_and_exit_code_2(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["jobs", *arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_without_a_ledger_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PREFECT_DOCJOBS_LEDGER", "")
    assert main(["jobs"]) == 2
    assert "There is no ledger" in capsys.readouterr().err


def test_prefect_is_not_imported() -> None:
    code = "import sys; from prefect_docjobs.cli import main; main(['jobs']); print('prefect' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize(
    ("typed", "ago"),
    [("90s", timedelta(seconds=90)), ("5m", timedelta(minutes=5)), ("7d", timedelta(days=7))],
)
def test_a_time_ago(typed: str, ago: timedelta) -> None:
    assert moment(typed, NOW) == NOW - ago


def test_a_date_without_a_zone_is_utc() -> None:
    assert moment("2026-11-20T12:00", NOW) == NOW
    assert moment("2026-11-20T13:00+01:00", NOW) == NOW


@pytest.mark.parametrize("typed", ["", "24", "h", "99999999999d"])
def test_what_is_no_time_is_refused(typed: str) -> None:
    with pytest.raises(ValueError, match="--since"):
        moment(typed, NOW)


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.4, "0 s"), (59, "59 s"), (90, "2 min"), (86_400 * 3, "3 d")]
)
def test_a_time_is_told_in_its_largest_unit(seconds: float, told: str) -> None:
    assert length(seconds) == told


def test_the_states_of_the_help_are_those_of_the_ledger() -> None:
    assert get_args(StateName) == tuple(State)
