"""Bringing a database to the newest version of its tables; a look first, so that Alembic is rarely needed.

Migrations only add: tables, and columns that are nullable or have a server default. So workers of an older
version go on working beside a newer one. A migration that an older version cannot live with, such as one that
changes what a column means, raises `minimum_reader` in the table `docjobs_compatibility` to its own revision.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.ledger.database import Database
from prefect_docjobs.ledger.schema import COMPATIBILITY_TABLE, REVISION, VERSION_TABLE

_SCRIPTS = Path(__file__).with_name("migrations")
_LOCK = 0x646F636A6F6273  # "docjobs": whoever migrates holds this advisory lock


async def migrate(database: Database) -> None:
    """Make or upgrade the tables where needed. Of several processes at once, one does and the others wait.

    A database that a newer version has upgraded stays as it is, and is used.

    Raises:
        ConfigurationError: A newer version made the database, and this version is too old for it.
    """
    if not await database.run(_is_ready):
        await database.run(_upgrade, writes=True)


def _is_ready(connection: Connection) -> bool:
    """Whether the tables are those of this version, or of a newer one that this version can work with."""
    found = _value(connection, VERSION_TABLE, "version_num")
    if found is None or found < REVISION:
        return False
    if found > REVISION:
        _check_minimum(connection, found)
    return True


def _check_minimum(connection: Connection, found: str) -> None:
    minimum = _value(connection, COMPATIBILITY_TABLE, "minimum_reader") or found
    if minimum > REVISION:
        raise ConfigurationError(
            f"The ledger is of version {found} and needs version {minimum} at least; this package knows "
            f"versions up to {REVISION}. Upgrade prefect-docjobs, or give it a ledger of its own."
        )


def _value(connection: Connection, table: str, column: str) -> str | None:
    if not inspect(connection).has_table(table):
        return None
    found: str | None = connection.execute(text(f"SELECT {column} FROM {table}")).scalar()  # noqa: S608
    return found


def _upgrade(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    if _is_ready(connection):  # again: another process may have been faster
        return
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    command.upgrade(config, "head")
