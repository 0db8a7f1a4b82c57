"""When to poll: a law of durations, the polls that are best for it, and when suspending pays."""

from __future__ import annotations

import functools
import logging
import math
import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import NormalDist

from prefect_docjobs.providers.base import Polling
from prefect_docjobs.waiting.durations import Durations, Kind, shared_durations, size_class

# ------------------------------------------------------------------------------------- the law of durations

_UNIT = NormalDist()
_ROUNDS = 100
_STILL = 1e-4  # an estimate that moves less than this has arrived
_FAR = 6.0  # beyond so many sigmas the tail of the normal is taken from its asymptote


@dataclass(frozen=True, slots=True)
class LogNormal:
    """Durations in seconds whose logarithm is normal with mean `mu` and deviation `sigma`."""

    mu: float
    sigma: float

    @property
    def median(self) -> float:
        """Seconds after which half of the jobs are done."""
        return math.exp(self.mu)

    def survival(self, seconds: float) -> float:
        """The chance that a job takes longer than this."""
        return 1.0 if seconds <= 0.0 else _tail((math.log(seconds) - self.mu) / self.sigma)

    def done_between(self, since: float, until: float) -> float:
        """The chance that a job that ran at age `since` is done at age `until`."""
        still = self.survival(since)
        return 1.0 if still <= 1e-12 else 1.0 - self.survival(until) / still

    def quantile(self, share: float, *, after: float = 0.0) -> float:
        """The age at which this share of the jobs that ran at age `after` is done."""
        left = self.survival(after) * (1.0 - share)
        left = min(max(left, 1e-9), 1.0 - 1e-9)
        return max(after, math.exp(self.mu - self.sigma * _UNIT.inv_cdf(left)))


@dataclass(frozen=True, slots=True)
class Prior:
    """What is believed before anything was seen, and how many observations that is worth."""

    mu: float
    sigma: float
    weight: float = 2.0


def fit(logs: Sequence[float], running: Iterable[tuple[float, float]], prior: Prior) -> LogNormal:
    """The distribution that explains finished and running jobs best.

    Args:
        logs: Logarithms of the durations of finished jobs, in seconds.
        running: Logarithms of the ages of jobs that still run, and how many there are of each; fewer where
            `logs` is only a sample of the finished ones.
        prior: Belief before the data.
    """
    censored = list(running)
    count = len(logs) + sum(number for _, number in censored) + prior.weight
    first = sum(logs) + prior.weight * prior.mu
    second = sum(log * log for log in logs) + prior.weight * (prior.sigma**2 + prior.mu**2)
    mu, sigma = first / (len(logs) + prior.weight), prior.sigma
    for _ in range(_ROUNDS):
        before = mu, sigma
        sums = [_beyond(age, mu, sigma) for age, _ in censored]
        total = first + sum(mean * number for (mean, _), (_, number) in zip(sums, censored, strict=True))
        squares = second + sum(
            square * number for (_, square), (_, number) in zip(sums, censored, strict=True)
        )
        mu = total / count
        sigma = math.sqrt(max(squares / count - mu * mu, 0.0025))
        if max(abs(mu - before[0]), abs(sigma - before[1])) < _STILL:
            break
    return LogNormal(mu, sigma * math.sqrt(1.0 + 1.0 / count))


def _beyond(age: float, mu: float, sigma: float) -> tuple[float, float]:
    """Mean and mean square of a normal variable, given that it is larger than `age`."""
    z = (age - mu) / sigma
    hazard = z + 1.0 / z if z > _FAR else _UNIT.pdf(z) / _tail(z)
    mean = mu + sigma * hazard
    return mean, mean * mean + sigma * sigma * max(1.0 + z * hazard - hazard * hazard, 0.0)


def _tail(z: float) -> float:
    return 0.5 * math.erfc(z / math.sqrt(2.0))


# --------------------------------------------------------------------------------- the best polls for a law

_POINTS = 256  # coarser ones cost a tenth more looks where a plan has many
_LOWEST, _HIGHEST = -3.3, 3.0  # sigmas that the grid spans; beyond, gaps grow geometrically
_TAIL = 0.3  # a first gap beyond the grid, as a part of the age there; for the estimate of its cost
_STEPS = 50  # plans for each e-fold of deviation and of delay
_CHEAPEST, _DEAREST = 1e-6, 10.0  # what a look may be worth, in medians of delay
_NEAR_ENOUGH = 0.01  # a plan's delay to the wanted one, as a logarithm
_ATTEMPTS = 6
_WORSE = 5  # candidates in a row that cost more, after which no better one is expected


