"""What one call may cost in time, uploads and open intents, whatever goes wrong."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.patient_time import patient_time
from support.services import invoice
from support.shop import Shop, shop

from prefect_docjobs.errors import Reason
from prefect_docjobs.extraction import extract_many
from prefect_docjobs.ledger import Ledger, State
from prefect_docjobs.models import Outcome


def now() -> float:
    return asyncio.get_running_loop().time()


def reasons(outcomes: Any) -> list[Reason | None]:
    return [outcome.reason for outcome in outcomes]


async def extracted(at: Shop, number: int, *, ledger: Ledger | None, **options: Any) -> list[Outcome]:
    documents = [invoice(each) for each in range(number)]
    outcomes = extract_many(at.provider, at.http, documents, ledger=ledger, **options)
    return [outcome async for _, outcome in outcomes]


# -- time


@pytest.mark.parametrize("remembers", [True, False])
@patient_time
async def test_results_have_one_grace_together_after_the_time_limit(remembers: bool, tmp_path: Path) -> None:
    async with shop("mindee", tmp_path) as at:
        at.late.seconds = lambda request: 25.0 if "/results/" in request.url.path else 0.0
        began = now()
        outcomes = await extracted(at, 200, ledger=at.ledger if remembers else None, timeout=20.0)
        assert now() - began <= 20.0 + 30.0 + 1.0
        assert len(outcomes) == 200
        assert {outcome.reason for outcome in outcomes} == {None, Reason.TIMEOUT}
        assert all(outcome.ref is not None for outcome in outcomes)


@patient_time
async def test_a_throttled_submit_ends_with_the_time_limit_and_has_bought_nothing(tmp_path: Path) -> None:
    async with shop("mindee", tmp_path, rates={"submit": {"per_second": 0.001}}) as at:
        began = now()
        outcomes = await extracted(at, 20, ledger=at.ledger, timeout=50.0)
        assert now() - began <= 50.0 + 30.0 + 1.0
        late = [outcome for outcome in outcomes if not outcome.ok]
        assert {outcome.reason for outcome in late} == {Reason.TIMEOUT}
        assert all(outcome.ref is None for outcome in late)
        assert not await at.ledger.find(states=[State.INTENDED])
        assert at.submits == 20 - len(late)


@patient_time
async def test_who_waits_for_another_worker_is_named_and_waits_no_longer_than_the_document_may(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with shop("mindee", tmp_path) as at, at.another_worker() as other:
        record = await other.claim(at.entry(invoice(1)))
        began = now()
        waiting, free = await at.extract(invoice(1), invoice(2), document_timeout=200.0, concurrency=8)
        assert (waiting.reason, free.reason) == (Reason.TIMEOUT, None)
        assert now() - began == pytest.approx(200.0, abs=5.0)
        named = [line for line in caplog.messages if record.owner in line]
        assert 2 <= len(named) <= 4


# -- the account is refused


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        ({"api_key": "another"}, Reason.UNAUTHORIZED),
        ({"unsiloed": {"quota": 0}}, Reason.QUOTA),
    ],
)
@pytest.mark.parametrize("remembers", [True, False])
@patient_time
async def test_an_account_that_is_refused_costs_a_few_uploads_and_not_one_for_each_document(
    refusal: dict[str, Any], reason: Reason, remembers: bool, tmp_path: Path
) -> None:
    async with shop("unsiloed", tmp_path, **refusal) as at:
        outcomes = await extracted(at, 60, ledger=at.ledger if remembers else None)
        assert set(reasons(outcomes)) == {reason}
        posts = [request for request in at.requests if request.method == "POST"]
        assert len(posts) <= 10
        not_sent = [outcome for outcome in outcomes if "not sent" in (outcome.error or "")]
        assert len(not_sent) == 60 - len(posts)
        assert not await at.ledger.find(states=[State.INTENDED])
        at.set(**dict.fromkeys(refusal))
        assert all(outcome.ok for outcome in await extracted(at, 60, ledger=at.ledger))


@patient_time
async def test_refusals_of_single_documents_do_not_stop_the_others(tmp_path: Path) -> None:
    posts = itertools.count()
    async with shop("mindee", tmp_path) as at:

        def instead(request: httpx.Request) -> httpx.Response | None:
            if request.method != "POST" or next(posts) % 2:
                return None
            return httpx.Response(422, json={"status": 422, "title": "t", "detail": "no", "code": "422-1"})

        at.late.instead = instead
        outcomes = await extracted(at, 40, ledger=at.ledger)
        assert reasons(outcomes).count(Reason.REJECTED) == reasons(outcomes).count(None) == 20


# -- what never left is never uncertain


@patient_time
async def test_an_intent_is_written_when_its_turn_has_come(tmp_path: Path) -> None:
    async with shop("mindee", tmp_path) as at:
        at.http.limiter("submit").throttled(60.0)
        running = asyncio.create_task(extracted(at, 40, ledger=at.ledger))
        await asyncio.sleep(30.0)
        assert not await at.ledger.find()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@patient_time
async def test_a_submit_that_is_refused_leaves_no_open_intent_while_it_pauses(tmp_path: Path) -> None:
    busy: dict[str, Any] = {
        "faults": {"submit": {"unavailable": 1.0}},
        "retry_after": {"form": "seconds", "seconds": 30.0},
    }
    async with shop("mindee", tmp_path, **busy) as at:
        running = asyncio.create_task(extracted(at, 8, ledger=at.ledger))
        await asyncio.sleep(15.0)
        assert {record.state for record in await at.ledger.find()} == {State.FAILED}
        async with at.another_worker() as other:  # as after a kill: nothing is uncertain
            at.set(faults=None, retry_after=None)
            outcomes = await extracted(at, 8, ledger=other)
            assert reasons(outcomes) == [None] * 8
        assert reasons(await running) == [None] * 8
        assert at.submits == 8


@patient_time
async def test_a_result_that_cannot_be_written_down_holds_up_nobody_else(tmp_path: Path) -> None:
    async with shop("mindee", tmp_path) as at, at.another_worker() as other:
        await at.extract(invoice(0))
        async with at.refusing("UPDATE OF body_size"):
            first = asyncio.create_task(at.extract(invoice(1), invoice(2)))
            await asyncio.sleep(60.0)
            assert reasons(await first) == [None] * 2
        # The ledger stays open and its heart beats.
        began = now()
        outcomes = await extracted(at, 3, ledger=other, document_timeout=300.0)
        assert now() - began < 200.0
        assert reasons(outcomes)[0] is None
        assert at.submits == 3
