"""When to look at a job next: by the service's own advice at first, by what was learned afterwards.

Ten finished jobs of a kind are enough to plan by. A plan has the fewest looks for a mean delay of nearly one
second, or of nearly a twentieth of what such jobs take, whichever is longer. A first batch, without a past,
keeps to the service's own interval and only leaves out the looks that come too early to see anything. Past
the plan's end a job may be stuck: gaps grow geometrically. No gap is shorter than the documented minimum.
"""

from __future__ import annotations

import logging
import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prefect_docjobs.providers.base import Polling
from prefect_docjobs.waiting import plan
from prefect_docjobs.waiting.durations import Durations, Kind, shared_durations, size_class
from prefect_docjobs.waiting.lognormal import LogNormal, Prior, fit

__all__ = ["Durations", "Kind", "LogNormal", "Schedule", "shared_durations", "size_class"]

_log = logging.getLogger(__name__)
_PRIOR = Prior(mu=math.log(8.0), sigma=1.0, weight=0.3)
_SHRINKAGE = 3.0  # observations of one size class that outweigh those of all sizes


@dataclass(slots=True)
class Schedule:
    """Seconds until the next look at jobs of one kind.

    Args:
        polling: The service's advice.
        kind: What durations are conditioned on, beside the document's size.
        durations: What is known, and where new observations go.
        delay: Wanted mean seconds between a job's end and the look that sees it; for short jobs an eighth
            of their median duration.
        share: The same as a part of the median duration; the larger of the two counts.
        enough: Finished jobs to plan by.
        longest: No gap is longer than this, in seconds.
    """

    polling: Polling
    kind: Kind = ()
    durations: Durations = field(default_factory=Durations)
    delay: float = 0.94
    share: float = 0.048
    enough: int = 10
    longest: float = 60.0
    jitter: float = 0.1
    random: random.Random = field(default_factory=random.Random, repr=False)
    _fits: dict[int, LogNormal] = field(default_factory=dict, repr=False)
    _news: int = 1
    _known: int = 0
    _seasoned: bool = False

    def __post_init__(self) -> None:
        try:
            self._seasoned = sum(map(len, self.durations.of(self.kind).values())) >= self.enough
            self.refit(())
        except Exception:  # noqa: BLE001 (a memory that breaks is as good as none)
            _log.exception("What jobs took in the past cannot be read")

    def learn(self, size: int | None, seconds: float, *, running_at: float | None = None) -> None:
        """Note what a finished job took from its submit to its end.

        Args:
            size: Of its document, in bytes.
            seconds: What it took; at most, where `running_at` is given.
            running_at: The age at which it was last seen running: it ended somewhere between.
        """
        took = seconds if running_at is None else self._drawn(size, running_at, seconds)
        if took is not None:
            self.durations.add(self.kind, size, took)
            self._news += 1

    def _drawn(self, size: int | None, since: float, until: float) -> float | None:
        """A duration between two ages; None when too little is known to tell.

        Drawn from what is expected: the middle would make early ends too early, and the law too wide.
        """
        known = self.expected(size)
        if known is not None:
            share = known.done_between(since, until) * self.random.random()
            return min(max(known.quantile(share, after=since), since), until)
        told = until - since <= 2 * max(self.polling.first, self.polling.every)
        return (since + until) / 2 if told else None

    def refit(self, running: Iterable[tuple[int | None, float]]) -> None:
        """Take in what was learned since the last time, if that may change anything.

        Args:
            running: Size of each job that is not done, and its age in seconds when it was seen running.
        """
        if not self._news or (self._known >= self.enough and self._news < 0.05 * self._known):
            return
        logs = self.durations.of(self.kind)
        self._known, self._news = sum(map(len, logs.values())), 0
        self._fits = {}
        if self._known < self.enough:
            return
        ages = _binned(running, self.durations.kept(self.kind))
        everything = [log for of_size in logs.values() for log in of_size]
        pooled = fit(everything, [(age, number) for (_, age), number in ages.items()], _PRIOR)
        self._fits[-2] = pooled
        near = Prior(pooled.mu, pooled.sigma, _SHRINKAGE)
        for size, of_size in logs.items():
            self._fits[size] = fit(of_size, [(age, n) for (of, age), n in ages.items() if of == size], near)

    def expected(self, size: int | None) -> LogNormal | None:
        """How long jobs take with a document of this size, or None while too little is known."""
        return self._fits.get(size_class(size), self._fits.get(-2))

    def first(self, size: int | None, age: float) -> float:
        """Until the first look at a job that was submitted `age` seconds ago."""
        known = self.expected(size) is not None
        return max(0.0, (self.next(size, 0.0) if known else self._varied(self.polling.first)) - age)

    def next(self, size: int | None, age: float) -> float:
        """Until the next look at a job that is not done at `age` seconds."""
        known = self.expected(size)
        advised = self._varied(self.polling.every)
        if known is None:
            gap = advised
        elif self._seasoned:
            gap = self._planned(known, age)
        else:  # of the first batch only this is trusted: when there is nothing to see yet
            gap = max(advised, self._planned(known, age)) if age < 0.5 * known.median else advised
        return max(self.polling.at_least, min(gap, self.longest))

    def after_errors(self, size: int | None, age: float, errors: int) -> float:
        """Until the next look after `errors` failed polls in a row."""
        return self._varied(
            min(max(self.next(size, age), self.polling.every) * 2.0 ** min(errors - 1, 10), 60.0)
        )

    def watchdog(self, size: int | None, age: float) -> float:
        """Until a look at a job whose end somebody else should have told by then."""
        known = self.expected(size)
        late = known.quantile(0.95, after=age) - age if known else 30.0
        return self._varied(min(max(late, 5 * self.polling.every), 4 * self.longest))

    def _planned(self, known: LogNormal, age: float) -> float:
        median = known.median
        ages = plan.poll_ages(known.sigma, self._wanted(median) / median)
        target = plan.age_after(ages, (age + 0.5 * self.polling.at_least) / median)
        if target is not None:
            return target * median - age
        return self._varied(max(self.polling.every, 0.2 * age))

    def _wanted(self, median: float) -> float:
        """Mean seconds between a job's end and the look that sees it."""
        if not self._seasoned:
            return 0.5 * self.polling.every
        return max(min(self.delay, 0.125 * median), self.share * median)

    def _varied(self, seconds: float) -> float:
        return seconds * self.random.uniform(1.0 - self.jitter / 2, 1.0 + self.jitter / 2)


def _binned(
    running: Iterable[tuple[int | None, float]], kept: Mapping[int, float]
) -> dict[tuple[int, float], float]:
    """Running jobs by size class and age, ages rounded to a tenth of their logarithm.

    Where only a part of the finished jobs is kept, only that part of the running ones counts: else the
    batch would look slower the larger it is.
    """
    jobs = Counter((size_class(size), round(math.log(max(age, 0.1)), 1)) for size, age in running)
    return {(size, age): number * kept.get(size, 1.0) for (size, age), number in jobs.items()}
