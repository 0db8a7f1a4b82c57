"""Rate limits of one account: a set rate is kept, a 429 pauses all requests, a limit is found and used."""

from __future__ import annotations

import asyncio
import bisect
import gc
import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import httpx
import pytest
from support.virtual_time import virtual_time

from prefect_docjobs.errors import Throttled
from prefect_docjobs.http import AccountLimits, Http, Kind, RateLimiter, Request, shared_limits
from prefect_docjobs.http.rate_limits import _LATE, KINDS


@dataclass
class Clock:
    """Monotonic seconds that only a test moves on."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


class Service(Protocol):
    """A service that limits its requests."""

    def allows(self, now: float) -> bool: ...


@dataclass
class Bucket:
    """A service's limit: `rate` requests per second, `burst` of them at once."""

    rate: float
    burst: float = 1.0
    _left: float = 1.0
    _at: float = 0.0

    def allows(self, now: float) -> bool:
        self._left = min(self.burst, self._left + (now - self._at) * self.rate)
        self._at = now
        if self._left < 1.0 - 1e-9:
            return False
        self._left -= 1.0
        return True


@dataclass
class Account:
    """Sends whenever its limiter allows, at most 240 times a second: 12 requests in flight of 50 ms each."""

    limiter: RateLimiter
    clock: Clock
    service: Service
    retry_after: float | None = None
    answered: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)

    def send(self, seconds: float) -> None:
        until = self.clock.now + seconds
        while self.clock.now < until:
            if (wait := self.limiter.take()) > 0.0:
                self.clock.now += wait
                continue
            if self.service.allows(self.clock.now):
                self.answered.append(self.clock.now)
                self.limiter.answered()
            else:
                self.refused.append(self.clock.now)
                self.limiter.throttled(self.retry_after)
            self.clock.now += 1.0 / 240.0


def account(rate: float | None = None, *, limit: float, burst: float = 1.0) -> Account:
    clock = Clock()
    return Account(RateLimiter(rate, clock=clock), clock, Bucket(limit, burst))


def sent(limiter: RateLimiter, clock: Clock, *, per_second: float, seconds: float) -> None:
    """Take tokens evenly, without an answer."""
    for _ in range(round(per_second * seconds)):
        assert limiter.take() == 0.0
        clock.now += 1.0 / per_second


def answered(limiter: RateLimiter, clock: Clock, number: int) -> None:
    """Have so many requests answered, each as soon as it gets a token."""
    for _ in range(number):
        while wait := limiter.take():
            clock.now += wait
        limiter.answered()


# A rate that is set.


@pytest.mark.parametrize("rate", [0.25, 2.0, 7.3, 50.0])
def test_a_set_rate_is_used_and_never_exceeded(rate: float) -> None:
    sending = account(rate, limit=rate)
    sending.send(300.0)

    assert sending.refused == []
    assert 0.95 * rate * 300 <= len(sending.answered) <= rate * 300


def test_tokens_that_are_not_taken_are_not_saved_up_for_a_burst() -> None:
    sending = account(2.0, limit=2.0)
    sending.send(10.0)
    sending.clock.now += 3600.0
    sending.send(10.0)

    assert sending.refused == []


def test_a_token_is_taken_only_when_there_is_one() -> None:
    clock = Clock()
    limiter = RateLimiter(1.0, clock=clock)

    assert limiter.take() == 0.0
    wait = limiter.take()
    assert wait == limiter.take() == limiter.wait() > 0.9
    clock.now += wait
    assert limiter.take() == 0.0


async def taken(limiter: RateLimiter, seconds: float, late: Callable[[], float]) -> list[float]:
    """When tokens are taken by a caller that always wants one, and wakes up so many seconds late."""
    now = asyncio.get_running_loop().time
    until, times = now() + seconds, []
    while now() < until:
        if wait := limiter.take():
            await asyncio.sleep(wait + late())
        else:
            times.append(now())
    return times


def most_within(window: float, times: list[float]) -> int:
    """The most tokens in any stretch of time that is shorter than `window`."""
    return max(bisect.bisect_left(times, first + window) - place for place, first in enumerate(times))


@virtual_time
async def test_tokens_that_are_taken_a_little_late_cost_nothing_of_the_rate() -> None:
    limiter = RateLimiter(100.0, clock=asyncio.get_running_loop().time)
    times = await taken(limiter, 60.0, lambda: 0.005)
    assert 0.95 * 100 * 60 <= len(times) <= 100 * 60


