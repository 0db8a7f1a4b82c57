"""When to stop waiting and suspend: what it costs at most, against an oracle that knows the end."""

from __future__ import annotations

import pytest

from prefect_docjobs.waiting.schedule import CAUTION, suspend_after

DURATIONS = [0.0, 0.1, *(float(seconds) for seconds in range(1, 400)), 3600.0, 86_400.0]
COSTS = [1.0, 5.0, 20.0, 60.0]


def spent(duration: float, after: float, cost: float) -> float:
    """Seconds of a worker: it waits to the end of the jobs, or waits a while and suspends."""
    return duration if duration <= after else after + cost


def oracle(duration: float, cost: float) -> float:
    return min(duration, cost)


def worst(cost: float, durations: list[float], expected: float | None, caution: float = CAUTION) -> float:
    after = suspend_after(expected, cost, caution=caution)
    return max(spent(took, after, cost) / oracle(took, cost) for took in durations if took)


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("caution", [0.25, 0.5, 1.0])
def test_whatever_was_forecast_it_costs_at_most_one_and_one_by_caution(cost: float, caution: float) -> None:
    ratios = [worst(cost, DURATIONS, expected, caution) for expected in DURATIONS]
    assert max(ratios) <= 1.0 + 1.0 / caution
    assert max(ratios) > 0.95 * (1.0 + 1.0 / caution)  # the bound is no larger than it has to be


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("caution", [0.25, 0.5, 1.0])
def test_when_the_forecast_is_right_it_costs_at_most_one_plus_caution(cost: float, caution: float) -> None:
    ratios = [worst(cost, [took], took, caution) for took in DURATIONS if took]
    assert max(ratios) <= 1.0 + caution
    assert max(ratios) == pytest.approx(1.0 + caution)


@pytest.mark.parametrize("cost", COSTS)
def test_without_a_forecast_it_costs_at_most_twice_as_much(cost: float) -> None:
    assert worst(cost, DURATIONS, None) <= 2.0


def test_short_jobs_wait_and_long_ones_suspend_soon() -> None:
    assert suspend_after(5.0, 20.0) == 40.0
    assert suspend_after(3600.0, 20.0) == 10.0
    assert suspend_after(None, 20.0) == 20.0
