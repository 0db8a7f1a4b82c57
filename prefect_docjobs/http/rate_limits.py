"""How fast one account may send requests: rate limiters, one for each kind of request, and what a 429 does.

Without a refusal and without a set rate nothing is held back. From the first 429 on, tokens come evenly, at a
rate that is found out (`_Rate`). A `Retry-After` holds back every request of the kind, for a minute at most.
Then one request is sent, and another refusal means another minute: a wrong header, or a quota that is raised
meanwhile, costs one request a minute and not the batch.

Several processes share a rate by leasing tokens from a common source, by the dozen. A limiter answers at once
and a database only later, so tokens are fetched ahead, in the background, while some are left.
"""

from __future__ import annotations

import asyncio
import copy
import gc
import logging
import math
import random
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeAlias
from weakref import WeakKeyDictionary, WeakValueDictionary

from prefect_docjobs.errors import ConfigurationError

Kind = Literal["submit", "status", "result"]
"""The kinds of request that services limit apart."""

OnThrottled: TypeAlias = Callable[[Kind, float], None]
"""Called after each 429 with the kind of request and the seconds of the pause."""

_log = logging.getLogger(__name__)
KINDS: tuple[Kind, ...] = ("submit", "status", "result")
_INSTANT = 0.25  # requests within it came together, and have no rate
_MINUTE = 60.0
_MARGIN = 0.97  # of a set rate: two clocks never agree to the millisecond
# Seconds by which a token may be taken late, as any wake-up is, without moving the next ones. A second still
# has no more tokens than the set rate allows: 1 + _LATE is below 1 / _MARGIN.
_LATE = 0.03
_SHORTEST_PAUSE = 0.5  # so that what was under way is answered before the pause ends
_LONGEST_PAUSE = 60.0
_DOZEN = 12
_FETCH_BELOW = 0.5  # of a dozen: when fewer are left, the next ones are fetched
_SCARCE = 0.2  # seconds between two fetches where fewer are granted than wanted
_MOMENT = 0.02  # seconds to the next try where no token was left
_OVERDUE = 5.0  # seconds after which a fetch is given up; its event loop may be gone
_UNCOUNTED = 1 << 30
_ALONE = 10.0  # seconds without the source after it has failed
_SLOWEST = 0.05  # requests per second
_DOUBLED_AFTER = 16  # answers, up to the rate at which the limit was hit
_BELOW = 0.97  # of that rate: there it is not hit again soon
_GROWTH = 0.03  # beyond it, in so many seconds
_GROWTH_SECONDS = 90.0
_GROWTH_TOKENS = 360  # and at least so many tokens: each probe past the limit costs a refused request
_MOVED = 1.1  # times that rate without a refusal: the limit is another one by now


# -- the rate


class _Rate:
    """Requests per second that are allowed; infinite before the first refusal.

    A refusal halves it, but not below what was answered on average in the last minute: many services count by
    the minute, and refuse everything in the rest of one that began with a burst. It then grows with the
    answers to requests that had to wait, as TCP's window does (RFC 5681): it doubles with every few of them
    up to the rate that was refused, and is careful beyond it. A first refusal is no limit yet: requests that
    happen to come together are refused at any rate.

    Args:
        most: A rate that is set, and never exceeded; infinite for none.
        documented: The rate that the service documents; where a first refusal leads to.
    """

    def __init__(self, most: float, documented: float | None) -> None:
        self.most = most
        self._documented = documented
        self._rate = self._limit = math.inf

    @property
    def now(self) -> float:
        """The rate at present."""
        return min(self.most, self._rate)

    def raise_a_little(self) -> None:
        """Note an answer to a request that had to wait for its token."""
        if self._rate < self._limit:
            self._rate = min(self._limit, self._rate * 2.0 ** (1.0 / _DOUBLED_AFTER))
        elif self._rate < math.inf:
            self._rate *= 1.0 + _GROWTH / max(_GROWTH_TOKENS, _GROWTH_SECONDS * self._rate)
        if self._rate > _MOVED * self._limit:
            self._limit = math.inf
        self._rate = min(self._rate, max(self.most, _SLOWEST))

    def halve(self, *, sent: float, answered: float) -> None:
        """Note a refusal.

        Args:
            sent: Requests per second that were sent lately.
            answered: Those that were answered on average in the last minute.
        """
        is_first = self._rate == math.inf
        refused = max(min(self.now, sent) if is_first else self.now, answered, _SLOWEST)
        if not is_first:
            self._limit = max(_BELOW * refused, _SLOWEST)
        elif self._documented is not None:
            self._rate = self._limit = max(min(refused, self._documented), answered)
            return
        self._rate = max(refused / 2.0, answered, _SLOWEST)


