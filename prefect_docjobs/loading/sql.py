"""Tables in a database of SQL: a DuckDB file or PostgreSQL, with the same statements.

Both number their parameters (`$1`) and take whole columns as arrays; they differ in how a transaction is
opened, in what a column's type is called when it is read, and in which tables have an index.
"""

from __future__ import annotations

import hashlib
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeVar

import anyio.to_thread

from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.loading.columns import (
    DOCUMENTS,
    FIELDS,
    FILES,
    KEYS,
    LINE_ITEMS,
    TABLES,
    Kind,
    Placed,
    check_columns,
    folded,
    placed,
)
from prefect_docjobs.loading.rows import Chunk, printable
from prefect_docjobs.loading.sources import LocalPaths
from prefect_docjobs.loading.store import Clock, DestinationUnavailable, Loaded, Seen, now
from prefect_docjobs.models import Outcome

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from sqlalchemy import URL, Connection

_T = TypeVar("_T")

Execute: TypeAlias = Callable[..., list[Any]]
"""Takes a statement and its parameters within a transaction; returns the rows."""

_RETRY_AFTER = 0.2
_AMONG = "IN (SELECT unnest(CAST($2 AS text[])))"
_TYPES: Mapping[Kind, str] = MappingProxyType(
    {
        Kind.TEXT: "text",
        Kind.NUMBER: "double precision",
        Kind.INTEGER: "bigint",
        Kind.BOOLEAN: "boolean",
        Kind.TIMESTAMP: "timestamp without time zone",
    }
)


