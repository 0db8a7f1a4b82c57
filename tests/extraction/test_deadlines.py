"""Time limits and refusals where they meet queues, retries, lost answers and other workers."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import httpx
import pytest
from support.patient_time import patient_time
from support.services import invoice
from support.shop import shop

from prefect_docjobs.errors import Reason
from prefect_docjobs.extraction import extract_many, submit_many
from prefect_docjobs.extraction.budget import Budget
from prefect_docjobs.extraction.call import Terms
from prefect_docjobs.ledger import State
from prefect_docjobs.models import Outcome


def now() -> float:
    return asyncio.get_running_loop().time()


def slow_posts(seconds: float) -> object:
    return lambda request: seconds if request.method == "POST" else 0.0


@patient_time
async def test_the_limit_of_a_document_does_not_count_its_queue(tmp_path: Path) -> None:
    async with shop("mindee", tmp_path) as at:
        at.late.seconds = slow_posts(10.0)  # type: ignore[assignment]
        outcomes = await at.extract(*(invoice(number) for number in range(100)), document_timeout=60.0)
        assert [outcome.error for outcome in outcomes if not outcome.ok] == []


@pytest.mark.parametrize("remembers", [True, False])
@patient_time
async def test_a_submit_that_is_refused_after_the_time_limit_is_not_sent_again(
    remembers: bool, tmp_path: Path
) -> None:
    async with shop("mindee", tmp_path) as at:
        at.late.seconds = slow_posts(25.0)  # type: ignore[assignment]
        busy = httpx.Response(429, json={"status": 429, "title": "t", "detail": "d", "code": "429-1"})
        at.late.instead = lambda request: busy if request.method == "POST" else None
        began = now()
        outcomes = extract_many(
            at.provider, at.http, [invoice(1)], timeout=20.0, ledger=at.ledger if remembers else None
        )
        (outcome,) = [row async for _, row in outcomes]
        assert now() - began < 20.0 + 30.0
        assert (outcome.reason, outcome.ref, at.submits) == (Reason.TIMEOUT, None, 0)


@patient_time
async def test_what_never_left_is_not_taken_from_the_budget(tmp_path: Path) -> None:
    async with shop("mindee", tmp_path) as at:
        at.http.limiter("submit").throttled(60.0)
        budget = Budget(max_submits=1)
        (late,) = await at.extract(invoice(1), timeout=10.0, budget=budget)
        assert (late.reason, budget.bought) == (Reason.TIMEOUT, 0)


@patient_time
async def test_copies_in_one_call_are_bought_once_also_where_nothing_is_reused(tmp_path: Path) -> None:
    async with shop("mindee", tmp_path) as at:
        outcomes = await at.extract(*([invoice(1)] * 4), reuse_for=0.0)
        assert [outcome.ok for outcome in outcomes] == [True] * 4
        assert at.submits == 1
        await asyncio.sleep(1.0)
        await at.extract(invoice(1), reuse_for=0.0)


@patient_time
async def test_what_was_sent_and_lost_stays_uncertain_when_its_repeat_is_refused(tmp_path: Path) -> None:
    posts = itertools.count()
    async with shop("mindee", tmp_path, faults={"submit": {"lost": 1.0}}) as at:
        refusal = {"status": 401, "title": "t", "detail": "d", "code": "401-1"}

        def instead(request: httpx.Request) -> httpx.Response | None:
            again = request.method == "POST" and next(posts) > 0
            return httpx.Response(401, json=refusal) if again else None

        at.late.instead = instead
        (outcome,) = await at.extract(invoice(1), on_uncertain="resubmit")
        assert (outcome.reason, at.submits) == (Reason.UNCERTAIN, 1)
        (again,) = await at.extract(invoice(1))
        assert (again.reason, at.submits) == (Reason.UNCERTAIN, 1)


@patient_time
async def test_finding_out_about_a_lost_submit_ends_with_the_call(tmp_path: Path) -> None:
    async with shop("numind", tmp_path, faults={"submit": {"lost": 1.0}}) as at:
        busy = httpx.Response(429, json={"code": "TooMany", "message": "m"})
        at.late.instead = lambda request: busy if request.url.path == "/api/jobs" else None
        began = now()
        (outcome,) = await at.extract(invoice(1), timeout=15.0)
        assert now() - began < 15.0 + 30.0
        assert outcome.reason is Reason.UNCERTAIN


@patient_time
async def test_documents_that_others_are_at_work_on_take_no_slots(tmp_path: Path) -> None:
    async with shop("mindee", tmp_path) as at, at.another_worker() as other:
        documents = [invoice(number) for number in range(36)]
        for document in documents[:32]:
            await other.claim(at.entry(document))
        ended: dict[int, Outcome] = {}

        async def submit() -> None:
            outcomes = submit_many(at.provider, at.http, documents, terms=Terms(), ledger=at.ledger)
            async for index, outcome in outcomes:
                ended[index] = outcome  # noqa: PERF403 (it is looked at meanwhile)

        running = asyncio.create_task(submit())
        await asyncio.sleep(60.0)
        assert sorted(ended) == [32, 33, 34, 35]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@patient_time
async def test_one_row_that_cannot_be_read_is_one_documents_trouble(tmp_path: Path) -> None:
    async with shop("mindee", tmp_path) as at:
        await at.extract(invoice(1))
        await at.execute("UPDATE docjobs_jobs SET state = 'unheard of'")
        odd, *others = await at.extract(invoice(1), invoice(2), invoice(3))
        assert odd.reason is Reason.UNAVAILABLE
        assert [outcome.ok for outcome in others] == [True, True]
        assert at.submits == 3
        states = [record.state for record in await at.ledger.find(states=[State.FETCHED])]
        assert states == [State.FETCHED] * 2


@pytest.mark.parametrize("timeout", [12.0, 30.0, None])
@patient_time
async def test_a_result_that_is_here_is_delivered_although_it_cannot_be_kept(
    timeout: float | None, tmp_path: Path
) -> None:
    async with shop("mindee", tmp_path, single_use_results=True) as at:
        await at.extract(invoice(0))
        async with at.refusing("UPDATE OF body_size"):
            outcomes = await at.extract(*(invoice(number) for number in range(1, 4)), timeout=timeout)
        assert [outcome.error for outcome in outcomes if not outcome.ok] == []
