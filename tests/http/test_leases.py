"""Tokens leased from a source that several processes share: by the dozen, ahead of need, not relied upon."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
from support.toy import Account, Polled, all_done, waiting
from support.virtual_time import virtual_time

from prefect_docjobs.http import AccountLimits, Kind, RateLimiter
from prefect_docjobs.http.rate_limits import Lease, Leases


@dataclass
class Source:
    """A bucket in memory that all processes of an account lease from; it answers after a moment."""

    rate: float
    lapse: float = 5.0
    takes: float = 0.01
    calls: list[tuple[str, int]] = field(default_factory=list)
    broken: bool = False
    _left: float = 0.0
    _at: float = 0.0

    async def refill(self, kind: str, wanted: int) -> Lease:
        self.calls.append((kind, wanted))
        await asyncio.sleep(self.takes)
        if self.broken:
            raise ConnectionError("the database is gone")
        now = asyncio.get_running_loop().time()
        self._left = min(self._left + (now - self._at) * self.rate, 24.0)
        self._at = now
        granted = min(wanted, int(self._left))
        self._left -= granted
        return Lease(granted, now + (self.lapse if granted else 1.0 / self.rate))


def process(source: Source) -> RateLimiter:
    """The limiter of one process for status requests."""
    return AccountLimits(clock=asyncio.get_running_loop().time, refill=source.refill)["status"]


async def tokens(limiter: RateLimiter, seconds: float) -> int:
    """How many tokens a caller gets that always wants one."""
    loop = asyncio.get_running_loop()
    until, taken = loop.time() + seconds, 0
    while loop.time() < until:
        if wait := limiter.take():
            await asyncio.sleep(min(wait, until - loop.time()))
        else:
            taken += 1
            await asyncio.sleep(0)
    return taken


@virtual_time
async def test_processes_that_lease_from_one_source_share_its_rate() -> None:
    random.seed(3)  # processes lease at random moments, so as not to be in step
    source = Source(rate=20.0)
    taken = await asyncio.gather(*[tokens(process(source), 60.0) for _ in range(3)])

    assert 0.95 * 20 * 60 <= sum(taken) <= 20 * 60 + 1
    assert min(taken) >= 0.1 * sum(taken)
    assert len(source.calls) <= 3 * 60 * 5


@virtual_time
async def test_tokens_are_leased_by_the_dozen_and_ahead_of_need() -> None:
    source = Source(rate=1_000.0, takes=0.1)
    limiter = process(source)
    assert limiter.wait() > 0.0
    await asyncio.sleep(0.2)
    waits = []
    for _ in range(40):  # 50 a second
        waits.append(limiter.take())
        await asyncio.sleep(0.02)

    assert set(waits) == {0.0}
    assert set(source.calls) == {("status", 12)}
    assert len(source.calls) <= 1 + 40 / 6


@virtual_time
async def test_leased_tokens_lapse() -> None:
    source = Source(rate=1_000.0, lapse=5.0)
    limiter = process(source)
    limiter.wait()
    await asyncio.sleep(0.1)
    assert limiter.wait() == 0.0
    await asyncio.sleep(6.0)
    assert limiter.wait() > 0.0
    await asyncio.sleep(0.1)  # the next ones are on their way


@virtual_time
async def test_where_there_are_no_tokens_the_next_lease_waits_for_the_given_time() -> None:
    source = Source(rate=0.1)
    limiter = process(source)
    assert await tokens(limiter, 100.0) == pytest.approx(10, abs=1)
    assert len(source.calls) <= 22


@virtual_time
async def test_a_source_that_fails_leaves_a_process_to_its_own_rate_with_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = Source(rate=20.0, broken=True)
    limits = AccountLimits({"status": 5.0}, clock=asyncio.get_running_loop().time, refill=source.refill)
    assert await tokens(limits["status"], 60.0) == pytest.approx(5 * 60, rel=0.1)
    assert len(source.calls) <= 8
    assert [record.levelname for record in caplog.records] == ["WARNING"]

    source.broken = False
    await asyncio.sleep(11.0)
    calls_before = len(source.calls)
    await tokens(limits["status"], 30.0)
    assert len(source.calls) > calls_before + 5


@virtual_time
async def test_a_fetch_that_never_ends_is_given_up() -> None:
    answers: list[Callable[[], float]] = [lambda: 1e6, lambda: 0.01]

    async def refill(kind: str, wanted: int) -> Lease:
        await asyncio.sleep(answers.pop(0)() if answers else 0.01)
        return Lease(wanted, asyncio.get_running_loop().time() + 60.0)

    leases = Leases("status", refill, asyncio.get_running_loop().time)
    assert leases.wait() > 0.0
    hung = leases._task
    await asyncio.sleep(6.0)
    assert leases.wait() > 0.0
    await asyncio.sleep(0.1)
    assert leases.wait() == 0.0
    assert hung
    hung.cancel()


@virtual_time
async def test_a_refusal_holds_back_leased_tokens_as_well() -> None:
    limiter = process(Source(rate=1_000.0))
    limiter.wait()
    await asyncio.sleep(0.1)
    limiter.throttled(9.0)
    assert limiter.wait() == 9.0


def test_without_a_source_no_event_loop_is_needed() -> None:
    assert AccountLimits()["status"].take() == 0.0


# ------------------------------------------------------------------------------- several loops, in threads


class Counting:
    """A source for many loops in threads; it counts the tokens that it grants."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.granted = 0

    async def refill(self, kind: str, wanted: int) -> Lease:
        await asyncio.sleep(0)
        with self.lock:
            self.granted += wanted
        return Lease(wanted, time.monotonic() + 60.0)


