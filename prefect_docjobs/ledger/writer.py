"""Group commit: all writes that wait at the same moment go into one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial

from prefect_docjobs.ledger.database import Database
from prefect_docjobs.ledger.errors import ClaimLost, LedgerUnavailable
from prefect_docjobs.ledger.records import Record
from prefect_docjobs.ledger.writes import Holder, Write, carry_out

MOST = 200
"""Writes in one transaction; more gain nothing, and a large one holds others up."""

_GIVE_UP_AFTER = 2  # failures in a row: then it is the database, and not what is to be written

Fate = Record | Exception | None


@dataclass(slots=True, eq=False)
class _Asked:
    write: Write
    answer: asyncio.Future[Record | None]

    @property
    def withdrawn(self) -> bool:
        return self.answer.cancelled() and self.write.withdrawable

    def tell(self, fate: Fate) -> None:
        if self.answer.done():
            return
        if isinstance(fate, Exception):
            self.answer.set_exception(fate)
        else:
            self.answer.set_result(fate)


class Writer:
    """The one task that writes; it lives as long as there is something to write.

    Args:
        database: Where to.
        holder: Who writes.
        on_unclaimed: Told of a record that is held for a caller who was cancelled meanwhile.
    """

    def __init__(
        self, database: Database, holder: Holder, on_unclaimed: Callable[[Write, Record], None]
    ) -> None:
        self._database = database
        self._holder = holder
        self._on_unclaimed = on_unclaimed
        self._waiting: list[_Asked] = []
        self._task: asyncio.Task[None] | None = None

    def post(self, write: Write) -> asyncio.Future[Record | None]:
        """Have something written; the future is done when it is durable.

        Who cancels the future withdraws a claim; anything else is written all the same. The future ends in
        `ClaimLost` when the record is no longer the caller's, and in `LedgerUnavailable` when it is not known
        to be durable; then the same write can be made again.
        """
        asked = _Asked(write, asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain())
        return asked.answer

    async def flush(self) -> None:
        """Return when nothing waits to be written."""
        while self._task is not None and not self._task.done():
            await asyncio.wait([self._task])

    async def _drain(self) -> None:
        await asyncio.sleep(0)  # everybody who is ready now comes along
        while self._waiting:
            batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            for part in self._parts([asked for asked in batch if not asked.withdrawn]):
                if part:
                    await self._answer(part)

    def _parts(self, batch: Sequence[_Asked]) -> Sequence[Sequence[_Asked]]:
        """On PostgreSQL, new keys go apart: who waits for a key then holds no row or key that others need.

        Together they deadlock: one frees key 2 and adds key 1 while another has added 1 and waits for 2.
        SQLite has one writer at a time.
        """
        if self._database.name == "sqlite":
            return [batch]
        old = [asked for asked in batch if not asked.write.adds_key]
        return [old, [asked for asked in batch if asked.write.adds_key]]

    async def _answer(self, batch: Sequence[_Asked]) -> None:
        try:
            fates: Sequence[Fate] = await self._commit([asked.write for asked in batch])
        except Exception as error:  # noqa: BLE001 (whatever it is, the callers must hear of it)
            fates = [error] if len(batch) == 1 else await self._one_by_one(batch)
        for asked, fate in zip(batch, fates, strict=True):
            if asked.answer.cancelled() and isinstance(fate, Record):
                self._on_unclaimed(asked.write, fate)
            asked.tell(fate)

    async def _one_by_one(self, batch: Sequence[_Asked]) -> list[Fate]:
        """One write that cannot be made must not take the others with it."""
        fates: list[Fate] = []
        in_a_row = 0
        for asked in batch:
            if in_a_row >= _GIVE_UP_AFTER:
                fates.append(copy(fates[-1]))  # each caller adds his document's name
                continue
            try:
                fates += await self._commit([asked.write])
                in_a_row = 0
            except Exception as error:  # noqa: BLE001 (as above)
                fates.append(error)
                in_a_row += isinstance(error, LedgerUnavailable)
        return fates

    async def _commit(self, writes: Sequence[Write]) -> list[Record | ClaimLost | None]:
        carry_out_these = partial(carry_out, writes=writes, holder=self._holder)
        return await self._database.run(carry_out_these, writes=True)
