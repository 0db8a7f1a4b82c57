"""A result is kept before it is read; a call that is cancelled sees through what is paid for."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from support.patient_time import patient_time
from support.services import MODEL, invoice, says
from support.shop import Shop, shop

from prefect_docjobs.errors import Reason
from prefect_docjobs.ledger import State
from prefect_docjobs.models import JobRef, Result
from prefect_docjobs.providers.mindee import Mindee

ONCE: dict[str, Any] = {"single_use_results": True}


class Unreading(Mindee):
    """It cannot make sense of any result."""

    def map_result(self, ref: JobRef, payload: Any) -> Result:
        raise ValueError("no idea")


@patient_time
async def test_a_result_that_cannot_be_parsed_is_kept_and_can_be_read_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with shop("mindee", tmp_path, **ONCE) as at:
        unreading = Unreading(model_id=MODEL, webhook_ids=at.provider.webhook_ids)  # type: ignore[attr-defined]
        (unread,) = await at.extract(invoice(1), provider=unreading)
        assert unread.reason is Reason.UNREADABLE
        record = await at.the_record()
        assert (record.state, record.reason, record.has_body) == (State.DONE, Reason.UNREADABLE, True)
        assert "Not written down" not in caplog.text
        (read,) = await at.extract(invoice(1))
        assert read.result
        assert says(read.result)[0] == "N-00001"
        assert (at.submits, at.fetches) == (1, 1)


@patient_time
async def test_a_result_that_breaks_off_is_asked_for_again(tmp_path: Path) -> None:
    async with shop("mindee", tmp_path, faults={"result": {"lost": 1.0}}) as at:
        asyncio.get_running_loop().call_later(15.0, lambda: at.set(faults=None))
        (outcome,) = await at.extract(invoice(1))
        assert outcome.ok
        assert at.submits == 1


@patient_time
async def test_only_a_404_after_a_result_broke_off_makes_it_lost(tmp_path: Path) -> None:
    async with shop("mindee", tmp_path, faults={"result": {"lost": 1.0}}, **ONCE) as at:
        (first,) = await at.extract(invoice(1))
        at.set(faults=None)
        (second,) = await at.extract(invoice(1))
        assert first.reason is second.reason is Reason.LOST_RESULT
        assert (await at.the_record()).reason is Reason.LOST_RESULT
        assert at.submits == 1


# -- cancelling


async def cancelled_after(at: Shop, seconds: float, count: int) -> None:
    """Cancel an extraction of so many documents, then let the service finish what it has."""
    running = asyncio.create_task(at.extract(*(invoice(number) for number in range(count))))
    await asyncio.sleep(seconds)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


def is_submit(request: httpx.Request) -> float:
    return 5.0 if request.method == "POST" else 0.0


def is_result(request: httpx.Request) -> float:
    return 5.0 if "/results/" in request.url.path else 0.0


@patient_time
async def test_cancelling_while_an_answer_is_on_its_way_waits_for_the_job_and_writes_it_down(
    tmp_path: Path,
) -> None:
    async with shop("mindee", tmp_path) as at:
        at.late.seconds = is_submit
        await cancelled_after(at, 1.0, 1)
        record = await at.the_record()
        assert (record.state, at.submits) == (State.SUBMITTED, 1)
        assert record.job_id == at.backend.all_jobs()[0].id


@patient_time
async def test_cancelling_while_waiting_for_a_turn_leaves_no_intent(tmp_path: Path) -> None:
    async with shop("mindee", tmp_path) as at:
        at.late.seconds = is_submit
        await cancelled_after(at, 1.0, 20)
        states = [record.state for record in await at.ledger.find()]
        assert states == [State.SUBMITTED] * 8
        assert at.submits == 8


@patient_time
async def test_cancelling_before_a_submit_is_sent_leaves_no_intent(tmp_path: Path) -> None:
    async with shop("mindee", tmp_path) as at:
        at.http.limiter("submit").throttled(60.0)
        await cancelled_after(at, 1.0, 3)
        assert not await at.ledger.find()
        assert at.submits == 0


@patient_time
async def test_cancelling_between_a_refusal_and_the_next_try_leaves_no_intent(tmp_path: Path) -> None:
    busy: dict[str, Any] = {
        "faults": {"submit": {"unavailable": 1.0}},
        "retry_after": {"form": "seconds", "seconds": 20.0},
    }
    async with shop("mindee", tmp_path, **busy) as at:
        await cancelled_after(at, 5.0, 3)
        assert [request.method for request in at.requests] == ["POST"] * 3
        assert {record.state for record in await at.ledger.find()} == {State.FAILED}
        assert at.submits == 0


@patient_time
async def test_an_answer_that_does_not_come_soon_leaves_an_open_intent(tmp_path: Path) -> None:
    async with shop("mindee", tmp_path) as at:
        at.late.seconds = lambda request: 60.0
        began = asyncio.get_running_loop().time()
        await cancelled_after(at, 1.0, 1)
        assert asyncio.get_running_loop().time() - began == pytest.approx(11.0, abs=0.1)
        assert (await at.the_record()).state is State.INTENDED


@patient_time
async def test_cancelling_during_a_fetch_keeps_the_result(tmp_path: Path) -> None:
    async with shop("mindee", tmp_path, **ONCE) as at:
        at.late.seconds = is_result
        running = asyncio.create_task(at.extract(invoice(1)))
        await asyncio.sleep(15.0)
        assert at.fetches == 1
        assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert running.cancelled()
        assert (await at.the_record()).has_body
        (outcome,) = await at.extract(invoice(1))
        assert outcome.ok
        assert (at.submits, at.fetches) == (1, 1)


# -- a ledger that breaks


@patient_time
async def test_without_a_durable_intent_nothing_is_submitted(tmp_path: Path) -> None:
    async with shop("mindee", tmp_path) as at:
        async with at.refusing("INSERT"):
            outcomes = await at.extract(*(invoice(number) for number in range(10)))
        assert {outcome.reason for outcome in outcomes} == {Reason.UNAVAILABLE}
        assert at.submits == 0
        assert all(outcome.ok for outcome in await at.extract(*(invoice(number) for number in range(10))))


@patient_time
async def test_a_ledger_that_breaks_after_the_submit_costs_no_result_and_the_ref_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with shop("mindee", tmp_path) as at:
        with caplog.at_level(logging.ERROR):
            async with at.refusing("UPDATE"):
                (outcome,) = await at.extract(invoice(1))
        assert outcome.ok
        assert f'"job_id":"{at.backend.all_jobs()[0].id}"' in caplog.text
        assert "only in memory" in caplog.text
        assert at.submits == 1


@patient_time
async def test_a_lost_answer_stays_uncertain_when_the_ledger_breaks_too(tmp_path: Path) -> None:
    async with shop("mindee", tmp_path, faults={"submit": {"lost": 1.0}}) as at:
        async with at.refusing("UPDATE"):
            (outcome,) = await at.extract(invoice(1))
        assert outcome.reason is Reason.UNCERTAIN
        assert at.submits == 1


@patient_time
async def test_a_cancelled_call_lets_go_of_its_jobs_at_once(tmp_path: Path) -> None:
    async with shop("mindee", tmp_path) as at:
        with anyio.move_on_after(5.0) as scope:
            await at.extract(*(invoice(number) for number in range(5)))
        assert scope.cancelled_caught
        async with at.another_worker() as other:  # while the ledger of the first is still open
            outcomes = await at.extract(*(invoice(number) for number in range(5)), ledger=other)
        assert all(outcome.ok for outcome in outcomes)
        assert at.submits == 5
