"""(b) A thousand documents submitted at ten a second, when few status requests are allowed. Virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

from bench.detection_virtual import SERVICE, seen
from bench.documents import invoices
from bench.figures import REFUSED, Figures, Row
from bench.laws import LAWS, SHORT
from bench.services import polled, provider
from bench.virtual import in_virtual_time, simulated
from bench.ways import fair_limiter, ours, own_loop, run_batch
from prefect_docjobs.http import AccountLimits
from prefect_docjobs.simulator.settings import RateLimit, RateLimits, Settings

DOCUMENTS = 1000
SUBMITS_PER_SECOND = 10.0
RATES = (2.0, 20.0)

LISTED = "ours: list and streams"
POLLED = "ours: polls"
UNKNOWN = "ours: polls, rate not set"
FAIR = "fair limiter, round-robin"
OWN_LOOPS = "own loop, every 1.5 s (as SDKs do)"


def case_of(rate: float) -> str:
    """The case of an allowed rate."""
    return f"{DOCUMENTS:,} documents, {rate:g} status requests/s allowed"


@dataclass(frozen=True)
class Run:
    """One batch to measure; plain, so that it can be handed to another process."""

    rate: float
    way: str


def measure(*, slow_ones: bool) -> Iterator[Row]:
    """Each way under each rate.

    Args:
        slow_ones: Loops of their own under the lower rate, too: some 200,000 requests, two minutes of CPU.
    """
    ways = (OWN_LOOPS, LISTED, POLLED, UNKNOWN, FAIR)
    runs = [Run(rate, way) for rate in RATES for way in ways]
    if not slow_ones:
        runs.remove(Run(RATES[0], OWN_LOOPS))
    with ProcessPoolExecutor(2) as processes:
        for run, (figures, clock) in zip(runs, processes.map(_measured, runs), strict=True):
            yield Row("b", case_of(run.rate), run.way, figures, clock)


def _measured(run: Run) -> tuple[Figures, str]:
    return in_virtual_time(partial(_batch, run))


async def _batch(run: Run) -> Figures:
    limits = RateLimits(status=RateLimit(per_second=run.rate))
    settings = Settings(duration=LAWS[SHORT], rates=limits)
    ways = {OWN_LOOPS: own_loop(1.5, 1.5), FAIR: fair_limiter(run.rate)}
    service = provider(SERVICE) if run.way == LISTED else polled(SERVICE)
    account_limits = _with_rate(run.rate) if run.way in {LISTED, POLLED} else _without_rates
    async with simulated(SERVICE, settings, account_limits) as (http, backend):
        way = ways.get(run.way) or ours()
        await run_batch(service, http, invoices(DOCUMENTS), way, per_second=SUBMITS_PER_SECOND)
        requests = backend.stats.requests["status"]
        refused = 100.0 * backend.stats.given["429"] / requests
        return {**seen(backend), "status requests": requests, REFUSED: refused}


def _with_rate(rate: float) -> Callable[[Callable[[], float]], AccountLimits]:
    return lambda clock: AccountLimits({"status": rate}, clock=clock)


def _without_rates(clock: Callable[[], float]) -> AccountLimits:
    return AccountLimits(clock=clock)
