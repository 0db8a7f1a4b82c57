"""Turns of a semaphore that can be given back before their block ends."""

from __future__ import annotations

import asyncio

from typing_extensions import Self


class Turn:
    """One of so many turns, taken on entering; an async context manager, for one use.

    Args:
        turns: Where it comes from.
    """

    def __init__(self, turns: asyncio.Semaphore) -> None:
        self._turns = turns
        self._taken = False

    async def __aenter__(self) -> Self:
        await self._turns.acquire()
        self._taken = True
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.end()

    def end(self) -> None:
        """Give it back, unless that has been done."""
        if self._taken:
            self._taken = False
            self._turns.release()
