"""Async tests in virtual time: an hour of polling takes milliseconds and is exact."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from prefect_docjobs.simulator.virtual_time import VirtualLoop

P = ParamSpec("P")
T = TypeVar("T")


def virtual_time(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Run an async test on a `VirtualLoop`."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        loop = VirtualLoop()
        try:
            outcome = loop.run_until_complete(test(*args, **kwargs))
            loop.run_until_complete(loop.shutdown_asyncgens())
            left = asyncio.all_tasks(loop)
        finally:
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()
        assert not left, f"tasks left behind: {left}"
        return outcome

    return run
