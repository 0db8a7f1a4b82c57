"""Documents in, tables out: what a load needs to know of sources, rows and destinations, without Prefect."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.loading.delta import DeltaStore
from prefect_docjobs.loading.rows import Chunk, JobIdentity, source_sha256
from prefect_docjobs.loading.sources import Fetched, SourceFile, SourceFolder, public_address, refuse_password
from prefect_docjobs.loading.sql import DuckDbStore, PostgreSqlStore, export_parquet
from prefect_docjobs.loading.store import Clock, DestinationUnavailable, Loaded, Seen, Store, now

__all__ = [
    "Chunk",
    "DestinationUnavailable",
    "Fetched",
    "JobIdentity",
    "Loaded",
    "Seen",
    "SourceFile",
    "SourceFolder",
    "Store",
    "export_parquet",
    "open_store",
    "public_address",
    "refuse_password",
    "source_sha256",
]


def open_store(address: str, schema: str | None = None, *, clock: Clock = now) -> Store:
    """The destination that an address names; nothing is opened or made yet.

    | address | destination |
    |---|---|
    | `duckdb:invoices.duckdb` or `invoices.duckdb` | a file of DuckDB, in the schema `main` |
    | `duckdb:///invoices.duckdb`, `duckdb:////srv/invoices.duckdb` | the same, as SQLAlchemy writes it |
    | `postgresql://user:password@host/database` | PostgreSQL, in the schema `docjobs` |
    | `delta:lake/invoices`, `delta:s3://bucket/invoices` | Delta tables in a folder |

    Args:
        address: Where to; it may hold a password.
        schema: Another schema than these. Delta tables have none.
        clock: Gives the time when rows are written.

    Raises:
        ConfigurationError: It is none of these, or its package is not installed.
    """
    if schema is not None and not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", schema, re.ASCII):
        raise ConfigurationError("schema: give a name of a-z, 0-9 and underscores.")
    scheme, found, rest = address.partition(":")
    if scheme in ("postgresql", "postgres"):
        return PostgreSqlStore(address, schema or "docjobs", clock=clock)
    if scheme == "delta" and rest:
        if schema is not None:
            raise ConfigurationError("schema: Delta tables have none. Give another folder.")
        _require(("deltalake", "duckdb"), "delta")
        return DeltaStore(rest, clock=clock)
    path = (
        rest if scheme == "duckdb" else address if not found and address.endswith((".duckdb", ".db")) else ""
    )
    if not path:
        ways = "duckdb:FILE, postgresql://USER@HOST/DATABASE or delta:FOLDER"
        raise ConfigurationError(f"destination: this is none. Give {ways}.")
    _require(("duckdb",), "etl")
    return DuckDbStore(Path(path.removeprefix("///")), schema or "main", clock=clock)


def _require(packages: tuple[str, ...], extra: str) -> None:
    if not all(map(find_spec, packages)):
        raise ConfigurationError(
            f"destination: this needs {' and '.join(packages)}: pip install 'prefect-docjobs[{extra}]'."
        )
