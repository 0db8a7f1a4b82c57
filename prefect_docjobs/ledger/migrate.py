"""Bringing a database to the newest version of its tables; a look first, so that Alembic is rarely needed."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.ledger.database import Database
from prefect_docjobs.ledger.schema import REVISION, VERSION_TABLE

_SCRIPTS = Path(__file__).with_name("migrations")
_LOCK = 0x646F636A6F6273  # "docjobs": whoever migrates holds this advisory lock


async def migrate(database: Database) -> None:
    """Make or upgrade the tables where needed. Of several processes at once, one does and the others wait.

    Raises:
        ConfigurationError: The database was made by a newer version of this package.
    """
    if await database.run(_version) != REVISION:
        await database.run(_upgrade, writes=True)


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str | None = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608
    return found


def _upgrade(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    found = _version(connection)  # again: another process may have been faster
    if found == REVISION:
        return
    if found is not None and found > REVISION:
        raise ConfigurationError(
            f"The ledger is of version {found}; this package knows versions up to {REVISION}. "
            "Upgrade prefect-docjobs, or give it a ledger of its own."
        )
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    command.upgrade(config, "head")
