"""An event loop whose clock jumps to the next timer whenever nothing else can happen.

With the simulator in process on this clock (`create_app(clock=loop.time)`), waiting costs no time: an hour of
polling takes a second, and is exact.
"""

from __future__ import annotations

import asyncio
import selectors


class JumpingSelector(selectors.DefaultSelector):
    """Never waits: what the loop would have waited is added to its clock."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready now; where nothing is, the clock has moved on by `timeout`."""
        ready = super().select(0)
        if not ready and timeout is None:
            return super().select(5)  # only another thread can wake us; five real seconds are a deadlock
        if not ready and timeout:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A selector loop on virtual time.

    Args:
        selector: Has the clock; a fresh one by default.
    """

    def __init__(self, selector: JumpingSelector | None = None) -> None:
        self._jumping = selector or JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._jumping.now
