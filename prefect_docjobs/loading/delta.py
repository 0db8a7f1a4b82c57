"""Delta tables in a folder as a destination, on a disk or in an object storage.

A commit is of one table, so one commit makes a chunk visible: fields and line items are appended first, with
the id of this write, and `documents` is merged last and holds the id that counts. A reader joins `fields` and
`line_items` with `documents` by `sha256`, `job` and `_load`, and sees each document as it was or as it is.
What a load that died has appended is joined by nothing, and deleted after some days.

Each commit is made for the version of its table that was read; if another load was first, it is made again.
"""

from __future__ import annotations

import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import anyio.to_thread
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential
from typing_extensions import TypeVarTuple, Unpack

from prefect_docjobs.loading.columns import (
    DOCUMENTS,
    FIELDS,
    FILES,
    KEYS,
    LINE_ITEMS,
    TABLES,
    Kind,
    check_columns,
    folded,
    placed,
)
from prefect_docjobs.loading.rows import Chunk, printable
from prefect_docjobs.loading.sources import LocalPaths, public_address, refuse_password
from prefect_docjobs.loading.store import Clock, DestinationUnavailable, Loaded, Seen, now

if TYPE_CHECKING:
    from arro3.core import Table
    from deltalake import CommitProperties, DeltaTable
    from deltalake.table import TableMerger

_T = TypeVar("_T")
_Args = TypeVarTuple("_Args")

LOAD = "_load"
"""The id of the write that a row belongs to: when it began, in milliseconds, and a random number."""

_OF_A_DOCUMENT = (FIELDS, LINE_ITEMS)
_KEPT = timedelta(days=7)  # as long as Delta itself keeps files that no version names
_MOST_FILES = 100
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 (columns are in UTC and have no zone)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_TYPES: Mapping[Kind, str] = MappingProxyType(
    {
        Kind.TEXT: "string",
        Kind.NUMBER: "double",
        Kind.INTEGER: "long",
        Kind.BOOLEAN: "boolean",
        Kind.TIMESTAMP: "timestamp_ntz",
    }
)
_KINDS: Mapping[str, Kind] = MappingProxyType({name: kind for kind, name in _TYPES.items()})


