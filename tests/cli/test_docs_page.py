"""The page on the command line says what is there: commands, options, exit codes, keys of JSON."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys

import pytest
from support.ledgers import entry
from support.pages import ROOT, column, table

from prefect_docjobs.cli import errors, main
from prefect_docjobs.cli.app import app
from prefect_docjobs.cli.jobs import job_json
from prefect_docjobs.extraction.plan import PlannedDocument, Verdict
from prefect_docjobs.ledger import Ledger

PAGE = ROOT / "docs" / "cli.md"
COMMANDS = [name for name in app if not name.startswith("-")]


def test_every_command_is_listed() -> None:
    assert sorted(column(table(PAGE, "The command line"))) == sorted(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_options_of_a_command_are_complete(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    options = re.findall(r"^│ (?:[* ]  )?(--[a-z-]+)", capsys.readouterr().out, re.MULTILINE)
    assert column(table(PAGE, command)) == [option for option in options if option != "--debug"]


def test_the_exit_codes_are_those_of_the_code() -> None:
    told = [int(code) for code in column(table(PAGE, "Exit codes"))]
    assert told == [
        0,
        errors.FAILED,
        errors.WRONG_USE,
        errors.INTERRUPTED,
        errors.BROKEN_PIPE,
        errors.TERMINATED,
    ]
    assert all(str(code) in str(inspect.getdoc(main)) for code in told)


def keys(command: str) -> list[str]:
    """The keys that the page gives to the objects of a command."""
    (cell,) = (row[1] for row in table(PAGE, "JSON") if row[0] == command)
    return re.findall(r"[a-z_0-9]+", re.sub(r"\(each .*?\)", "", cell))


def test_the_keys_of_providers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["providers", "--json"]) == 0
    assert {tuple(service) for service in json.loads(capsys.readouterr().out)} == {
        tuple(keys("providers --json"))
    }


def test_the_keys_of_a_plan() -> None:
    assert list(PlannedDocument("a.pdf", Verdict.SUBMIT).row()) == keys("extract --dry-run --json")


async def test_the_keys_of_jobs() -> None:
    async with Ledger(os.environ["PREFECT_DOCJOBS_LEDGER"]) as ledger:
        record = await ledger.claim(entry())
    assert list(job_json(record)) == keys("jobs --json")


def test_the_keys_of_simulate() -> None:
    command = [sys.executable, "-m", "prefect_docjobs.cli", "simulate", "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout
        told = json.loads(process.stdout.readline())
        process.kill()
    assert list(told) == keys("simulate --json")
