"""What is paid for is seen through: requests of a cancelled caller, writes to a database that is away."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import anyio
import tenacity

from prefect_docjobs.cancellation import cancelled
from prefect_docjobs.ledger import LedgerUnavailable

_log = logging.getLogger(__name__)

T = TypeVar("T")

GRACE = 10.0
"""Seconds that a request which is under way has to end when its caller is cancelled."""

_ASKED_EVERY = 0.2  # seconds

LONGEST_RETRY = 3_600.0
"""Seconds for which a write is retried at most, where the call has no deadline."""


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


async def before(deadline: float, work: Coroutine[Any, Any, T], *, may_stop: Callable[[], bool]) -> T:
    """What `work` returns or raises; from `deadline` on it is cancelled as soon as `may_stop` allows it.

    Raises:
        TimeoutError: It was cancelled.
    """
    task = asyncio.create_task(work)
    try:
        if deadline < math.inf:
            await asyncio.wait([task], timeout=max(0.0, deadline - anyio.current_time()))
            while not task.done():
                if may_stop():
                    await cancelled(task)
                    if task.cancelled():
                        raise TimeoutError
                await asyncio.wait([task], timeout=_ASKED_EVERY)
        return await task
    finally:
        await cancelled(task)


@contextmanager
def bookkeeping() -> Iterator[None]:
    """What goes wrong inside is logged, and costs no document."""
    try:
        yield
    except Exception:
        _log.exception("Bookkeeping broke")


async def retry_write(write: Callable[[], Awaitable[T]], *, until: float) -> T:
    """Read or write again while the database is away, with growing pauses.

    Args:
        write: May be made again after it failed.
        until: On the loop's clock; then the failure is raised.

    Raises:
        LedgerUnavailable: The database is still away.
    """
    last = min(until, anyio.current_time() + LONGEST_RETRY)
    retrying = tenacity.AsyncRetrying(
        stop=lambda _: anyio.current_time() >= last,
        wait=tenacity.wait_random_exponential(multiplier=0.1, max=2.0),
        retry=tenacity.retry_if_exception_type(LedgerUnavailable),
        sleep=anyio.sleep,
        reraise=True,
    )
    return await retrying(write)
