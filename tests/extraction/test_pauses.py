"""An account that is paused: nothing is submitted to it by anybody, and what was submitted goes on."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from support.patient_time import patient_time
from support.services import ORIGIN, invoice, says
from support.shop import TENANT, Shop, shop

from prefect_docjobs.errors import Reason
from prefect_docjobs.extraction import fetch_one, submit_one, wait_one
from prefect_docjobs.ledger import Account, AccountPaused, State
from prefect_docjobs.simulator.server import run_in_thread
from prefect_docjobs.simulator.settings import Settings

ACCOUNT = Account("mindee", ORIGIN, TENANT)
SCRIPT = Path(__file__).parents[1] / "ledger" / "buying_process.py"


async def pause(it: Shop, **facts: Any) -> None:
    """Pause it as another process does."""
    async with it.another_worker() as other:
        await other.pauses.pause(ACCOUNT, **facts)


async def resume(it: Shop) -> None:
    async with it.another_worker() as other:
        assert await other.pauses.resume(ACCOUNT)
    await asyncio.sleep(2)


@patient_time
async def test_nothing_is_sent_and_each_row_says_why(tmp_path: Path) -> None:
    async with shop("mindee", tmp_path) as it:
        await pause(it, by="ann@ops", reason="The invoice is disputed.", name="mindee-job/invoices")
        outcomes = await it.extract(*(invoice(number) for number in range(12)))
        assert {outcome.reason for outcome in outcomes} == {Reason.UNAVAILABLE}
        for outcome in outcomes:
            assert outcome.error is not None
            for told in (
                "Nothing was sent",
                "by ann@ops",
                "UTC",
                "The invoice is disputed.",
                "mindee-job/invoices",
            ):
                assert told in outcome.error
        assert (it.requests, await it.ledger.find()) == ([], [])
        await resume(it)
        assert all(outcome.ok for outcome in await it.extract(*(invoice(number) for number in range(12))))
        assert it.submits == 12


@patient_time
async def test_what_is_bought_already_goes_on(tmp_path: Path) -> None:
    async with shop("mindee", tmp_path) as it:
        assert (await it.extract(invoice(1)))[0].ok
        under_way = await submit_one(it.provider, it.http, invoice(2), ledger=it.ledger)
        await pause(it)
        await asyncio.sleep(2)
        known, running, new = await it.extract(invoice(1), invoice(2), invoice(3))
        assert (known.ok, running.ok, new.reason) == (True, True, Reason.UNAVAILABLE)
        assert (known.reused, running.reused) == (True, True)
        assert await wait_one(it.provider, it.http, under_way, ledger=it.ledger)
        assert says(await fetch_one(it.provider, it.http, under_way, ledger=it.ledger))[0] == "N-00002"
        assert it.submits == 2


@patient_time
async def test_a_batch_that_runs_stops_submitting_and_fetches_what_it_has(tmp_path: Path) -> None:
    async with shop("mindee", tmp_path) as it:
        it.late.seconds = lambda request: 0.5 if request.method == "POST" else 0.0  # 16 submits a second
        running = asyncio.create_task(it.extract(*(invoice(number) for number in range(100))))
        await asyncio.sleep(2)
        await pause(it)
        await asyncio.sleep(2)
        bought = it.submits
        assert 0 < bought < 80
        outcomes = await running
        assert it.submits == bought
        assert sum(outcome.ok for outcome in outcomes) == bought
        assert {outcome.reason for outcome in outcomes if not outcome.ok} == {Reason.UNAVAILABLE}
        assert {record.state for record in await it.ledger.find()} == {State.FETCHED}


@patient_time
async def test_what_was_refused_for_now_is_not_sent_again(tmp_path: Path) -> None:
    limits = {"submit": {"per_second": 0.05}}
    async with shop("mindee", tmp_path, rates=limits, retry_after={"form": "seconds"}) as it:
        running = asyncio.create_task(it.extract(invoice(1), invoice(2)))
        await asyncio.sleep(5)  # the second is refused and waits for 20 seconds
        posts = [request for request in it.requests if request.method == "POST"]
        assert (it.submits, len(posts)) == (1, 2)
        await pause(it)
        first, second = await running
        assert [request for request in it.requests if request.method == "POST"] == posts
        assert {first.ok, second.ok} == {True, False}
        assert {first.reason, second.reason} == {None, Reason.UNAVAILABLE}
        assert {record.state for record in await it.ledger.find()} == {State.FETCHED, State.FAILED}


@patient_time
async def test_the_budget_is_not_spent_by_what_is_not_sent(tmp_path: Path) -> None:
    from prefect_docjobs.extraction.budget import Budget

    budget = Budget(max_submits=1)
    limits = {"submit": {"per_second": 0.05}}
    async with shop("mindee", tmp_path, rates=limits, retry_after={"form": "seconds"}) as it:
        assert (await it.extract(invoice(0)))[0].ok
        running = asyncio.create_task(it.extract(invoice(1), budget=budget))
        await asyncio.sleep(5)
        await pause(it)
        (outcome,) = await running
        assert (outcome.reason, budget.bought, budget.pages) == (Reason.UNAVAILABLE, 0, 0)


@patient_time
async def test_another_account_goes_on(tmp_path: Path) -> None:
    async with shop("mindee", tmp_path) as it:
        await it.ledger.pauses.pause(Account("mindee", ORIGIN, "another"))
        await it.ledger.pauses.pause(Account("numind", ORIGIN, TENANT))
        assert (await it.extract(invoice(1)))[0].ok


@patient_time
async def test_a_pause_ends_by_itself(tmp_path: Path) -> None:
    async with shop("mindee", tmp_path) as it:
        paused = await it.ledger.pauses.pause(ACCOUNT, seconds=3600.0)
        assert paused.until is not None
        assert (paused.until - paused.at).total_seconds() == pytest.approx(3600.0)
        assert (await it.extract(invoice(1)))[0].reason is Reason.UNAVAILABLE
        over = text("UPDATE docjobs_pauses SET paused_until = paused_until - 3601")
        await it.ledger._database.run(lambda connection: connection.execute(over), writes=True)
        await asyncio.sleep(2)
        assert await it.ledger.pauses.all() == []
        assert (await it.extract(invoice(1)))[0].ok


@patient_time
async def test_a_single_submit_raises(tmp_path: Path) -> None:
    async with shop("mindee", tmp_path) as it:
        await pause(it)
        with pytest.raises(AccountPaused, match="Nothing was sent"):
            await submit_one(it.provider, it.http, invoice(1), ledger=it.ledger)


# --------------------------------------------------------------------------------- processes, and the command


@pytest.mark.timeout(120)
def test_a_process_that_runs_obeys_the_command(tmp_path: Path) -> None:
    """It was started before; polls and fetches go on, and the next run sends the rest."""
    slow = {"duration": {"law": "fixed", "seconds": 1.0}}
    with run_in_thread(Settings().merged(slow)) as service:
        ledger = str(tmp_path / "ledger.db")
        searched = os.pathsep.join(filter(None, [str(SCRIPT.parents[1]), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": searched, "PREFECT_DOCJOBS_LEDGER": ledger}
        account = ["--provider", "mindee", "--base-url", service.base_url, "--tenant", "acme"]

        def accounts(*arguments: str) -> None:
            command = [sys.executable, "-m", "prefect_docjobs.cli", "accounts", *arguments]
            subprocess.run(command, check=True, timeout=60, env=environment, stdout=subprocess.DEVNULL)

        def worker() -> subprocess.Popen[str]:
            arguments = [sys.executable, str(SCRIPT), ledger, service.base_url, "40"]
            return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment)

        def submits() -> int:
            return sum(service.backend.stats.submits.values())

        with worker() as process:
            assert process.stdout
            told = [json.loads(process.stdout.readline()) for _ in range(3)]
            accounts("pause", *account, "--reason", "Too dear.")
            time.sleep(2)  # what the promise allows
            bought = submits()
            told += [json.loads(line) for line in process.stdout]
        assert submits() == bought < 40
        rows = {row["number"]: row["found"] for row in told if "number" in row}
        sent = [number for number, found in rows.items() if found == f"N-{number:05}"]
        assert (len(rows), len(sent)) == (40, bought)
        assert all("Too dear." in found for number, found in rows.items() if number not in sent)
        accounts("resume", *account)
        with worker() as process:
            assert process.stdout
            told = [json.loads(line) for line in process.stdout]
        assert {row["found"] for row in told if "number" in row} == {f"N-{i:05}" for i in range(40)}
        assert list(service.backend.stats.submits.values()) == [1] * 40
