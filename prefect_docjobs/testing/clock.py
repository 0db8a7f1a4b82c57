"""Async tests in virtual time: an hour of polling takes milliseconds and is exact."""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, ParamSpec, TypeVar

from prefect_docjobs.simulator.virtual_time import JumpingSelector, VirtualLoop

P = ParamSpec("P")
T = TypeVar("T")

_A_MOMENT = 0.05  # seconds; a thread that is done wakes the loop earlier


class _PatientSelector(JumpingSelector):
    """Jumps over waiting, but not over the work of threads."""

    in_threads = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.in_threads:
            return selectors.DefaultSelector.select(
                self, _A_MOMENT if timeout is None else min(timeout, _A_MOMENT)
            )
        return super().select(timeout)


class PatientLoop(VirtualLoop):
    """A loop on virtual time on which work that is given to an executor, as by a ledger, takes no time."""

    def __init__(self) -> None:
        self._patient = _PatientSelector()
        super().__init__(self._patient)

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """As the loop's own, and the clock stands still meanwhile."""
        future = super().run_in_executor(executor, func, *args)
        self._patient.in_threads += 1
        future.add_done_callback(self._ended)
        return future

    def _ended(self, _: object) -> None:
        self._patient.in_threads -= 1


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


virtual_time = run_on(PatientLoop)
"""Run an async test in virtual time."""
