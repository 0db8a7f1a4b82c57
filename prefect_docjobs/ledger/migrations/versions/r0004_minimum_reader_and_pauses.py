"""The oldest version that may work with this ledger, and the table of accounts that are paused."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make both tables. All migrations so far only add, so every version that checks this row may go on."""
    compatibility = op.create_table(
        "docjobs_compatibility", sa.Column("minimum_reader", sa.String(32), primary_key=True)
    )
    op.bulk_insert(compatibility, [{"minimum_reader": "0001"}])
    op.create_table(
        "docjobs_pauses",
        sa.Column("account", sa.String(512), primary_key=True),
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("base_url", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("name", sa.Text()),
        sa.Column("reason", sa.Text()),
        sa.Column("paused_by", sa.Text()),
        sa.Column("paused_at", sa.Float(53), nullable=False),
        sa.Column("paused_until", sa.Float(53)),
    )
