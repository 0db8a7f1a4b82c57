"""Virtual time for tests that use threads, as a ledger on SQLite does: the clock stands still for them."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

from support.virtual_time import run_on

from prefect_docjobs.simulator.virtual_time import JumpingSelector, VirtualLoop

T = TypeVar("T")

_A_MOMENT = 0.05  # seconds; a thread that is done wakes the loop earlier


class _PatientSelector(JumpingSelector):
    """Jumps over waiting, but for what threads do."""

    in_threads = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.in_threads:
            return selectors.DefaultSelector.select(
                self, _A_MOMENT if timeout is None else min(timeout, _A_MOMENT)
            )
        return super().select(timeout)


class PatientLoop(VirtualLoop):
    """A loop on virtual time in which work that was given to an executor takes no time."""

    def __init__(self) -> None:
        self._patient = _PatientSelector()
        super().__init__(self._patient)

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        future = super().run_in_executor(executor, func, *args)
        self._patient.in_threads += 1
        future.add_done_callback(self._ended)
        return future

    def _ended(self, _: object) -> None:
        self._patient.in_threads -= 1


patient_time = run_on(PatientLoop)
"""Run an async test on a `PatientLoop`."""
