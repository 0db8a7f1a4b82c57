"""Parquet files in a folder as a destination, on a disk or in an object storage.

A chunk is a part: one file in each of `documents/`, `fields/` and `line_items/`. Parts never change. When a
document of a part is replaced, its other rows move to the new part, and the old one goes. `_manifest.json`
says which parts count, and is written last.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import anyio.to_thread

from prefect_docjobs.loading.columns import Found, Placed, Row, placed
from prefect_docjobs.loading.duckdb_rows import add_columns, create_table, insert, kinds_of
from prefect_docjobs.loading.errors import DestinationUnavailable
from prefect_docjobs.loading.kinds import Kind
from prefect_docjobs.loading.manifest import NAME, STATE, Manifest, new_part
from prefect_docjobs.loading.objects import Objects
from prefect_docjobs.loading.rows import Chunk
from prefect_docjobs.loading.store import Clock, Loaded, Seen, now
from prefect_docjobs.loading.tables import DOCUMENTS, FILES, OF_A_DOCUMENT, TABLES

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_T = TypeVar("_T")
_LOADED = ("sha256", "document", "reason", "phase", "error", "ref")
_STATE_COLUMNS: Mapping[str, Kind] = dict.fromkeys(("job", "part", *_LOADED), Kind.TEXT)


class ParquetStore:
    """The tables as folders of Parquet files.

    Args:
        address: The folder: a path, or a URL that fsspec knows.
        patience: Seconds to wait while another load changes it.
        clock: Tells when rows are written.
    """

    def __init__(self, address: str, *, patience: float = 60.0, clock: Clock = now) -> None:
        self._objects = Objects(address, patience=patience)
        self._clock = clock

    def owns(self, source: str) -> bool:
        """See `Store.owns`: all that is in the folder, and the folder itself."""
        return self._objects.holds(source)

    async def prepare(self) -> None:
        """See `Store.prepare`. What a load that died has left is deleted."""
        await self._run(_Lake.tidy)

    async def seen(self, job: str, address: str) -> Mapping[str, Seen]:
        """See `Store.seen`."""
        query = (
            "SELECT source_sha256, version, document IS NOT NULL, reason "
            "FROM files LEFT JOIN state USING (job, sha256) WHERE job = ? AND starts_with(source, ?)"
        )
        rows = await self._run(lambda lake: lake.db.execute(query, [job, address]).fetchall())
        return {source: Seen(*facts) for source, *facts in rows}

    async def loaded(self, job: str, hashes: Sequence[str]) -> Mapping[str, Loaded]:
        """See `Store.loaded`."""
        query = (
            f"SELECT {', '.join(_LOADED)} FROM state "  # noqa: S608
            "WHERE job = ? AND sha256 IN (SELECT unnest(CAST(? AS VARCHAR[])))"
        )
        rows = await self._run(lambda lake: lake.db.execute(query, [job, list(hashes)]).fetchall())
        return {sha256: Loaded(*facts) for sha256, *facts in rows}

    async def write(self, chunk: Chunk) -> int:
        """See `Store.write`."""
        return await self._run(lambda lake: lake.write(chunk, self._clock()))

    async def _run(self, work: Callable[[_Lake], _T]) -> _T:
        return await anyio.to_thread.run_sync(self._with_lake, work)

    def _with_lake(self, work: Callable[[_Lake], _T]) -> _T:
        import duckdb

        with self._lake() as lake:
            try:
                return work(lake)
            except duckdb.Error as problem:
                raise DestinationUnavailable(f"{self._objects.address} cannot be used: {problem}") from None

    @contextmanager
    def _lake(self) -> Iterator[_Lake]:
        import duckdb  # see duckdb_store

        with (
            self._objects.locked() as check,
            tempfile.TemporaryDirectory(prefix="docjobs-") as folder,
            duckdb.connect() as db,
        ):
            content = self._objects.read(NAME)
            manifest = Manifest.read(content, self._objects.address) if content else Manifest()
            lake = _Lake(self._objects, manifest, db, Path(folder), check)
            lake.open()
            yield lake


@dataclass(frozen=True)
class _Lake:
    """The folder while nobody else changes it.

    Attributes:
        objects: The files.
        manifest: Which of them count.
        db: In memory: `state` and `files`, and what is about to be written.
        here: A folder of this machine, for files on their way.
        check: To be called before a change counts.
    """

    objects: Objects
    manifest: Manifest
    db: DuckDBPyConnection
    here: Path
    check: Callable[[], None]

    def open(self) -> None:
        """Read what is known of documents and files."""
        for table, folder, columns in (("state", STATE, _STATE_COLUMNS), (FILES, FILES, TABLES[FILES])):
            create_table(self.db, table, columns)
            if self.manifest.state:
                copy = self._got(folder, self.manifest.state)
                self.db.execute(f"INSERT INTO {table} BY NAME SELECT * FROM read_parquet(?)", [str(copy)])  # noqa: S608

    def tidy(self) -> None:
        """Delete parts that do not count, and show that the folder can be written."""
        for folder in (STATE, *TABLES):
            for name in self.objects.names(folder):
                if not self.manifest.counts(folder, name):
                    self.objects.remove(f"{folder}/{name}")
        self._commit()

    def write(self, chunk: Chunk, at: datetime) -> int:
        """See `Store.write`."""
        part, found, left_out = new_part(), chunk.written(at), 0
        self._note_replaced(chunk)
        old = self._replaced_parts()
        gone = [f"{table}/{name}.parquet" for name in old for table in self.manifest.parts[name]]
        gone += [f"{folder}/{self.manifest.state}.parquet" for folder in (STATE, FILES)]
        if chunk.hashes:
            tables = []
            for name in OF_A_DOCUMENT:
                rows = placed(name, found[name], self.manifest.kinds(name))
                left_out += rows.left_out
                if self._write_part(name, part, rows, old):
                    tables.append(name)
            self.manifest.parts[part] = tables
        for name in old:
            del self.manifest.parts[name]
        self._update_state(chunk, found[FILES], part, old)
        self._put("SELECT * FROM state", STATE, part)
        self._put("SELECT * FROM files", FILES, part)
        self.manifest.state = part
        self._commit()
        for name in gone:
            with suppress(DestinationUnavailable):  # it counts no more, and the next load deletes it
                self.objects.remove(name)
        return left_out

    def _commit(self) -> None:
        self.check()
        self.objects.replace(NAME, self.manifest.model_dump_json(indent=1).encode())

    def _note_replaced(self, chunk: Chunk) -> None:
        keys = {"sha256": Kind.TEXT, "job": Kind.TEXT}
        create_table(self.db, "replaced", keys)
        rows: list[Row] = [{"sha256": sha256, "job": chunk.job.key} for sha256 in chunk.hashes]
        insert(self.db, "replaced", Placed(rows, {}), {**keys})

    def _replaced_parts(self) -> list[str]:
        rows = self.db.execute("SELECT DISTINCT part FROM state SEMI JOIN replaced USING (sha256, job)")
        return [part for (part,) in rows.fetchall()]

    def _write_part(self, name: str, part: str, rows: Placed, old: Iterable[str]) -> bool:
        """Write the rows of a table, and those of old parts that stay; whether there are any."""
        if rows.new:
            self.manifest.add_columns(name, rows.new)
        kinds = self.manifest.kinds(name)
        columns = {column: kinds[column] or Kind.TEXT for column in (*TABLES[name], *rows.columns())}
        create_table(self.db, name, columns)
        insert(self.db, name, rows, kinds)
        for before in old:
            if name in self.manifest.parts[before]:
                self._keep(name, self._got(name, before), kinds)
        count = self.db.execute(f"SELECT count(*) FROM {name}").fetchone()  # noqa: S608
        if not count or not count[0]:
            return False
        self._put(f"SELECT * FROM {name}", name, part)  # noqa: S608
        return True

    def _keep(self, name: str, copy: Path, kinds: Mapping[str, Kind | None]) -> None:
        """Take over the rows of an old part that are not replaced."""
        source = f"read_parquet({_literal(copy)})"
        there = kinds_of(self.db, name)
        missing = [column for column in kinds_of(self.db, f"FROM {source}") if column not in there]
        add_columns(self.db, name, {column: kinds.get(column) or Kind.TEXT for column in missing})
        self.db.execute(
            f"INSERT INTO {name} BY NAME SELECT * FROM {source} ANTI JOIN replaced USING (sha256, job)"  # noqa: S608
        )

    def _update_state(self, chunk: Chunk, files: Iterable[Found], part: str, old: Sequence[str]) -> None:
        self.db.execute("DELETE FROM state WHERE (sha256, job) IN (SELECT (sha256, job) FROM replaced)")
        self.db.execute(
            "UPDATE state SET part = ? WHERE part IN (SELECT unnest(CAST(? AS VARCHAR[])))", [part, list(old)]
        )
        rows: list[Row] = [
            {"part": part, "job": chunk.job.key, **{name: found.fixed.get(name) for name in _LOADED}}
            for found in chunk.tables[DOCUMENTS]
        ]
        insert(self.db, "state", Placed(rows, {}), {**_STATE_COLUMNS})
        self.db.execute(
            "DELETE FROM files WHERE job = ? AND source_sha256 IN (SELECT unnest(CAST(? AS VARCHAR[])))",
            [chunk.job.key, chunk.sources],
        )
        insert(self.db, FILES, placed(FILES, files, {**TABLES[FILES]}), {**TABLES[FILES]})

    def _put(self, query: str, folder: str, part: str) -> None:
        copy = self.here / f"{folder}-{part}-new.parquet"
        self.db.execute(f"COPY ({query}) TO {_literal(copy)} (FORMAT parquet, COMPRESSION zstd)")
        self.objects.put(copy, f"{folder}/{part}.parquet")

    def _got(self, folder: str, part: str) -> Path:
        copy = self.here / f"{folder}-{part}.parquet"
        self.objects.get(f"{folder}/{part}.parquet", copy)
        return copy


def _literal(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
