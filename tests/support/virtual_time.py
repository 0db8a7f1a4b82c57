"""Async tests in virtual time: an hour of polling takes milliseconds and is exact."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from prefect_docjobs.simulator.virtual_time import VirtualLoop

P = ParamSpec("P")
T = TypeVar("T")


def run_on(
    make_loop: Callable[[], asyncio.AbstractEventLoop],
) -> Callable[[Callable[P, Coroutine[Any, Any, T]]], Callable[P, T]]:
    """Run an async test on a loop of its own, and fail where it leaves tasks behind."""

    def decorated(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
        @functools.wraps(test)
        def run(*args: P.args, **kwargs: P.kwargs) -> T:
            loop = make_loop()
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

    return decorated


virtual_time = run_on(VirtualLoop)
"""Run an async test on a `VirtualLoop`."""
