"""`prefect-docjobs accounts`: which accounts there are, and the stop for one of them."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import pytest
from support.ledgers import entry, ref
from support.pages import ROOT, column, table

from prefect_docjobs.cli import main
from prefect_docjobs.ledger import Ledger

MINDEE = ("--provider", "mindee", "--base-url", "https://api-v2.mindee.net", "--tenant", "acme")
PAGE = ROOT / "docs" / "cli.md"


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def write(work: Callable[[Ledger], Awaitable[Any]]) -> None:
    async def run() -> None:
        async with Ledger(os.environ["PREFECT_DOCJOBS_LEDGER"]) as ledger:
            await work(ledger)

    asyncio.run(run())


def account(name: str, **facts: str) -> dict[str, str]:
    return {"provider": "mindee", "base_url": "https://api-v2.mindee.net", "tenant": name, **facts}


@pytest.fixture
def known() -> None:
    """Two accounts of Mindee, one of which two job blocks use, and one of NuMind."""

    async def work(ledger: Ledger) -> None:
        await ledger.claim(entry("1", **account("acme", block="mindee-job/invoices")))
        await ledger.claim(entry("2", **account("acme", block="mindee-job/receipts")))
        await ledger.claim(entry("3", **account("acme")))
        await ledger.claim(entry("4", **account("other")))
        here = {"provider": "numind", "base_url": "https://nuextract.ai", "tenant": "acme"}
        record = await ledger.claim(entry("5", **here))
        await ledger.submitted(record, ref("job-5", **here))

    write(work)


def run(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> list[dict[str, Any]]:
    """What a command prints with --json."""
    assert main([*arguments, "--json"]) == code
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.usefixtures("known")
def test_the_accounts_are_listed_with_their_blocks(capsys: pytest.CaptureFixture[str]) -> None:
    rows = run(capsys, "accounts")
    told = [(row["provider"], row["tenant"], row["jobs"], row["blocks"], row["paused"]) for row in rows]
    assert told == [
        ("mindee", "acme", 3, ["mindee-job/invoices", "mindee-job/receipts"], None),
        ("mindee", "other", 1, [], None),
        ("numind", "acme", 1, [], None),
    ]
    assert main(["accounts"]) == 0
    assert "mindee-job/inv" in capsys.readouterr().out


@pytest.mark.usefixtures("known")
def test_a_pause_is_shown_everywhere_until_it_is_resumed(capsys: pytest.CaptureFixture[str]) -> None:
    (paused,) = run(capsys, "accounts", "pause", *MINDEE, "--reason", "Too dear.", "--for", "2h")
    since, until = (datetime.fromisoformat(paused["paused"][name]) for name in ("since", "until"))
    assert (until - since).total_seconds() == pytest.approx(7200, abs=1)
    assert (paused["tenant"], paused["paused"]["reason"]) == ("acme", "Too dear.")
    assert "@" in paused["paused"]["by"]
    assert [row["paused"] for row in run(capsys, "accounts")] == [paused["paused"], None, None]
    rows = {row["document_name"]: row["paused"] for row in run(capsys, "jobs")}
    assert rows == {f"{i}.pdf": paused["paused"] if i < 4 else None for i in range(1, 6)}
    for command in ("accounts", "jobs"):
        assert main([command]) == 0
        printed = " ".join(capsys.readouterr().out.split())
        assert "Paused: The account acme of mindee" in printed
        assert "(Too dear.). To resume it: prefect-docjobs accounts resume --provider mindee" in printed
    (resumed,) = run(capsys, "accounts", "resume", "--provider", "mindee")
    assert (resumed["tenant"], resumed["paused"]) == ("acme", None)
    assert [row["paused"] for row in run(capsys, "accounts")] == [None] * 3
    assert {row["paused"] for row in run(capsys, "jobs")} == {None}


def test_an_account_that_the_ledger_does_not_know_yet_may_be_paused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(capsys, "accounts", "pause", *MINDEE)
    ((tenant, jobs),) = [(row["tenant"], row["jobs"]) for row in run(capsys, "accounts")]
    assert (tenant, jobs) == ("acme", 0)


def test_both_may_be_said_twice(capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "accounts", "pause", *MINDEE, "--reason", "one", "--for", "1d")
    (again,) = run(capsys, "accounts", "pause", *MINDEE, "--reason", "two")
    assert (again["paused"]["reason"], again["paused"]["until"]) == ("two", None)
    for _ in range(2):
        assert run(capsys, "accounts", "resume", *MINDEE)[0]["paused"] is None


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["pause"], "Name one account"),
        (["resume"], "Name one account"),
        (["pause", "mindee-credentials/main", "--provider", "mindee"], "Name one account"),
        (["pause", "--job", ""], "Name one account"),
        (["pause", "main"], "names no block"),
        (["pause", "--provider", "mindee"], "more than one account that the ledger knows: .*acme; .*other"),
        (["pause", "--provider", "nobody"], "There is no service 'nobody'"),
        (["pause", "--provider", "unsiloed"], "no such account that the ledger knows"),
        (["resume", "--provider", "mindee"], "no such paused account"),
        (["pause", *MINDEE, "--for", "soon"], 'Invalid value for --for: unable to convert "soon"'),
        (["pause", *MINDEE, "--for", "0h"], "--for"),
        (
            ["pause", "--base-url", "https://a.test/path", "--tenant", "a"],
            "base_url is scheme, host and port",
        ),
    ],
)
def test_a_call_that_names_no_account_says_what_is_missing(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["accounts", *arguments]) == 2
    assert re.search(told, capsys.readouterr().err.splitlines()[-1])


def test_without_a_ledger_there_is_nothing_to_pause(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PREFECT_DOCJOBS_LEDGER", "")
    assert main(["accounts", "pause", *MINDEE]) == 2
    assert "There is no ledger" in capsys.readouterr().err


def test_what_somebody_typed_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["accounts", "pause", *MINDEE, "--reason", "red\x1b[31m\nrow"]) == 0
    assert main(["accounts"]) == 0
    assert main(["jobs"]) == 0
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_the_options_on_the_page_are_complete(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["accounts", command, "--help"]) == 0
    options = re.findall(r"^│ (?:[* ]  )?(--[a-z-]+)", capsys.readouterr().out, re.MULTILINE)
    assert column(table(PAGE, f"accounts {command}")) == [each for each in options if each != "--debug"]
