"""Destinations of loads, and a way to read them: the same query for DuckDB, PostgreSQL and Delta tables."""

from __future__ import annotations

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest
from deltalake import DeltaTable, QueryBuilder
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from prefect_docjobs.loading import Store, open_store
from prefect_docjobs.loading.columns import TABLES

KINDS = ("duckdb", pytest.param("postgresql", marks=pytest.mark.xdist_group("postgres")), "delta")
"""For the parameters of a fixture."""


@dataclass(frozen=True)
class Warehouse:
    """A destination that is empty at first.

    Attributes:
        kind: `duckdb`, `postgresql` or `delta`.
        address: As `open_store` takes it.
        schema: Likewise.
    """

    kind: str
    address: str
    schema: str | None = None

    def store(self) -> Store:
        return open_store(self.address, self.schema)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Run a query in which `{documents}` is the table, and so on."""
        return _READERS[self.kind](self, query.format_map({name: self._table(name) for name in TABLES}))

    def _table(self, name: str) -> str:
        if self.kind == "delta" and name in ("fields", "line_items"):
            return f"(SELECT child.* FROM {name} AS child JOIN documents USING (sha256, job, _load))"
        return name if self.schema is None else f"{self.schema}.{name}"

    def columns(self, table: str) -> dict[str, str]:
        """The columns of a table and their types, as the destination calls them."""
        if self.kind == "delta":
            types = {each.name: each.type.type for each in delta_table(self.address, table).schema().fields}
            return {name: type_ for name, type_ in types.items() if name != "_load"}
        if self.kind != "postgresql":
            return dict(self.rows(f"SELECT column_name, column_type FROM (DESCRIBE FROM {{{table}}})"))
        where = f"table_schema = '{self.schema}' AND table_name = '{table}'"
        return dict(self.rows(f"SELECT column_name, data_type FROM information_schema.columns WHERE {where}"))


def _read_file(warehouse: Warehouse, query: str) -> list[tuple[Any, ...]]:
    with closing(duckdb.connect(warehouse.address.removeprefix("duckdb:"), read_only=True)) as db:
        return db.execute(query).fetchall()


def _read_delta(warehouse: Warehouse, query: str) -> list[tuple[Any, ...]]:
    builder = QueryBuilder()
    for name in TABLES:
        builder.register(name, delta_table(warehouse.address, name))
    rows = builder.execute(query).read_all()
    return list(zip(*(rows.column(name).to_pylist() for name in rows.column_names), strict=True))


def delta_table(address: str, name: str) -> DeltaTable:
    options = {"AWS_ALLOW_HTTP": "true"} if "s3://" in address else {}
    return DeltaTable(f"{address.removeprefix('delta:')}/{name}", storage_options=options)


def _read_server(warehouse: Warehouse, query: str) -> list[tuple[Any, ...]]:
    async def fetched() -> list[tuple[Any, ...]]:
        engine = create_async_engine(make_url(warehouse.address).set(drivername="postgresql+asyncpg"))
        async with engine.connect() as db:
            rows = [tuple(row) for row in await db.execute(text(query))]
        await engine.dispose()
        return rows

    with ThreadPoolExecutor(1) as other_thread:  # the test's own may have a loop that runs
        return other_thread.submit(asyncio.run, fetched()).result()


_READERS = {"duckdb": _read_file, "delta": _read_delta, "postgresql": _read_server}


def new_warehouse(kind: str, folder: Path, request: pytest.FixtureRequest) -> Warehouse:
    """An empty one; PostgreSQL comes from the fixture `postgres_url`."""
    if kind == "duckdb":
        return Warehouse(kind, f"duckdb:{folder / 'warehouse.duckdb'}")
    if kind == "delta":
        return Warehouse(kind, f"delta:{folder / 'warehouse'}")
    return Warehouse(kind, request.getfixturevalue("postgres_url"), f"t_{secrets.token_hex(4)}")
