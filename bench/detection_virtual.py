"""(a) in virtual time: all three laws, in process, without the cost of a request."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

from bench.detection import FRESH, LEARNED, LISTED, LISTED_LEARNED, loop_name
from bench.documents import invoices
from bench.figures import Figures, Row, detection, medians
from bench.laws import JOBS, LAWS, SDK_LOOPS
from bench.services import polled, provider
from bench.virtual import in_virtual_time, simulated
from bench.ways import Way, ours, own_loop, run_batch
from prefect_docjobs.providers import Provider
from prefect_docjobs.simulator.backend import Backend
from prefect_docjobs.simulator.settings import Settings
from prefect_docjobs.waiting.durations import Durations

SERVICE = "numind"
_BATCHES = 3  # for each run that is asked for: one of 200 jobs tells a mean delay within a tenth only


def case_of(law: str) -> str:
    """The case of a law in this part."""
    return f"{SERVICE}, {law}, virtual"


@dataclass(frozen=True)
class Run:
    """One batch to measure; plain, so that it can be handed to another process."""

    law: str
    way: str
    seed: int


def measure(runs: int) -> Iterator[Row]:
    """Each way under each law.

    Args:
        runs: A third of the batches of each, with other durations; medians are shown.
    """
    batches = _BATCHES * runs
    cases = [
        (law, way)
        for law in LAWS
        for way in (FRESH, LEARNED, LISTED, LISTED_LEARNED, *map(loop_name, SDK_LOOPS))
    ]
    todo = [Run(law, way, seed) for law, way in cases for seed in range(batches)]
    with ProcessPoolExecutor(2) as processes:
        done = list(processes.map(_measured, todo, chunksize=1))
    for place, (law, way) in enumerate(cases):
        of_case = done[place * batches : (place + 1) * batches]
        yield Row("a", case_of(law), way, medians([figures for figures, _ in of_case]), of_case[0][1])


def _measured(run: Run) -> tuple[Figures, str]:
    return in_virtual_time(partial(_batch, run))


async def _batch(run: Run) -> Figures:
    settings = Settings(seed=run.seed, duration=LAWS[run.law])
    known = Durations()
    async with simulated(SERVICE, settings) as (http, backend):
        if run.way in {LEARNED, LISTED_LEARNED}:
            await run_batch(polled(SERVICE), http, invoices(JOBS, first=JOBS), ours(known))
            backend.reset()
        service, way = _set_up(run.way, known)
        await run_batch(service, http, invoices(JOBS), way)
        return seen(backend)


def _set_up(name: str, known: Durations) -> tuple[Provider, Way]:
    if name in {LISTED, LISTED_LEARNED}:
        return provider(SERVICE), ours(known)
    loops = {loop_name(service): own_loop(*clock) for service, clock in SDK_LOOPS.items()}
    return polled(SERVICE), loops.get(name) or ours(known)


def seen(backend: Backend) -> dict[str, float | None]:
    """What the simulator saw since its last reset."""
    delays = [job.detection_latency for job in backend.all_jobs() if job.detection_latency is not None]
    return detection(backend.stats.requests["status"], len(backend.all_jobs()), delays)