@pytest.mark.parametrize("rate", [1.0, 10.0, 33.0, 100.0, 400.0])
@pytest.mark.parametrize("latest", [0.005, 0.03, 0.2])
def test_however_late_tokens_are_taken_no_second_has_more_than_the_set_rate(
    rate: float, latest: float
) -> None:
    late = random.Random(7)

    @virtual_time
    async def times() -> list[float]:
        limiter = RateLimiter(rate, clock=asyncio.get_running_loop().time)
        return await taken(limiter, 60.0, lambda: late.uniform(0.0, latest))

    tokens = times()
    assert most_within(1.0, tokens) <= rate
    assert most_within(0.1, tokens) <= math.ceil((0.1 + _LATE) * rate)


@virtual_time
async def test_a_token_that_is_taken_much_later_moves_the_next_ones() -> None:
    limiter = RateLimiter(100.0, clock=asyncio.get_running_loop().time)
    assert limiter.take() == 0.0
    await asyncio.sleep(1.0)
    assert limiter.take() == 0.0
    assert limiter.take() == pytest.approx(1 / 97)


@pytest.mark.parametrize("rate", [0.01, 10.0])
def test_a_refusal_never_raises_a_set_rate_and_recovery_ends_at_it(rate: float) -> None:
    clock = Clock()
    limiter = RateLimiter(rate, clock=clock)
    most = limiter.rate
    limiter.take()
    limiter.throttled()
    assert limiter.rate <= most
    assert rate < 1.0 or limiter.rate <= 0.85 * most

    answered(limiter, clock, 1_000)
    assert limiter.rate == most <= rate


# Nothing is known, then a refusal.


def test_without_a_refusal_nothing_is_held_back() -> None:
    limiter = RateLimiter(clock=Clock())

    assert {limiter.take() for _ in range(10_000)} == {0.0}
    assert (limiter.rate, limiter.wait()) == (math.inf, 0.0)


def test_the_first_refusal_leads_to_the_documented_rate() -> None:
    clock = Clock()
    limiter = RateLimiter(documented=4.0, clock=clock)
    sent(limiter, clock, per_second=100.0, seconds=2.0)
    limiter.throttled()

    assert limiter.rate == pytest.approx(4.0)


def test_a_documented_rate_holds_nothing_back_before_a_refusal() -> None:
    limiter = RateLimiter(documented=4.0, clock=Clock())
    assert {limiter.take() for _ in range(1_000)} == {0.0}


def test_without_documentation_the_first_refusal_halves_what_was_just_sent() -> None:
    clock = Clock()
    limiter = RateLimiter(clock=clock)
    sent(limiter, clock, per_second=10.0, seconds=20.0)
    limiter.throttled()

    assert limiter.rate == pytest.approx(5.0, rel=0.02)


def test_a_refusal_before_any_token_still_gives_a_rate() -> None:
    limiter = RateLimiter(clock=Clock())
    limiter.throttled()
    assert 0.0 < limiter.rate <= 1.0


def test_however_often_it_is_refused_an_account_still_gets_a_token() -> None:
    clock = Clock()
    limiter = RateLimiter(clock=clock)
    for _ in range(500):
        clock.now += limiter.take() or 0.01
        limiter.throttled()
    clock.now += 60.0

    assert limiter.rate >= 0.05
    assert limiter.take() == 0.0


def test_retry_after_holds_back_every_token_until_it_has_passed() -> None:
    clock = Clock(100.0)
    limiter = RateLimiter(clock=clock)
    limiter.take()
    limiter.throttled(17.0)
    limiter.throttled(3.0)  # a shorter one does not shorten it

    assert limiter.wait() == limiter.take() == pytest.approx(17.0)
    clock.now += 16.9
    assert limiter.take() > 0.0
    clock.now += 0.2
    assert limiter.take() == 0.0


def test_of_a_retry_after_of_a_day_a_minute_is_obeyed_at_a_time() -> None:
    sending = account(limit=1e-9)
    sending.retry_after = 86_400.0
    sending.send(3_600.0)
    assert 55 <= len(sending.refused) <= 61
    assert all(later - earlier > 59.9 for earlier, later in pairwise(sending.refused))