# -- limiters


class _Window:
    """How many there were in the last minute; the past fades exponentially."""

    def __init__(self) -> None:
        self._count = 0.0
        self._at = self._first_at = math.inf

    def add(self, now: float) -> None:
        self._first_at = min(self._first_at, now)
        self._count, self._at = self._until(now) + 1.0, now

    def average(self, now: float) -> float:
        """Per second of the minute."""
        return self._until(now) / _MINUTE

    def rate(self, now: float) -> float:
        """Per second since the first one, where that is less than a minute ago."""
        age = max(now - self._first_at, _INSTANT)
        return self._until(now) / (_MINUTE * (1.0 - math.exp(-age / _MINUTE)))

    def _until(self, now: float) -> float:
        return self._count * math.exp(min(self._at - now, 0.0) / _MINUTE)


class RateLimiter:
    """Tokens for one kind of request of one account. Safe to share between threads.

    Args:
        rate: Requests per second that are never exceeded, or None.
        documented: Requests per second that the service documents; where a first refusal leads to.
        clock: Monotonic seconds.
        leases: Tokens that are shared with other processes; each request then needs one of them, too.
        on_throttled: Called in `throttled` with the seconds of the pause.
    """

    def __init__(
        self,
        rate: float | None = None,
        *,
        documented: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        leases: Leases | None = None,
        on_throttled: Callable[[float], None] | None = None,
    ) -> None:
        self._own_limit = math.inf if rate is None else rate * _MARGIN
        self._rate = _Rate(self._own_limit, documented)
        self._limits: WeakKeyDictionary[AccountLimits, float] = WeakKeyDictionary()
        self._sharing: WeakKeyDictionary[AccountLimits, str] = WeakKeyDictionary()
        self._source: str | None = None
        self._clock = clock
        self._leases = leases
        self._on_throttled = on_throttled
        self._lock = threading.Lock()
        self._refusals = 0  # since the last answer
        self._answers = 0  # since the last refusal
        self._free_at = -math.inf
        self._paused_until = -math.inf
        self._sent, self._answered = _Window(), _Window()
        self._answered_before = 0.0  # requests per second, at the first of several refusals in a row
        self._is_awaited = False  # a caller had to wait for the next token,
        self._was_awaited = False  # and for the last one

    @property
    def rate(self) -> float:
        """Requests per second that are allowed now; infinite where nothing is known."""
        with self._lock:
            self._limit()
            return self._rate.now

    def hold(self, holder: AccountLimits, rate: float) -> None:
        """Never exceed this rate, either, as long as `holder` is in use."""
        with self._lock:
            self._limits[holder] = rate * _MARGIN

    def is_shared_by_other_than(self, source: str) -> bool:
        """Whether limits that are still in use lease their tokens from another source."""
        return any(other != source for other in self._sharing.values())

    def share(
        self, holder: AccountLimits, source: str, leases: Leases, on_throttled: Callable[[float], None] | None
    ) -> None:
        """Lease tokens from now on as long as `holder` is in use; of one source, by the newest `leases`."""
        with self._lock:
            self._sharing[holder] = source
            if self._leases is not None and self._source == source:
                self._leases.refill = leases.refill  # tokens that were leased stay valid
            else:
                self._leases, self._source = leases, source
            self._on_throttled = on_throttled

    def wait(self) -> float:
        """Seconds until there is a token; 0.0 when there is one."""
        with self._lock:
            return self._wait()

    def take(self) -> float:
        """Take a token and return 0.0; where there is none, the seconds until the next try."""
        with self._lock:
            if (wait := self._wait()) > 0.0:
                return wait
            if self._leases and (wait := self._leases.take()) > 0.0:
                return wait
            now = self._clock()
            late = now - self._free_at
            self._free_at = (self._free_at if late <= _LATE else now) + 1.0 / self._rate.now
            self._sent.add(now)
            self._was_awaited, self._is_awaited = self._is_awaited, False
            return 0.0

    def answered(self) -> None:
        """Note an answer that is no 429."""
        with self._lock:
            self._answered.add(self._clock())
            self._refusals, self._answers = 0, self._answers + 1
            if self._was_awaited:
                self._rate.raise_a_little()

    def throttled(self, retry_after: float | None = None) -> None:
        """Note a 429: all requests of this kind pause, and then go on more slowly.

        Args:
            retry_after: Seconds that the service demands; at most a minute of them is waited at a time.
        """
        with self._lock:
            now = self._clock()
            if now >= self._paused_until:  # a refusal during the pause answers an earlier request
                self._slow_down(now)
            self._pause(now, retry_after or 0.0)
            seconds = self._paused_until - now
        if self._on_throttled:
            try:
                self._on_throttled(seconds)
            except Exception:  # noqa: BLE001 (a callback that breaks must not lose the answer)
                _log.exception("The callback for a refusal failed")

    def _slow_down(self, now: float) -> None:
        if not self._refusals:
            # With a few answers between two refusals the limit is lower than it was in the last minute.
            is_steady = self._answers >= _DOUBLED_AFTER
            self._answered_before = self._answered.average(now) if is_steady else 0.0
        self._answers = 0
        self._rate.halve(sent=self._sent.rate(now) or 1.0, answered=self._answered_before)
        self._pause(now, max(_SHORTEST_PAUSE, 2.0 ** min(self._refusals, 10) / self._rate.now))
        self._refusals += 1

    def _pause(self, now: float, seconds: float) -> None:
        self._paused_until = max(self._paused_until, now + min(seconds, _LONGEST_PAUSE))

    def _limit(self) -> None:
        """The lowest of the set rates that are still in use counts."""
        if self._limits or self._rate.most != self._own_limit:
            self._rate.most = min([self._own_limit, *self._limits.values()])

    def _wait(self) -> float:
        self._limit()
        now = self._clock()
        wait = max(0.0, self._free_at - now, self._paused_until - now)
        self._is_awaited = self._is_awaited or wait > 0.0
        return self._leases.wait() if self._leases and wait == 0.0 else wait


