"""One definition for two tasks: the async one, and its plain twin for sync code.

The plain twin runs the coroutine on one background loop of the process. Context variables, and with them
Prefect's run, travel along; cancelling or interrupting the caller cancels the coroutine, which sees through
what is paid for.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import warnings
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import task_run
from typing_extensions import ParamSpec

from prefect_docjobs.extraction.durable import GRACE

P = ParamSpec("P")
R = TypeVar("R")

_TO_END = 10.0  # seconds after that for leases to be given back and the ledger to be closed


class BlockingCall(RuntimeWarning):
    """A plain task was called on a thread whose event loop it blocks; its `a` twin would not."""


def docjobs_task(
    name: str, run_name: Callable[[dict[str, Any]], str]
) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a task that never caches and never retries.

    Args:
        name: Of the task.
        run_name: From a run's parameters to the name of the run.
    """

    def named() -> str:
        return run_name(task_run.parameters)

    def decorate(function: Callable[P, R]) -> Task[P, R]:
        return Task(
            function,
            name=name,
            task_run_name=named,
            tags=["docjobs"],
            cache_policy=NO_CACHE,
            retries=0,
        )

    return decorate


def plain_twin(task: Task[P, Coroutine[Any, Any, R]]) -> Task[P, R]:
    """The same task for sync code, named without the leading `a`."""

    @functools.wraps(task.fn)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        _warn_if_blocking(task.fn.__name__)
        return run_in_background(task.fn(*args, **kwargs))

    call.__name__ = call.__qualname__ = task.fn.__name__.removeprefix("a")
    return Task(
        call,
        name=task.name,
        task_run_name=task.task_run_name,
        tags=task.tags,
        cache_policy=NO_CACHE,
        retries=0,
    )


def _warn_if_blocking(twin: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    _warn_once(twin)


@functools.cache
def _warn_once(twin: str) -> None:
    """Warn, once in a process: what Python itself remembers is lost with each change of its filters."""
    warnings.warn(
        f"{twin.removeprefix('a')} blocks the event loop of this thread until it ends. "
        f"In async code, use: await {twin}(…).",
        BlockingCall,
        stacklevel=1,
    )


def run_in_background(coroutine: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine on the background loop and wait for it.

    An interrupt here cancels it there, and waits until it has ended: what is paid for may take up to `GRACE`
    seconds. A second interrupt does not wait.
    """
    ended = threading.Event()

    async def tracked() -> R:
        try:
            return await coroutine
        finally:
            ended.set()

    future = asyncio.run_coroutine_threadsafe(tracked(), _background_loop())
    try:
        return future.result()
    except BaseException:
        if future.cancel():
            ended.wait(GRACE + _TO_END)
        raise


class _Background:
    """The loop and its thread; a thread does not survive a fork, so it is looked at before each use."""

    lock = threading.Lock()
    loop: asyncio.AbstractEventLoop | None = None
    thread: threading.Thread | None = None


def _background_loop() -> asyncio.AbstractEventLoop:
    with _Background.lock:
        if _Background.loop is None or _Background.thread is None or not _Background.thread.is_alive():
            _Background.loop = asyncio.new_event_loop()
            _Background.thread = threading.Thread(
                target=_Background.loop.run_forever, name="docjobs", daemon=True
            )
            _Background.thread.start()
        return _Background.loop
