"""Pushes that lie in the ledger's inbox: whoever waits for their jobs hears of them, and does not fetch."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import logging
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.patient_time import patient_time
from support.services import ORIGIN, invoice, says
from support.shop import TENANT, Shop, shop

from prefect_docjobs.errors import Reason
from prefect_docjobs.ledger import Account, Ledger, State
from prefect_docjobs.models import JobState
from prefect_docjobs.providers import Provider, provider_class
from prefect_docjobs.providers.mindee import Mindee

WEBHOOKS = ("0f0e0d0c-0000-4000-8000-00000000beef",)
HOOK = {"webhooks": {"url": "https://receiver.test/{service}"}}


@dataclass
class Receiver(httpx.AsyncBaseTransport):
    """Another process: it keeps what the service pushes in the same ledger.

    Attributes:
        tenant: For which account it takes the pushes to be.
        kept: How many pushes were new, and how many were not.
        late: Seconds by which it is late.
        lossy: Told of the number of a push from 0; whether it gets lost.
    """

    name: str
    tenant: str = TENANT
    late: float = 0.0
    lossy: Callable[[int], bool] = lambda number: False
    ledger: Ledger | None = None
    kept: list[bool] = field(default_factory=list)
    number: int = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        number, self.number = self.number, self.number + 1
        if self.lossy(number):
            return httpx.Response(200)
        body = await request.aread()
        await asyncio.sleep(self.late)
        self.kept.append(await keep(self.ledger, self.name, body, tenant=self.tenant))
        return httpx.Response(200)


async def keep(ledger: Ledger | None, name: str, body: bytes, *, tenant: str = TENANT) -> bool:
    """Keep a push as the receiver does."""
    assert ledger
    push = provider_class(name).read_push(body)
    kept = await ledger.inbox.keep(
        Account(name, ORIGIN, tenant),
        job_id=push.job_id,
        alias=push.alias,
        state=push.state,
        raw_state=push.raw_state,
        error=push.error,
        digest=hashlib.sha256(tenant.encode() + body).hexdigest(),
        body=body if push.state is JobState.SUCCEEDED else None,
        keep_for=3600.0,
    )
    return kept.is_new


def of_a_new_model() -> Mindee:
    """A service of whose jobs nothing is known, whatever other tests of this process have taught."""
    return Mindee(model_id=str(uuid.uuid4()), webhook_ids=WEBHOOKS)


@asynccontextmanager
async def pushing(
    name: str, folder: Path, receiver: Receiver | None = None, **settings: Any
) -> AsyncIterator[tuple[Shop, Receiver]]:
    """A shop whose service pushes to a receiver with the same ledger."""
    receiver = receiver or Receiver(name)
    async with (
        shop(name, folder, push_transport=receiver, **HOOK, **settings) as at,
        at.another_worker() as receiver.ledger,
    ):
        running = asyncio.create_task(at.pushes.run())
        yield at, receiver
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("name", ["mindee", "mindee_v1"])
@patient_time
async def test_a_push_ends_the_wait_within_a_quarter_of_a_second_and_nothing_is_fetched(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    slow: dict[str, Any] = {"duration": {"law": "fixed", "seconds": 1000.3}}
    async with pushing(name, tmp_path, **slow) as (at, receiver):
        began = asyncio.get_running_loop().time()
        (row,) = await at.extract(invoice(1))
        assert row.result
        assert says(row.result)[0] == "N-00001"
        assert 1000.3 <= asyncio.get_running_loop().time() - began < 1000.6
        assert receiver.kept == [True]
        assert (at.submits, at.fetches) == (1, 0)
        assert (await at.the_record()).state is State.FETCHED
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@patient_time
async def test_a_push_that_comes_before_the_answer_to_the_submit_is_not_lost(tmp_path: Path) -> None:
    async with pushing("mindee", tmp_path) as (at, receiver):
        at.late.seconds = lambda request: 30.0 if request.method == "POST" else 0.0
        service = of_a_new_model()
        (row,) = await at.extract(invoice(1), provider=service)
        assert row.result
        assert receiver.kept == [True]
        assert at.fetches == 0
        assert (await at.the_record()).state is State.FETCHED
        (again,) = await at.extract(invoice(1), provider=service)
        assert again.result
        assert again.result.raw == row.result.raw


@patient_time
async def test_a_pushed_failure_is_found_by_its_alias(tmp_path: Path) -> None:
    async with pushing("mindee", tmp_path, failed_share=1.0) as (at, receiver):
        (row,) = await at.extract(invoice(1), provider=of_a_new_model())
        assert row.reason is Reason.FAILED
        assert receiver.kept == [True]
        (record,) = await at.ledger.find()
        assert (record.state, record.reason) == (State.FAILED, Reason.FAILED)


@patient_time
async def test_pushes_of_another_account_end_nothing(tmp_path: Path) -> None:
    receiver = Receiver("mindee", tenant="somebody else")
    async with pushing("mindee", tmp_path, receiver) as (at, _):
        (row,) = await at.extract(invoice(1), provider=of_a_new_model())
        assert row.result
        assert receiver.kept == [True]
        assert at.fetches == 1


@patient_time
async def test_twice_late_and_lost_every_document_still_ends_once(tmp_path: Path) -> None:
    receiver = Receiver("mindee", late=7.0, lossy=lambda number: number % 3 == 0)
    twice = {"webhooks": {**HOOK["webhooks"], "twice_share": 0.5}}
    async with (
        shop("mindee", tmp_path, push_transport=receiver, failed_share=0.2, **twice) as at,
        at.another_worker() as receiver.ledger,
    ):
        running = asyncio.create_task(at.pushes.run())
        rows = await at.extract(*(invoice(number) for number in range(40)))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert at.submits == len(rows) == 40
        assert {row.reason for row in rows} == {None, Reason.FAILED}
        for number, row in enumerate(rows):
            assert row.result is None or says(row.result)[0] == f"N-{number:05}"
        assert len(await at.ledger.find()) == 40


@patient_time
async def test_when_pushes_stop_although_jobs_end_that_is_said_once_and_polls_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = Receiver("mindee", lossy=lambda number: number >= 10)
    async with pushing("mindee", tmp_path, receiver) as (at, _):
        service = of_a_new_model()
        rows = await at.extract(*(invoice(number) for number in range(10)), provider=service)
        assert all(row.result for row in rows)
        assert at.fetches == 0
        rest = (invoice(number) for number in range(10, 60))
        rows = await at.extract(*rest, provider=service, concurrency=2)
        assert all(row.result for row in rows)
        warnings = [record.getMessage() for record in caplog.records if "no push" in record.getMessage()]
        assert len(warnings) == 1
        assert "signing secret" in warnings[0]


@patient_time
async def test_polls_are_a_watchdog_while_pushes_come(tmp_path_factory: pytest.TempPathFactory) -> None:
    async def polls(folder: Path, *, lost: bool) -> int:
        """At 30 jobs, after 20 others were learned from."""
        receiver = Receiver("mindee", lossy=lambda number: lost)
        spread = {"law": "uniform", "low": 20.0, "high": 60.0}
        service = of_a_new_model()
        async with pushing("mindee", folder, receiver, duration=spread) as (at, _):
            await at.extract(*(invoice(number) for number in range(20)), provider=service)
            before = len(at.requests)
            await at.extract(*(invoice(number) for number in range(20, 50)), provider=service, concurrency=1)
            return sum("/jobs/" in request.url.path for request in at.requests[before:])

    with_pushes = await polls(tmp_path_factory.mktemp("pushed"), lost=False)
    without = await polls(tmp_path_factory.mktemp("lost"), lost=True)
    assert with_pushes < without / 2


@patient_time
async def test_a_hint_makes_the_waiter_poll_and_proves_nothing(tmp_path: Path) -> None:
    async with shop("unsiloed", tmp_path, duration={"law": "fixed", "seconds": 500.0}) as at:

        async def hint(seconds: float) -> None:
            await asyncio.sleep(seconds)
            job_id = at.backend.all_jobs()[0].id
            what: dict[str, Any] = {
                "job_id": job_id,
                "alias": None,
                "state": None,
                "raw_state": None,
                "error": None,
            }
            digest = hashlib.sha256(json.dumps([job_id, seconds]).encode()).hexdigest()
            account = Account("unsiloed", ORIGIN, TENANT)
            await at.ledger.inbox.keep(account, **what, digest=digest, body=None, keep_for=60.0)

        hints = asyncio.gather(hint(100.0), hint(500.5))
        began = asyncio.get_running_loop().time()
        (row,) = await at.extract(invoice(1))
        await hints
        assert row.result
        assert 500.5 <= asyncio.get_running_loop().time() - began < 501.5


# ------------------------------------------------------------ what proves that pushes come, what does not


async def keep_one(
    at: Shop, name: str, job_id: str, state: JobState | None, *, unique: object = "", tenant: str = TENANT
) -> None:
    """Keep a push that the service has not sent; without a state it is a hint."""
    await at.ledger.inbox.keep(
        Account(name, ORIGIN, tenant),
        job_id=job_id,
        alias=None,
        state=state,
        raw_state=state.value if state else None,
        error=None,
        digest=hashlib.sha256(f"{job_id} {state} {unique}".encode()).hexdigest(),
        body=None,
        keep_for=3600.0,
    )


async def waits_in_a_row(at: Shop, number: int, service: Provider) -> list[float]:
    """Seconds that each of so many documents took, one after the other; all of them are delivered."""
    documents = [invoice(each) for each in range(number)]
    rows = await at.extract(*documents, provider=service, concurrency=1)
    assert all(row.result for row in rows)
    return [row.seconds or 0.0 for row in rows]


@asynccontextmanager
async def meanwhile(work: Callable[[int], Awaitable[None]], every: float = 1.0) -> AsyncIterator[None]:
    """Do something again and again while the context is open; it is given the number of the time."""

    async def again_and_again() -> None:
        for number in itertools.count():
            await asyncio.sleep(every)
            await work(number)

    task = asyncio.create_task(again_and_again())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def no_proof(what: str, at: Shop, name: str) -> Callable[[int], Awaitable[None]]:
    """Pushes that say nothing about whether the ends of our jobs are reported."""
    fetched: set[str] = set()

    async def keep_more(number: int) -> None:
        jobs = at.backend.all_jobs()
        if what == "hints":  # once for each job: where they come again and again, polls are many
            for job in jobs:
                await keep_one(at, name, job.id, None)
        elif what == "pushes for jobs of others":
            await keep_one(at, name, str(uuid.uuid4()), JobState.SUCCEEDED)
        elif what == "pushes for another account":
            for job in jobs:
                await keep_one(at, name, job.id, JobState.PROCESSING, unique=number, tenant="another")
        elif what == "pushes that report no end":
            for job in jobs:
                await keep_one(at, name, job.id, JobState.PROCESSING, unique=number)
        else:  # pushes that are not true
            for job in jobs:
                if job.fetches and job.id not in fetched:
                    fetched.add(job.id)
                    await keep_one(at, name, job.id, JobState.FAILED)

    return keep_more


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("hints", "unsiloed"),
        ("hints", "mindee"),
        ("pushes for jobs of others", "mindee"),
        ("pushes for another account", "mindee"),
        ("pushes that report no end", "mindee"),
        ("pushes that are not true", "mindee"),
    ],
)
@patient_time
async def test_what_proves_nothing_does_not_make_polls_a_watchdog(
    tmp_path: Path, what: str, name: str
) -> None:
    async with shop(name, tmp_path) as at:
        service = of_a_new_model() if name == "mindee" else at.provider
        async with meanwhile(no_proof(what, at, name)):
            seconds = await waits_in_a_row(at, 6, service)
        assert max(seconds) < 15.0  # of jobs that take 10; a watchdog polls after 30


@patient_time
async def test_one_push_that_is_not_true_ends_the_trust_in_pushes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = Receiver("mindee", lossy=lambda number: number >= 4)
    async with pushing("mindee", tmp_path, receiver) as (at, _):

        async def lie(number: int) -> None:
            for job in at.backend.all_jobs()[4:5]:
                if job.fetches:
                    await keep_one(at, "mindee", job.id, JobState.FAILED)

        async with meanwhile(lie):
            seconds = await waits_in_a_row(at, 8, of_a_new_model())
        assert max(seconds[:4]) < 10.5
        assert seconds[4] > 25.0  # no push reported this one, while polls were a watchdog,
        assert max(seconds[6:]) < 15.0  # and a false push ended that
        warnings = [
            record.getMessage() for record in caplog.records if "says otherwise" in record.getMessage()
        ]
        assert len(warnings) == 1


def times_of_polls(at: Shop) -> dict[str, list[float]]:
    """When each job is asked about, from now on."""
    times: dict[str, list[float]] = defaultdict(list)

    def noted(request: httpx.Request) -> float:
        if request.method == "GET":
            times[request.url.path].append(asyncio.get_running_loop().time())
        return 0.0

    at.late.seconds = noted
    return times


@patient_time
async def test_a_flood_of_hints_is_no_flood_of_polls(tmp_path: Path) -> None:
    async with shop("unsiloed", tmp_path, duration={"law": "fixed", "seconds": 20.0}) as at:
        times = times_of_polls(at)

        async def flood(number: int) -> None:
            for each, job in enumerate(at.backend.all_jobs()):
                await keep_one(at, "unsiloed", job.id, None, unique=number)
                await keep_one(at, "unsiloed", f"another {number} {each}", None)

        async with meanwhile(flood, every=0.1):
            rows = await at.extract(*(invoice(number) for number in range(2)))
        assert all(row.result for row in rows)
        polled = [moments for path, moments in times.items() if len(moments) > 2]
        assert len(polled) == 2
        for moments in polled:
            gaps = [later - earlier for earlier, later in itertools.pairwise(moments[:-1])]
            assert min(gaps) >= at.provider.polling.at_least - 1e-6
            assert len(moments) <= 23


@patient_time
async def test_a_flood_of_hints_while_a_service_is_away_costs_no_job(tmp_path: Path) -> None:
    async with shop("unsiloed", tmp_path, faults={"status": {"unavailable": 1.0}}) as at:

        async def flood(number: int) -> None:
            if number == 200:  # after a minute it is back
                at.set(faults={"status": {"unavailable": 0.0}})
            for job in at.backend.all_jobs():
                await keep_one(at, "unsiloed", job.id, None, unique=number)

        async with meanwhile(flood, every=0.3):
            (row,) = await at.extract(invoice(1))
        assert row.result, row.error


@patient_time
async def test_hints_do_not_displace_the_push_that_brings_the_result(tmp_path: Path) -> None:
    async with pushing("mindee", tmp_path, duration={"law": "fixed", "seconds": 20.3}) as (at, receiver):

        async def flood(number: int) -> None:
            for job in at.backend.all_jobs():
                await keep_one(at, "mindee", job.id, None, unique=number)

        async with meanwhile(flood, every=0.05):
            (row,) = await at.extract(invoice(1), provider=of_a_new_model())
        assert row.result
        assert receiver.kept == [True]
        assert at.fetches == 0


@patient_time
async def test_a_push_that_cannot_be_read_leaves_the_job_to_polls(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as one that was kept by a newer version, with a state that this one does not know."""
    async with pushing("mindee", tmp_path, Receiver("mindee", lossy=lambda number: number >= 4)) as (at, _):

        async def spoil(number: int) -> None:
            if sum(bool(job.fetches) for job in at.backend.all_jobs()) == 1:
                await at.execute("UPDATE docjobs_pushes SET state = 'unheard of' WHERE state IS NOT NULL")
                await keep_one(at, "mindee", "somebody's", JobState.SUCCEEDED)
                await at.execute("UPDATE docjobs_pushes SET state = 'unheard of'")

        async with meanwhile(spoil):
            seconds = await waits_in_a_row(at, 7, of_a_new_model())
        assert max(seconds[5:]) < 15.0
        assert sum("cannot be followed" in record.getMessage() for record in caplog.records) == 1