class DeltaStore:
    """The tables as Delta tables, each in a folder of its name.

    Args:
        address: The folder: a path, or a URL that deltalake knows.
        wait: Seconds in which a commit that others overtake is made again.
        clock: Gives the time when rows are written.
    """

    def __init__(self, address: str, *, wait: float = 60.0, clock: Clock = now) -> None:
        refuse_password(address, "destination")
        address = address.removeprefix("file://").rstrip("/") or "/"
        self._root = address if "://" in address else str(Path(address).expanduser().absolute())
        self._wait = wait
        self._clock = clock
        self._paths = LocalPaths()
        self._one_at_a_time = threading.Lock()  # chunks of one run need not overtake each other

    @property
    def place(self) -> str:
        """See `Store.place`."""
        return public_address(self._root)

    def owns(self, source: str) -> bool:
        """See `Store.owns`: all that is in the folder, and the folder itself."""
        if "://" in self._root:
            return f"{source}/".startswith(f"{self._root}/")
        root = Path(self._root).resolve()
        return any(root in (place, *place.parents) for place in self._paths.of(source))

    async def prepare(self) -> None:
        """See `Store.prepare`. Rows of loads that died long ago are deleted, and small files are joined."""
        await self._run(self._prepare)

    async def seen(self, job: str, address: str) -> Mapping[str, Seen]:
        """See `Store.seen`."""
        query = (
            "SELECT source_sha256, version, document IS NOT NULL, reason "  # noqa: S608
            f"FROM {FILES} AS file LEFT JOIN {DOCUMENTS} USING (job, sha256) "
            f"WHERE file.job = {_literal(job)} AND starts_with(file.source, {_literal(printable(address))})"
        )
        return {source: Seen(*facts) for source, *facts in await self._run(self._rows, query)}

    async def loaded(self, job: str, hashes: Sequence[str]) -> Mapping[str, Loaded]:
        """See `Store.loaded`."""
        query = (
            f"SELECT sha256, document, reason, phase, error, ref FROM {DOCUMENTS} "  # noqa: S608
            f"WHERE job = {_literal(job)} AND sha256 IN ({', '.join(map(_literal, hashes)) or 'NULL'})"
        )
        return {sha256: Loaded(*facts) for sha256, *facts in await self._run(self._rows, query)}

    async def write(self, chunk: Chunk) -> int:
        """See `Store.write`."""
        return await self._run(self._write, chunk)

    async def _run(self, work: Callable[[Unpack[_Args]], _T], *args: Unpack[_Args]) -> _T:
        import duckdb
        from deltalake.exceptions import DeltaError

        try:
            # Never left behind half-way: a thread that writes is waited for also when the run is cancelled.
            return await anyio.to_thread.run_sync(work, *args)
        except (DeltaError, OSError, duckdb.Error) as problem:
            message = _COLOURS.sub("", str(problem))
            raise DestinationUnavailable(f"{self._root} cannot be used: {message}") from None

    # -- writing

    def _write(self, chunk: Chunk) -> int:
        load = f"{_milliseconds():013}-{secrets.token_hex(8)}"
        tables = [name for name in (*_OF_A_DOCUMENT, FILES, DOCUMENTS) if chunk.tables[name]]
        tried: set[str] = set()
        with self._one_at_a_time:
            return sum(self._commit(name, partial(self._put, name, chunk, load, tried)) for name in tables)

    def _put(self, name: str, chunk: Chunk, load: str, tried: set[str], table: DeltaTable) -> int:
        """Write the rows of a table; returns how many values have no column."""
        from deltalake import write_deltalake

        found = placed(name, chunk.rows(name, self._clock()), _columns(table))
        # All columns: in a merge those that are not given would keep what the replaced row had.
        kinds = {column: kind for column, kind in found.kinds.items() if kind is not None}
        rows = found.rows
        if name != FILES:
            kinds[LOAD] = Kind.TEXT
            rows = [{**row, LOAD: load} for row in rows]
        data = _arrow(rows, kinds)
        if name in _OF_A_DOCUMENT:
            # A commit may have succeeded and its answer been lost. A merge can be made twice, an append not.
            is_there = name in tried and self._rows(f"SELECT 1 FROM {name} WHERE {LOAD} = '{load}' LIMIT 1")  # noqa: S608
            tried.add(name)
            if not is_there:
                write_deltalake(table, data, mode="append", schema_mode="merge", commit_properties=_once())
        else:
            merge = _merge(table, data, KEYS[name], merge_schema=True)
            merge.when_matched_update_all().when_not_matched_insert_all().execute()
        return found.left_out

    def _commit(self, name: str, change: Callable[[DeltaTable], _T]) -> _T:
        """Change the newest version of a table, again while other loads are first."""
        return self._again_on_conflicts(lambda: change(self._open(name)))

    def _again_on_conflicts(self, attempt: Callable[[], _T]) -> _T:
        from deltalake.exceptions import CommitFailedError

        retrying = Retrying(
            retry=retry_if_exception_type(CommitFailedError),
            stop=stop_after_delay(self._wait),
            wait=wait_random_exponential(multiplier=0.05, max=1.0),
            reraise=True,
        )
        return retrying(attempt)

    # -- preparing

    def _prepare(self) -> None:
        if "://" not in self._root:
            Path(self._root).mkdir(parents=True, exist_ok=True)
        for name in TABLES:
            self._again_on_conflicts(partial(self._create, name))
            check_columns(f"{self._root}/{name}", name, _columns(self._open(name)))
        self._commit(DOCUMENTS, _commit_nothing)
        for name in _OF_A_DOCUMENT:
            self._delete_unjoined(name)
        for name in TABLES:
            if len(self._open(name).file_uris()) > _MOST_FILES:
                self._commit(name, _join_files)

    def _create(self, name: str) -> None:
        from deltalake import DeltaTable, Field, Schema
        from deltalake.schema import PrimitiveType

        columns = TABLES[name] if name == FILES else {**TABLES[name], LOAD: Kind.TEXT}
        schema = Schema([Field(column, PrimitiveType(_TYPES[kind])) for column, kind in columns.items()])
        DeltaTable.create(f"{self._root}/{name}", schema, mode="ignore", storage_options=_storage_options())

    def _delete_unjoined(self, name: str) -> None:
        """Delete rows that no document will have, nor has had since a reader may have begun."""
        before = f"'{_milliseconds() - _KEPT // timedelta(milliseconds=1):013}'"
        key = ("sha256", "job", LOAD)
        unjoined = self._rows(
            f"SELECT DISTINCT child.sha256, child.job, child.{LOAD} FROM {name} AS child "  # noqa: S608
            f"LEFT JOIN {DOCUMENTS} AS document USING (sha256, job) WHERE child.{LOAD} < {before} "
            f"AND coalesce(document.{LOAD}, '') < {before} AND coalesce(document.{LOAD}, '') <> child.{LOAD}"
        )
        if unjoined:
            rows = _arrow(
                [dict(zip(key, row, strict=True)) for row in unjoined], dict.fromkeys(key, Kind.TEXT)
            )
            self._commit(name, lambda table: _merge(table, rows, key).when_matched_delete().execute())

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query, in DataFusion's SQL."""
        import duckdb  # at the top of the file, DuckDB 2.0 would complain of leaks when the process ends
        from deltalake import QueryBuilder

        builder = QueryBuilder()
        for name in TABLES:
            if name in query:
                builder.register(name, self._open(name))
        # Through DuckDB, for deltalake's own reader holds the GIL for as long as a storage takes to answer.
        with duckdb.connect() as db:
            db.register("found", builder.execute(query))
            return db.execute("FROM found").fetchall()

    def _open(self, name: str) -> DeltaTable:
        from deltalake import DeltaTable

        return DeltaTable(f"{self._root}/{name}", storage_options=_storage_options())


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _storage_options() -> dict[str, str]:
    """What deltalake does not read of a configuration that fsspec understands: S3 without TLS."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    return {"AWS_ALLOW_HTTP": "true"} if endpoint.startswith("http://") else {}


def _once() -> CommitProperties:
    """A commit fails if there is a newer version, also where deltalake takes that for no conflict."""
    from deltalake import CommitProperties

    return CommitProperties(max_commit_retries=0)


def _columns(table: DeltaTable) -> dict[str, Kind | None]:
    """The columns of a table but for `_load`; a kind of None is one that is none of ours."""
    types = {field.name: str(getattr(field.type, "type", "")) for field in table.schema().fields}
    return {
        folded(name): _KINDS.get(type_) if name == folded(name) else None
        for name, type_ in types.items()
        if name != LOAD
    }


def _commit_nothing(table: DeltaTable) -> None:
    """Show that the table can be written."""
    table.create_write_transaction([], mode="append", schema=table.schema(), commit_properties=_once())


def _join_files(table: DeltaTable) -> None:
    table.optimize.compact(commit_properties=_once())
    table.vacuum(dry_run=False)


def _merge(table: DeltaTable, rows: Table, key: Sequence[str], *, merge_schema: bool = False) -> TableMerger:
    return table.merge(
        rows,
        " AND ".join(f"old.{column} = new.{column}" for column in key),
        source_alias="new",
        target_alias="old",
        merge_schema=merge_schema,
        commit_properties=_once(),
    )


def _arrow(rows: Sequence[Mapping[str, object]], kinds: Mapping[str, Kind]) -> Table:
    from arro3.core import Array, DataType, Table

    types = {
        Kind.TEXT: DataType.utf8(),
        Kind.NUMBER: DataType.float64(),
        Kind.INTEGER: DataType.int64(),
        Kind.BOOLEAN: DataType.bool(),
        Kind.TIMESTAMP: DataType.int64(),
    }
    columns: dict[str, Any] = {}
    for column, kind in kinds.items():
        values: list[Any] = [row.get(column) for row in rows]
        if kind is Kind.TIMESTAMP:
            values = [(moment - _EPOCH) // _MICROSECOND if moment else None for moment in values]
        columns[column] = Array(values, types[kind])
        if kind is Kind.TIMESTAMP:
            columns[column] = columns[column].cast(DataType.timestamp("us"))
    return Table.from_pydict(columns)
