"""(c) What waiting for ten thousand jobs costs one process: real HTTP, a simulator in another process."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.documents import invoices
from bench.figures import Row
from bench.processes import measured_apart
from bench.services import client, polled
from bench.simulator import Simulator, own_simulator
from prefect_docjobs.simulator.settings import Duration, Settings

SERVICE = "numind"
EVERY = 10.0
CPU, MEMORY = "CPU, % of a core", "memory, MiB over baseline"
_SECONDS_TO_SUBMIT = 600.0
_SUBMITS_AT_A_TIME = 16


def case_of(waiters: int) -> str:
    """The case of so many waiters."""
    return f"{waiters:,} waiters, a poll every {EVERY:g} s each"


def measure(waiters: int, seconds: float, of_httpx: int) -> Iterator[Row]:
    """The waiter on its own way for GETs, and on httpx.

    Args:
        waiters: Jobs to wait for at once.
        seconds: To measure.
        of_httpx: The same with httpx for the looks.
    """
    with own_simulator() as simulator, tempfile.TemporaryDirectory() as folder:
        # Nothing ends while it is measured.
        lasting = Duration(law="fixed", seconds=_SECONDS_TO_SUBMIT + 2 * seconds)
        simulator.reset(Settings(duration=lasting))
        refs = Path(folder) / "refs.jsonl"
        refs.write_text("\n".join(asyncio.run(_submitted(simulator, waiters))), "utf-8")
        for number, fast in ((waiters, True), (of_httpx, True), (of_httpx, False)):
            question = {
                "base_url": simulator.base_url,
                "refs": str(refs),
                "waiters": number,
                "every": EVERY,
                "seconds": seconds,
                "fast": fast,
            }
            told = measured_apart("crowd_process", question)
            yield Row("c", case_of(number), way_of(fast=fast), told)


def way_of(*, fast: bool) -> str:
    """What is measured: our way for GETs, or httpx."""
    return "ours" if fast else "ours, polling via httpx"


async def _submitted(simulator: Simulator, count: int) -> list[str]:
    """Submit the same document so many times, and give the refs as JSON."""
    service, document = polled(SERVICE), invoices(1)[0]
    at_a_time = asyncio.Semaphore(_SUBMITS_AT_A_TIME)
    async with client(SERVICE, simulator.base_url) as http:

        async def submit() -> str:
            async with at_a_time:
                return (await service.submit(http, document)).model_dump_json()

        return await asyncio.gather(*(submit() for _ in range(count)))
