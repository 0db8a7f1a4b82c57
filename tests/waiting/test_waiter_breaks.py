"""Whatever breaks inside a waiter, or around it, no caller waits for ever."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from opentelemetry.metrics import get_meter_provider
from opentelemetry.trace import get_tracer_provider
from support import toy
from support.services import connected, invoice
from support.toy import Account, Listed, ListedAndStreamed, Polled, Streamed, Toy, ref
from support.virtual_time import virtual_time

from prefect_docjobs.errors import DocJobsError, JobTimeout
from prefect_docjobs.extraction import extract_many
from prefect_docjobs.http import AccountLimits, Http
from prefect_docjobs.models import JobRef, JobState, JobStatus, Phase
from prefect_docjobs.providers.base import JobPage
from prefect_docjobs.telemetry import Operation, Telemetry
from prefect_docjobs.waiting import Waiter
from prefect_docjobs.waiting.durations import Durations

HANG = 1e5  # seconds of virtual time after which a test has hung


async def ends(waiting: Awaitable[JobStatus]) -> JobStatus | BaseException:
    """How a wait ends; fails where it hangs."""
    (end,) = await asyncio.gather(asyncio.wait_for(waiting, HANG), return_exceptions=True)
    assert isinstance(end, JobTimeout) or not isinstance(end, TimeoutError), "the wait hangs"
    return end


def is_timeout(end: object, job_id: str = "0") -> bool:
    """Whether it is the typed error that names the job, which may still be running."""
    return (
        isinstance(end, JobTimeout)
        and end.ref is not None
        and end.ref.job_id == job_id
        and "may still be running" in str(end)
    )


def tracebacks(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.exc_info]


# -- callbacks


@virtual_time
async def test_a_forecast_that_breaks_costs_nothing_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    account, calls = Account(), []

    def broken(forecast: object) -> None:
        calls.append(forecast)
        raise ZeroDivisionError("the display is gone")

    async with toy.waiting(Polled(account)) as waiter:
        waiter.on_forecast = broken
        job = account.add("0", 20.0)
        assert await ends(waiter.done(job)) == JobStatus(
            ref=job, state=JobState.SUCCEEDED, raw_state="succeeded", seen_at=toy.BEGAN
        )
    assert len(calls) > 3
    assert len(tracebacks(caplog)) == 1


@virtual_time
async def test_a_batch_whose_forecast_breaks_is_delivered() -> None:
    def broken(forecast: object) -> None:
        raise RuntimeError("the display is gone")

    async with connected("mindee") as at:
        documents = [invoice(number) for number in range(3)]
        rows = [row async for _, row in extract_many(at.provider, at.http, documents, on_forecast=broken)]
    assert [row.phase for row in rows] == [Phase.DONE] * 3


class BrokenDurations(Durations):
    """A memory of which one method breaks."""

    def __init__(self, method: str) -> None:
        super().__init__()
        setattr(self, method, self._break)

    def _break(self, *args: object, **options: object) -> Any:
        raise OSError("the disk is gone")


@pytest.mark.parametrize("method", ["add", "of", "kept", "close"])
@virtual_time
async def test_a_memory_of_durations_that_breaks_costs_no_job(method: str) -> None:
    account = Account()
    async with toy.waiting(Polled(account), durations=BrokenDurations(method)) as waiter:
        jobs = [account.add(str(number), 5.0 + number) for number in range(20)]
        found = await asyncio.gather(*[ends(waiter.done(job)) for job in jobs])
    assert {end.state for end in found if isinstance(end, JobStatus)} == {JobState.SUCCEEDED}
    assert len(found) == 20


class BrokenTelemetry(Telemetry):
    """Breaks wherever it is called."""

    def job_done(self, ref: JobRef, *, age: float, took: float | None) -> None:
        raise RuntimeError("no exporter")

    def phase(self, phase: Phase, provider: str, product: str, ref: JobRef | None = None) -> Operation:
        return _BrokenOperation(None, "broken", {})


class _BrokenOperation(Operation):
    def note(self, name: str, value: bool | float) -> None:
        raise RuntimeError("no exporter")


@virtual_time
async def test_telemetry_that_breaks_costs_no_job() -> None:
    account = Account()
    async with toy.waiting(Polled(account)) as waiter:
        waiter.http.telemetry = BrokenTelemetry(get_tracer_provider(), get_meter_provider())
        end = await ends(waiter.done(account.add("0", 5.0)))
        assert isinstance(end, JobStatus)
        assert waiter.pending.jobs == {}


# -- a status check that is no answer


@dataclass(frozen=True)
class Odd(Toy):
    """What a status check of a job does, one after the other; the last of it for ever."""

    does: list[Any] = field(default_factory=list)

    async def status(self, http: Http, ref: JobRef, *, once: bool = False) -> JobStatus:
        await anyio.sleep(0.05)
        what = self.does.pop(0) if len(self.does) > 1 else self.does[0]
        if isinstance(what, BaseException):
            raise what
        if isinstance(what, JobState):
            return JobStatus(ref=ref, state=what, raw_state=what.value, seen_at=toy.BEGAN)
        return what  # type: ignore[no-any-return]


ODD = [
    ZeroDivisionError("a fault of ours"),
    RecursionError(),
    asyncio.CancelledError(),
    asyncio.TimeoutError(),
    None,
    {"state": "succeeded"},
    "succeeded",
]


@pytest.mark.parametrize("odd", ODD, ids=repr)
@virtual_time
async def test_a_status_check_that_breaks_ends_in_a_typed_error_with_the_ref(odd: object) -> None:
    async with toy.waiting(Odd(does=[odd])) as waiter:
        assert is_timeout(await ends(waiter.done(ref())))
        assert waiter.pending.jobs == {}


@pytest.mark.parametrize("odd", ODD, ids=repr)
@virtual_time
async def test_one_status_check_that_breaks_is_followed_by_another(odd: object) -> None:
    async with toy.waiting(Odd(does=[odd, JobState.PROCESSING, odd, JobState.SUCCEEDED])) as waiter:
        end = await ends(waiter.done(ref()))
    assert isinstance(end, JobStatus)


# -- sources that break


class _BrokenList(Listed):
    def __init__(self, account: Account, problem: BaseException | object) -> None:
        super().__init__(account=account)
        object.__setattr__(self, "problem", problem)

    async def list_jobs(self, http: Http, *, skip: int = 0, limit: int = 100, once: bool = False) -> JobPage:
        problem = self.problem  # type: ignore[attr-defined]
        if isinstance(problem, BaseException):
            raise problem
        return problem  # type: ignore[no-any-return]


class _BrokenStreams(Streamed):
    def __init__(self, account: Account, problem: object) -> None:
        super().__init__(account=account)
        object.__setattr__(self, "problem", problem)

    async def stream(self, http: Http, ref: JobRef) -> AsyncIterator[JobStatus]:
        problem = self.problem  # type: ignore[attr-defined]
        if isinstance(problem, BaseException):
            raise problem
        yield problem


@pytest.mark.parametrize("kind", [_BrokenList, _BrokenStreams])
@pytest.mark.parametrize(
    "problem", [asyncio.CancelledError(), ZeroDivisionError("bug"), None, "a text"], ids=repr
)
@virtual_time
async def test_a_source_that_breaks_delays_a_job_by_one_status_check_at_most(
    kind: Callable[[Account, object], Polled], problem: object
) -> None:
    account = Account()
    async with toy.waiting(kind(account, problem)) as waiter:
        jobs = [account.add(str(number), 30.0) for number in range(4)]
        found = await asyncio.gather(*[ends(waiter.done(job)) for job in jobs])
        assert all(isinstance(end, JobStatus) for end in found)
        assert anyio.current_time() < 35.0


# -- the loop itself


class _BrokenLimits(AccountLimits):
    """Breaks at the given time, as a fault of the waiter would."""

    def __init__(self, breaks_at: float) -> None:
        super().__init__(clock=self._clock)
        self.breaks_at = breaks_at

    def _clock(self) -> float:
        now = asyncio.get_running_loop().time()
        if now >= getattr(self, "breaks_at", 1e9):
            raise ZeroDivisionError("a fault of ours")
        return now


@pytest.mark.parametrize("kind", [Polled, Listed, Streamed, ListedAndStreamed])
@virtual_time
async def test_when_the_loop_breaks_each_job_ends_in_a_typed_error_those_that_come_later_too(
    kind: type[Polled],
) -> None:
    account = Account()
    async with toy.waiting(kind(account=account), account_limits=_BrokenLimits(10.0)) as waiter:
        jobs = [account.add(str(number), 500.0) for number in range(50)]
        pending = [asyncio.create_task(ends(waiter.done(job))) for job in jobs]
        found = await asyncio.gather(*pending)
        assert all(is_timeout(end, str(number)) for number, end in enumerate(found))
        assert all("broke" in str(end) for end in found)
        assert waiter.pending.jobs == {}
        later = account.add("later", 1.0)
        assert is_timeout(await ends(waiter.done(later)), "later")
        assert is_timeout(await ends(waiter.done(jobs[0])), "0")


@virtual_time
async def test_when_the_loop_is_cancelled_no_caller_waits_for_it() -> None:
    account = Account()
    async with toy.waiting(Polled(account)) as waiter:
        pending = asyncio.create_task(ends(waiter.done(account.add("0", 1e4))))
        await asyncio.sleep(5)
        (rounds,) = [task for task in asyncio.all_tasks() if task.get_name() == "docjobs-waiter"]
        rounds.cancel()
        assert is_timeout(await pending)
        assert is_timeout(await ends(waiter.done(ref("1"))), "1")


@virtual_time
async def test_a_waiter_that_is_closed_takes_no_job() -> None:
    account = Account()
    async with toy.waiting(Polled(account)) as waiter:
        job = account.add("0", 1.0)
    assert is_timeout(await ends(waiter.done(job)))


class _SlowToEnd(Polled):
    """Its status checks take a while to end when they are cancelled."""

    async def status(self, http: Http, ref: JobRef, *, once: bool = False) -> JobStatus:
        try:
            await asyncio.sleep(100.0)
        finally:
            await asyncio.sleep(10.0)
        raise AssertionError


@virtual_time
async def test_a_job_that_is_added_while_the_waiter_closes_does_not_hang() -> None:
    ended: list[Any] = []

    async def late(waiter: Waiter) -> None:
        await asyncio.sleep(5.0)
        ended.append(await ends(waiter.done(ref("late"))))

    async with toy.waiting(_SlowToEnd()) as waiter:
        first = asyncio.create_task(ends(waiter.done(ref("0"), age=100.0)))
        await asyncio.sleep(1.0)
        second = asyncio.create_task(late(waiter))
    await asyncio.gather(first, second)
    assert is_timeout(ended[0], "late")


@virtual_time
async def test_one_ref_with_an_absurd_size_is_no_trouble_for_the_others() -> None:
    account = Account()
    async with toy.waiting(Polled(account)) as waiter:
        jobs = [account.add(str(number), 10.0) for number in range(20)]
        odd = jobs[0].model_copy(update={"document_size": 10**400})
        found = await asyncio.gather(*[ends(waiter.done(job)) for job in [odd, *jobs[1:]]])
    assert [type(end) for end in found] == [JobStatus] * 20


# -- time limits


@virtual_time
async def test_a_time_limit_holds_while_the_account_pauses() -> None:
    """A job that is not due yet when the pause begins ends in time, too."""
    account = Account()
    account_limits = AccountLimits(clock=asyncio.get_running_loop().time)
    async with toy.waiting(Polled(account), account_limits=account_limits) as waiter:
        early = asyncio.create_task(ends(waiter.done(account.add("0", 1e4), age=1e3)))
        await asyncio.sleep(1.0)
        account_limits["status"].throttled(60.0)
        late = asyncio.create_task(ends(waiter.done(account.add("1", 1e4), deadline=12.0)))
        await asyncio.sleep(0.1)
        waiter.pending.poll_in(waiter.pending.jobs["0"], 0.0)
        assert is_timeout(await late, "1")
        assert anyio.current_time() < 14.0
        early.cancel()
        await asyncio.gather(early, return_exceptions=True)


@virtual_time
async def test_a_callback_for_refusals_may_break() -> None:
    """A 429 is a pause, and no fault of the status check, whatever its callback does."""

    def broken(kind: str, seconds: float) -> None:
        raise DocJobsError("the ledger is gone")

    limiter = AccountLimits(clock=asyncio.get_running_loop().time, on_throttled=broken)["status"]
    limiter.throttled(5.0)
    assert limiter.wait() == 5.0
