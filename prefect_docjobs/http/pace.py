"""How fast one account may ask: a token bucket that learns from refusals.

Without a refusal and without a set rate nothing is held back. The first refusal sets the rate to what the
service documents, or to what was just asked per second; each further one lowers it, and it recovers along
the curve of CUBIC (RFC 9438): quickly back to near the last refused rate, then slowly past it, so that a
limit is found and hardly ever hit. It is not lowered below what the service did answer in the last minute:
many services count by the minute, and refuse everything in the rest of one that began with a burst.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["submit", "status", "result"]
"""The kinds of request that services limit apart."""

KINDS: tuple[Kind, ...] = ("submit", "status", "result")
_PRESENT = 5.0  # seconds over which the present rate is measured
_MINUTE = 60.0
_RECOVERY = 90.0  # seconds until a lowered rate is back at the one that was refused,
_RECOVERY_TURNS = 150  # and at least so many turns: each probe past the limit costs a refused request
_LONGEST_RECOVERY = 300.0
_DROP = 0.15  # of the refused rate
_DEEP_DROP = 0.5  # of a rate that was refused again at once: it is nowhere near the limit
_AT_ONCE = 10, 15.0  # turns, seconds
_SLOWEST = 0.05  # requests per second
_MARGIN = 0.97  # of a set rate: two clocks never agree to the millisecond
_SHORTEST_PAUSE = 0.5  # so that what was under way is answered before the pause ends
_LONGEST_PAUSE = 60.0


@dataclass(slots=True)
class _Window:
    """How many there were lately; the past fades exponentially."""

    seconds: float
    at: float
    count: float = 0.0

    def add(self, now: float) -> None:
        self.count, self.at = self.until(now) + 1.0, now

    def until(self, now: float) -> float:
        return self.count * math.exp((self.at - now) / self.seconds)


class Pace:
    """Turns for one kind of request of one account. Safe to share between threads.

    Args:
        rate: Requests per second that are never exceeded, or None.
        documented: Requests per second that the service documents; where a first refusal leads to.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        rate: float | None = None,
        *,
        documented: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = math.inf if rate is None else rate * _MARGIN
        self._documented = documented
        self._clock = clock
        self._lock = threading.Lock()
        self._refused_at_rate = math.inf
        self._lowered_at = -math.inf
        self._drop = _DROP
        self._turns = 0
        self._refusals = 0  # since the last answer
        self._free_at = -math.inf
        self._paused_until = -math.inf
        self._asked = _Window(_PRESENT, clock())
        self._answered = _Window(_MINUTE, clock())
        self._first_at: float | None = None

    @property
    def rate(self) -> float:
        """Requests per second that are allowed now; infinite where nothing is known."""
        if self._refused_at_rate == math.inf:
            return self._most
        turns = _RECOVERY_TURNS / self._refused_at_rate
        recovery = min(max(_RECOVERY, turns), _LONGEST_RECOVERY)
        past = (self._clock() - self._lowered_at) / recovery - 1.0
        curve = (self._drop if past < 0.0 else _DROP) * past**3
        return min(self._most, max(_SLOWEST, self._refused_at_rate * (1.0 + curve)))

    def wait(self) -> float:
        """Seconds until the next turn; 0.0 when it is now."""
        with self._lock:
            return self._wait()

    def take(self) -> float:
        """Take a turn if it is now, and return 0.0; else the seconds to wait before asking again."""
        with self._lock:
            if (wait := self._wait()) > 0.0:
                return wait
            now = self._clock()
            self._free_at = now + 1.0 / self.rate
            self._count(now)
            return 0.0

    def answered(self) -> None:
        """Note an answer that is no 429."""
        with self._lock:
            self._answered.add(self._clock())
            self._refusals = 0

    def refused(self, retry_after: float | None = None) -> None:
        """Note a 429: everybody of this account pauses and goes on more slowly.

        Args:
            retry_after: Seconds that the service asks for.
        """
        with self._lock:
            now = self._clock()
            if now >= self._paused_until:  # a refusal during the pause answers an earlier request
                self._lower(now)
                self._pause(now, max(_SHORTEST_PAUSE, 2.0 ** min(self._refusals, 10) / self.rate))
                self._refusals += 1
            self._pause(now, retry_after or 0.0)

    def _pause(self, now: float, seconds: float) -> None:
        """Hold everybody back. A pause is no part of the measured rate: nobody could ask."""
        until = now + min(seconds, _LONGEST_PAUSE)
        longer = until - max(self._paused_until, now)
        if longer <= 0.0:
            return
        self._paused_until = until
        self._asked.at += longer
        if self._first_at is not None:
            self._first_at += longer

    def _lower(self, now: float) -> None:
        rate, drop = self.rate, _DEEP_DROP if self._is_again(now) else _DROP
        refused = min(rate, self._asked_rate(now))
        if rate == math.inf and self._documented:
            refused = min(refused, self._documented / (1.0 - _DROP))
        self._refused_at_rate = max(refused, self._answered.until(now) / _MINUTE, _SLOWEST)
        self._lowered_at, self._drop, self._turns = now, drop, 0

    def _is_again(self, now: float) -> bool:
        turns, seconds = _AT_ONCE
        known = self._refused_at_rate < math.inf
        return known and (self._turns < turns or now - self._lowered_at < seconds)

    def _wait(self) -> float:
        return max(0.0, self._free_at - self._clock(), self._paused_until - self._clock())

    def _count(self, now: float) -> None:
        self._asked.add(now)
        self._turns += 1
        if self._first_at is None:
            self._first_at = now

    def _asked_rate(self, now: float) -> float:
        if self._first_at is None:
            return self._most if self._most < math.inf else 1.0
        # An exponential window that began `age` ago has seen only this part of its weight.
        age = max(now - self._first_at, 0.05)
        full = 1.0 - math.exp(-age / _PRESENT)
        return self._asked.until(now) / (_PRESENT * full)


class Paces:
    """The paces of one account, one for each kind of request."""

    def __init__(
        self,
        rates: Mapping[Kind, float] | None = None,
        *,
        documented: Mapping[Kind, float] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        rates, documented = rates or {}, documented or {}
        self._paces = {
            kind: Pace(rates.get(kind), documented=documented.get(kind), clock=clock) for kind in KINDS
        }

    def __getitem__(self, kind: Kind) -> Pace:
        return self._paces[kind]


_shared: dict[tuple[str, str, tuple[tuple[Kind, float], ...]], Paces] = {}
_sharing = threading.Lock()


def shared_paces(
    base_url: str,
    tenant: str,
    rates: Mapping[Kind, float] | None = None,
    *,
    documented: Mapping[Kind, float] | None = None,
) -> Paces:
    """The paces that all clients of one account share in this process."""
    key = (base_url, tenant, tuple(sorted((rates or {}).items())))
    with _sharing:
        if key not in _shared:
            _shared[key] = Paces(rates, documented=documented)
        return _shared[key]
