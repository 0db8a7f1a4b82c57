"""Which ledger this process uses."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.ledger.errors import LedgerUnavailable

if TYPE_CHECKING:
    from prefect_docjobs.ledger.bodies import Bodies
    from prefect_docjobs.ledger.ledger import Ledger

LEASE = 60.0
"""Seconds after which the work of a process that died may be taken over."""

CLAIM_WAIT = 30.0
"""Seconds that a submit waits for a database that is away."""

_AWAY = 0.5  # seconds between two tries of a database that is away
_used: set[str] = set()


def address() -> str | None:
    """Where the ledger is, or None for none.

    `PREFECT_DOCJOBS_LEDGER` is a path or `postgresql://…`; empty, there is none. By default it is a file in
    the Prefect home, `docjobs/ledger.db`.
    """
    home = os.environ.get("PREFECT_HOME") or "~/.prefect"
    return os.environ.get("PREFECT_DOCJOBS_LEDGER", f"{home}/docjobs/ledger.db").strip() or None


def lease() -> float:
    """Seconds, from `PREFECT_DOCJOBS_LEDGER_LEASE`; 60 by default."""
    return _seconds("PREFECT_DOCJOBS_LEDGER_LEASE", LEASE, least=1.0)


def claim_wait() -> float:
    """Seconds that a submit waits for a ledger that is away: `PREFECT_DOCJOBS_LEDGER_WAIT`; 30 by default."""
    return _seconds("PREFECT_DOCJOBS_LEDGER_WAIT", CLAIM_WAIT, least=0.0)


def connections() -> int:
    """To the ledger's database, at most: `PREFECT_DOCJOBS_LEDGER_CONNECTIONS`; 4 by default."""
    return int(_number("PREFECT_DOCJOBS_LEDGER_CONNECTIONS", 4, least=2, most=100))


def _seconds(name: str, default: float, *, least: float) -> float:
    return _number(name, default, least=least, most=86_400, unit=" (seconds)")


def _number(name: str, default: float, *, least: float, most: float, unit: str = "") -> float:
    given = os.environ.get(name, "").strip() or str(default)
    try:
        number = float(given)
    except ValueError:
        number = -1.0
    if not least <= number <= most:
        raise ConfigurationError(f"{name} must be {least:g} to {most:g}{unit}.")
    return number


@asynccontextmanager
async def open_ledger(bodies: Bodies | None = None, readable: Sequence[Bodies] = ()) -> AsyncIterator[Ledger]:
    """The ledger of this process's settings, opened for the running loop; `Ledger.view` is for each call.

    Where it is switched off, it is one in memory: nobody else sees it, and it ends with the context.

    Args:
        bodies: Where large results go; see `Ledger`.
        readable: Where they may be as well.

    Raises:
        ConfigurationError: The settings are wrong.
        LedgerUnavailable: It cannot be opened.
    """
    from prefect_docjobs.ledger.ledger import Ledger  # importing SQLAlchemy takes 0.2 s

    where = address()
    async with AsyncExitStack() as stack:
        if where is None:
            yield await stack.enter_async_context(Ledger(None))
            return
        ledger = Ledger(
            where,
            lease=lease(),
            wait=claim_wait(),
            bodies=bodies,
            readable=readable,
            connections=connections(),
        )
        yield await _opened(ledger, where, stack)


async def _opened(ledger: Ledger, where: str, stack: AsyncExitStack) -> Ledger:
    """Open it; one that this process has used before is away rather than wrong, and is waited for."""
    give_up_at = anyio.current_time() + (ledger.wait if where in _used else 0.0)
    while True:
        try:
            await stack.enter_async_context(ledger)
        except LedgerUnavailable:  # noqa: PERF203 (twice a second)
            if anyio.current_time() >= give_up_at:
                raise
            await anyio.sleep(_AWAY)
        else:
            _used.add(where)
            return ledger
