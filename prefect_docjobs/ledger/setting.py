"""Which ledger this process uses."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from prefect_docjobs.errors import ConfigurationError

if TYPE_CHECKING:
    from prefect_docjobs.ledger.bodies import Bodies
    from prefect_docjobs.ledger.store import Ledger

LEASE = 60.0
"""Seconds after which the work of a process that died may be taken over."""


def address() -> str | None:
    """Where the ledger is, or None for none.

    `PREFECT_DOCJOBS_LEDGER` is a path or `postgresql://…`; empty, there is none. By default it is a file in
    the Prefect home, `docjobs/ledger.db`.
    """
    home = os.environ.get("PREFECT_HOME") or "~/.prefect"
    return os.environ.get("PREFECT_DOCJOBS_LEDGER", f"{home}/docjobs/ledger.db").strip() or None


def lease() -> float:
    """Seconds, from `PREFECT_DOCJOBS_LEDGER_LEASE`; 60 by default."""
    given = os.environ.get("PREFECT_DOCJOBS_LEDGER_LEASE", "").strip() or str(LEASE)
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 1.0 <= seconds <= 86_400.0:
        raise ConfigurationError("PREFECT_DOCJOBS_LEDGER_LEASE must be 1 to 86400 (seconds).")
    return seconds


@asynccontextmanager
async def open_ledger(
    bodies: Bodies | None = None, readable: Sequence[Bodies] = ()
) -> AsyncIterator[Ledger | None]:
    """The ledger of this process's settings, opened for the running loop; None where there is none.

    Args:
        bodies: Where large results go; see `Ledger`.
        readable: Where they may be as well.

    Raises:
        ConfigurationError: The settings are wrong.
        LedgerUnavailable: It cannot be opened.
    """
    where = address()
    if where is None:
        yield None
        return
    from prefect_docjobs.ledger.store import Ledger  # importing SQLAlchemy takes 0.2 s

    async with Ledger(where, lease=lease(), bodies=bodies, readable=readable) as ledger:
        yield ledger
