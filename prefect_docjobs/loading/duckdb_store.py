"""A DuckDB file as a destination. DuckDB lets in one process that writes, so it is open for moments only."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import anyio.to_thread

from prefect_docjobs.loading.columns import Found, Placed, placed
from prefect_docjobs.loading.duckdb_rows import add_columns, create_table, insert, kinds_of, quoted
from prefect_docjobs.loading.errors import DestinationUnavailable
from prefect_docjobs.loading.kinds import Kind
from prefect_docjobs.loading.places import Places, local_path
from prefect_docjobs.loading.rows import Chunk
from prefect_docjobs.loading.store import Clock, Loaded, Seen, check_ours, now
from prefect_docjobs.loading.tables import DOCUMENTS, FILES, KEYS, OF_A_DOCUMENT, TABLES

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_T = TypeVar("_T")
_AGAIN_AFTER = 0.2
_AMONG = "{} IN (SELECT unnest(CAST(? AS VARCHAR[])))"
_INDEXED = (DOCUMENTS, FILES)  # the others are many times larger, and an index of DuckDB is in memory
_one_at_a_time: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)


class DuckDbStore:
    """The tables in a DuckDB file.

    Args:
        path: The file; made if it is not there.
        schema: The schema that the tables are in.
        patience: Seconds to wait while another process has the file open.
        clock: Tells when rows are written.
    """

    def __init__(
        self, path: Path, schema: str = "main", *, patience: float = 60.0, clock: Clock = now
    ) -> None:
        self._path = path.expanduser().absolute()
        self._schema = schema
        self._patience = patience
        self._clock = clock
        self._places = Places()

    def owns(self, source: str) -> bool:
        """See `Store.owns`: the file, and what DuckDB keeps beside it."""
        path = local_path(source)
        if path is None:
            return False
        mine = self._places.of(self._path)  # DuckDB keeps the rest beside the link, if it is one
        return any(_is_part(place, own) for place in self._places.of(path) for own in mine)

    async def prepare(self) -> None:
        """See `Store.prepare`."""
        await self._run(self._prepare)

    async def seen(self, job: str, address: str) -> Mapping[str, Seen]:
        """See `Store.seen`."""
        query = (
            "SELECT source_sha256, version, document IS NOT NULL, reason "  # noqa: S608
            f"FROM {self._table(FILES)} AS file LEFT JOIN {self._table(DOCUMENTS)} USING (job, sha256) "
            "WHERE job = ? AND starts_with(file.source, ?)"
        )
        rows = await self._run(lambda db: db.execute(query, [job, address]).fetchall())
        return {source: Seen(*facts) for source, *facts in rows}

    async def loaded(self, job: str, hashes: Sequence[str]) -> Mapping[str, Loaded]:
        """See `Store.loaded`."""
        return await self._run(lambda db: self._loaded(db, job, hashes))

    def _loaded(self, db: DuckDBPyConnection, job: str, hashes: Sequence[str]) -> Mapping[str, Loaded]:
        query = (
            f"SELECT sha256, document, reason, phase, error, ref FROM {self._table(DOCUMENTS)} "  # noqa: S608
            f"WHERE job = ? AND {_AMONG.format('sha256')}"
        )
        rows = db.execute(query, [job, list(hashes)]).fetchall()
        return {sha256: Loaded(*facts) for sha256, *facts in rows}

    async def write(self, chunk: Chunk) -> int:
        """See `Store.write`."""
        return await self._run(lambda db: self._write(db, chunk))

    def _table(self, name: str) -> str:
        return f"{quoted(self._schema)}.{quoted(name)}"

    async def _run(self, work: Callable[[DuckDBPyConnection], _T]) -> _T:
        # Never left behind half-way: a thread that writes is waited for also when the run is cancelled.
        return await anyio.to_thread.run_sync(self._transaction, work)

    def _transaction(self, work: Callable[[DuckDBPyConnection], _T]) -> _T:
        import duckdb

        with self._connected() as db:
            try:
                db.begin()
                answer = work(db)
                db.commit()
            except duckdb.Error as problem:
                raise DestinationUnavailable(f"{self._path} cannot be used: {problem}") from None
        return answer

    @contextmanager
    def _connected(self) -> Iterator[DuckDBPyConnection]:
        """The file, opened: once in this process, and in no other at the same time."""
        import duckdb  # at the top of the file, DuckDB 2.0 would complain of leaks when the process ends

        until = time.monotonic() + self._patience
        with _one_at_a_time[self._path]:
            while True:
                try:
                    db = duckdb.connect(str(self._path))
                    break
                except duckdb.Error as problem:
                    if "lock" not in str(problem).lower() or time.monotonic() >= until:
                        raise DestinationUnavailable(_not_opened(self._path, problem)) from None
                time.sleep(_AGAIN_AFTER)
            with db:
                yield db

    def _prepare(self, db: DuckDBPyConnection) -> None:
        db.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(self._schema)}")
        for name, columns in TABLES.items():
            table = self._table(name)
            create_table(db, table, columns, KEYS[name] if name in _INDEXED else ())
            known = kinds_of(db, table)
            check_ours(f"{self._path}: {table}", name, known)
            add_columns(db, table, {column: kind for column, kind in columns.items() if column not in known})

    def _write(self, db: DuckDBPyConnection, chunk: Chunk) -> int:
        there = self._loaded(db, chunk.job.key, chunk.hashes)
        tables = chunk.written(self._clock()).items()
        # Columns first: before 2.0 a key that is deleted cannot be inserted again after a column was added.
        rows = {name: self._placed(db, name, found) for name, found in tables}
        for name in OF_A_DOCUMENT:
            self._delete(db, name, chunk.job.key, "sha256", list(there))
        self._delete(db, FILES, chunk.job.key, "source_sha256", chunk.sources)
        for name, (found, kinds) in rows.items():
            insert(db, self._table(name), found, kinds)
        return sum(found.left_out for found, _ in rows.values())

    def _placed(
        self, db: DuckDBPyConnection, name: str, found: Iterable[Found]
    ) -> tuple[Placed, Mapping[str, Kind | None]]:
        """The rows of a table with a column for each value, and the kinds of all its columns."""
        known = kinds_of(db, self._table(name))
        rows = placed(name, found, known)
        add_columns(db, self._table(name), rows.new)
        return rows, {**known, **rows.new}

    def _delete(
        self, db: DuckDBPyConnection, name: str, job: str, column: str, values: Sequence[str]
    ) -> None:
        if values:
            db.execute(
                f"DELETE FROM {self._table(name)} "  # noqa: S608
                f"WHERE job = ? AND {_AMONG.format(column)}",
                [job, list(values)],
            )


def _is_part(place: Path, own: Path) -> bool:
    """Whether a file is the database, or called like it with more behind: its log, its spilled data, a copy.

    Beside a database without an ending there may be documents like that, so only DuckDB's own names count.
    """
    beside = (f"{own.name}.",) if own.suffix else (f"{own.name}.wal", f"{own.name}.tmp")
    return any(
        part.parent == own.parent and (part.name == own.name or part.name.startswith(beside))
        for part in (place, place.parent)
    )


def _not_opened(path: Path, problem: Exception) -> str:
    if "lock" in str(problem).lower():
        return f"{path} is open in another process, and DuckDB lets in one that writes. Close it there."
    return f"{path} cannot be opened: {problem}"
