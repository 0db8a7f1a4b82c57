"""When to look at a job whose duration is log-normal: the fewest looks for a wanted mean delay.

This is the inspection problem (Barlow, Hunter and Proschan, J. SIAM 11:1078, 1963), solved by dynamic
programming over a grid of log times. Time is in units of the median, so that one plan serves all scales.
"""

from __future__ import annotations

import functools
import math
from bisect import bisect_right
from itertools import pairwise
from statistics import NormalDist

_UNIT = NormalDist()
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
