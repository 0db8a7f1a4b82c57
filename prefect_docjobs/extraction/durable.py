"""Work that is paid for is not cut off, and what is known of it is written although a database is away."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import anyio
import tenacity

from prefect_docjobs.cancellation import cancelled
from prefect_docjobs.ledger import ClaimLost, LedgerUnavailable, Record

_log = logging.getLogger(__name__)

T = TypeVar("T")

GRACE = 10.0
"""Seconds that a request which is under way has to end after its caller was cancelled."""

_POLL = 0.2  # seconds
_LONGEST_RETRY = 3_600.0  # seconds, where a call has no deadline


def _never() -> bool:
    return False


async def shield_with_grace(
    work: Coroutine[Any, Any, T], *, deadline: float = math.inf, may_stop: Callable[[], bool] = _never
) -> T:
    """Run `work` to its end, also past the deadline and a cancellation, for as long as it must not stop.

    Args:
        work: Has `GRACE` seconds to end when the caller is cancelled; the caller ends after it.
        deadline: On the loop's clock; from then on `work` is cancelled as soon as it may stop.
        may_stop: Whether nothing is lost when `work` is cancelled now.

    Raises:
        TimeoutError: `work` was cancelled at the deadline.
    """
    task = asyncio.create_task(work)
    try:
        timeout = None if deadline == math.inf else max(0.0, deadline - anyio.current_time())
        await asyncio.wait([task], timeout=timeout)
        while not task.done():
            if may_stop():
                await cancelled(task)
                if task.cancelled():
                    raise TimeoutError
            await asyncio.wait([task], timeout=_POLL)
        return task.result()
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True):
            if not may_stop():
                await asyncio.wait([task], timeout=GRACE)
            await cancelled(task)
        raise
    finally:
        task.cancel()  # the caller was cancelled a second time


async def retry_write(write: Callable[[], Awaitable[T]], *, until: float) -> T:
    """Read or write, and again while the database is away, with growing pauses.

    Args:
        write: May be called again after it failed.
        until: On the loop's clock; then the failure is raised.

    Raises:
        LedgerUnavailable: The database is still away.
    """
    last = min(until, anyio.current_time() + _LONGEST_RETRY)
    retrying = tenacity.AsyncRetrying(
        stop=lambda _: anyio.current_time() >= last,
        wait=tenacity.wait_random_exponential(multiplier=0.1, max=2.0),
        retry=tenacity.retry_if_exception_type(LedgerUnavailable),
        sleep=anyio.sleep,
        reraise=True,
    )
    return await retrying(write)


async def best_effort(write: Awaitable[Record | None]) -> Record | None:
    """Write what can be found out again; a failure is logged and costs no document."""
    try:
        return await write
    except (ClaimLost, LedgerUnavailable) as problem:
        _log.warning("Not recorded: %s", problem)
    except Exception:
        _log.exception("Not recorded")
    return None
