"""When to poll, from what is known of how long jobs take; and when suspending pays.

The rule is Keller's: polls are spaced so that their density is the root of the hazard, the chance that a job
which still runs ends in the next moment (Management Science 20:256, 1974). At equal delay it takes as many
polls as the best plan that dynamic programming finds: see docs/benchmarks.md.
"""

from __future__ import annotations

import functools
import logging
import math
import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import NamedTuple

from prefect_docjobs.providers.base import Polling
from prefect_docjobs.waiting.durations import Durations, Kind, LogNormal, Prior, Window, fit, size_class

_log = logging.getLogger(__name__)
_UNIT = NormalDist()

# -- the best polls for a law

_POINTS = 256
_LOWEST, _HIGHEST = -3.3, 3.5  # sigmas that the table spans
_FIRST = 1.3  # times a gap from the submit: the rule holds for many polls; this is best where they are few
_BEYOND = 1.3  # times the age, for polls beyond the table
_STEPS = 50  # tables for each e-fold of deviation and of delay
_ATTEMPTS = 8
_NEAR_ENOUGH = 0.01  # a table's delay to the wanted one, as a logarithm
_RARE = 1e-4  # a share of jobs that no longer counts


class _Table(NamedTuple):
    """Where polls go for a log-normal with median 1.

    Attributes:
        ages: In medians.
        roots: The root of the hazard, added up until each age.
        step: By which it grows from one poll to the next.
    """

    ages: tuple[float, ...]
    roots: tuple[float, ...]
    step: float

    def next(self, age: float) -> float | None:
        """The age of the poll after `age`; None past the last."""
        place = bisect_right(self.ages, age) - 1
        if place + 1 >= len(self.ages):
            return None
        share = (age - self.ages[place]) / (self.ages[place + 1] - self.ages[place])
        root = self.roots[place] + share * (self.roots[place + 1] - self.roots[place])
        root += self.step * (_FIRST if age <= 0.0 else 1.0)
        place = bisect_right(self.roots, root)
        if place >= len(self.roots):
            return self.ages[-1]
        share = (root - self.roots[place - 1]) / (self.roots[place] - self.roots[place - 1])
        return self.ages[place - 1] + share * (self.ages[place] - self.ages[place - 1])

    def delay(self, sigma: float) -> float:
        """Mean time from a job's end to the poll that sees it, in medians."""
        age, ended, mean, delay = 0.0, 0.0, 0.0, 0.0
        while ended < 1.0 - _RARE:
            later = self.next(age) or age * _BEYOND
            score = math.log(later) / sigma
            ended_later = _UNIT.cdf(score)
            mean_later = math.exp(sigma * sigma / 2.0) * _UNIT.cdf(score - sigma)  # of those ended by then
            delay += later * (ended_later - ended) - (mean_later - mean)
            age, ended, mean = later, ended_later, mean_later
        return delay


def next_age(sigma: float, delay: float, age: float) -> float | None:
    """The age of the next poll of a job that still runs, in medians; None where it is past nearly all others.

    Args:
        sigma: Deviation of the logarithm of the durations.
        delay: Wanted mean time from a job's end to the poll that sees it, in medians.
        age: Of the job, in medians.
    """
    # Rounded, so that a fit that hardly moved costs no new table.
    return _table(round(math.log(max(sigma, 0.05)) * _STEPS), round(math.log(delay) * _STEPS)).next(age)


