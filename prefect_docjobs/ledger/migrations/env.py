"""Runs the migrations on the connection that it is handed; the caller holds the lock and commits."""

from __future__ import annotations

from alembic import context

from prefect_docjobs.ledger.schema import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
