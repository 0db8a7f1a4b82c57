"""The tables, as the newest migration leaves them, and the database's clock."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction

REVISION = "0004"
"""The newest migration that this version of the package knows."""

VERSION_TABLE = "docjobs_version"
COMPATIBILITY_TABLE = "docjobs_compatibility"

MAX_ALIAS = 512
"""Characters of an alias that is looked for; PostgreSQL cannot index a text of 2,704 bytes or more."""

metadata = MetaData()

_Id = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by itself for INTEGER only
_Time = Float(53)  # seconds since 1970, by the database's clock
_Long = BigInteger().with_variant(Integer, "sqlite")
_HAS_ALIAS = text("alias IS NOT NULL")  # most services know none

jobs = Table(
    "docjobs_jobs",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("key", String(128), nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("claim", String(32), nullable=False),
    Column("version", Integer, nullable=False),
    Column("owner", String(255), nullable=False),
    Column("lease_until", _Time, nullable=False),
    Column("provider", String(64), nullable=False),
    Column("base_url", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("product", Text, nullable=False),
    Column("document_name", Text, nullable=False),
    Column("document_sha256", String(64)),
    Column("document_size", _Long),
    Column("flow_run_id", String(64)),
    Column("task_run_id", String(64)),
    Column("block", Text),
    Column("job_id", Text),
    Column("ref", Text),
    Column("reason", String(32)),
    Column("error", Text),
    Column("candidates", Text),
    Column("pages", Integer),
    Column("credits", Float(53)),
    Column("quota_remaining", Float(53)),
    Column("intended_at", _Time, nullable=False),
    Column("submitted_at", _Time),
    Column("done_at", _Time),
    Column("fetched_at", _Time),
    Column("updated_at", _Time, nullable=False),
    Column("content_type", Text),
    Column("body_size", _Long),
    Column("body_place", Text),
    # Last, so that SQLite reads the other columns without it.
    Column("body", LargeBinary),
    # Of `ref`, for a push that names nothing else. It is behind the body, so no question reads it.
    Column("alias", Text),
    Index("docjobs_jobs_alias", "alias", sqlite_where=_HAS_ALIAS, postgresql_where=_HAS_ALIAS),
    Index("docjobs_jobs_job_id", "job_id"),
    Index("docjobs_jobs_flow_run_id", "flow_run_id"),
    Index("docjobs_jobs_state", "state"),
    sqlite_autoincrement=True,  # the id of a deleted row is not used again
)

tokens = Table(
    "docjobs_tokens",
    metadata,
    Column("account", String(512), primary_key=True),
    Column("kind", String(32), primary_key=True),
    Column("free_at", _Time, nullable=False),
    Column("paused_until", _Time, nullable=False),
)

pushes = Table(
    "docjobs_pushes",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("digest", String(64), nullable=False, unique=True),  # of account and body: a replay is the same
    Column("account", String(512), nullable=False),
    Column("job_id", Text),
    Column("alias", Text),
    Column("state", String(16)),
    Column("raw_state", Text),
    Column("error", Text),
    Column("received_at", _Time, nullable=False),
    Column("expires_at", _Time, nullable=False),
    Column("body_size", _Long),
    Column("body", LargeBinary),
    Index("docjobs_pushes_account", "account", "id"),
    Index("docjobs_pushes_expires_at", "expires_at"),
    sqlite_autoincrement=True,
)

suspensions = Table(
    "docjobs_suspensions",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("flow_run_id", String(64), nullable=False),
    Column("job", Text, nullable=False),
    Column("refs", LargeBinary, nullable=False),  # compressed JSON
    Column("document_timeout", _Time),
    Column("deadline", _Time),
    Column("state", String(16), nullable=False),
    Column("owner", String(255), nullable=False),
    Column("lease_until", _Time, nullable=False),
    Column("created_at", _Time, nullable=False),
    Column("ended_at", _Time),
    Index("docjobs_suspensions_state", "state"),
    Index("docjobs_suspensions_flow_run_id", "flow_run_id"),
)

compatibility = Table(
    COMPATIBILITY_TABLE,
    metadata,
    Column("minimum_reader", String(32), primary_key=True),  # one row: the oldest REVISION that may work here
)

pauses = Table(
    "docjobs_pauses",
    metadata,
    Column("account", String(512), primary_key=True),
    Column("provider", String(64), nullable=False),
    Column("base_url", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("name", Text),
    Column("reason", Text),
    Column("paused_by", Text),
    Column("paused_at", _Time, nullable=False),
    Column("paused_until", _Time),
)


class now(GenericFunction[float]):  # noqa: N801 (named as the SQL function that it is)
    """Seconds since 1970 by the database's clock: at this moment, not at the transaction's start."""

    type = _Time
    name = "docjobs_now"
    inherit_cache = True


@compiles(now, "sqlite")
def _now_in_sqlite(_element: Any, _compiler: Any, **_options: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"  # to the millisecond; all that 3.31 knows


@compiles(now, "postgresql")
def _now_in_postgresql(_element: Any, _compiler: Any, **_options: Any) -> str:
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION)"
