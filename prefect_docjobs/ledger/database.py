"""Opening the database: its address, its settings for durability, and what its errors mean."""

from __future__ import annotations

import asyncio
import functools
import os
import sqlite3
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import anyio
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.ledger.errors import LedgerUnavailable
from prefect_docjobs.ledger.schema import metadata

BUSY_TIMEOUT = 20.0
"""Seconds that a statement waits for another process's lock on a SQLite database."""

CONNECTIONS = 4
"""To one database, at most, from one opened ledger."""

WRITES = "docjobs_writes"
"""Execution option of connections that write."""

T = TypeVar("T")

_SILENT = 10.0  # seconds after which a server that does not answer counts as away
_CLOSING = 5.0  # seconds for its connections to close

_ADVICE = (
    (("full", "no space", "quota", "disk i/o", "too large"), "Make room on the disk, then run again."),
    (("readonly", "read-only", "permission"), "Make the database writable for this user."),
    (("locked", "busy", "lock timeout"), "Another process holds it; see what keeps a transaction open."),
    (("password", "authentication", "role ", "ssl"), "Check the user, the password and the SSL mode."),
    (("connect", "closed", "terminat", "shutting down", "refused"), "See that the server runs."),
    (("malformed", "not a database"), "The file is damaged or no SQLite database: restore it."),
)


def parse_address(address: str) -> URL:
    """The URL for SQLAlchemy's async drivers.

    Args:
        address: A path, `sqlite:///path`, or `postgresql://user:password@host/database`.

    Raises:
        ConfigurationError: Anything else. The message does not repeat it, for it may hold a password.
    """
    if "://" not in address:
        return URL.create("sqlite", database=str(_path(address)))
    try:
        url = make_url(address)
        backend = url.get_backend_name()
    except (SQLAlchemyError, ValueError):
        raise ConfigurationError("The ledger's URL cannot be read. Give a path or postgresql://…") from None
    if backend == "sqlite":
        return URL.create("sqlite", database=str(_path(url.database or "")))
    if backend in ("postgresql", "postgres"):
        return _for_asyncpg(url)
    raise ConfigurationError(f"The ledger can be SQLite (a path) or PostgreSQL, not {backend}.")


def _path(text: str) -> Path:
    if not text or text.startswith((":memory:", "file:")):
        raise ConfigurationError("The ledger outlives the process: give the path of a file.")
    return Path(text).expanduser().absolute()


def _for_asyncpg(url: URL) -> URL:
    if "@" in (url.host or ""):  # then a part of the password would be told as the host
        raise ConfigurationError("The ledger's URL cannot be read: in a password an @ is written %40.")
    query = dict(url.query)
    if "sslmode" in query:  # libpq's name for what asyncpg calls ssl
        query["ssl"] = query.pop("sslmode")
    return url.set(drivername="postgresql+asyncpg", query=query)


class Database(ABC):
    """One opened database. Work on it is a function of a connection, and one transaction.

    Args:
        url: From `parse_address`.

    Attributes:
        name: `sqlite` or `postgresql`.
    """

    def __init__(self, url: URL) -> None:
        self.url = url
        self.name = url.get_backend_name()

    @abstractmethod
    async def run(self, work: Callable[[Connection], T], *, writes: bool = False) -> T:
        """Do `work` in a transaction, committed when this returns.

        Raises:
            LedgerUnavailable: It is not known to be committed.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Close all connections."""


def _pool(connections: int) -> dict[str, Any]:
    """Half of them stay open. Parameters stay out of errors: they hold document names and refs."""
    stay = (connections + 1) // 2
    return {"pool_size": stay, "max_overflow": connections - stay, "hide_parameters": True}


class Sqlite(Database):
    """SQLite, in threads of its own: a transaction is one trip to one of them, whatever it consists of.

    The file is made when it is not there, readable by its owner only.
    """

    def __init__(self, url: URL, connections: int = CONNECTIONS) -> None:
        super().__init__(url)
        with explained(url):
            _make_file(Path(url.database or ""))
        # Every transaction is ended where it is begun, so there is nothing to roll back on return.
        options: dict[str, Any] = {"connect_args": {"timeout": BUSY_TIMEOUT}, "pool_reset_on_return": None}
        self._engine = create_engine(url, **_pool(connections), **options)
        event.listen(self._engine, "connect", _tune)
        event.listen(self._engine, "begin", _begin)
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix="docjobs-ledger")

    async def run(self, work: Callable[[Connection], T], *, writes: bool = False) -> T:
        """See `Database.run`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._transact, work, writes)

    def _transact(self, work: Callable[[Connection], T], writes: bool) -> T:
        with explained(self.url), self._engine.connect() as connected:
            connection = connected.execution_options(**{WRITES: writes})
            with connection.begin():
                return work(connection)

    async def aclose(self) -> None:
        """See `Database.aclose`."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._threads, self._engine.dispose)
        self._threads.shutdown(wait=False)


