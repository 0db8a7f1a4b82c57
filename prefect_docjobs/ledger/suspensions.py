"""Flow runs that wait for their jobs without a process, and who watches for them.

A row is a promise: when its jobs have ended, or its time has passed, its flow run is resumed. Watchers hold
rows by leases of the database's clock, so any number of them share the work, and what one that died held goes
to the others. A row is OPEN while its jobs run, ENDED from then on until its run has gone on, and at last
RESUMED: it stays, for a flow that is replayed has to find again what it was told before.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection, Float, Row, bindparam, case, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from prefect_docjobs.ledger.bodies import compress, decompress
from prefect_docjobs.ledger.database import Database
from prefect_docjobs.ledger.queries import chunks, ref_of
from prefect_docjobs.ledger.schema import now
from prefect_docjobs.ledger.schema import suspensions as table
from prefect_docjobs.models import JobRef


class SuspensionState(str, Enum):
    """How far a suspension has come."""

    OPEN = "open"
    ENDED = "ended"
    RESUMED = "resumed"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Suspension:
    """One flow run that waits at one place for some jobs.

    Attributes:
        id: The same however often the flow is replayed.
        flow_run_id: The run that is to be resumed.
        job: Name of the saved job block, such as `numind-job/invoices`.
        refs: The jobs.
        state: How far it has come.
        left: Seconds until its time has passed, by the database's clock when it was read; not above 0: it has
            passed. None for no limit.
        age: Seconds since it was registered, by the same clock.
    """

    id: str
    flow_run_id: str
    job: str
    refs: tuple[JobRef, ...]
    state: SuspensionState
    left: float | None
    age: float

    @property
    def is_over(self) -> bool:
        """Whether its flow run need not wait any longer."""
        return self.state is not SuspensionState.OPEN


class Suspensions:
    """The suspensions in one database. Everything raises `LedgerUnavailable` when the database cannot answer.

    Args:
        database: Of a migrated ledger.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def register(
        self,
        suspension_id: str,
        *,
        flow_run_id: str,
        job: str,
        refs: Sequence[JobRef],
        timeout: float | None = None,
        document_timeout: float | None = None,
    ) -> Suspension:
        """Record a suspension, unless it is there: then nothing changes, and its time goes on.

        Args:
            suspension_id: See `Suspension.id`; at most 128 characters.
            flow_run_id: Likewise.
            job: Likewise.
            refs: Likewise.
            timeout: Seconds from now for all jobs; None for no limit.
            document_timeout: Seconds from now for each job, so for all of them, too; None for no limit.

        Returns:
            The suspension as it now is.
        """
        facts = {
            "id": suspension_id,
            "flow_run_id": flow_run_id,
            "job": job,
            "document_timeout": document_timeout,
        }
        row = {**facts, "refs": await compress(_REFS.dump_json(list(refs), exclude_none=True)), **_FREE_ROW}

        def add(connection: Connection) -> Row[Any]:
            insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
            times = {"created_at": now(), "deadline": None if timeout is None else now() + timeout}
            connection.execute(insert(table).values({**row, **times}).on_conflict_do_nothing())
            return connection.execute(_SELECT.where(table.c.id == suspension_id)).one()

        return await _suspension(await self._database.run(add, writes=True))

    async def find(self, flow_run_id: str) -> list[Suspension]:
        """All suspensions of a flow run, the oldest first."""
        question = _SELECT.where(table.c.flow_run_id == flow_run_id).order_by(table.c.created_at, table.c.id)
        return await self._read(question)

    async def get(self, suspension_id: str) -> Suspension | None:
        """One suspension as it now is; None where there is none."""
        found = await self._read(_SELECT.where(table.c.id == suspension_id))
        return found[0] if found else None

    async def claim(self, owner: str, lease: float, limit: int) -> list[Suspension]:
        """Take suspensions that nobody holds and whose runs have not gone on, the oldest first.

        Nobody else gets them while the lease runs. When there is none this only reads.

        Args:
            owner: Who takes them.
            lease: Seconds.
            limit: At most so many.
        """
        some = select(table.c.id).where(_UNHELD).order_by(table.c.created_at).limit(limit)

        def take(connection: Connection) -> Sequence[Row[Any]]:
            ids = connection.execute(some.with_for_update(skip_locked=True)).scalars().all()
            connection.execute(_hold(ids), {"owner_is": owner, "seconds": lease})
            return connection.execute(_SELECT.where(table.c.id.in_(ids), table.c.owner == owner)).all()

        if not await self._database.run(lambda connection: connection.execute(some).first()):
            return []
        return [await _suspension(row) for row in await self._database.run(take, writes=True)]

    async def renew(self, owner: str, lease: float) -> set[str]:
        """Extend all leases of an owner; the ids of the suspensions that are still his."""
        his = table.c.owner == owner, table.c.state != SuspensionState.RESUMED.value

        def extend(connection: Connection) -> set[str]:
            connection.execute(update(table).where(*his).values(lease_until=_LEASE), {"seconds": lease})
            return set(connection.execute(select(table.c.id).where(*his)).scalars())

        return await self._database.run(extend, writes=True)

    async def release(self, owner: str, ids: Collection[str] | None = None) -> None:
        """Give suspensions back, so that others may take them at once; by default all of an owner."""
        free = update(table).where(table.c.owner == owner).values(owner="", lease_until=0.0)
        if ids is None:
            await self._write(free)
        for some in chunks(ids or ()):
            await self._write(free.where(table.c.id.in_(some)))

    async def end(self, suspension_id: str) -> None:
        """Note that the jobs have ended, or that the time has passed. Its run is to be resumed."""
        is_open = table.c.id == suspension_id, table.c.state == SuspensionState.OPEN.value
        await self._write(
            update(table).where(*is_open).values(state=SuspensionState.ENDED.value, ended_at=now())
        )

    async def resumed(self, suspension_id: str) -> None:
        """Note that the run has gone on, or will without anybody's help. Nobody watches any more."""
        ended_at = case((table.c.ended_at.is_(None), now()), else_=table.c.ended_at)
        news = {"state": SuspensionState.RESUMED.value, "ended_at": ended_at, "owner": "", "lease_until": 0.0}
        await self._write(update(table).where(table.c.id == suspension_id).values(news))

    async def forget(self, flow_run_ids: Collection[str]) -> None:
        """Delete all suspensions of flow runs that have ended."""
        for some in chunks(flow_run_ids):
            await self._write(delete(table).where(table.c.flow_run_id.in_(some)))

    async def forget_resumed(self, older_than: float) -> None:
        """Delete suspensions whose runs have gone on, `older_than` seconds after their jobs had ended."""
        old = table.c.state == SuspensionState.RESUMED.value, table.c.ended_at <= now() - older_than
        await self._write(delete(table).where(*old))

    async def _read(self, question: Any) -> list[Suspension]:
        rows = await self._database.run(lambda connection: connection.execute(question).all())
        return [await _suspension(row) for row in rows]

    async def _write(self, statement: Any) -> None:
        await self._database.run(lambda connection: connection.execute(statement), writes=True)


