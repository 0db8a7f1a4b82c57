"""The table of jobs and the table of request tokens."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make both tables. What a later version changes is a migration of its own; this one stays."""
    op.create_table("docjobs_jobs", *_job_columns(), sqlite_autoincrement=True)
    for name in ("job_id", "flow_run_id", "state"):
        op.create_index(f"docjobs_jobs_{name}", "docjobs_jobs", [name])
    op.create_table(
        "docjobs_tokens",
        sa.Column("account", sa.String(512), primary_key=True),
        sa.Column("kind", sa.String(32), primary_key=True),
        sa.Column("free_at", sa.Float(53), nullable=False),
        sa.Column("paused_until", sa.Float(53), nullable=False),
    )


def _job_columns() -> list[sa.Column[object]]:
    return [
        sa.Column("id", _BIG, primary_key=True),
        sa.Column("key", sa.String(128), nullable=False, unique=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("claim", sa.String(32), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("lease_until", sa.Float(53), nullable=False),
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("base_url", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("product", sa.Text(), nullable=False),
        sa.Column("document_name", sa.Text(), nullable=False),
        sa.Column("document_sha256", sa.String(64)),
        sa.Column("document_size", _BIG),
        sa.Column("flow_run_id", sa.String(64)),
        sa.Column("task_run_id", sa.String(64)),
        sa.Column("block", sa.Text()),
        *_outcome_columns(),
    ]


def _outcome_columns() -> list[sa.Column[object]]:
    return [
        sa.Column("job_id", sa.Text()),
        sa.Column("ref", sa.Text()),
        sa.Column("reason", sa.String(32)),
        sa.Column("error", sa.Text()),
        sa.Column("candidates", sa.Text()),
        sa.Column("pages", sa.Integer()),
        sa.Column("credits", sa.Float(53)),
        sa.Column("quota_remaining", sa.Float(53)),
        sa.Column("intended_at", sa.Float(53), nullable=False),
        sa.Column("submitted_at", sa.Float(53)),
        sa.Column("done_at", sa.Float(53)),
        sa.Column("fetched_at", sa.Float(53)),
        sa.Column("updated_at", sa.Float(53), nullable=False),
        sa.Column("content_type", sa.Text()),
        sa.Column("body_size", _BIG),
        sa.Column("body_place", sa.Text()),
        sa.Column("body", sa.LargeBinary()),
    ]
