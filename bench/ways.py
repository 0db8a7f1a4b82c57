"""Ways to wait for jobs: ours, and what others do, each behind the same two calls.

A way is opened for a provider and its client, and gives a function that returns when one job has ended.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

from prefect_docjobs.errors import Throttled
from prefect_docjobs.http import Http
from prefect_docjobs.models import Document, JobRef
from prefect_docjobs.providers import Provider
from prefect_docjobs.waiting import Waiter
from prefect_docjobs.waiting.durations import Durations

Wait: TypeAlias = Callable[[JobRef], Awaitable[None]]
Way: TypeAlias = Callable[[Provider, Http], AbstractAsyncContextManager[Wait]]

_SUBMITS = 8


def ours(durations: Durations | None = None) -> Way:
    """The waiter of this package, with what it has learned, or without a past."""
    known = Durations() if durations is None else durations

    @asynccontextmanager
    async def opened(provider: Provider, http: Http) -> AsyncIterator[Wait]:
        async with Waiter(provider, http, durations=known) as waiter:

            async def wait(ref: JobRef) -> None:
                await waiter.done(ref)

            yield wait

    return opened


def own_loop(first: float, every: float) -> Way:
    """Each job polled by a loop of its own on a fixed clock; a refusal counts as "not yet".

    Args:
        first: Seconds from the submit to the first look.
        every: Seconds between two looks.
    """

    @asynccontextmanager
    async def opened(provider: Provider, http: Http) -> AsyncIterator[Wait]:
        async def wait(ref: JobRef) -> None:
            pause = first
            while True:
                await asyncio.sleep(pause)
                if await _has_ended(provider, http, ref):
                    return
                pause = every

        yield wait

    return opened


def fair_limiter(rate: float) -> Way:
    """All jobs in one queue that is served round-robin at exactly `rate` looks per second."""

    @asynccontextmanager
    async def opened(provider: Provider, http: Http) -> AsyncIterator[Wait]:
        queue: deque[tuple[JobRef, asyncio.Future[None]]] = deque()

        async def serve() -> None:
            while True:
                await asyncio.sleep(1.0 / rate + 1e-6)  # a hair late, or rounding would cost a refusal
                if not queue:
                    continue
                ref, ended = queue.popleft()
                if await _has_ended(provider, http, ref):
                    ended.set_result(None)
                else:
                    queue.append((ref, ended))

        async def wait(ref: JobRef) -> None:
            ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            queue.append((ref, ended))
            await ended

        serving = asyncio.create_task(serve())
        try:
            yield wait
        finally:
            serving.cancel()

    return opened


async def _has_ended(provider: Provider, http: Http, ref: JobRef) -> bool:
    try:
        return (await provider.status(http, ref, once=True)).state.is_terminal
    except Throttled:
        return False


async def run_batch(
    provider: Provider,
    http: Http,
    documents: Sequence[Document],
    way: Way,
    *,
    per_second: float | None = None,
) -> list[str]:
    """Submit documents and wait for all of their jobs.

    Args:
        provider: Reads the answers.
        http: Asks the service.
        documents: What to submit.
        way: How to wait.
        per_second: Submits per second; None for as fast as eight at a time go.

    Returns:
        The ids of the jobs.
    """
    submits = asyncio.Semaphore(_SUBMITS)

    async def one(index: int, document: Document, wait: Wait) -> str:
        if per_second is not None:
            await asyncio.sleep(index / per_second)
        async with submits:
            ref = await provider.submit(http, document)
        await wait(ref)
        return ref.job_id

    async with way(provider, http) as wait:
        return await asyncio.gather(*(one(index, document, wait) for index, document in enumerate(documents)))