def poll_ages(sigma: float, delay: float) -> tuple[float, ...]:
    """Ages at which to look, in medians.

    Args:
        sigma: Deviation of the logarithm of the durations.
        delay: Wanted mean time between a job's end and the look that sees it, in medians.
    """
    # Rounded, so that a fit that hardly moved costs no new plan.
    return _planned(round(math.log(max(sigma, 0.05)) * _STEPS), round(math.log(delay) * _STEPS))


def age_after(ages: tuple[float, ...], age: float) -> float | None:
    """The first planned age after `age`, or None past the last one."""
    place = bisect_right(ages, age)
    return ages[place] if place < len(ages) else None


@functools.lru_cache(maxsize=512)
def _planned(sigma_steps: int, delay_steps: int) -> tuple[float, ...]:
    grid, wanted = _Grid(math.exp(sigma_steps / _STEPS)), math.exp(delay_steps / _STEPS)
    price = grid.price_of(wanted)
    for _ in range(_ATTEMPTS):
        delay, ages = grid.solve(price)
        miss = math.log(wanted / delay)
        # Delay grows with the root of the price, nearly.
        nearer = min(max(price * math.exp(2.0 * miss), _CHEAPEST), _DEAREST)
        if abs(miss) < _NEAR_ENOUGH or nearer == price:
            break
        price = nearer
    return ages


class _Grid:
    """Ages of a log-normal with median 1, and the best way through them for a price per look."""

    def __init__(self, sigma: float) -> None:
        step = (_HIGHEST - _LOWEST) / (_POINTS - 1)
        scores = [_LOWEST + step * point for point in range(_POINTS)]
        mean = math.exp(sigma * sigma / 2)
        self.times = [0.0, *(math.exp(sigma * score) for score in scores)]
        self.done = [0.0, *(_UNIT.cdf(score) for score in scores)]
        # Partial expectations: the part of the mean that jobs contribute that are done by each time.
        self.part = [0.0, *(mean * _UNIT.cdf(score - sigma) for score in scores)]

    def solve(self, price: float) -> tuple[float, tuple[float, ...]]:
        """Mean delay and look times of the cheapest plan, from the last point backwards."""
        last = len(self.times) - 1
        left = 1.0 - self.done[last]
        cost, delay = [0.0] * (last + 1), [0.0] * (last + 1)
        following = [last] * (last + 1)
        delay[last] = left * self.times[last] * _TAIL
        cost[last] = delay[last] + left * price
        for here in range(last - 1, -1, -1):
            # The earlier a point, the earlier its next look (costs are Monge): search from there down.
            best, there, late = self._step(here, following[here + 1], cost)
            cost[here], following[here] = best + price * (1.0 - self.done[here]), there
            delay[here] = late + delay[there]
        chosen, here = [], 0
        while here < last:
            here = following[here]
            chosen.append(self.times[here])
        return delay[0], tuple(chosen)

    def price_of(self, delay: float) -> float:
        """About the price of a look at which this mean delay is best.

        By the density of looks where they are many, the root of hazard over twice the price (Keller,
        Management Science 20:256, 1974).
        """
        points = zip(self.times, self.done, strict=True)
        root = sum(
            math.sqrt((done - before) * (1.0 - done) * (time - since))
            for (since, before), (time, done) in pairwise(points)
        )
        return min(max(2.0 * (delay / root) ** 2, _CHEAPEST), _DEAREST)

    def _step(self, here: int, latest: int, cost: list[float]) -> tuple[float, int, float]:
        """The best next look after point `here` and up to `latest`: cost, point, and delay until there."""
        times, dones, parts = self.times, self.done, self.part
        done, part = dones[here], parts[here]
        best, target, late, worse = math.inf, latest, 0.0, 0
        for there in range(latest, here, -1):
            delay = times[there] * (dones[there] - done) - (parts[there] - part)
            if (total := delay + cost[there]) < best:
                best, target, late, worse = total, there, delay, 0
            elif (worse := worse + 1) == _WORSE:
                break
        return best, target, late


# ------------------------------------------------------------------------------------------ when to suspend

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


# -------------------------------------------------------------------------- the schedule of one kind of job

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
        ages = poll_ages(known.sigma, self._wanted(median) / median)
        target = age_after(ages, (age + 0.5 * self.polling.at_least) / median)
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
