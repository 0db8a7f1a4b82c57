"""Accounts that are paused: no worker of the ledger submits to them; what was submitted goes on."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import anyio
from sqlalchemy import Float, bindparam, delete, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Row

from prefect_docjobs.ledger.database import Database
from prefect_docjobs.ledger.errors import LedgerUnavailable
from prefect_docjobs.ledger.inbox import Account
from prefect_docjobs.ledger.jobs import writable
from prefect_docjobs.ledger.schema import jobs, now
from prefect_docjobs.ledger.schema import pauses as table

FRESH = 1.0
"""Seconds for which what was read is used again."""


@dataclass(frozen=True, slots=True)
class Pause:
    """That nothing is submitted to an account.

    Attributes:
        account: Which one.
        at: Since when (UTC, by the database's clock).
        until: When it ends by itself; None for never.
        by: Who paused it, for people.
        reason: Why, for people.
        name: The block by which it was named.
    """

    account: Account
    at: datetime
    until: datetime | None = None
    by: str | None = None
    reason: str | None = None
    name: str | None = None

    def __str__(self) -> str:
        """Who paused it, when and why, and how it is resumed."""
        account = self.account
        of = f"The account {account.tenant} of {account.provider} ({account.base_url})"
        named = (
            shlex.quote(self.name)
            if self.name
            else (
                f"--provider {account.provider} --base-url {account.base_url} "
                f"--tenant {shlex.quote(account.tenant)}"
            )
        )
        by = f" by {self.by}" if self.by else ""
        until = f" until {self.until:%Y-%m-%d %H:%M} UTC" if self.until else ""
        why = f" ({self.reason})" if self.reason else ""
        return (
            f"{of} has been paused since {self.at:%Y-%m-%d %H:%M} UTC{by}{until}{why}. "
            f"To resume it: prefect-docjobs accounts resume {named}"
        )


@dataclass(frozen=True, slots=True)
class KnownAccount:
    """An account that the ledger has records of.

    Attributes:
        account: Which one.
        jobs: Number of records.
        blocks: Names of the saved job blocks that bought.
    """

    account: Account
    jobs: int = 0
    blocks: tuple[str, ...] = ()


class Pauses:
    """The pauses in one database. All methods that ask it raise `LedgerUnavailable` when it cannot answer.

    Args:
        database: Of a migrated ledger.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: dict[str, Pause] = {}
        self._read_at: float | None = None
        self._followers = 0
        self._following: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    async def pause(
        self,
        account: Account,
        *,
        seconds: float | None = None,
        by: str | None = None,
        reason: str | None = None,
        name: str | None = None,
    ) -> Pause:
        """Pause an account, or say anew how long and why it is paused.

        Args:
            account: Which one.
            seconds: After which it goes on by itself; None for never.
            by: Who does it, for people.
            reason: Why, for people.
            name: The block by which it was named.
        """
        identity = {
            "account": account.key,
            "provider": account.provider,
            "base_url": account.base_url,
            "tenant": account.tenant,
        }
        told = writable({"name": name, "reason": reason, "paused_by": by})
        times: dict[str, Any] = {"paused_at": now(), "paused_until": None}
        if seconds is not None:
            times["paused_until"] = now() + bindparam("seconds", seconds, type_=Float(53))
        insert = postgresql.insert if self._database.name == "postgresql" else sqlite.insert
        upsert = (
            insert(table)
            .values({**writable(identity), **told, **times})
            .on_conflict_do_update(index_elements=["account"], set_={**told, **times})
        )
        await self._database.run(lambda connection: connection.execute(upsert), writes=True)
        return (await self._read())[account.key]

    async def resume(self, account: Account) -> bool:
        """Let workers submit again; returns whether the account was paused."""
        was_paused = account.key in await self._read()
        ended = delete(table).where(table.c.account == account.key)
        await self._database.run(lambda connection: connection.execute(ended), writes=True)
        await self._read()
        return was_paused

    async def all(self) -> list[Pause]:
        """Those that hold now, the oldest first."""
        return list((await self._read()).values())

    async def of(self, account: Account) -> Pause | None:
        """The pause of an account, as it was at most `FRESH` seconds ago."""
        asked_at = asyncio.get_running_loop().time()
        if self._read_at is None or asked_at - self._read_at >= FRESH:
            await self._read()
        return self.seen(account)

    def seen(self, account: Account) -> Pause | None:
        """The pause of an account as it was read last; inside `followed` that is a moment ago."""
        return self._seen.get(account.key)

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        """Read what is paused every second while the context is open."""
        self._followers += 1
        if self._following is None or self._following.done():
            self._following = asyncio.create_task(self._follow(), name="docjobs-pauses")
        try:
            yield
        finally:
            self._followers -= 1

    async def aclose(self) -> None:
        """End what goes on in the background; a read that is under way is finished."""
        self._closing.set()
        if self._following is not None:
            await asyncio.wait([self._following])

    async def known_accounts(self) -> list[KnownAccount]:
        """The accounts that the ledger has records of, in alphabetical order."""
        identity = (jobs.c.provider, jobs.c.base_url, jobs.c.tenant)
        question = select(*identity, jobs.c.block, func.count().label("jobs")).group_by(
            *identity, jobs.c.block
        )
        rows = await self._database.run(lambda connection: connection.execute(question).all())
        found: dict[Account, KnownAccount] = {}
        for row in sorted(rows, key=lambda row: (*row[:3], row.block or "")):
            account = Account(row.provider, row.base_url, row.tenant)
            known = found.get(account, KnownAccount(account))
            blocks = (*known.blocks, row.block) if row.block else known.blocks
            found[account] = KnownAccount(account, known.jobs + row.jobs, blocks)
        return list(found.values())

    async def _follow(self) -> None:
        while self._followers and not self._closing.is_set():
            with anyio.move_on_after(FRESH):
                await self._closing.wait()
                return
            with suppress(LedgerUnavailable):  # what was read last stays; whoever claims is told
                await self._read()

    async def _read(self) -> dict[str, Pause]:
        asked_at = asyncio.get_running_loop().time()
        rows = await self._database.run(lambda connection: connection.execute(_HOLD).all())
        self._seen, self._read_at = {row.account: _pause(row) for row in rows}, asked_at
        return self._seen


_HOLD = (
    select(*table.columns)
    .where(or_(table.c.paused_until.is_(None), table.c.paused_until > now()))
    .order_by(table.c.paused_at)
)


def _pause(row: Row[Any]) -> Pause:
    return Pause(
        account=Account(row.provider, row.base_url, row.tenant),
        at=datetime.fromtimestamp(row.paused_at, timezone.utc),
        until=None if row.paused_until is None else datetime.fromtimestamp(row.paused_until, timezone.utc),
        by=row.paused_by,
        reason=row.reason,
        name=row.name,
    )
