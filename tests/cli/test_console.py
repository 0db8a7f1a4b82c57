"""What commands print: text from elsewhere never controls the terminal; colours, widths, encodings."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from contextlib import suppress

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

PROGRAM = (sys.executable, "-m", "prefect_docjobs.cli")

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
