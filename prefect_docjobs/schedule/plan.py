"""When to look at a job whose duration is log-normal: the fewest looks for a wanted mean delay.

This is the inspection problem (Barlow, Hunter and Proschan, J. SIAM 11:1078, 1963), solved by dynamic
programming over a grid of log times. Time is in units of the median, so that one plan serves all scales.
"""

from __future__ import annotations

import functools
import math
from bisect import bisect_right
from statistics import NormalDist

_UNIT = NormalDist()
_POINTS = 256  # coarser ones cost a tenth more looks where a plan has many
_LOWEST, _HIGHEST = -3.3, 3.0  # sigmas that the grid spans; beyond, gaps grow geometrically
_TAIL = 0.3  # a first gap beyond the grid, as a part of the age there; for the estimate of its cost
_HALVINGS = 10  # of seven decades: a price within 2 %


def looks(sigma: float, delay: float) -> tuple[float, ...]:
    """Ages at which to look, in medians.

    Args:
        sigma: Deviation of the logarithm of the durations.
        delay: Wanted mean time between a job's end and the look that sees it, in medians.
    """
    # Rounded, so that a fit that hardly moved costs no new plan.
    return _planned(round(max(sigma, 0.05) * 40), round(math.log(delay) * 40))


def look_after(ages: tuple[float, ...], age: float) -> float | None:
    """The first planned age after `age`, or None past the last one."""
    place = bisect_right(ages, age)
    return ages[place] if place < len(ages) else None


@functools.lru_cache(maxsize=512)
def _planned(sigma_steps: int, delay_steps: int) -> tuple[float, ...]:
    grid = _Grid(sigma_steps / 40)
    delay = math.exp(delay_steps / 40)
    cheap, dear = 1e-6, 10.0  # what a look is worth, in medians of delay: cheap ones make many looks
    for _ in range(_HALVINGS):
        price = math.sqrt(cheap * dear)
        if grid.solve(price)[0] < delay:
            cheap = price
        else:
            dear = price
    return grid.solve(cheap)[1]


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
        following = [0] * (last + 1)
        delay[last] = left * self.times[last] * _TAIL
        cost[last] = delay[last] + left * price
        for here in range(last - 1, -1, -1):
            cost[here], following[here], late = self._step(here, price, cost)
            delay[here] = late + delay[following[here]]
        chosen, here = [], 0
        while here < last:
            here = following[here]
            chosen.append(self.times[here])
        return delay[0], tuple(chosen)

    def _step(self, here: int, price: float, cost: list[float]) -> tuple[float, int, float]:
        """The best next look after point `here`: total cost, point, and delay until there."""
        done, part = self.done[here], self.part[here]
        asked = price * (1.0 - done)
        best, target, late = math.inf, here + 1, 0.0
        for there in range(here + 1, len(self.times)):
            delay = self.times[there] * (self.done[there] - done) - (self.part[there] - part)
            if asked + delay >= best:
                break
            if (total := asked + delay + cost[there]) < best:
                best, target, late = total, there, delay
        return best, target, late
