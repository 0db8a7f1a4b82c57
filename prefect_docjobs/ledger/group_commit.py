"""Group commit: all transitions that wait at the same moment share one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field

from sqlalchemy import Connection

from prefect_docjobs.ledger.database import Database
from prefect_docjobs.ledger.errors import ClaimLost, JobKnown, LedgerUnavailable
from prefect_docjobs.ledger.records import Record

MOST = 200
"""Transitions in one transaction; more gain nothing, and a large one holds others up."""

_GIVE_UP_AFTER = 2  # failures in a row: then it is the database, and not what is to be written

Result = Record | Exception | None


@dataclass(eq=False, slots=True)
class Transition:
    """One transition that waits for its transaction.

    Attributes:
        run: Makes it; raises `ClaimLost` or `JobKnown` where its condition does not hold.
        row_id: Of the record, where there is one: rows are locked in this order, so that two transactions
            rarely deadlock.
        adds_key: It adds a row under a key that another transaction may be adding.
        withdrawable: It is left out when its caller was cancelled before it was made.
        ended: Called with what became of it, before the caller learns of it; None where it was left out.
        answer: For the caller, who may cancel it. Done when the transition is durable.
    """

    run: Callable[[Connection], Record | None]
    row_id: int = 0
    adds_key: bool = False
    withdrawable: bool = False
    ended: Callable[[Transition, Result], None] = lambda _transition, _result: None
    has_ended: bool = field(default=False, init=False)
    answer: asyncio.Future[Record | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def end(self, result: Result) -> None:
        """Hand the result to the caller, unless it is gone."""
        self.has_ended = True
        self.ended(self, result)
        if self.answer.done():
            return
        if isinstance(result, Exception):
            self.answer.set_exception(result)
        else:
            self.answer.set_result(result)


class GroupCommit:
    """The one task that writes; it lives as long as there is something to write.

    Args:
        database: Where to.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[Transition] = []
        self._batch: list[Transition] = []
        self._task: asyncio.Task[None] | None = None

    def post(self, transition: Transition) -> None:
        """Have a transition made; its answer is done when it is durable.

        The answer ends in `ClaimLost` when the record is no longer the caller's, and in `LedgerUnavailable`
        when it is not known to be durable; then the same transition can be made again.
        """
        self._waiting.append(transition)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain())
            self._task.add_done_callback(self._end_unfinished)

    async def flush(self) -> None:
        """Return when nothing waits to be written."""
        while self._task is not None and not self._task.done():
            await asyncio.wait([self._task])

    async def _drain(self) -> None:
        await asyncio.sleep(0)  # everybody who is ready now comes along
        while self._waiting:
            self._batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            wanted = list[Transition]()
            for each in self._batch:
                if each.withdrawable and each.answer.cancelled():
                    each.end(None)
                else:
                    wanted.append(each)
            for part in self._parts(sorted(wanted, key=lambda each: (each.adds_key, each.row_id))):
                if part:
                    await self._make(part)

    def _end_unfinished(self, task: asyncio.Task[None]) -> None:
        """Where the loop closes and cancels the task, callers and a ledger that is closed must not hang."""
        if task.cancelled() or task.exception() is not None:
            unfinished = [each for each in (*self._batch, *self._waiting) if not each.has_ended]
            self._waiting = []
            for each in unfinished:
                each.end(LedgerUnavailable("The program is ending; the write was cancelled."))

    def _parts(self, batch: Sequence[Transition]) -> Sequence[Sequence[Transition]]:
        """On PostgreSQL, new keys go apart: who waits for a key then holds no row or key that others need.

        Together they deadlock: one frees key 2 and adds key 1 while another has added 1 and waits for 2.
        SQLite has one writer at a time.
        """
        if self._database.name == "sqlite":
            return [batch]
        return [[each for each in batch if not each.adds_key], [each for each in batch if each.adds_key]]

    async def _make(self, batch: Sequence[Transition]) -> None:
        try:
            results: Sequence[Result] = await self._commit(batch)
        except Exception as error:  # noqa: BLE001 (whatever it is, the callers must learn of it)
            results = [error] if len(batch) == 1 else await self._one_by_one(batch)
        for each, result in zip(batch, results, strict=True):
            each.end(result)

    async def _one_by_one(self, batch: Sequence[Transition]) -> list[Result]:
        """One transition that cannot be made must not take the others with it."""
        results: list[Result] = []
        in_a_row = 0
        for each in batch:
            if in_a_row >= _GIVE_UP_AFTER:
                results.append(copy(results[-1]))  # each caller adds the name of its document
                continue
            try:
                results += await self._commit([each])
                in_a_row = 0
            except Exception as error:  # noqa: BLE001 (as above)
                results.append(error)
                in_a_row += isinstance(error, LedgerUnavailable)
        return results

    async def _commit(self, batch: Sequence[Transition]) -> list[Result]:
        def run(connection: Connection) -> list[Result]:
            return [_result(each, connection) for each in batch]

        return await self._database.run(run, writes=True)


def _result(transition: Transition, connection: Connection) -> Result:
    try:
        return transition.run(connection)
    except (ClaimLost, JobKnown) as lost:
        return lost
