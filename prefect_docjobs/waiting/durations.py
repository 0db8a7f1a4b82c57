"""How long jobs take: what finished ones took, the log-normal law that fits, and forecasts from it.

What finished jobs took is remembered by kind of job and size of document; little of it, and safe to lose.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist

# -- the law

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


def fit(logs: Sequence[float], running: Iterable[tuple[float, int]], prior: Prior) -> LogNormal:
    """The distribution that explains finished and running jobs best.

    Args:
        logs: Logarithms of the durations of finished jobs, in seconds.
        running: Logarithms of the ages of jobs that still run, and how many there are of each.
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


# -- forecasts


@dataclass(frozen=True, slots=True)
class Forecast:
    """When the jobs that still run will be done, in seconds from now; None while too little is known.

    Attributes:
        running: Jobs that are not done, those to come included.
        likely: As likely as not, all are done by then.
        nearly_sure: With 90 % confidence, all are done by then.
    """

    running: int
    likely: float | None = None
    nearly_sure: float | None = None

    def then(self, later: Forecast, number: int, delay: float) -> Forecast:
        """With `number` more jobs, the last of which begin after `delay` seconds."""
        if None in (self.likely, later.likely):
            return Forecast(self.running + number)
        return Forecast(
            self.running + number,
            max(self.likely or 0.0, delay + (later.likely or 0.0)),
            max(self.nearly_sure or 0.0, delay + (later.nearly_sure or 0.0)),
        )

    def __str__(self) -> str:
        if self.likely is None or self.nearly_sure is None:
            return "too early to say how long"
        return f"about {self.likely:.0f} s left (90 %: {self.nearly_sure:.0f} s)"


def forecast(running: Iterable[tuple[LogNormal | None, float, int]]) -> Forecast:
    """When all of these jobs are done.

    Args:
        running: What is known of jobs like these, their age in seconds, and how many there are.
    """
    jobs = list(running)
    count = sum(number for _, _, number in jobs)
    known = [(law, age, number) for law, age, number in jobs if law is not None]
    if not jobs or len(known) < len(jobs):
        return Forecast(count)
    return Forecast(count, _until(known, 0.5), _until(known, 0.1))


def _until(jobs: list[tuple[LogNormal, float, int]], left: float) -> float:
    """Seconds until fewer than `left` jobs are expected to run."""
    early, late = 0.0, 1.0
    while _running(jobs, late) > left and late < 1e6:
        early, late = late, late * 2
    for _ in range(20):
        middle = (early + late) / 2
        early, late = (middle, late) if _running(jobs, middle) > left else (early, middle)
    return late


def _running(jobs: list[tuple[LogNormal, float, int]], seconds: float) -> float:
    return sum(number * (1.0 - law.done_between(age, age + seconds)) for law, age, number in jobs)


# -- what finished jobs took

_VERSION = 1
_COHORT = 50  # jobs of a kind that began one after the other
_PAST = 0  # the cohort of the jobs before this process
_WINDOW = 150  # finished jobs of a kind and size that are remembered: those of the newest cohorts
_KINDS = 64
_SAVED_AFTER = 10  # observations,
_SAVED_EVERY = 10.0  # or seconds, so that runs of a single job teach something, and many of them cost little
_LARGEST_FILE = 4 << 20  # bytes; all that is kept fits several times
_UNREADABLE = (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)
_SIZES = range(-1, 9)
_LARGEST = 1 << 60  # bytes; a ref may say anything

Kind = tuple[str, ...]
"""What durations are conditioned on: provider, origin, product, model."""


def size_class(size: int | None) -> int:
    """Documents of about the same size: one class for each fourfold of 16 KiB; -1 where it is unknown."""
    if size is None:
        return -1
    return min(max(0, math.ceil(math.log(min(max(size, 1), _LARGEST) / 16_384, 4))), _SIZES[-1])


class Window(dict[int, list[float]]):
    """Logarithms of the seconds that jobs of one kind and size took, by cohort, the newest cohorts only.

    A cohort is some jobs that began one after the other. The jobs that ended last would be the slow ones of
    a batch; a whole cohort, with its jobs that still run, is an even sample. Old cohorts are left out, so
    that a service which changes its pace is followed.

    Args:
        past: Of jobs before this process.

    Attributes:
        oldest: The oldest cohort that counts.
    """

    def __init__(self, past: Sequence[float] = ()) -> None:
        super().__init__({_PAST: list(past)} if past else {})
        self.oldest = _PAST
        self._saved = {_PAST: len(past)}  # how many of each cohort

    @property
    def logs(self) -> list[float]:
        """Of all cohorts, the oldest first."""
        return [log for cohort in sorted(self) for log in self[cohort]]

    def add(self, cohort: int, log: float) -> None:
        """Take one more; of a cohort that is left out already, it is left out, too."""
        if cohort < self.oldest:
            return
        self.setdefault(cohort, []).append(log)
        known = 0
        for newest in sorted(self, reverse=True):
            if known >= _WINDOW:
                del self[newest]
            else:
                known += len(self[newest])
                self.oldest = newest if known >= _WINDOW else self.oldest

    def take_unsaved(self) -> list[float]:
        """Those that were added since this was last called, the oldest cohort first."""
        unsaved = [log for cohort in sorted(self) for log in self[cohort][self._saved.get(cohort, 0) :]]
        self._saved = {cohort: len(logs) for cohort, logs in self.items()}
        return unsaved