_REFS = TypeAdapter(list[JobRef])
_FREE_ROW: Mapping[str, Any] = {"state": SuspensionState.OPEN.value, "owner": "", "lease_until": 0.0}
_LEASE = now() + bindparam("seconds", type_=Float(53))
_UNHELD = (table.c.lease_until <= now()) & (table.c.state != SuspensionState.RESUMED.value)

_SELECT = select(
    table.c.id,
    table.c.flow_run_id,
    table.c.job,
    table.c.refs,
    table.c.state,
    (table.c.deadline - now()).label("left"),
    (table.c.created_at + table.c.document_timeout - now()).label("left_of_documents"),
    (now() - table.c.created_at).label("age"),
)


def _hold(ids: Sequence[str]) -> Any:
    held = update(table).where(table.c.id.in_(ids), _UNHELD)
    return held.values(owner=bindparam("owner_is"), lease_until=_LEASE)


def _refs(text: bytes) -> list[JobRef]:
    try:
        return _REFS.validate_json(text)
    except ValidationError:  # a newer version knows more about jobs
        return [ref_of(json.dumps(ref)) for ref in json.loads(text)]


async def _suspension(row: Row[Any]) -> Suspension:
    limits = [seconds for seconds in (row.left, row.left_of_documents) if seconds is not None]
    return Suspension(
        id=row.id,
        flow_run_id=row.flow_run_id,
        job=row.job,
        refs=tuple(_refs(await decompress(row.refs))),
        state=SuspensionState(row.state),
        left=min(limits, default=None),
        age=row.age,
    )
