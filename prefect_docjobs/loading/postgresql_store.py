"""PostgreSQL as a destination, through SQLAlchemy and asyncpg, which the ledger needs as well."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.loading.columns import placed
from prefect_docjobs.loading.errors import DestinationUnavailable
from prefect_docjobs.loading.kinds import Kind
from prefect_docjobs.loading.rows import Chunk
from prefect_docjobs.loading.store import Clock, Loaded, Seen, check_ours, now
from prefect_docjobs.loading.tables import DOCUMENTS, FIELDS, FILES, KEYS, LINE_ITEMS, OF_A_DOCUMENT, TABLES

if TYPE_CHECKING:
    from sqlalchemy import URL, Table
    from sqlalchemy.ext.asyncio import AsyncConnection

_TYPES: Mapping[Kind, str] = MappingProxyType(
    {
        Kind.TEXT: "text",
        Kind.NUMBER: "double precision",
        Kind.INTEGER: "bigint",
        Kind.BOOLEAN: "boolean",
        Kind.TIMESTAMP: "timestamp without time zone",
    }
)
_KINDS: Mapping[str, Kind] = MappingProxyType({name: kind for kind, name in _TYPES.items()})
_ROWS_AT_ONCE = 2_000


class PostgreSqlStore:
    """The tables in a schema of a PostgreSQL database.

    Args:
        url: `postgresql://user:password@host:port/database`.
        schema: The schema that the tables are in; made if it is not there.
        clock: Tells when rows are written.

    Raises:
        ConfigurationError: The URL cannot be read.
    """

    def __init__(self, url: str, schema: str = "docjobs", *, clock: Clock = now) -> None:
        self._url = _for_asyncpg(url)
        self._schema = schema
        self._clock = clock
        self._where = f"PostgreSQL at {self._url.host or 'localhost'}/{self._url.database or ''}"

    def owns(self, source: str) -> bool:  # noqa: ARG002 (its files are the server's)
        """See `Store.owns`: none."""
        return False

    async def prepare(self) -> None:
        """See `Store.prepare`."""
        async with self._transaction() as db:
            await self._lock(db)
            if not await self._has_schema(db):
                await self._execute(db, f"CREATE SCHEMA {_quoted(self._schema)}")
            for name, columns in TABLES.items():
                await self._make(db, name, columns)

    async def seen(self, job: str, address: str) -> Mapping[str, Seen]:
        """See `Store.seen`."""
        query = (
            "SELECT source_sha256, version, document IS NOT NULL, reason "  # noqa: S608
            f"FROM {self._table(FILES)} AS file LEFT JOIN {self._table(DOCUMENTS)} USING (job, sha256) "
            "WHERE job = :job AND starts_with(file.source, :address)"
        )
        async with self._transaction() as db:
            rows = await self._execute(db, query, job=job, address=address)
        return {source: Seen(*facts) for source, *facts in rows}

    async def loaded(self, job: str, hashes: Sequence[str]) -> Mapping[str, Loaded]:
        """See `Store.loaded`."""
        query = (
            f"SELECT sha256, document, reason, phase, error, ref FROM {self._table(DOCUMENTS)} "  # noqa: S608
            "WHERE job = :job AND sha256 = ANY(:hashes)"
        )
        async with self._transaction() as db:
            rows = await self._execute(db, query, job=job, hashes=list(hashes))
        return {sha256: Loaded(*facts) for sha256, *facts in rows}

    async def write(self, chunk: Chunk) -> int:
        """See `Store.write`."""
        left_out = 0
        async with self._transaction() as db:
            await self._lock(db)
            tables = chunk.written(self._clock())
            for name in OF_A_DOCUMENT:
                await self._delete(db, name, chunk.job.key, "sha256", chunk.hashes)
            await self._delete(db, FILES, chunk.job.key, "source_sha256", chunk.sources)
            # The key of a document first: it is what the others belong to.
            for name in (DOCUMENTS, FIELDS, LINE_ITEMS, FILES):
                known = await self._columns(db, name)
                rows = placed(name, tables[name], known)
                await self._add_columns(db, name, rows.new)
                await self._insert(db, name, rows.rows, {**known, **rows.new})
                left_out += rows.left_out
        return left_out

    def _table(self, name: str) -> str:
        return f"{_quoted(self._schema)}.{_quoted(name)}"

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        from sqlalchemy.exc import SQLAlchemyError
        from sqlalchemy.ext.asyncio import create_async_engine
        from sqlalchemy.pool import NullPool

        engine = create_async_engine(self._url, poolclass=NullPool, hide_parameters=True)
        try:
            async with AsyncExitStack() as stack:
                try:
                    db = await stack.enter_async_context(engine.begin())
                except TypeError as problem:  # an option that asyncpg does not know
                    raise self._unavailable(problem) from None
                yield db
        except (SQLAlchemyError, OSError) as problem:
            raise self._unavailable(problem) from None
        except Exception as problem:
            # What asyncpg raises while it connects comes through SQLAlchemy as it is.
            if type(problem).__module__.startswith("asyncpg."):
                raise self._unavailable(problem) from None
            raise
        finally:
            await engine.dispose()

    def _unavailable(self, problem: Exception) -> DestinationUnavailable:
        said = str(getattr(problem, "orig", None) or problem)
        if self._url.password:
            said = said.replace(str(self._url.password), "**********")
        return DestinationUnavailable(f"{self._where} cannot be used: {said}")

    async def _lock(self, db: AsyncConnection) -> None:
        """One load at a time makes columns and replaces rows; the others wait until its transaction ends."""
        digest = hashlib.sha256(f"docjobs {self._schema}".encode()).digest()
        await self._execute(
            db, "SELECT pg_advisory_xact_lock(:key)", key=int.from_bytes(digest[:8], "big", signed=True)
        )

    async def _has_schema(self, db: AsyncConnection) -> bool:
        query = "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = :name"
        return bool(await self._execute(db, query, name=self._schema))

    async def _make(self, db: AsyncConnection, name: str, columns: Mapping[str, Kind]) -> None:
        known = await self._columns(db, name)
        if known:
            check_ours(f"{self._where}: {self._table(name)}", name, known)
            missing = {column: kind for column, kind in columns.items() if column not in known}
            await self._add_columns(db, name, missing)
            return
        parts = [f"{_quoted(column)} {_TYPES[kind]}" for column, kind in columns.items()]
        key = ", ".join(map(_quoted, KEYS[name]))
        await self._execute(db, f"CREATE TABLE {self._table(name)} ({', '.join(parts)}, PRIMARY KEY ({key}))")

    async def _columns(self, db: AsyncConnection, name: str) -> dict[str, Kind | None]:
        query = (
            "SELECT column_name, data_type FROM information_schema.columns "
            "WHERE table_schema = :schema AND table_name = :name"
        )
        rows = await self._execute(db, query, schema=self._schema, name=name)
        return {str(column): _KINDS.get(kind) for column, kind in rows}

    async def _add_columns(self, db: AsyncConnection, name: str, columns: Mapping[str, Kind]) -> None:
        if columns:
            parts = (f"ADD COLUMN {_quoted(column)} {_TYPES[kind]}" for column, kind in columns.items())
            await self._execute(db, f"ALTER TABLE {self._table(name)} {', '.join(parts)}")

    async def _delete(
        self, db: AsyncConnection, name: str, job: str, column: str, values: Sequence[str]
    ) -> None:
        query = f"DELETE FROM {self._table(name)} WHERE job = :job AND {column} = ANY(:values)"  # noqa: S608
        await self._execute(db, query, job=job, values=list(values))

    async def _insert(
        self,
        db: AsyncConnection,
        name: str,
        rows: Sequence[Mapping[str, object]],
        kinds: Mapping[str, Kind | None],
    ) -> None:
        columns = list(dict.fromkeys(column for row in rows for column in row))
        table = _core_table(name, self._schema, columns, kinds)
        for first in range(0, len(rows), _ROWS_AT_ONCE):
            some = rows[first : first + _ROWS_AT_ONCE]
            await db.execute(
                table.insert(), [{column: row.get(column) for column in columns} for row in some]
            )

    async def _execute(self, db: AsyncConnection, statement: str, **values: object) -> list[Any]:
        from sqlalchemy import text

        # No name in a statement has a colon, which would name a value: see `column_name`, `open_store`.
        answer = await db.execute(text(statement), values)
        return list(answer.all()) if answer.returns_rows else []


def _core_table(name: str, schema: str, columns: Iterable[str], kinds: Mapping[str, Kind | None]) -> Table:
    """A table as SQLAlchemy's inserts need it: it quotes names and tells the types of empty values."""
    import sqlalchemy as sa

    types = {
        Kind.TEXT: sa.Text,
        Kind.NUMBER: sa.Double,
        Kind.INTEGER: sa.BigInteger,
        Kind.BOOLEAN: sa.Boolean,
        Kind.TIMESTAMP: sa.DateTime,
    }
    parts: list[sa.Column[Any]] = [sa.Column(column, types[kinds[column] or Kind.TEXT]) for column in columns]
    return sa.Table(name, sa.MetaData(schema=schema), *parts)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _for_asyncpg(address: str) -> URL:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        url = make_url(address)
    except (SQLAlchemyError, ValueError):
        raise ConfigurationError(
            "The destination cannot be read. Give postgresql://user@host/database."
        ) from None
    if "@" in (url.host or ""):  # then a part of the password would be told as the host
        raise ConfigurationError("The destination cannot be read: in a password an @ is written %40.")
    query = dict(url.query)
    if "sslmode" in query:  # libpq's name for what asyncpg calls ssl
        query["ssl"] = query.pop("sslmode")
    return url.set(drivername="postgresql+asyncpg", query=query)
