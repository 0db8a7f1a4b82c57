"""Virtual time for tests that use threads, as a ledger on SQLite does: the clock stands still for them."""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_A_MOMENT = 0.05  # seconds; a thread that is done wakes the loop earlier


class _PatientSelector(selectors.DefaultSelector):
    """Jumps over waiting, but for what threads do."""

    now = 0.0
    in_threads = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.in_threads:
            return super().select(_A_MOMENT if timeout is None else min(timeout, _A_MOMENT))
        ready = super().select(0)
        if not ready and timeout is None:
            return super().select(5)
        if not ready and timeout:
            self.now += timeout
        return ready


class PatientLoop(asyncio.SelectorEventLoop):
    """A loop on virtual time in which work that was given to an executor takes no time."""

    def __init__(self) -> None:
        self._patient = _PatientSelector()
        super().__init__(self._patient)

    def time(self) -> float:
        return self._patient.now

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        future = super().run_in_executor(executor, func, *args)
        self._patient.in_threads += 1
        future.add_done_callback(self._ended)
        return future

    def _ended(self, _: object) -> None:
        self._patient.in_threads -= 1


def patient_time(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Run an async test on a `PatientLoop`."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        loop = PatientLoop()
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