def test_refusals_of_requests_that_were_under_way_lower_the_rate_only_once() -> None:
    clock = Clock()
    limiter = RateLimiter(clock=clock)
    sent(limiter, clock, per_second=10.0, seconds=20.0)
    limiter.throttled(2.0)
    once = limiter.rate
    for _ in range(11):
        clock.now += 0.1
        limiter.throttled(2.0)
    assert limiter.rate == pytest.approx(once, rel=0.02)

    clock.now += limiter.wait()
    limiter.take()
    limiter.throttled(2.0)
    assert limiter.rate < 0.9 * once


# Recovery.


def test_recovery_is_quick_up_to_the_refused_rate_and_slow_past_it() -> None:
    clock = Clock()
    limiter = RateLimiter(clock=clock)
    sent(limiter, clock, per_second=10.0, seconds=20.0)
    limiter.throttled()
    answered(limiter, clock, 20)
    clock.now += 600.0  # so that what was answered before does not count
    refused_at = limiter.rate
    limiter.throttled()
    rates = []
    for _ in range(300):
        rates.append(limiter.rate / refused_at)
        answered(limiter, clock, 16)

    assert rates == sorted(rates)
    assert rates[0] == 0.5  # it is halved
    assert rates[1] == pytest.approx(0.97)  # back after 16 answers
    assert 0.97 < rates[15] < 1.01  # after 240: around the limit it is careful
    assert rates[-1] > 2.0  # and in the end it is not held back for ever


def test_a_refusal_by_chance_far_below_the_limit_does_not_hold_an_account_down() -> None:
    sending = account(limit=50.0)
    sent(sending.limiter, sending.clock, per_second=1.0, seconds=20.0)
    sending.limiter.throttled()
    assert sending.limiter.rate < 1.0
    sending.send(120.0)

    lately = [when for when in sending.answered if when > sending.clock.now - 10.0]
    assert len(lately) >= 0.9 * 50.0 * 10.0
    assert len(sending.refused) <= 3


def test_a_limit_is_not_sought_by_an_account_that_does_not_need_it() -> None:
    clock = Clock()
    limiter = RateLimiter(clock=clock)
    sent(limiter, clock, per_second=10.0, seconds=20.0)
    limiter.throttled()
    clock.now += 60.0
    before = limiter.rate
    for _ in range(100):  # slower than it might send
        clock.now += 2.0 / before
        assert limiter.take() == 0.0
        limiter.answered()
    assert limiter.rate == before


@pytest.mark.parametrize("limit", [0.5, 2.0, 20.0])
@pytest.mark.parametrize("retry_after", [None, 1.0])
def test_a_limit_that_is_not_documented_is_found_used_and_hardly_ever_hit(
    limit: float, retry_after: float | None
) -> None:
    sending = account(limit=limit)
    sending.retry_after = retry_after
    sending.send(600.0)

    settled = sum(when > 20.0 for when in sending.refused)
    requests = settled + sum(when > 20.0 for when in sending.answered)
    assert len(sending.answered) >= 0.9 * limit * 600
    assert settled < 0.015 * requests


@pytest.mark.parametrize("limit", [5.0, 50.0])
def test_a_limit_that_is_lowered_to_a_quarter_is_found_again(limit: float) -> None:
    sending = account(limit=limit)
    sending.send(300.0)
    sending.service = Bucket(limit / 4)
    sending.answered, sending.refused = [], []
    sending.send(300.0)

    assert len(sending.answered) >= 0.75 * limit / 4 * 300
    assert len(sending.refused) < 0.1 * len(sending.answered)


@dataclass
class Minutes:
    """A service's limit that counts by the minute and refuses all that is left of a full one."""

    most: int
    _minute: float = -1.0
    _requests: int = 0

    def allows(self, now: float) -> bool:
        if now // 60 != self._minute:
            self._minute, self._requests = now // 60, 0
        self._requests += 1
        return self._requests <= self.most


@pytest.mark.parametrize("retry_after", [None, 5.0])
@pytest.mark.parametrize(("most", "documented"), [(120, None), (120, 2.0), (1_200, None), (1_200, 20.0)])
def test_a_limit_that_counts_by_the_minute_is_used_though_it_refuses_for_most_of_the_first_one(
    most: int, documented: float | None, retry_after: float | None
) -> None:
    clock = Clock()
    sending = Account(RateLimiter(documented=documented, clock=clock), clock, Minutes(most), retry_after)
    sending.send(1800.0)

    assert len(sending.answered) >= 0.8 * most * 30
    assert len(sending.refused) < 0.015 * len(sending.answered)


