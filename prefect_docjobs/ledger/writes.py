"""The writes: what each changes, on which condition, and how its fate is read off the row afterwards.

A batch of them is one transaction: the changes, then one SELECT of all rows concerned. No write trusts the
driver's count of rows: a record carries a claim that only its holder knows and a version that goes up by one
with each write, so the row itself tells whether the write took place. For the same reason a write that is
made again, because the answer to the commit was lost, is recognised.
"""

from __future__ import annotations

import re
import secrets
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, ClassVar

from sqlalchemy import ColumnElement, Connection, Delete, Float, Update, and_, bindparam, or_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Row

from prefect_docjobs.ledger.errors import ClaimLost
from prefect_docjobs.ledger.records import Record
from prefect_docjobs.ledger.rows import select_records
from prefect_docjobs.ledger.schema import jobs, now

Values = dict[str, Any]

LEASE = now() + bindparam("lease_seconds", type_=Float(53))
HELD = and_(jobs.c.id == bindparam("row_id"), jobs.c.claim == bindparam("row_claim"))
AS_READ = and_(HELD, jobs.c.version == bindparam("row_version"))
FREE = jobs.c.lease_until <= now()
NEXT: Mapping[str, ColumnElement[Any]] = {"version": jobs.c.version + 1, "updated_at": now()}

# The claim and the version stay: should the former holder still live, it writes what it bought to this row.
_RETIRE = update(jobs).where(AS_READ, FREE, jobs.c.key == bindparam("row_key")).values(lease_until=0.0)

_FILLED_IN = {"lease_until": LEASE, "intended_at": now(), "updated_at": now()}
_INSERT = {
    "sqlite": sqlite.insert(jobs).values(_FILLED_IN).on_conflict_do_nothing(),
    "postgresql": postgresql.insert(jobs).values(_FILLED_IN).on_conflict_do_nothing(),
}

# Built once: SQLAlchemy finds its SQL by the object, where a new one would cost 0.5 ms to recognise.
_CONCERNED = select_records().where(
    or_(
        jobs.c.id.in_(bindparam("ids", expanding=True)),
        jobs.c.key.in_(bindparam("keys", expanding=True)),
    )
)

_NO_TEXT = re.compile("[\x00\ud800-\udfff]")  # what PostgreSQL, or UTF-8, does not take


def new_claim() -> str:
    """A token that nobody else has."""
    return secrets.token_hex(8)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who writes: the ledger's owner and the seconds that its leases last."""

    owner: str
    lease: float


@dataclass(frozen=True, slots=True)
class After:
    """The rows as they are after the changes, still inside the transaction."""

    by_id: Mapping[int, Row[Any]]
    by_key: Mapping[str, Row[Any]]


class Write(ABC):
    """One change of one row.

    Class attributes:
        inserts: Whether it adds a row.
        adds_key: Whether the key of that row may be another's, who then decides first.
        withdrawable: Whether it is left out when nobody waits for it any more. What tells of a job that is
            paid for is written in any case.
    """

    inserts: ClassVar[bool] = False
    adds_key: ClassVar[bool] = False
    withdrawable: ClassVar[bool] = False

    @property
    def row_id(self) -> int | None:
        """The row that is changed, if it is known."""
        return None

    @property
    def key(self) -> str | None:
        """The key of the row that is added."""
        return None

    @property
    def place(self) -> tuple[bool, int]:
        """Where it comes in a batch: rows are locked by id, so that two transactions rarely deadlock."""
        return (self.inserts, self.row_id or 0)

    @abstractmethod
    def judge(self, after: After) -> Record | None:
        """The fate of the write. Raises `ClaimLost` when it did not take place and had to."""


class Addition(Write):
    """A new row, unless its key is taken."""

    inserts: ClassVar[bool] = True

    @abstractmethod
    def row(self, holder: Holder) -> Values:
        """The new row, but for what `INSERT` fills in."""

    def retirement(self) -> Values | None:
        """What the statement that retires the key's old row is given, if there is one."""
        return None


class Change(Write):
    """A change of one existing row by one statement, which many changes of the same kind share."""

    @property
    @abstractmethod
    def statement(self) -> Update | Delete:
        """The statement; the same object for all changes that can go together."""

    @abstractmethod
    def values(self, holder: Holder) -> Values:
        """What it is given for this row."""


def carry_out(
    connection: Connection, writes: Sequence[Write], holder: Holder
) -> list[Record | ClaimLost | None]:
    """Make the changes, then tell the fate of each; the caller begins and commits the transaction."""
    ordered = sorted(writes, key=lambda write: write.place)
    _change(connection, [write for write in ordered if isinstance(write, Change)], holder)
    _add(connection, [write for write in ordered if isinstance(write, Addition)], holder)
    after = _look(connection, ordered)
    return [_fate(write, after) for write in writes]


def writable(values: Values) -> Values:
    """What a file name or a service's message holds must not keep a paid job from being written down."""
    return {
        name: _NO_TEXT.sub("_", value) if isinstance(value, str) else value for name, value in values.items()
    }


def _change(connection: Connection, changes: Sequence[Change], holder: Holder) -> None:
    together: dict[tuple[int, tuple[str, ...]], tuple[Update | Delete, list[Values]]] = {}
    for change in changes:
        statement, values = change.statement, writable(change.values(holder))
        together.setdefault((id(statement), tuple(values)), (statement, []))[1].append(values)
    for statement, rows in together.values():
        connection.execute(statement, rows if len(rows) > 1 else rows[0])


def _add(connection: Connection, additions: Sequence[Addition], holder: Holder) -> None:
    together: dict[tuple[str, ...], list[Values]] = defaultdict(list)
    for addition in additions:
        if retirement := addition.retirement():
            retired = connection.execute(_RETIRE, retirement)
            if not retired.rowcount:
                continue
        row = writable(addition.row(holder))
        together[tuple(row)].append({**row, "lease_seconds": holder.lease})
    for rows in together.values():
        rows.sort(key=itemgetter("key"))
        connection.execute(_INSERT[connection.dialect.name], rows)


def _look(connection: Connection, writes: Sequence[Write]) -> After:
    ids = {write.row_id for write in writes if write.row_id is not None}
    keys = {write.key for write in writes if write.key is not None}
    if not (ids or keys):
        return After({}, {})
    rows = (connection.execute(_CONCERNED, {"ids": sorted(ids), "keys": sorted(keys)})).all()
    return After({row.id: row for row in rows}, {row.key: row for row in rows})


def _fate(write: Write, after: After) -> Record | ClaimLost | None:
    try:
        return write.judge(after)
    except ClaimLost as lost:
        return lost


@dataclass(frozen=True, slots=True)
class OfRecord:
    """A write that concerns a record as it was read."""

    record: Record

    @property
    def row_id(self) -> int:
        """The row."""
        return self.record.id

    def as_read(self) -> Values:
        """What `AS_READ` is given."""
        record = self.record
        return {"row_id": record.id, "row_claim": record.claim, "row_version": record.version}


def lost(record: Record) -> ClaimLost:
    """The error for a record that cannot be written as it was read."""
    return ClaimLost(
        f"{record.document_name}: somebody else went on with record {record.id} of the ledger, or it was "
        "written since it was read. Read it again."
    )
