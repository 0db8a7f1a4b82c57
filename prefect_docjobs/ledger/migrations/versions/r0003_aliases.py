"""The alias of a job in a column of its own, so that a push that names nothing else finds it by an index."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_MOST = 512  # characters
_AT_ONCE = 1000  # rows

_JOBS = sa.table("docjobs_jobs", sa.column("id"), sa.column("state"), sa.column("ref"), sa.column("alias"))
# A push changes no record that is fetched, and to write those would mean to write their bodies again. But an
# alias that people chose may be another record's, too, and then neither is the one that is meant.
_CONCERNED = sa.or_(
    _JOBS.c.state.in_(["submitted", "done", "failed"]), _JOBS.c.ref.not_like('%"alias":"docjobs-%')
)
_NEXT = (
    sa.select(_JOBS.c.id, _JOBS.c.ref)
    .where(_JOBS.c.id > sa.bindparam("after"), _JOBS.c.ref.like('%"alias":"%'), _CONCERNED)
    .order_by(_JOBS.c.id)
    .limit(_AT_ONCE)
)
_FILL = sa.update(_JOBS).where(_JOBS.c.id == sa.bindparam("row_id")).values(alias=sa.bindparam("row_alias"))


def upgrade() -> None:
    """Add the column, fill it where a push may look for it, then make the index."""
    op.add_column("docjobs_jobs", sa.Column("alias", sa.Text()))
    connection = op.get_bind()
    after = 0
    while rows := connection.execute(_NEXT, {"after": after}).all():
        found = [{"row_id": row.id, "row_alias": alias} for row in rows if (alias := _alias_in(row.ref))]
        if found:
            connection.execute(_FILL, found)
        after = rows[-1].id
    has_alias = sa.text("alias IS NOT NULL")
    op.create_index(
        "docjobs_jobs_alias", "docjobs_jobs", ["alias"], sqlite_where=has_alias, postgresql_where=has_alias
    )


def _alias_in(ref: str) -> str | None:
    """What can be looked for. NUL and what UTF-8 cannot write are replaced, as in every column."""
    alias = json.loads(ref).get("alias")
    if not isinstance(alias, str) or not alias or len(alias) > _MOST:
        return None
    return "".join("_" if it == "\x00" or "\ud800" <= it <= "\udfff" else it for it in alias)
