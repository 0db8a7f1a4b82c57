"""Chance and limits on the level of requests: which one is throttled, which one goes wrong."""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import Enum

from prefect_docjobs.simulator.settings import Kind, RateLimit, Settings


class Fault(Enum):
    """A fault that hits one request; the values are the names that reports use."""

    UNAVAILABLE = "503"
    BAD_GATEWAY = "502"
    DROPPED = "dropped"
    LOST = "lost"
    GARBLED = "garbled"


class TokenBucket:
    """A token bucket that is filled by the clock it is handed; it starts full."""

    def __init__(self) -> None:
        self._tokens: float | None = None
        self._filled_at = 0.0

    def take(self, limit: RateLimit, now: float) -> float:
        """Take one token.

        Args:
            limit: The limit in force now; it may change between two calls.
            now: The clock's time in seconds.

        Returns:
            0.0 when a token was taken, else the seconds until there will be one.
        """
        if limit.per_second is None:
            self._tokens = None
            return 0.0
        tokens = float(limit.burst) if self._tokens is None else self._tokens
        grown = tokens + (now - self._filled_at) * limit.per_second
        self._tokens = tokens = min(float(limit.burst), grown)
        self._filled_at = now
        if tokens >= 1.0:
            self._tokens = tokens - 1.0
            return 0.0
        return (1.0 - tokens) / limit.per_second


class Hazards:
    """The dice and the buckets of one simulator, seeded by ``Settings.seed``."""

    def __init__(self, seed: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._dice: dict[Kind, random.Random] = {}
        self._buckets: dict[tuple[str, Kind], TokenBucket] = {}
        self._seed = seed

    def throttle(self, settings: Settings, service: str, kind: Kind) -> float:
        """Seconds that this request came too early for its rate limit; 0.0 when it may pass."""
        bucket = self._buckets.setdefault((service, kind), TokenBucket())
        return bucket.take(settings.rates.of(kind), self._clock())

    def strike(self, settings: Settings, kind: Kind) -> Fault | None:
        """The fault that hits this request, or None. Draws one number for each request of a kind."""
        shares = settings.faults.of(kind)
        point = self._die(kind).random()
        for strike, share in (
            (Fault.UNAVAILABLE, shares.unavailable),
            (Fault.BAD_GATEWAY, shares.bad_gateway),
            (Fault.DROPPED, shares.dropped),
            (Fault.LOST, shares.lost),
            (Fault.GARBLED, shares.garbled),
        ):
            if point < share:
                return strike
            point -= share
        return None

    def _die(self, kind: Kind) -> random.Random:
        die = self._dice.get(kind)
        if die is None:
            # Not for security: a repeatable sequence is the point.
            die = self._dice[kind] = random.Random(f"{self._seed}/requests/{kind}")  # noqa: S311
        return die