def test_refusals_without_an_answer_in_between_make_ever_longer_pauses() -> None:
    clock = Clock()
    limiter = RateLimiter(2.0, clock=clock)
    pauses = []
    for _ in range(4):
        clock.now += limiter.wait() + 0.001
        limiter.take()
        limiter.throttled()
        pauses.append(limiter.wait())
    assert all(later >= 2 * earlier for earlier, later in pairwise(pauses))

    clock.now += limiter.wait()
    limiter.answered()
    limiter.throttled()
    assert limiter.wait() < pauses[-1]


# One account, many clients.


def test_every_kind_of_request_has_a_limiter_of_its_own() -> None:
    clock = Clock()
    limits = AccountLimits({"submit": 1.0}, documented={"status": 5.0}, clock=clock)
    limits["status"].throttled(30.0)

    assert limits["status"].wait() == 30.0
    assert limits["submit"].wait() == limits["result"].wait() == 0.0
    assert [limits[kind].rate < math.inf for kind in KINDS] == [True, True, False]


def test_the_callback_gets_the_pause_after_each_refusal() -> None:
    clock = Clock()
    heard: list[tuple[Kind, float, float]] = []
    limits = AccountLimits(
        clock=clock,
        on_throttled=lambda kind, seconds: heard.append((kind, seconds, limits[kind].wait())),
    )
    limits["status"].throttled(30.0)
    clock.now += 10.0
    limits["status"].throttled(5.0)
    limits["submit"].throttled(7.0)

    assert heard == [("status", 30.0, 30.0), ("status", 20.0, 20.0), ("submit", 7.0, 7.0)]


def test_limits_are_shared_by_the_clients_of_one_account_only() -> None:
    first = shared_limits("https://a.test", "acme")
    assert shared_limits("https://a.test", "acme") is first
    others = [shared_limits("https://b.test", "acme"), shared_limits("https://a.test", "globex")]
    assert len({id(limits["status"]) for limits in (first, *others)}) == 3


def test_clients_of_one_account_with_different_set_rates_share_one_budget_and_the_lower_rate_counts() -> None:
    free = shared_limits("https://c.test", "acme")
    quick = shared_limits("https://c.test", "acme", {"status": 10.0})
    slow = shared_limits("https://c.test", "acme", {"status": 2.0, "submit": 3.0})
    quicker = shared_limits("https://c.test", "acme", {"status": 50.0})

    assert free["status"] is quick["status"] is slow["status"] is quicker["status"]
    assert quick["status"].rate == pytest.approx(2.0, rel=0.05)
    assert free["submit"].rate == pytest.approx(3.0, rel=0.05)
    assert free["result"].rate == math.inf


def test_a_set_rate_counts_as_long_as_a_client_uses_it() -> None:
    free = shared_limits("https://d.test", "acme")
    slow = shared_limits("https://d.test", "acme", {"status": 2.0})
    assert shared_limits("https://d.test", "acme", {"status": 2.0}) is slow
    assert free["status"].rate < 2.0

    del slow
    gc.collect()
    assert free["status"].rate == math.inf


@virtual_time
async def test_a_429_for_one_client_holds_back_the_others_of_its_account() -> None:
    def client(answer: httpx.Response, limits: AccountLimits) -> Http:
        return Http(
            provider="test",
            base_url="https://service.test",
            headers={},
            transport=httpx.MockTransport(lambda request: answer),
            account_limits=limits,
        )

    loop = asyncio.get_running_loop()
    limits = AccountLimits(clock=loop.time)
    refused = client(httpx.Response(429, headers={"Retry-After": "9"}), limits)
    other = client(httpx.Response(200, json={}), limits)
    async with refused, other:
        with pytest.raises(Throttled):
            await refused.poll(Request("GET", "/job"))
        await other.send(Request("GET", "/job"))
        assert loop.time() >= 9.0


def test_threads_share_a_rate_and_none_slips_through() -> None:
    limiter = RateLimiter(400.0)
    taken: list[float] = []
    until = time.monotonic() + 0.25

    def take() -> None:
        while (now := time.monotonic()) < until:
            if limiter.take() == 0.0:
                taken.append(now)

    started = time.monotonic()
    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 1 < len(taken) <= (time.monotonic() - started) * 400.0 + 1