class AccountLimits:
    """The rate limiters of one account, one for each kind of request.

    Args:
        rates: Requests per second of each kind that are never exceeded.
        documented: Those that the service documents.
        clock: Monotonic seconds.
        refill: Leases tokens that several processes share; without it this process has its own.
        on_throttled: Called after each 429, to pause other processes as well.
    """

    def __init__(
        self,
        rates: Mapping[Kind, float] | None = None,
        *,
        documented: Mapping[Kind, float] | None = None,
        clock: Callable[[], float] = time.monotonic,
        refill: Refill | None = None,
        on_throttled: OnThrottled | None = None,
    ) -> None:
        rates, documented = rates or {}, documented or {}
        self._clock = clock
        self._in_use: WeakValueDictionary[_Terms, AccountLimits] = WeakValueDictionary()
        self._limiters = {
            kind: RateLimiter(
                rates.get(kind),
                documented=documented.get(kind),
                clock=clock,
                leases=Leases(kind, refill, clock) if refill else None,
                on_throttled=partial(on_throttled, kind) if on_throttled else None,
            )
            for kind in KINDS
        }

    def __getitem__(self, kind: Kind) -> RateLimiter:
        return self._limiters[kind]

    def limited_to(
        self,
        rates: Mapping[Kind, float],
        source: str = "",
        refill: Refill | None = None,
        on_throttled: OnThrottled | None = None,
    ) -> AccountLimits:
        """The same limiters, which do not exceed these rates as long as what is returned is in use.

        Raises:
            ConfigurationError: Limits that are still in use lease tokens from another source.
        """
        if refill and self._is_shared_by_other_than(source, rates):
            gc.collect()  # a client that was closed may lie in a cycle, and is not in use any more
            if self._is_shared_by_other_than(source, rates):
                raise ConfigurationError(
                    "share_rates: this process shares the rates of the account through another ledger "
                    "already. All clients of an account need the same ledger (PREFECT_DOCJOBS_LEDGER)."
                )
        terms = tuple(sorted(rates.items())), source if refill else None
        if (limits := self._in_use.get(terms)) is None:
            limits = self._in_use[terms] = copy.copy(self)
            for kind, rate in rates.items():
                self._limiters[kind].hold(limits, rate)
        if refill:
            for kind in rates:
                notify = partial(on_throttled, kind) if on_throttled else None
                self._limiters[kind].share(limits, source, Leases(kind, refill, self._clock), notify)
        return limits

    def _is_shared_by_other_than(self, source: str, kinds: Iterable[Kind]) -> bool:
        return any(self._limiters[kind].is_shared_by_other_than(source) for kind in kinds)


_Terms: TypeAlias = "tuple[tuple[tuple[Kind, float], ...], str | None]"  # rates, and the source
_shared: dict[tuple[str, str], AccountLimits] = {}
_sharing = threading.Lock()


