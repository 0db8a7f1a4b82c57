"""When to read the list again: when the delay that has gathered meanwhile is worth the requests."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from prefect_docjobs.waiting.schedule import LogNormal

_REQUEST_WORTH = 0.7  # seconds of delay, of all jobs together, that a request is worth
_SHORTEST, _LONGEST = 0.3, 4.0  # seconds between two sweeps
_STEP = 0.1
_FIRST = 5.0  # ends per mean age of a batch of which none has ended: what its first one would make likely


class Cadence:
    """Seconds between two sweeps over a list.

    What jobs are expected to take tells how fast undetected ends will gather. While too little is known for
    that, the rate of the ends seen tells it, or the age at which none has ended yet.

    Attributes:
        silence: Ends that were to be expected since the list last told of one.
    """

    def __init__(self, now: float) -> None:
        self._swept_at = now
        self._rate = 0.0
        self._pages = 1
        self._expected = 0.0  # ends per second until the next sweep
        self.silence = 0.0

    def swept(self, now: float, ends: int, pages: int) -> None:
        """Note a sweep that has read so many pages and seen so many jobs end."""
        self.silence = 0.0 if ends else self.silence + self.expected(now)
        self._rate = 0.5 * self._rate + 0.5 * ends / max(now - self._swept_at, _SHORTEST)
        self._swept_at = now
        self._pages = max(1, pages)

    def expected(self, now: float) -> float:
        """How many jobs should have ended since the last sweep."""
        return self._expected * (now - self._swept_at)

    def gap(self, running: Iterable[tuple[LogNormal | None, float]]) -> float:
        """Seconds from one sweep to the next.

        Args:
            running: What is known of each job that is not done, and its age in seconds.
        """
        jobs = Counter((law, round(age, 1)) for law, age in running)
        known = [(law, age, number) for (law, age), number in jobs.items() if law is not None]
        gap = self._foreseen(known) if len(known) == len(jobs) else self._guessed(jobs)
        return min(max(gap, _SHORTEST), _LONGEST)

    def _foreseen(self, jobs: list[tuple[LogNormal, float, int]]) -> float:
        worth, late, gap = _REQUEST_WORTH * self._pages, 0.0, 0.0
        while late < worth and gap < _LONGEST:
            gap += _STEP
            ended = sum(number * law.done_between(age, age + gap) for law, age, number in jobs)
            late += _STEP * ended
            self._expected = ended / gap
        return gap

    def _guessed(self, jobs: Counter[tuple[LogNormal | None, float]]) -> float:
        number = jobs.total()
        ages = sum(age * count for (_, age), count in jobs.items())
        rate = max(self._rate, min(number, _FIRST) * number / (ages + 1.0), 0.01)
        self._expected = rate
        return math.sqrt(2.0 * _REQUEST_WORTH * self._pages / rate)
