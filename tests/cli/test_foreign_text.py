"""What stands in strangers' documents is shown, and never commands the terminal."""

from __future__ import annotations

import asyncio
import json
import os
import unicodedata
from collections.abc import Callable

import pytest
from rich.console import RenderableType
from support.ledgers import entry, ref

from prefect_docjobs.cli import main
from prefect_docjobs.cli.console import output, print_json, printable
from prefect_docjobs.cli.demo.run import OutcomeTable
from prefect_docjobs.cli.errors import CommandFailed, debugging, run_command
from prefect_docjobs.cli.extract import outcome_table, plan_table
from prefect_docjobs.errors import Reason
from prefect_docjobs.extraction.plan import Plan, PlannedDocument, Verdict
from prefect_docjobs.ledger import Ledger
from prefect_docjobs.models import Field, Outcome, Result

# It would set a colour and ring, break a row, and hide what follows.
HOSTILE = "a\x1b[31mb\x07c\nd\x9d8mi\x7f"
CALM = "a [31mb c d 8mi "


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def test_exactly_the_control_characters_become_spaces() -> None:
    everything = "".join(map(chr, range(0xD800)))
    controls = {char for char in everything if unicodedata.category(char) == "Cc"}
    shown = printable(everything)
    assert len(controls) == 65
    assert [new for old, new in zip(everything, shown, strict=True) if old in controls] == [" "] * 65
    assert all(old == new for old, new in zip(everything, shown, strict=True) if old not in controls)


def failed(text: str) -> Outcome:
    return Outcome(document=text, reason=Reason.FAILED, error=f"says {text}")


def delivered(text: str, **fields: str) -> Outcome:
    result = Result(ref=ref(), text=text, fields={name: Field(value=value) for name, value in fields.items()})
    return Outcome(document=text, result=result)


def invoice(text: str) -> Outcome:
    return delivered(text, **dict.fromkeys(("invoice_number", "supplier_name", "date", "total_amount"), text))


def page(text: str) -> RenderableType:
    shown = OutcomeTable([text], ["mindee", "numind", "unsiloed"])
    outcomes = (failed(text), invoice(text), delivered("other", **{text: text}))
    for service, outcome in zip(("mindee", "numind", "unsiloed"), outcomes, strict=True):
        shown.add(service, outcome.model_copy(update={"document": text}))
    return shown.table()


def outcomes(text: str) -> RenderableType:
    return outcome_table([failed(text), invoice(text), delivered(text), delivered(text, **{text: text})])


def plan(text: str) -> RenderableType:
    return plan_table(Plan((PlannedDocument(text, Verdict.INVALID, note=text),)))


@pytest.mark.parametrize("table", [page, outcomes, plan])
def test_a_table_shows_hostile_text_as_spaced_text(
    table: Callable[[str], RenderableType], capsys: pytest.CaptureFixture[str]
) -> None:
    output().print(table(HOSTILE))
    hostile = capsys.readouterr().out
    output().print(table(CALM))
    assert hostile == capsys.readouterr().out
    assert CALM.strip()[:10] in hostile


def test_the_jobs_of_a_ledger_are_shown_so(capsys: pytest.CaptureFixture[str]) -> None:
    async def known() -> None:
        async with Ledger(os.environ["PREFECT_DOCJOBS_LEDGER"]) as ledger:
            record = await ledger.claim(entry(document_name=HOSTILE, provider=HOSTILE))
            await ledger.submitted(record, ref(f"job-{HOSTILE}", provider=HOSTILE))

    asyncio.run(known())
    assert main(["jobs"]) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.count(CALM.strip()) == 3
    assert row.isprintable()


@pytest.mark.parametrize("problem", [CommandFailed(HOSTILE), ValueError(HOSTILE), OSError(1, "odd", HOSTILE)])
def test_a_sentence_stays_one_line(problem: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise problem

    assert run_command(fail) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said[:-1].isprintable()


def test_a_traceback_keeps_its_lines_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        debugging.set(True)
        raise ValueError(HOSTILE)

    assert run_command(fail) == 1
    lines = capsys.readouterr().err.split("\n")
    assert lines[0].startswith("Traceback")
    assert "ValueError: a [31mb c" in lines
    assert all(line.isprintable() for line in lines)


def test_json_keeps_every_character_and_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"document": HOSTILE})
    line = capsys.readouterr().out
    assert line[:-1].isprintable()
    assert json.loads(line) == {"document": HOSTILE}