@functools.lru_cache(maxsize=512)
def _table(sigma_steps: int, delay_steps: int) -> _Table:
    sigma, delay = math.exp(sigma_steps / _STEPS), math.exp(delay_steps / _STEPS)
    scores = [_LOWEST + (_HIGHEST - _LOWEST) * point / (_POINTS - 1) for point in range(_POINTS)]
    ages = [0.0, *(math.exp(sigma * score) for score in scores)]
    ended = [0.0, *map(_UNIT.cdf, scores)]
    roots = [0.0]
    for place in range(_POINTS):
        hazard = (ended[place + 1] - ended[place]) / (1.0 - ended[place])
        roots.append(roots[-1] + math.sqrt(hazard * (ages[place + 1] - ages[place])))
    table = _Table(tuple(ages), tuple(roots), delay)
    for _ in range(_ATTEMPTS):
        miss = math.log(delay / table.delay(sigma))
        if abs(miss) < _NEAR_ENOUGH:
            break
        # Delay grows nearly as the step does.
        table = table._replace(step=min(table.step * math.exp(miss), roots[-1]))
    return table


# -- when to suspend

CAUTION = 0.5
"""The λ of the rule: 0 believes the forecast blindly, 1 not at all."""


def suspend_after(expected: float | None, cost: float, *, caution: float = CAUTION) -> float:
    """Seconds to wait in the process before suspending; jobs that end before that never suspend.

    What the worker spends is at most `1 + 1 / caution` times what an oracle would have spent, whatever the
    forecast was (3 times by default), and at most `1 + caution` times when it was right (1.5 times). Without
    a forecast it is at most twice as much.

    Args:
        expected: Seconds until all jobs have ended, as likely as not; None where too little is known.
        cost: Seconds of a worker that a suspension costs: the start of a process, and the replay of the flow.
        caution: Above 0, up to 1.
    """
    if expected is None:
        return cost
    return caution * cost if expected >= cost else cost / caution


# -- the schedule of one kind of job

_PRIOR = Prior(mu=math.log(8.0), sigma=1.0, weight=0.3)
_SHRINKAGE = 3.0  # observations of one size class that outweigh those of all sizes