class SqlStore(ABC):
    """The tables in a schema of a database.

    Args:
        schema: Made if it is not there.
        clock: Gives the time when rows are written.
    """

    _kinds: ClassVar[Mapping[str, Kind]]
    """By the names that the database gives to types."""
    _table_query: ClassVar[str]
    """A row if there is a table `$2` in the schema `$1`."""
    _columns_query: ClassVar[str]
    """Names and types of the columns of the table `$2` in the schema `$1`."""
    _indexed: ClassVar[tuple[str, ...]] = tuple(TABLES)

    def __init__(self, schema: str, clock: Clock) -> None:
        self._schema = schema
        self._clock = clock

    @property
    @abstractmethod
    def place(self) -> str:
        """See `Store.place`."""

    @abstractmethod
    def owns(self, source: str) -> bool:
        """See `Store.owns`."""

    @abstractmethod
    async def _transaction(self, work: Callable[[Execute], _T], *, exclusive: bool = False) -> _T:
        """Run `work` in a transaction; no other exclusive one is open meanwhile."""

    async def prepare(self) -> None:
        """See `Store.prepare`."""
        await self._transaction(self._prepare, exclusive=True)

    async def seen(self, job: str, address: str) -> Mapping[str, Seen]:
        """See `Store.seen`."""
        query = (
            "SELECT source_sha256, version, document IS NOT NULL, reason "  # noqa: S608
            f"FROM {self._table(FILES)} AS file LEFT JOIN {self._table(DOCUMENTS)} USING (job, sha256) "
            "WHERE job = $1 AND starts_with(file.source, $2)"
        )
        rows = await self._transaction(lambda execute: execute(query, job, printable(address)))
        return {source: Seen(*facts) for source, *facts in rows}

    async def loaded(self, job: str, hashes: Sequence[str]) -> Mapping[str, Loaded]:
        """See `Store.loaded`."""
        return await self._transaction(lambda execute: self._loaded(execute, job, hashes))

    async def write(self, chunk: Chunk) -> int:
        """See `Store.write`."""
        return await self._transaction(lambda execute: self._write(execute, chunk), exclusive=True)

    def _prepare(self, execute: Execute) -> None:
        # Not `IF NOT EXISTS` alone: PostgreSQL wants the right to make one also where it is there.
        if not execute("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1", self._schema):
            execute(f"CREATE SCHEMA IF NOT EXISTS {_quoted(self._schema)}")
        for name, columns in TABLES.items():
            table = self._table(name)
            if execute(self._table_query, self._schema, name):
                known = self._columns(execute, name)
                check_columns(f"{self.place}: {table}", name, known)
                missing = {column: kind for column, kind in columns.items() if column not in known}
                self._add_columns(execute, name, missing)
                continue
            parts = [f"{_quoted(column)} {_TYPES[kind]}" for column, kind in columns.items()]
            if name in self._indexed:
                parts.append(f"PRIMARY KEY ({', '.join(map(_quoted, KEYS[name]))})")
            execute(f"CREATE TABLE {table} ({', '.join(parts)})")

    def _loaded(self, execute: Execute, job: str, hashes: Sequence[str]) -> Mapping[str, Loaded]:
        query = (
            f"SELECT sha256, document, reason, phase, error, ref FROM {self._table(DOCUMENTS)} "  # noqa: S608
            f"WHERE job = $1 AND sha256 {_AMONG}"
        )
        return {sha256: Loaded(*facts) for sha256, *facts in execute(query, job, list(hashes))}

    def _write(self, execute: Execute, chunk: Chunk) -> int:
        at, tables = self._clock(), (DOCUMENTS, FIELDS, LINE_ITEMS, FILES)
        # Columns first: before DuckDB 2.0 a deleted key cannot be inserted again after a column was added.
        rows = {name: placed(name, chunk.rows(name, at), self._columns(execute, name)) for name in tables}
        for name in tables:
            self._add_columns(execute, name, rows[name].new)
        replaced = list(self._loaded(execute, chunk.job.key, chunk.hashes))
        for name, column, values in (
            *((name, "sha256", replaced) for name in (DOCUMENTS, FIELDS, LINE_ITEMS)),
            (FILES, "source_sha256", chunk.sources),
        ):
            if values:
                statement = f"DELETE FROM {self._table(name)} WHERE job = $1 AND {column} {_AMONG}"  # noqa: S608
                execute(statement, chunk.job.key, values)
        for name in tables:
            _insert(execute, self._table(name), rows[name])
        return sum(each.left_out for each in rows.values())

    def _table(self, name: str) -> str:
        return f"{_quoted(self._schema)}.{_quoted(name)}"

    def _columns(self, execute: Execute, name: str) -> dict[str, Kind | None]:
        """The columns of a table; a kind of None is one that is none of ours."""
        rows = execute(self._columns_query, self._schema, name)
        return {str(column): self._kinds.get(kind) for column, kind in rows}

    def _add_columns(self, execute: Execute, name: str, columns: Mapping[str, Kind]) -> None:
        for column, kind in columns.items():
            execute(f"ALTER TABLE {self._table(name)} ADD COLUMN {_quoted(column)} {_TYPES[kind]}")


