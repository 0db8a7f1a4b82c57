"""How long jobs take, as a log-normal distribution, fitted also to jobs that are not done yet.

Leaving out the jobs that still run would make every young batch look fast: its first completions are its
shortest jobs. So a running job counts as "longer than its age" (a censored observation), by expectation
maximization.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

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