@dataclass(slots=True)
class Schedule:
    """Seconds until the next poll at jobs of one kind.

    Args:
        polling: The service's advice.
        kind: What durations are conditioned on, beside the document's size.
        durations: What is known, and where new observations go.
        delay: Wanted mean seconds between a job's end and the poll that sees it; for short jobs an eighth
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
    _laws: dict[int | None, LogNormal] = field(default_factory=dict, repr=False)  # by size class; None: all
    _new: int = 1  # finished jobs since the last fit
    _known: int = 0
    _refit_at: float = -math.inf
    _has_past: bool = False

    def __post_init__(self) -> None:
        try:
            self.refit()
            self._has_past = self._known >= self.enough
        except Exception:  # noqa: BLE001 (a memory that breaks is as good as none)
            _log.exception("What jobs took in the past cannot be read")

    def begin(self) -> int:
        """Note that a job begins; its cohort, for `learn` and `refit`."""
        return self.durations.begin(self.kind)

    def learn(
        self, size: int | None, seconds: float, *, cohort: int = 1, running_at: float | None = None
    ) -> None:
        """Note what a finished job took from its submit to its end.

        Args:
            size: Of its document, in bytes.
            seconds: What it took; at most, where `running_at` is given.
            cohort: From `begin`.
            running_at: The age at which it was last seen running: it ended somewhere between.
        """
        took = seconds if running_at is None else self._drawn(size, running_at, seconds)
        if took is not None:
            self.durations.add(self.kind, size, took, cohort=cohort)
            self._new += 1

    def _drawn(self, size: int | None, since: float, until: float) -> float | None:
        """A duration between two ages; None when too little is known to tell.

        Drawn from what is expected: the middle would make early ends too early, and the law too wide.
        """
        known = self.expected(size)
        if known is not None:
            share = known.done_between(since, until) * self.random.random()
            return min(max(known.quantile(share, after=since), since), until)
        is_near = until - since <= 2 * max(self.polling.first, self.polling.every)
        return (since + until) / 2 if is_near else None

    def refit(self, running: Iterable[tuple[int, int | None, float]] = (), *, now: float = -math.inf) -> None:
        """Take in what was learned since the last time, if that may change anything.

        Jobs that go on running longer than expected count as well as those that have ended.

        Args:
            running: Cohort and size of each job that is not done, and its age in seconds when it was last
                seen running.
            now: On the caller's clock, in seconds.
        """
        is_much = self._known < self.enough or self._new >= 0.05 * self._known
        if not (self._new and is_much) and now < self._refit_at:
            return
        windows = self.durations.windows(self.kind)
        logs = {size: window.logs for size, window in windows.items()}
        self._known, self._new = sum(map(len, logs.values())), 0
        self._laws = {}
        if self._known < self.enough:
            return
        ages = _binned(running, windows)
        everything = [log for of_size in logs.values() for log in of_size]
        pooled = fit(everything, [(age, number) for (_, age), number in ages.items()], _PRIOR)
        self._laws[None] = pooled
        near = Prior(pooled.mu, pooled.sigma, _SHRINKAGE)
        for size, of_size in logs.items():
            still = [(age, number) for (of, age), number in ages.items() if of == size]
            self._laws[size] = fit(of_size, still, near)
        self._refit_at = now + max(1.0, pooled.median / 4.0)

    def expected(self, size: int | None) -> LogNormal | None:
        """How long jobs take with a document of this size, or None while too little is known."""
        return self._laws.get(size_class(size), self._laws.get(None))

    def first(self, size: int | None, age: float) -> float:
        """Until the first poll at a job that was submitted `age` seconds ago."""
        known = self.expected(size) is not None
        return max(0.0, (self.next(size, 0.0) if known else self._varied(self.polling.first)) - age)

    def next(self, size: int | None, age: float) -> float:
        """Until the next poll at a job that is not done at `age` seconds."""
        known = self.expected(size)
        advised = self._varied(self.polling.every)
        if known is None:
            gap = advised
        elif self._has_past:
            gap = self._planned(known, age)
        else:  # of the first batch only this is trusted: when there is nothing to see yet
            gap = max(advised, self._planned(known, age)) if age < 0.5 * known.median else advised
        return max(self.polling.at_least, min(gap, self.longest))

    def after_errors(self, size: int | None, age: float, errors: int) -> float:
        """Until the next poll after `errors` failed polls in a row."""
        return self._varied(
            min(max(self.next(size, age), self.polling.every) * 2.0 ** min(errors - 1, 10), 60.0)
        )

    def watchdog(self, size: int | None, age: float) -> float:
        """Until a poll of a job whose end a list, a stream or a push should have reported by then."""
        known = self.expected(size)
        late = known.quantile(0.95, after=age) - age if known else 30.0
        return self._varied(min(max(late, 5 * self.polling.every), 4 * self.longest))

    def _planned(self, known: LogNormal, age: float) -> float:
        median = known.median
        target = next_age(known.sigma, self._wanted(median) / median, age / median)
        if target is not None:
            return target * median - age
        return self._varied(max(self.polling.every, 0.2 * age))

    def _wanted(self, median: float) -> float:
        """Mean seconds between a job's end and the poll that sees it."""
        if not self._has_past:
            return 0.5 * self.polling.every
        return max(min(self.delay, 0.125 * median), self.share * median)

    def _varied(self, seconds: float) -> float:
        return seconds * self.random.uniform(1.0 - self.jitter / 2, 1.0 + self.jitter / 2)


def _binned(
    running: Iterable[tuple[int, int | None, float]], windows: Mapping[int, Window]
) -> dict[tuple[int, float], int]:
    """Running jobs by size class and age, ages rounded to a tenth of their logarithm.

    Only of cohorts whose finished jobs count: else the jobs would look slower than they are.
    """
    oldest = {size: window.oldest for size, window in windows.items()}
    ages = ((size_class(size), cohort, math.log(max(age, 0.1))) for cohort, size, age in running)
    return Counter((size, round(age, 1)) for size, cohort, age in ages if cohort >= oldest.get(size, cohort))
