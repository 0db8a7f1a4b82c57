"""Where results go, as one setting says it."""

from __future__ import annotations

import re
from pathlib import Path

from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.loading.store import Clock, Store, now

_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}", re.ASCII)
_WAYS = "duckdb:FILE, postgresql://USER@HOST/DATABASE or parquet:FOLDER"


def open_store(address: str, schema: str | None = None, *, clock: Clock = now) -> Store:
    """The destination that an address names; nothing is opened or made yet.

    | address | destination |
    |---|---|
    | `duckdb:invoices.duckdb` or `invoices.duckdb` | a file of DuckDB, in the schema `main` |
    | `duckdb:///invoices.duckdb`, `duckdb:////srv/invoices.duckdb` | the same, as SQLAlchemy writes it |
    | `postgresql://user:password@host/database` | PostgreSQL, in the schema `docjobs` |
    | `parquet:lake/invoices`, `parquet:s3://bucket/invoices` | Parquet files in a folder that fsspec knows |

    Args:
        address: Where to; it may hold a password.
        schema: Another schema than these. Parquet files have none.
        clock: Tells when rows are written.

    Raises:
        ConfigurationError: It is none of these.
    """
    if schema is not None and not _SCHEMA.fullmatch(schema):
        raise ConfigurationError("schema: give a name of a-z, 0-9 and underscores.")
    scheme, found, rest = address.partition(":")
    if scheme in ("postgresql", "postgres"):
        from prefect_docjobs.loading.postgresql_store import PostgreSqlStore

        return PostgreSqlStore(address, schema or "docjobs", clock=clock)
    if scheme == "duckdb" and rest:
        return _duckdb(rest.removeprefix("///") if rest.startswith("///") else rest, schema, clock)
    if scheme == "parquet" and rest:
        from prefect_docjobs.loading.parquet_store import ParquetStore

        if schema is not None:
            raise ConfigurationError("schema: Parquet files have none. Give another folder.")
        return ParquetStore(rest, clock=clock)
    if not found and address.endswith((".duckdb", ".db")):
        return _duckdb(address, schema, clock)
    raise ConfigurationError(f"destination: this is none. Give {_WAYS}.")


def _duckdb(path: str, schema: str | None, clock: Clock) -> Store:
    from prefect_docjobs.loading.duckdb_store import DuckDbStore

    return DuckDbStore(Path(path), schema or "main", clock=clock)
