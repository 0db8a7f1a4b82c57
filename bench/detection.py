"""(a) How many requests it takes to learn that jobs have ended, and how late that is. Real time."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from bench import official
from bench.documents import invoices, written
from bench.figures import Row, detection, medians
from bench.laws import JOBS, LAWS, SDK_LOOPS, SHORT
from bench.services import SETTINGS, client, polled, provider
from bench.simulator import Simulator, own_simulator
from bench.ways import Way, ours, own_loop, run_batch
from prefect_docjobs.providers import Provider
from prefect_docjobs.simulator.settings import Settings
from prefect_docjobs.waiting.durations import Durations

BATCHES = 3
"""Batches of ours that run side by side, each with a waiter and documents of its own; medians are shown."""

FRESH = "ours: polls, fresh"
LEARNED = "ours: polls, learned"
LISTED = "ours: list and streams, fresh"
LISTED_LEARNED = "ours: list and streams, learned"


def case_of(service: str) -> str:
    """The case of a service in this part."""
    return f"{service}, {SHORT}"


def measure() -> Iterator[Row]:
    """Ours fresh, learned, and by list and streams; the SDKs' intervals; the SDKs."""
    with own_simulator() as simulator, tempfile.TemporaryDirectory() as folder:
        written(JOBS, Path(folder))
        known = {name: [Durations() for _ in range(BATCHES)] for name in SETTINGS}
        yield from _ours(simulator, FRESH, known, first=0)
        yield from _ours(simulator, LEARNED, known, first=BATCHES * JOBS)
        yield from _listed(simulator)
        yield from _loops(simulator)
        yield from _sdks(simulator, Path(folder), ("numind", "unsiloed"))
        yield from _sdks(simulator, Path(folder), ("mindee",))


def _ours(simulator: Simulator, way: str, known: dict[str, list[Durations]], first: int) -> Iterator[Row]:
    simulator.reset(Settings(duration=LAWS[SHORT]))
    firsts = count(first, JOBS)
    batches = [
        (name, polled(name), ours(durations), next(firsts)) for name in known for durations in known[name]
    ]
    ids = asyncio.run(_side_by_side(simulator, batches))
    for name in known:
        jobs = simulator.jobs(name)
        of_batches = [
            _of(jobs, set(got)) for (service, *_), got in zip(batches, ids, strict=True) if service == name
        ]
        yield Row("a", case_of(name), way, medians(of_batches))


def _listed(simulator: Simulator) -> Iterator[Row]:
    """One batch after another: other jobs of the account would be in the list, too."""
    known = Durations()
    for way, first in ((LISTED, 0), (LISTED_LEARNED, JOBS)):
        simulator.reset(Settings(duration=LAWS[SHORT]))
        asyncio.run(_side_by_side(simulator, [("numind", provider("numind"), ours(known), first)]))
        requests = simulator.report()["requests"]["status"]
        delays = [job["detection_latency"] for job in simulator.jobs("numind")]
        yield Row("a", case_of("numind"), way, detection(requests, JOBS, delays))


def _loops(simulator: Simulator) -> Iterator[Row]:
    simulator.reset(Settings(duration=LAWS[SHORT]))
    batches = [(name, polled(name), own_loop(*SDK_LOOPS[name]), 0) for name in SETTINGS]
    asyncio.run(_side_by_side(simulator, batches))
    for name in SETTINGS:
        yield Row("a", case_of(name), loop_name(name), _of(simulator.jobs(name)))


def _sdks(simulator: Simulator, folder: Path, names: Sequence[str]) -> Iterator[Row]:
    if not official.installed():
        for name in names:
            yield Row("a", case_of(name), sdk_name(name), {"note": "not installed: run make bench"})
        return
    simulator.reset(Settings(duration=LAWS[SHORT]))

    async def all_sdks() -> list[float]:
        return await asyncio.gather(*(official.run_sdk(name, simulator.base_url, folder) for name in names))

    for name, cpu in zip(names, asyncio.run(all_sdks()), strict=True):
        yield Row("a", case_of(name), sdk_name(name), {**_of(simulator.jobs(name)), "CPU ms/document": cpu})


def loop_name(service: str) -> str:
    """What the loop on a service's SDK's interval is called."""
    first, every = SDK_LOOPS[service]
    return f"own loop, {first:g} s, then every {every:g} s"


def sdk_name(service: str) -> str:
    """What a service's SDK is called."""
    return f"SDK: {official.NAMES[service]}"


async def _side_by_side(
    simulator: Simulator, batches: Sequence[tuple[str, Provider, Way, int]]
) -> list[list[str]]:
    """Run batches at once, each through a client of its own; give the job ids of each."""

    async def run(name: str, service: Provider, way: Way, first: int) -> list[str]:
        async with client(name, simulator.base_url) as http:
            return await run_batch(service, http, invoices(JOBS, first), way)

    return await asyncio.gather(*(run(*batch) for batch in batches))


def _of(jobs: Sequence[dict[str, Any]], ids: set[str] | None = None) -> dict[str, float | None]:
    """The figures of some jobs, which were looked at one by one."""
    chosen = [job for job in jobs if ids is None or job["id"] in ids]
    delays = [job["detection_latency"] for job in chosen if job["detection_latency"] is not None]
    return detection(sum(job["polls"] for job in chosen), len(chosen), delays)
