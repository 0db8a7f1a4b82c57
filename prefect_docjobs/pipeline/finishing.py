"""What is paid for is seen through: requests of a cancelled caller, writes to a database that is away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import anyio
import tenacity

from prefect_docjobs.cancellation import cancelled
from prefect_docjobs.ledger import LedgerUnavailable, Record

T = TypeVar("T")

GRACE = 10.0
"""Seconds that a request which is under way has to end when its caller is cancelled."""


def _always() -> bool:
    return True


async def seen_through(work: Coroutine[Any, Any, T], *, matters: Callable[[], bool] = _always) -> T:
    """What `work` returns or raises.

    Args:
        work: When the caller is cancelled, it has `GRACE` more seconds to end; the caller ends after it.
        matters: Asked when the caller is cancelled: if not, `work` is cancelled at once.
    """
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True):
            if matters():
                await asyncio.wait([task], timeout=GRACE)
            await cancelled(task)
        raise
    finally:
        task.cancel()  # the caller was cancelled a second time


async def insist(write: Callable[[], Awaitable[Record]]) -> Record:
    """Write what must not be lost; a database may be away for a moment."""
    retrying = tenacity.AsyncRetrying(
        stop=tenacity.stop_after_attempt(4),
        wait=tenacity.wait_exponential(multiplier=0.25),
        retry=tenacity.retry_if_exception_type(LedgerUnavailable),
        sleep=anyio.sleep,
        reraise=True,
    )
    return await retrying(write)
