"""The end of tasks that nobody waits for any more."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio


async def cancelled(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks, each once, and return when all have ended; what they return or raise is dropped.

    The waiting itself is not cut off by a scope of AnyIO that is cancelled: it would cancel the tasks again
    and again while they let go of what they hold, and on Python 3.10 the scope would not know its own
    cancellation again when it comes back through `asyncio.gather`.
    """
    for task in tasks:
        task.cancel()
    with anyio.CancelScope(shield=True):
        await asyncio.gather(*tasks, return_exceptions=True)