def _insert(execute: Execute, table: str, placed: Placed) -> None:
    """Insert rows, column by column: row by row DuckDB takes 50 times as long."""
    columns = list(dict.fromkeys(column for row in placed.rows for column in row))
    if not columns:
        return
    types = [_TYPES[placed.kinds[column] or Kind.TEXT] for column in columns]
    arrays = (f"unnest(CAST(${number} AS {type_}[]))" for number, type_ in enumerate(types, 1))
    execute(
        f"INSERT INTO {table} ({', '.join(map(_quoted, columns))}) SELECT {', '.join(arrays)}",
        *([row.get(column) for row in placed.rows] for column in columns),
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


class DuckDbStore(SqlStore):
    """The tables in a DuckDB file. DuckDB lets in one process that writes, so it is open for moments only.

    Args:
        path: The file; made if it is not there.
        schema: The schema that the tables are in.
        wait: Seconds to wait while another process has the file open.
        clock: Gives the time when rows are written.
    """

    _kinds = MappingProxyType(
        {
            "VARCHAR": Kind.TEXT,
            "DOUBLE": Kind.NUMBER,
            "BIGINT": Kind.INTEGER,
            "BOOLEAN": Kind.BOOLEAN,
            "TIMESTAMP": Kind.TIMESTAMP,
        }
    )
    _table_query = (
        "SELECT 1 FROM information_schema.tables WHERE lower(table_schema) = $1 AND lower(table_name) = $2"
    )
    # Its `information_schema.columns` takes 20 times as long.
    _columns_query = """SELECT name, type FROM pragma_table_info(format('"{}"."{}"', $1, $2))"""
    _indexed = (DOCUMENTS, FILES)  # the others are many times larger, and an index of DuckDB is in memory
    _one_at_a_time: ClassVar[defaultdict[Path, threading.Lock]] = defaultdict(threading.Lock)

    def __init__(self, path: Path, schema: str = "main", *, wait: float = 60.0, clock: Clock = now) -> None:
        self._path = path.expanduser().absolute()
        super().__init__(schema, clock)
        self._wait = wait
        self._paths = LocalPaths()

    @property
    def place(self) -> str:
        """See `Store.place`."""
        return str(self._path)

    def owns(self, source: str) -> bool:
        """See `Store.owns`: the file, and what DuckDB keeps beside it."""
        mine = self._paths.of(self._path)  # DuckDB keeps the rest beside the link, if it is one
        return any(_is_part(place, own) for place in self._paths.of(source) for own in mine)

    def _columns(self, execute: Execute, name: str) -> dict[str, Kind | None]:
        # DuckDB knows no other case than small letters: a person's `Total` is our `total`.
        return {folded(column): kind for column, kind in super()._columns(execute, name).items()}

    async def _transaction(self, work: Callable[[Execute], _T], *, exclusive: bool = False) -> _T:  # noqa: ARG002
        # Never left behind half-way: a thread that writes is waited for also when the run is cancelled.
        return await anyio.to_thread.run_sync(self._run, work)

    def _run(self, work: Callable[[Execute], _T]) -> _T:
        import duckdb  # at the top of the file, DuckDB 2.0 would complain of leaks when the process ends

        with self._one_at_a_time[self._path], self._opened() as db:
            try:
                db.begin()
                answer = work(lambda statement, *values: db.execute(statement, values).fetchall())
                db.commit()
            except duckdb.Error as problem:
                raise DestinationUnavailable(f"{self._path} cannot be used: {problem}") from None
        return answer

    def _opened(self) -> DuckDBPyConnection:
        """The file, open in no other process at the same time."""
        import duckdb

        until = time.monotonic() + self._wait
        while True:
            try:
                return duckdb.connect(str(self._path))
            except duckdb.Error as problem:  # noqa: PERF203
                is_locked = "lock" in str(problem).lower()
                if is_locked and time.monotonic() < until:
                    time.sleep(_RETRY_AFTER)
                    continue
                held = "is open in another process, and DuckDB lets in one that writes. Close it there."
                reason = held if is_locked else f"cannot be opened: {problem}"
                raise DestinationUnavailable(f"{self._path} {reason}") from None


def _is_part(place: Path, own: Path) -> bool:
    """Whether a file is the database, or called like it with more behind: its log, its spilled data, a copy.

    Beside a database without an ending there may be documents like that, so only DuckDB's own names count.
    """
    beside = (f"{own.name}.",) if own.suffix else (f"{own.name}.wal", f"{own.name}.tmp")
    return any(
        part.parent == own.parent and (part.name == own.name or part.name.startswith(beside))
        for part in (place, place.parent)
    )


def export_parquet(outcomes: Iterable[Outcome], folder: str | Path) -> list[Path]:
    """Write the rows of outcomes, such as a `Batch`, as new Parquet files, `<folder>/<table>/<id>.parquet`.

    Files that are there stay as they are: what is exported twice is there twice. `documents` is written last.

    Returns:
        The files, one for each of `fields`, `line_items` and `documents` that has rows.
    """
    import duckdb

    chunk, name, written = Chunk.of(outcomes), uuid.uuid4().hex, []
    with duckdb.connect() as db:
        for table in (FIELDS, LINE_ITEMS, DOCUMENTS):
            rows = placed(table, chunk.rows(table, now()), TABLES[table])
            if rows.rows:
                columns = {column: _TYPES[kind or Kind.TEXT] for column, kind in rows.kinds.items()}
                db.execute(
                    f"CREATE TABLE {table} ({', '.join(f'{_quoted(c)} {t}' for c, t in columns.items())})"
                )
                _insert(lambda statement, *values: db.execute(statement, values).fetchall(), table, rows)
                path = Path(folder).expanduser() / table / f"{name}.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                db.table(table).write_parquet(str(path), compression="zstd")
                written.append(path)
    return written


class PostgreSqlStore(SqlStore):
    """The tables in a schema of a PostgreSQL database, through SQLAlchemy and asyncpg, as the ledger.

    Args:
        url: `postgresql://user:password@host:port/database`.
        schema: The schema that the tables are in; made if it is not there.
        clock: Gives the time when rows are written.

    Raises:
        ConfigurationError: The URL cannot be read.
    """

    _kinds = MappingProxyType({name: kind for kind, name in _TYPES.items()})
    _table_query = "SELECT 1 FROM information_schema.tables WHERE table_schema = $1 AND table_name = $2"
    _columns_query = (
        "SELECT column_name, data_type FROM information_schema.columns "
        "WHERE table_schema = $1 AND table_name = $2"
    )

    def __init__(self, url: str, schema: str = "docjobs", *, clock: Clock = now) -> None:
        self._url = _for_asyncpg(url)
        super().__init__(schema, clock)

    @property
    def place(self) -> str:
        """See `Store.place`."""
        from sqlalchemy import URL

        host = self._url.host or str(self._url.query.get("host") or "")
        if not host or host.startswith("/"):
            host = "localhost"
        url = URL.create("postgresql", host=host, port=self._url.port, database=self._url.database)
        return url.render_as_string()

    def owns(self, source: str) -> bool:  # noqa: ARG002 (its files are the server's)
        """See `Store.owns`: none."""
        return False

    async def _transaction(self, work: Callable[[Execute], _T], *, exclusive: bool = False) -> _T:
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
                return await db.run_sync(self._run, work, exclusive)
        except (SQLAlchemyError, OSError) as problem:
            raise self._unavailable(problem) from None
        except Exception as problem:
            # What asyncpg raises while it connects comes through SQLAlchemy as it is.
            if type(problem).__module__.startswith("asyncpg."):
                raise self._unavailable(problem) from None
            raise
        finally:
            await engine.dispose()

    def _run(self, db: Connection, work: Callable[[Execute], _T], exclusive: bool) -> _T:
        def execute(statement: str, *values: object) -> list[Any]:
            answer = db.exec_driver_sql(statement, values or None)
            return list(answer.all()) if answer.returns_rows else []

        if exclusive:  # the lock ends with the transaction
            digest = hashlib.sha256(f"docjobs {self._schema}".encode()).digest()
            execute("SELECT pg_advisory_xact_lock($1)", int.from_bytes(digest[:8], "big", signed=True))
        return work(execute)

    def _unavailable(self, problem: Exception) -> DestinationUnavailable:
        message = str(getattr(problem, "orig", None) or problem)
        if self._url.password:
            message = message.replace(str(self._url.password), "**********")
        return DestinationUnavailable(f"{self.place} cannot be used: {message}")


def _for_asyncpg(address: str) -> URL:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        url = make_url(address)
    except (SQLAlchemyError, ValueError):
        raise ConfigurationError(
            "The destination cannot be read. Give postgresql://user@host/database."
        ) from None
    if "@" in (url.host or ""):  # then a part of the password would be shown as the host
        raise ConfigurationError("The destination cannot be read: in a password an @ is written %40.")
    query = dict(url.query)
    if "sslmode" in query:  # libpq's name for what asyncpg calls ssl
        query["ssl"] = query.pop("sslmode")
    return url.set(drivername="postgresql+asyncpg", query=query)
