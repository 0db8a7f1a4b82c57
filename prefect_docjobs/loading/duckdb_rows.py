"""DuckDB as such: tables of ours in a connection, and rows into them. Parquet files are made with it, too."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from prefect_docjobs.loading.columns import Placed, Row
from prefect_docjobs.loading.kinds import Kind

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

TYPES: Mapping[Kind, str] = MappingProxyType(
    {
        Kind.TEXT: "VARCHAR",
        Kind.NUMBER: "DOUBLE",
        Kind.INTEGER: "BIGINT",
        Kind.BOOLEAN: "BOOLEAN",
        Kind.TIMESTAMP: "TIMESTAMP",
    }
)
_KINDS: Mapping[str, Kind] = MappingProxyType({name: kind for kind, name in TYPES.items()})
_SMALL = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def quoted(name: str) -> str:
    """A name as SQL takes it."""
    return '"' + name.replace('"', '""') + '"'


def create_table(
    db: DuckDBPyConnection, name: str, columns: Mapping[str, Kind], key: Sequence[str] = ()
) -> None:
    """Make a table, unless it is there. `name` is quoted already."""
    parts = [f"{quoted(column)} {TYPES[kind]}" for column, kind in columns.items()]
    if key:
        parts.append(f"PRIMARY KEY ({', '.join(map(quoted, key))})")
    db.execute(f"CREATE TABLE IF NOT EXISTS {name} ({', '.join(parts)})")


def add_columns(db: DuckDBPyConnection, name: str, columns: Mapping[str, Kind]) -> None:
    """Add columns to a table. `name` is quoted already."""
    for column, kind in columns.items():
        db.execute(f"ALTER TABLE {name} ADD COLUMN {quoted(column)} {TYPES[kind]}")


def kinds_of(db: DuckDBPyConnection, name: str) -> dict[str, Kind | None]:
    """The columns of a table; a kind of None is one that is none of ours. `name` is quoted already.

    Names are in small letters, as ours are: DuckDB knows no other case, so a person's `Total` is our `total`.
    """
    rows = db.execute(f"SELECT column_name, column_type FROM (DESCRIBE {name})").fetchall()  # noqa: S608
    return {_folded(column): _KINDS.get(kind) for column, kind in rows}


def _folded(name: str) -> str:
    """As DuckDB compares names: of A to Z only, where Python would make a k of the sign for kelvins."""
    return name.translate(_SMALL)


def insert(db: DuckDBPyConnection, name: str, placed: Placed, kinds: Mapping[str, Kind | None]) -> None:
    """Insert rows, column by column: row by row DuckDB takes 50 times as long. `name` is quoted already."""
    columns = placed.columns()
    if not columns:
        return
    casts = (f"unnest(CAST(? AS {TYPES[kinds[column] or Kind.TEXT]}[]))" for column in columns)
    values = [_column(placed.rows, column) for column in columns]
    names = ", ".join(map(quoted, columns))
    db.execute(f"INSERT INTO {name} ({names}) SELECT {', '.join(casts)}", values)


def _column(rows: Iterable[Row], column: str) -> list[object]:
    return [row.get(column) for row in rows]
