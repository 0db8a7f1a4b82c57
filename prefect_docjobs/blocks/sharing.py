"""One request budget for all workers of an account: tokens are leased from the ledger that they share.

The rate limits of an account live as long as the process, an opened ledger as long as a call. So tokens are
leased through the ledger where it is open on the running loop; where it is not, it is opened for that.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

import anyio

from prefect_docjobs.errors import DocJobsError
from prefect_docjobs.http import Kind, Lease
from prefect_docjobs.ledger import LedgerUnavailable
from prefect_docjobs.ledger.setting import address, lease

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Ledger
    from prefect_docjobs.ledger.tokens import Tokens

_log = logging.getLogger(__name__)
_STRETCH = (
    1.2  # seconds of the line that one lease takes: long beside an answer of the database, short to wait
)
_AHEAD = 3.0  # seconds ahead of which no tokens are leased: others may need them sooner
_ACCOUNT = 512  # characters that the table takes
_UNCOUNTED = 1 << 30

_T = TypeVar("_T")
_Question = Callable[["Tokens"], Coroutine[Any, Any, _T]]


@dataclass(eq=False)
class _Source:
    """An opened ledger, and what is being asked of it."""

    tokens: Tokens
    ledger: str
    asking: set[asyncio.Task[Any]] = field(default_factory=set)

    def ask(self, question: _Question[_T]) -> asyncio.Task[_T]:
        """Begin to ask; the ledger stays open until there is an answer."""
        task = asyncio.create_task(question(self.tokens), name="docjobs-tokens")
        self.asking.add(task)
        task.add_done_callback(self._answered)
        return task

    def _answered(self, task: asyncio.Task[Any]) -> None:
        self.asking.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked may be gone


_sources: WeakKeyDictionary[asyncio.AbstractEventLoop, list[_Source]] = WeakKeyDictionary()
_lock = threading.Lock()


def _here() -> list[_Source]:
    """The sources of the running loop."""
    with _lock:
        return _sources.setdefault(asyncio.get_running_loop(), [])


@asynccontextmanager
async def lending(ledger: Ledger) -> AsyncIterator[None]:
    """Let rate limiters lease tokens from an opened ledger while the context is open."""
    source, sources = _Source(ledger.tokens, ledger_name(address())), _here()
    sources.append(source)
    try:
        yield
    finally:
        sources.remove(source)
        with anyio.CancelScope(shield=True):
            while source.asking:
                await asyncio.wait(source.asking)


def ledger_name(where: str | None) -> str:
    """What a ledger is called by all who mean the same one; without a password."""
    from prefect_docjobs.ledger.database import parse_address  # importing SQLAlchemy takes 0.2 s

    return str(parse_address(where)) if where else ""


async def _ask(where: str | None, question: _Question[_T]) -> _T:
    if where is None:
        raise LedgerUnavailable("There is no ledger to share rates by.")
    name = ledger_name(where)
    for source in reversed(_here()):
        if source.ledger == name:
            return await asyncio.shield(source.ask(question))
    from prefect_docjobs.ledger import Ledger

    async with Ledger(where, lease=lease()) as ledger:
        return await question(ledger.tokens)


@dataclass(frozen=True)
class SharedRates:
    """The rates of one account, kept by all workers together.

    Attributes:
        account: Whose budget.
        rates: Requests per second of each kind; kinds without a rate are not shared.
        clock: The clock of the rate limiters.
        ledger: Whose tokens they are; its address may hold a password.
    """

    account: str
    rates: Mapping[Kind, float]
    clock: Callable[[], float] = time.monotonic
    telling: set[asyncio.Task[None]] = field(default_factory=set, compare=False)
    ledger: str | None = field(default_factory=address, repr=False)

    @classmethod
    def of(cls, provider: str, base_url: str, tenant: str, rates: Mapping[Kind, float]) -> SharedRates:
        """The rates of an account at a service, through the ledger of this process's settings."""
        return cls(f"{provider} {base_url} {tenant}"[:_ACCOUNT], rates)

    async def refill(self, kind: Kind, wanted: int) -> Lease:  # noqa: ARG002 (a lease is a time, whatever the rate)
        """Lease tokens, and return when the first of them is valid; see `http.Refill`."""
        rate = self.rates.get(kind)
        if rate is None:
            return Lease(_UNCOUNTED, math.inf)
        want = max(1, round(rate * _STRETCH))
        found = await _ask(
            self.ledger, lambda tokens: tokens.lease(self.account, kind, rate, want, within=_AHEAD)
        )
        if not found.tokens:
            return Lease(0, self.clock() + found.starts_in)
        await asyncio.sleep(found.starts_in)
        return Lease(found.tokens, self.clock() + found.tokens * found.every)

    def refused(self, kind: Kind, seconds: float) -> None:
        """Have all workers pause; does not wait until they are told."""
        if kind in self.rates:
            telling = asyncio.get_running_loop().create_task(self._tell(kind, seconds))
            self.telling.add(telling)
            telling.add_done_callback(self.telling.discard)

    async def _tell(self, kind: Kind, seconds: float) -> None:
        try:
            await _ask(self.ledger, lambda tokens: tokens.refused(self.account, kind, seconds))
        except DocJobsError as problem:
            _log.warning("Other workers are not told to pause: %s", problem)