class Memory(Database):
    """SQLite in memory, on the event loop itself: empty when it is opened, gone when it is closed."""

    def __init__(self) -> None:
        super().__init__(URL.create("sqlite"))
        self._connection = _memory_engine().connect()
        metadata.create_all(self._connection, checkfirst=False)
        self._connection.commit()

    async def run(self, work: Callable[[Connection], T], *, writes: bool = False) -> T:  # noqa: ARG002 (one connection)
        """See `Database.run`."""
        with explained(self.url), self._connection.begin():
            return work(self._connection)

    async def aclose(self) -> None:
        """See `Database.aclose`."""
        self._connection.close()


@functools.cache
def _memory_engine() -> Engine:
    """One for all of them, as it remembers compiled statements; each connection is a database of its own."""
    return create_engine("sqlite://", poolclass=NullPool, hide_parameters=True)


class Postgresql(Database):
    """PostgreSQL through asyncpg.

    asyncpg prepares statements; through pgbouncer in transaction mode, that needs its 1.21 or later with
    max_prepared_statements, or prepared_statement_cache_size=0 in the URL.
    """

    def __init__(self, url: URL, connections: int = CONNECTIONS) -> None:
        super().__init__(url)
        options = _pool(connections)
        self._engine = create_async_engine(url, pool_recycle=1800, pool_pre_ping=True, **options)

    async def run(self, work: Callable[[Connection], T], *, writes: bool = False) -> T:  # noqa: ARG002 (all can write)
        """See `Database.run`."""
        with explained(self.url), anyio.fail_after(_SILENT):
            async with AsyncExitStack() as stack:
                connection = await self._connected()
                stack.push_async_exit(connection)
                async with connection.begin():
                    return await connection.run_sync(work)

    async def _connected(self) -> AsyncConnection:
        """A connection that works: the server may have closed the one in the pool.

        SQLAlchemy asks, but does not know what asyncpg raises at the moment of the closing.
        """
        try:
            return await self._engine.connect()
        except TypeError as error:  # an option that asyncpg does not know
            raise _unavailable(self.url, str(error)) from error
        except Exception as error:
            if type(error).__name__ != "InternalClientError":
                raise
            return await self._engine.connect()

    async def aclose(self) -> None:
        """See `Database.aclose`."""
        with anyio.move_on_after(_CLOSING):
            await self._engine.dispose()


def open_database(url: URL | None, connections: int = CONNECTIONS) -> Database:
    """A database of either kind, or one in memory where no address is given.

    Args:
        url: From `parse_address`.
        connections: At most; with SQLite also threads. One writes, the others read meanwhile.

    Raises:
        LedgerUnavailable: SQLite's file or folder cannot be made.
    """
    if url is None:
        return Memory()
    kind = Sqlite if url.get_backend_name() == "sqlite" else Postgresql
    return kind(url, connections)


def _make_file(path: Path) -> None:
    """Make the database in its final mode, then give it its name: nobody has to change the mode under others.

    SQLite gives its side files the same access mode.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists():
        return
    handle, fresh = tempfile.mkstemp(dir=path.parent, prefix=".")  # made with mode 0600
    os.close(handle)
    try:
        with closing(sqlite3.connect(fresh)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
        with suppress(FileExistsError):  # somebody else was faster
            os.link(fresh, path)
    finally:
        os.unlink(fresh)


def _tune(connection: Any, _: object) -> None:
    connection.isolation_level = None  # the driver begins no transaction of its own
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")  # NORMAL loses the last commits with the power
    cursor.close()


def _begin(connection: Connection) -> None:
    """Writers take their lock at the beginning: one that reads first cannot wait for it later."""
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def explained(url: URL) -> Iterator[None]:
    """Turn what the database, its driver or the network raises into `LedgerUnavailable`."""
    try:
        yield
    except DBAPIError as error:
        raise _unavailable(url, str(error.orig)) from error
    except (PoolTimeout, OSError, TimeoutError) as error:
        raise _unavailable(url, str(error) or type(error).__name__) from error
    except Exception as error:
        # What asyncpg raises while it connects comes through SQLAlchemy as it is.
        if type(error).__module__.startswith("asyncpg."):
            raise _unavailable(url, str(error)) from error
        raise


def shown(url: URL) -> str:
    """The address for people: without the password, and without options that may hold one."""
    if url.get_backend_name() == "sqlite":
        return str(url.database or "in memory")
    bare = URL.create(
        "postgresql", username=url.username, host=url.host, port=url.port, database=url.database
    )
    return bare.render_as_string()


def _unavailable(url: URL, said: str) -> LedgerUnavailable:
    said = said.rsplit(">:", 1)[-1].strip().rstrip(".")
    lower = said.lower()
    advice = next((tell for words, tell in _ADVICE if any(word in lower for word in words)), "")
    return LedgerUnavailable(f"The ledger {shown(url)} cannot be used now: {said}. {advice}".strip())
