"""Async code run from sync code, on the one background loop of the process.

Context variables, and with them Prefect's run, travel along. Cancelling or interrupting the caller cancels
the coroutine, which finishes submits that are under way.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Generator
from typing import Any, Generic, NoReturn, TypeVar, cast

from prefect_docjobs.extraction.durable import GRACE

R = TypeVar("R")

_TO_END = 10.0  # seconds after that for leases to be given back and the ledger to be closed


def sync_form(coroutine: Coroutine[Any, Any, R], name: str) -> R:
    """What the plain form of a block's method returns for the coroutine of its `a` form.

    In a running loop this is an awaitable, as Prefect's abstract classes declare these methods to be async.

    Args:
        coroutine: Of the `a` form.
        name: Of the `a` form.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run_in_background(coroutine)
    return cast("R", _ToAwait(coroutine, name))


class _ToAwait(Generic[R]):
    def __init__(self, coroutine: Coroutine[Any, Any, R], name: str) -> None:
        self._coroutine = coroutine
        self._name = name

    def __await__(self) -> Generator[Any, Any, R]:
        return self._coroutine.__await__()

    def __getattr__(self, attribute: str) -> NoReturn:
        raise AttributeError(f"{attribute}: an event loop runs here, so await it, or use {self._name}.")


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
    """The loop and its thread; a thread does not survive a fork, so it is checked before each use."""

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