@dataclass
class _Kind:
    """What is remembered of one kind of job.

    Attributes:
        begun: Jobs that have begun.
        unsaved: Jobs that have ended since this was saved.
    """

    windows: dict[int, Window] = field(default_factory=lambda: defaultdict(Window))
    begun: int = 0
    unsaved: int = 0


class Durations:
    """What finished jobs took; thread-safe.

    Args:
        path: Where it is kept between runs; None keeps it in memory only. A file that cannot be read or
            written is as good as none.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._kinds: dict[Kind, _Kind] = {}
        self._saved_at = -math.inf
        for kind, logs in (_read(path) if path else {}).items():
            windows = {size: Window(of_size) for size, of_size in logs.items()}
            self._kinds[kind] = _Kind(defaultdict(Window, windows))

    def begin(self, kind: Kind) -> int:
        """The cohort of a job that begins now."""
        with self._lock:
            known = self._used(kind)
            known.begun += 1
            return 1 + known.begun // _COHORT

    def add(self, kind: Kind, size: int | None, seconds: float, *, cohort: int = 1) -> None:
        """Note what a finished job took; its cohort is from `begin`."""
        if not 0.0 < seconds < math.inf:
            return
        with self._lock:
            known = self._used(kind)
            known.windows[size_class(size)].add(cohort, round(math.log(seconds), 3))
            known.unsaved += 1

    def windows(self, kind: Kind) -> dict[int, Window]:
        """What is known of a kind of job, by size class."""
        with self._lock:
            known = self._kinds.get(kind)
            return {size: copy(window) for size, window in known.windows.items()} if known else {}

    def _used(self, kind: Kind) -> _Kind:
        known = self._kinds.pop(kind, None) or _Kind()
        self._kinds[kind] = known  # the kind used last stands last
        while len(self._kinds) > _KINDS:
            del self._kinds[next(iter(self._kinds))]
        return known

    def save(self, kind: Kind) -> None:
        """Write down what was learned of a kind, unless it is little and was written a moment ago.

        It is added to what other processes have written meanwhile. Two processes that write in the same
        moment may lose what one of them has learned.
        """
        if self._path is None:
            return
        with self._lock:
            known = self._kinds.get(kind)
            if known is None or not known.unsaved:
                return
            if known.unsaved < _SAVED_AFTER and time.monotonic() - self._saved_at < _SAVED_EVERY:
                return
            self._saved_at = time.monotonic()
            known.unsaved = 0
            saved = _read(self._path)
            logs = saved.pop(kind, {})
            for size, window in known.windows.items():
                logs[size] = [*logs.get(size, ()), *window.take_unsaved()][-_WINDOW:]
        rows = [{"kind": kind, "logs": logs} for kind, logs in [*saved.items(), (kind, logs)][-_KINDS:]]
        with suppress(OSError):
            _replace(self._path, json.dumps({"version": _VERSION, "kinds": rows}))


def _read(path: Path) -> dict[Kind, dict[int, list[float]]]:
    """What a file says of each kind and size; nothing where it cannot be read."""
    with suppress(*_UNREADABLE):
        if path.stat().st_size > _LARGEST_FILE:
            return {}
        saved = json.loads(path.read_text("utf-8"))
        if saved["version"] == _VERSION:
            return {
                tuple(str(part) for part in row["kind"]): {
                    int(size): [float(log) for log in logs[-_WINDOW:] if -10 < float(log) < 14]
                    for size, logs in row["logs"].items()
                    if int(size) in _SIZES
                }
                for row in saved["kinds"][-_KINDS:]
            }
    return {}


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


_shared: dict[str, Durations] = {}
_sharing = threading.Lock()


def shared_durations() -> Durations:
    """The durations of this process, kept in the Prefect home between runs.

    `PREFECT_DOCJOBS_DURATIONS` names another file; empty, nothing is kept.
    """
    home = os.environ.get("PREFECT_HOME") or "~/.prefect"
    given = os.environ.get("PREFECT_DOCJOBS_DURATIONS", f"{home}/docjobs/durations.json")
    with _sharing:
        if given not in _shared:
            _shared[given] = Durations(_expanded(given) if given else None)
        return _shared[given]


def _expanded(given: str) -> Path | None:
    """The path, or None where it begins with a home that the user does not have."""
    with suppress(RuntimeError):
        return Path(given).expanduser()
    return None