def in_threads(number: int, work: Callable[[], Coroutine[Any, Any, int]]) -> list[int]:
    """What `work` returns on so many loops that run at the same time; raises what any of them raises."""
    with ThreadPoolExecutor(number) as threads:
        return [future.result() for future in [threads.submit(asyncio.run, work()) for _ in range(number)]]


@pytest.fixture
def hurried() -> Iterator[None]:
    """Threads that are interrupted at every opportunity."""
    kept = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(kept)


@pytest.mark.usefixtures("hurried")
def test_loops_in_threads_share_leased_tokens_and_none_is_taken_twice() -> None:
    source = Counting()
    leases = Leases("status", source.refill, time.monotonic)

    async def take_tokens() -> int:
        until, taken = time.monotonic() + 1.5, 0
        while time.monotonic() < until:
            leases.wait()
            taken += leases.take() == 0.0
            await asyncio.sleep(0)
        return taken

    taken = in_threads(4, take_tokens)
    assert 0 < sum(taken) <= source.granted


@pytest.mark.usefixtures("hurried")
def test_loops_in_threads_share_one_limiter_with_leased_tokens() -> None:
    source = Counting()
    limiter = AccountLimits(refill=source.refill)["status"]

    async def take_tokens() -> int:
        until, taken = time.monotonic() + 1.5, 0
        while time.monotonic() < until:
            taken += limiter.take() == 0.0
            await asyncio.sleep(0)
        return taken

    taken = in_threads(4, take_tokens)
    assert 0 < sum(taken) <= source.granted


def test_a_fetch_on_a_loop_that_has_stopped_holds_no_request_up() -> None:
    async def never(kind: str, wanted: int) -> Lease:
        await asyncio.sleep(1e6)
        raise AssertionError

    leases = Leases("status", never, time.monotonic)

    async def waited() -> float:
        return leases.wait()

    stopped = asyncio.new_event_loop()
    assert stopped.run_until_complete(waited()) > 0.0
    leases.refill = Counting().refill

    async def token() -> float:
        began = time.monotonic()
        while (wait := leases.take()) > 0.0:  # noqa: ASYNC110 (that is how tokens are waited for)
            await asyncio.sleep(wait)
        return time.monotonic() - began

    assert asyncio.run(token()) < 2.0  # and not the 5 s after which a fetch is given up
    for task in asyncio.all_tasks(stopped):
        task.cancel()
    stopped.run_until_complete(asyncio.sleep(0))
    stopped.close()


class Contended(RateLimiter):
    """A limiter of which other loops take most tokens in the moment before this one does."""

    tries = granted = 0

    def take(self) -> float:
        self.tries += 1
        if self.tries % 4:
            return 0.25
        self.granted += 1
        return super().take()


class ContendedLimits(AccountLimits):
    def __init__(self) -> None:
        super().__init__()
        self.limiter = Contended(clock=asyncio.get_running_loop().time)

    def __getitem__(self, kind: Kind) -> RateLimiter:
        return self.limiter


@virtual_time
async def test_a_waiter_polls_only_when_it_has_got_a_token() -> None:
    account, limits = Account(), ContendedLimits()
    async with waiting(Polled(account), account_limits=limits) as waiter:
        await all_done(waiter, account, [account.add(str(number), 10.0) for number in range(10)])
    assert account.polls.total() == limits.limiter.granted
