"""Many documents through one job inside a flow: chunk by chunk, so that a terminal sees them end."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.extraction import OnForecast
from prefect_docjobs.extraction.budget import Budget
from prefect_docjobs.models import Batch, Document
from prefect_docjobs.tasks import aextract_documents
from prefect_docjobs.tasks._run import followed_by
from prefect_docjobs.waiting import Forecast

Ended = Callable[[int, Batch], Awaitable[None]]
"""Told of each chunk that has ended: the place of its first document, and the outcomes."""

_STEPS = 25
_AT_A_TIME = 8


async def extract_in_steps(
    job: DocJob,
    documents: Sequence[Document],
    ended: Ended,
    *,
    timeout: float | None = None,
    foresee: OnForecast | None = None,
    budget: Budget | None = None,
) -> None:
    """Run one task for each chunk, a few at a time. Chunks are single documents if there are few.

    Args:
        job: What to extract with.
        documents: What to extract from.
        ended: Told of each chunk as it ends, in the order of completion.
        timeout: Seconds for all documents; None for no limit.
        foresee: Told when the chunks that are under way will be done.
        budget: What all of them may cost; None for no limit.
    """
    size = max(1, math.ceil(len(documents) / _STEPS))
    deadline = None if timeout is None else time.monotonic() + timeout
    at_a_time = asyncio.Semaphore(_AT_A_TIME)
    forecasts: dict[int, Forecast] = {}

    def foreseen(first: int, forecast: Forecast) -> None:
        forecasts[first] = forecast
        if foresee:
            foresee(max(forecasts.values(), key=lambda each: each.nearly_sure or 0.0))

    async def extract(first: int) -> None:
        chunk = documents[first : first + size]
        async with at_a_time:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            task = aextract_documents.with_options(task_run_name=_name(job, chunk))
            with followed_by(partial(foreseen, first)):
                batch = await task(job, chunk, timeout=left, budget=budget)
            forecasts.pop(first, None)
        await ended(first, batch)

    await asyncio.gather(*(extract(first) for first in range(0, len(documents), size)))


def _name(job: DocJob, chunk: Sequence[Document]) -> str:
    others = f" and {len(chunk) - 1} more" if len(chunk) > 1 else ""
    # Prefect fills in braces in the name of a task run.
    name = f"{job.provider().title}: {chunk[0].name}{others}"
    return name.replace("{", "(").replace("}", ")")
