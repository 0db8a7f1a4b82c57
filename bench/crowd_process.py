"""The process that waits in (c); started by `crowd`."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import httpx

from bench.crowd import CPU, MEMORY, SERVICE
from bench.processes import answer, memory_now, memory_peak
from bench.services import client, polled
from prefect_docjobs.http import Http, shared_ssl_context
from prefect_docjobs.models import JobRef
from prefect_docjobs.providers.base import Polling
from prefect_docjobs.simulator.stats import summary
from prefect_docjobs.waiting import Waiter, WaitLimits
from prefect_docjobs.waiting.pending import PendingJob, PendingJobs


def measure(
    *, base_url: str, refs: str, waiters: int, every: float, seconds: float, fast: bool
) -> Mapping[str, Any]:
    """CPU, memory and lag of waiting; see `crowd.measure`."""
    transport = None if fast else httpx.AsyncHTTPTransport(verify=shared_ssl_context())

    async def measured() -> Mapping[str, Any]:
        async with client(SERVICE, base_url, transport=transport) as http:
            return await _Crowd(http, every).waited_for(Path(refs), waiters, seconds)

    return asyncio.run(measured())


class _Crowd:
    """Many waiters in this process; how late each poll begins is measured."""

    def __init__(self, http: Http, every: float) -> None:
        self._http = http
        self._every = every
        self._lags: list[float] = []
        self._due: dict[str, float] = {}
        self._service = polled(
            SERVICE, Polling(first=every, every=every, at_least=every / 2), on_look=self._note
        )
        self._waiter = Waiter(self._service, http, WaitLimits(document_timeout=None))

    def _note(self, ref: JobRef) -> None:
        self._lags.append(self._waiter.now() - self._due[ref.job_id])

    def _note_due(self, pending: PendingJobs) -> None:
        """Keep when each poll is due: the waiter forgets that once it begins."""
        poll_in = pending.poll_in

        def noted(job: PendingJob, delay: float) -> None:
            poll_in(job, delay)
            self._due[job.ref.job_id] = job.due

        pending.poll_in = noted  # type: ignore[method-assign]

    async def waited_for(self, refs: Path, waiters: int, seconds: float) -> Mapping[str, Any]:
        """Wait, and measure for some seconds after all have been polled once."""
        await polled(SERVICE).status(self._http, next(_read(refs)))  # every client has this in its baseline
        baseline = memory_now()
        async with self._waiter as waiter:
            self._note_due(waiter.pending)
            waits = [
                # Ages spread over one interval, as jobs that were submitted one after another have them.
                asyncio.create_task(waiter.done(ref, age=random.uniform(0.0, self._every)))  # noqa: S311
                for ref in islice(_read(refs), waiters)
            ]
            await asyncio.sleep(1.2 * self._every)
            figures = await self._measured(seconds)
            memory = memory_peak() - baseline
            for wait in waits:
                wait.cancel()
        return {**figures, MEMORY: memory}

    async def _measured(self, seconds: float) -> Mapping[str, Any]:
        self._lags.clear()
        cpu, wall = time.process_time(), time.monotonic()
        await asyncio.sleep(seconds)
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
        lags = summary(self._lags)
        return {
            CPU: 100.0 * cpu / wall,
            "CPU ms/look": 1e3 * cpu / len(self._lags),
            "looks/s": len(self._lags) / wall,
            "mean lag, s": lags["mean"],
            "p95 lag, s": lags["p95"],
        }


def _read(path: Path) -> Iterator[JobRef]:
    with path.open(encoding="utf-8") as lines:
        yield from map(JobRef.model_validate_json, lines)


if __name__ == "__main__":
    answer(measure)