def shared_limits(
    base_url: str,
    tenant: str,
    rates: Mapping[Kind, float] | None = None,
    *,
    documented: Mapping[Kind, float] | None = None,
    source: str = "",
    refill: Refill | None = None,
    on_throttled: OnThrottled | None = None,
) -> AccountLimits:
    """The limits that all clients of one account share in this process.

    Args:
        base_url: The service.
        tenant: The account.
        rates: Requests per second that are not exceeded while what is returned is in use. Where clients of
            one account set different ones, the lowest counts for all.
        documented: Requests per second that the service documents; the first client's count.
        source: Names where `refill` leases, such as a ledger.
        refill: Leases tokens of the kinds in `rates`, which several processes share. From then on all clients
            of the account need them, those that were made earlier as well.
        on_throttled: Called after each 429 of these kinds; the newest client's counts.

    Raises:
        ConfigurationError: A client that is in use leases tokens from another source.
    """
    with _sharing:
        if (base_url, tenant) not in _shared:
            _shared[base_url, tenant] = AccountLimits(documented=documented)
        limits = _shared[base_url, tenant]
        if not rates and refill is None:
            return limits
        return limits.limited_to(rates or {}, source, refill, on_throttled)


# -- shared by several processes


@dataclass(frozen=True, slots=True)
class Lease:
    """Tokens that one process may take.

    Attributes:
        tokens: How many; 0 when there are none now.
        until: When they lapse, or, where there are none, when to try again; on the limiter's clock.
    """

    tokens: int
    until: float


Refill: TypeAlias = Callable[[Kind, int], Awaitable[Lease]]
"""Leases tokens: called with the kind of request and the number that is wanted; may grant fewer."""


class Leases:
    """The tokens of one kind that this process has leased. Safe to share between threads and event loops.

    It is called on a running event loop, which fetches the next tokens before they run out. After a failure
    of the source the process goes on without it for a while, at the limiter's own rate.

    Args:
        kind: Of request.
        refill: Leases tokens.
        clock: Monotonic seconds.

    Attributes:
        refill: May be replaced by another for the same source.
    """

    def __init__(self, kind: Kind, refill: Refill, clock: Callable[[], float]) -> None:
        self.refill = refill
        self._kind = kind
        self._clock = clock
        # Of all that follows: several loops take tokens, and any of them fetches.
        self._lock = threading.Lock()
        self._held: deque[Lease] = deque()  # what is used up first stands first
        self._again_at = -math.inf
        self._task: asyncio.Task[None] | None = None
        self._fetched_at = -math.inf
        self._alone = False

    def wait(self) -> float:
        """Seconds until a token may be there; 0.0 when one is left."""
        with self._lock:
            return self._wait()

    def take(self) -> float:
        """Use up a token and return 0.0; where none is left, the seconds as from `wait`."""
        with self._lock:
            if (wait := self._wait()) > 0.0:
                return wait
            lease = self._held.popleft()
            self._held.appendleft(replace(lease, tokens=lease.tokens - 1))
            return 0.0

    def _wait(self) -> float:
        now = self._clock()
        while self._held and (self._held[0].tokens <= 0 or self._held[0].until <= now):
            self._held.popleft()
        left = sum(lease.tokens for lease in self._held)
        if left <= _DOZEN * _FETCH_BELOW and now >= self._again_at:
            self._fetch(now)
        return 0.0 if left else max(_MOMENT, self._again_at - now)

    def _fetch(self, now: float) -> None:
        # A loop that has stopped, in this thread or another, never ends what it has begun.
        task = self._task
        under_way = task is not None and not task.done() and task.get_loop().is_running()
        if under_way and now - self._fetched_at < _OVERDUE:
            return
        self._fetched_at = now
        self._task = asyncio.get_running_loop().create_task(self._fetched(), name="docjobs-leases")

    async def _fetched(self) -> None:
        try:
            lease = await self.refill(self._kind, _DOZEN)
            alone = False
        except Exception as problem:  # noqa: BLE001 (a source that fails must not stop the work)
            if not self._alone:
                _log.warning(
                    "No shared rate for %s requests (%s): this process goes on with its own.",
                    self._kind,
                    problem,
                )
            alone = True
            lease = Lease(tokens=_UNCOUNTED, until=self._clock() + _ALONE)
        with self._lock:
            self._alone = alone
            if lease.tokens > 0:
                self._held.append(lease)
            if lease.tokens < _DOZEN:
                # Not in step with other processes, or the same one would always come last.
                soon = self._clock() + _SCARCE * random.uniform(0.5, 1.5)  # noqa: S311
                self._again_at = soon if lease.tokens > 0 else max(lease.until, soon)
