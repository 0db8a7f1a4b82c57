"""One request budget for a fleet: turns are leased by the dozen from the database that all share.

The schedule of one account and kind of request is a line of turns, `1 / rate` seconds apart (the generic cell
rate algorithm). A lease is a stretch of that line which nobody else has, so workers together keep the rate
without talking to each other, and one that works alone gets all of it. A worker that dies wastes its stretch
and no more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Float, bindparam, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from prefect_docjobs.ledger.database import Database
from prefect_docjobs.ledger.jobs import Values
from prefect_docjobs.ledger.schema import now
from prefect_docjobs.ledger.schema import tokens as table


@dataclass(frozen=True, slots=True)
class Lease:
    """Turns that are the holder's alone. All seconds count from the moment the database answered.

    Attributes:
        tokens: How many; 0 when the next free turn is too far off.
        starts_in: Seconds until the first, or, of 0, until the next free one.
        every: Seconds between two.
        valid_for: Seconds until the stretch ends; what is not used by then has expired.
        ends_at: The same by the database's clock; tells whether the stretch is still the last of the line.
    """

    tokens: int
    starts_in: float
    every: float
    valid_for: float
    ends_at: float


class Tokens:
    """The request budgets in one database.

    Args:
        database: Of a migrated ledger.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def lease(
        self, account: str, kind: str, rate: float, want: int = 12, *, within: float = math.inf
    ) -> Lease:
        """Take the next turns of an account.

        Args:
            account: Whose budget: provider, base URL and tenant.
            kind: Of request; services limit kinds apart.
            rate: Turns per second of all workers together.
            want: Turns to take at once. `want / rate` seconds is also how long others may wait for theirs.
            within: Take none when the first of them would be later than so many seconds from now, so that
                many workers do not stand in line for turns that they may not need.

        Raises:
            LedgerUnavailable: The database cannot answer.
        """
        values = {"account": account, "kind": kind, "seconds": want / rate, "within": min(within, _FOR_EVER)}

        def take(connection: Connection) -> tuple[bool, float, float]:
            return _append(connection, values), *_end(connection, account, kind)

        took, ends_at, free_in = await self._database.run(take, writes=True)
        starts_in = free_in - want / rate if took else free_in
        tokens = want if took else 0
        every = 1.0 / rate
        return Lease(tokens, starts_in, every, valid_for=starts_in + tokens * every, ends_at=ends_at)

    async def give_back(self, account: str, kind: str, lease: Lease, unused: int) -> None:
        """Return the last `unused` turns of a lease, unless others were leased after them."""
        shorter = update(table).where(*_account(account, kind), table.c.free_at == lease.ends_at)
        given_back = shorter.values(free_at=table.c.free_at - unused * lease.every)
        await self._database.run(lambda connection: connection.execute(given_back), writes=True)

    async def refused(self, account: str, kind: str, retry_after: float) -> None:
        """Pause everybody's next lease for `retry_after` seconds: the service refused a request.

        Leases that were given before go on; their holders are told by the service itself.
        """
        values = {"account": account, "kind": kind, "seconds": retry_after}

        def pause(connection: Connection) -> None:
            longer = _upsert(connection, _UNTIL_NOW, {"paused_until": _later(connection, _PAUSE)})
            connection.execute(longer, values)

        await self._database.run(pause, writes=True)


_SECONDS = bindparam("seconds", type_=Float(53))
_PAUSE = now() + _SECONDS
_FRESH_STRETCH: Values = {"free_at": now() + _SECONDS, "paused_until": 0.0}
_UNTIL_NOW: Values = {"free_at": 0.0, "paused_until": _PAUSE}
_FOR_EVER = 1e9


def _account(account: str, kind: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return table.c.account == account, table.c.kind == kind


def _append(connection: Connection, values: Values) -> bool:
    """Add a stretch to the line, unless it would begin too late; tells which."""
    start = _later(connection, table.c.free_at, now())
    in_time = start - now() <= bindparam("within", type_=Float(53))
    append = _upsert(connection, _FRESH_STRETCH, {"free_at": start + _SECONDS}, where=in_time)
    return connection.execute(append, values).rowcount > 0


def _end(connection: Connection, account: str, kind: str) -> tuple[float, float]:
    """The end of the line by the database's clock, and the seconds until the next free turn."""
    left = _later(connection, table.c.free_at) - now()
    question = select(table.c.free_at, left).where(*_account(account, kind))
    ends_at, free_in = connection.execute(question).one()
    return float(ends_at), float(free_in)


def _later(connection: Connection, *others: ColumnElement[Any]) -> ColumnElement[Any]:
    """The latest of the end of the pause and `others`."""
    latest = func.greatest if connection.dialect.name == "postgresql" else func.max
    return latest(table.c.paused_until, *others, type_=Float(53))


def _upsert(
    connection: Connection, first: Values, changed: Values, where: ColumnElement[bool] | None = None
) -> postgresql.Insert | sqlite.Insert:
    """Add the account's row with `first`, or set `changed` where there is one."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    identity = [table.c.account, table.c.kind]
    return (
        insert(table).values(first).on_conflict_do_update(index_elements=identity, set_=changed, where=where)
    )
