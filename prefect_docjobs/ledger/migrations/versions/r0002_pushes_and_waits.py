"""The table of pushes that were received, and the table of flow runs that wait without a process."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make both tables."""
    op.create_table("docjobs_pushes", *_push_columns(), sqlite_autoincrement=True)
    op.create_index("docjobs_pushes_account", "docjobs_pushes", ["account", "id"])
    op.create_index("docjobs_pushes_expires_at", "docjobs_pushes", ["expires_at"])
    op.create_table(
        "docjobs_suspensions",
        sa.Column("id", sa.String(128), primary_key=True),
        sa.Column("flow_run_id", sa.String(64), nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("refs", sa.LargeBinary(), nullable=False),
        sa.Column("document_timeout", sa.Float(53)),
        sa.Column("deadline", sa.Float(53)),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("lease_until", sa.Float(53), nullable=False),
        sa.Column("created_at", sa.Float(53), nullable=False),
        sa.Column("ended_at", sa.Float(53)),
    )
    op.create_index("docjobs_suspensions_state", "docjobs_suspensions", ["state"])
    op.create_index("docjobs_suspensions_flow_run_id", "docjobs_suspensions", ["flow_run_id"])


def _push_columns() -> list[sa.Column[object]]:
    return [
        sa.Column("id", _BIG, primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False, unique=True),
        sa.Column("account", sa.String(512), nullable=False),
        sa.Column("job_id", sa.Text()),
        sa.Column("alias", sa.Text()),
        sa.Column("state", sa.String(16)),
        sa.Column("raw_state", sa.Text()),
        sa.Column("error", sa.Text()),
        sa.Column("received_at", sa.Float(53), nullable=False),
        sa.Column("expires_at", sa.Float(53), nullable=False),
        sa.Column("body_size", _BIG),
        sa.Column("body", sa.LargeBinary()),
    ]
