"""Following the inbox: what a service told of jobs by itself is told to the waiter of this process.

Whoever received a push wrote it into the ledger's inbox, in this process or another. A success ends the wait
and brings the result along; a hint makes the waiter look. Looks go on beside all of this, so a push that is
lost delays a job and never loses it; when pushes stop coming although jobs end, that is said once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from prefect_docjobs.cancellation import cancelled
from prefect_docjobs.errors import DocJobsError
from prefect_docjobs.http import Answer, Http
from prefect_docjobs.models import JobRef, JobStatus
from prefect_docjobs.pipeline.known import answer_of
from prefect_docjobs.providers.base import Provider

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Arrival, Ledger
    from prefect_docjobs.waiter import Waiter
    from prefect_docjobs.waiter.watch import Watch

_log = logging.getLogger(__name__)
_EVERY = 0.2  # seconds between two questions; one costs about 0.4 ms of CPU on SQLite
_OVERLAP = 15.0  # seconds for which arrivals may appear out of their order (see `Inbox.arrived`)
_PAGE = 1000
_KEPT = 10_000  # arrivals of jobs that nobody waits for (yet)
_SEASONED = 3  # pushes in a row for jobs of ours, from which on looks are a watchdog only
_GRACE = 20.0  # seconds after a job was seen to have ended, in which its push should have come
_MISSED = 5  # jobs in a row of whose end no push told

_K = TypeVar("_K")
_V = TypeVar("_V")


class _Recent(OrderedDict[_K, _V], Generic[_K, _V]):
    """The newest entries only."""

    def __setitem__(self, key: _K, value: _V) -> None:
        super().__setitem__(key, value)
        while len(self) > _KEPT:
            self.popitem(last=False)


@dataclass
class _Health:
    """Whether pushes come for the jobs that end.

    Attributes:
        expected: Pushes were asked for, or have come.
    """

    expected: bool
    in_a_row: int = 0
    missed: int = 0
    warned: bool = False

    def came(self) -> None:
        self.expected, self.missed = True, 0
        self.in_a_row += 1

    def missing(self) -> None:
        self.in_a_row = 0
        self.missed += 1

    @property
    def is_good(self) -> bool:
        return self.in_a_row >= _SEASONED

    @property
    def is_bad(self) -> bool:
        return self.expected and self.missed >= _MISSED


class Arrivals:
    """The pushes of one account, as they arrive.

    Args:
        provider: Whose jobs.
        http: Of the account.
        ledger: Whose inbox.
    """

    def __init__(self, provider: Provider, http: Http, ledger: Ledger) -> None:
        from prefect_docjobs.ledger import Account  # where there is a ledger, SQLAlchemy is imported

        self._provider = provider
        self._inbox = ledger.inbox
        self._account = Account(provider.name, http.base_url, http.tenant)
        self._last: int | None = None
        self._seen: _Recent[int, None] = _Recent()
        self._by_job: _Recent[str, Arrival] = _Recent()
        self._by_alias: _Recent[str, Arrival] = _Recent()
        self._told: _Recent[str, Arrival] = _Recent()
        self._silent: dict[str, float] = {}  # jobs that ended without a push, and when
        self._health = _Health(expected=provider.asks_for_pushes)

    @asynccontextmanager
    async def told_to(self, waiter: Waiter) -> AsyncIterator[None]:
        """Tell `waiter` of arrivals while the context is open."""
        able = self._provider.capabilities
        if not (able.push or able.hints):
            yield
            return
        await self._read_on()  # whatever is submitted from now on is pushed later than this
        following = asyncio.create_task(self._follow(waiter), name="docjobs-arrivals")
        try:
            yield
        finally:
            await cancelled(following)

    def ended(self, ref: JobRef) -> None:
        """Note that a job was seen to have ended, by whatever way."""
        if ref.job_id not in self._told and ref.job_id not in self._by_job:
            self._silent[ref.job_id] = asyncio.get_running_loop().time()

    async def result(self, ref: JobRef) -> Answer | None:
        """The result that a push brought, as the service's result route would give it."""
        arrival = self._told.get(ref.job_id) or self._by_job.get(ref.job_id)
        if arrival is None or not arrival.has_body:
            return None
        body = await self._inbox.body(arrival.id)
        return None if body is None else answer_of(body, "application/json", arrival.received_at)

    # -- the loop

    async def _follow(self, waiter: Waiter) -> None:
        while True:
            await asyncio.sleep(_EVERY)
            if waiter.watches:
                await self._read_on()
                self._tell(waiter)
                self._check(waiter)

    async def _read_on(self) -> None:
        try:
            if self._last is None:
                self._last = await self._inbox.newest(self._account)
            while await self._read(self._last) == _PAGE:
                pass
        except DocJobsError as problem:  # looks go on
            _log.debug("The inbox of pushes cannot be read: %s", problem)

    async def _read(self, after: int) -> int:
        found = await self._inbox.arrived(self._account, within=_OVERLAP, limit=_PAGE, after=after)
        for arrival in found:
            if arrival.id not in self._seen:
                self._seen[arrival.id] = None
                self._sort_in(arrival)
        self._last = max([after, *(arrival.id for arrival in found)])
        return sum(arrival.id > after for arrival in found)

    def _sort_in(self, arrival: Arrival) -> None:
        if arrival.job_id is not None:
            self._by_job[arrival.job_id] = arrival
            if self._silent.pop(arrival.job_id, None) is not None:
                self._health.came()
        elif arrival.alias is not None:
            self._by_alias[arrival.alias] = arrival

    def _tell(self, waiter: Waiter) -> None:
        for job_id in self._by_job.keys() & waiter.watches.keys():
            self._announce(waiter, waiter.watches[job_id], self._by_job.pop(job_id))
        if self._by_alias:
            for watch in list(waiter.watches.values()):
                if arrival := self._by_alias.pop(watch.ref.alias or "", None):
                    self._announce(waiter, watch, arrival)

    def _announce(self, waiter: Waiter, watch: Watch, arrival: Arrival) -> None:
        self._told[watch.ref.job_id] = arrival
        self._health.came()
        if arrival.state is None:
            waiter.put(watch, 0.0)
            return
        status = JobStatus(
            ref=watch.ref,
            state=arrival.state,
            raw_state=arrival.raw_state,
            error=arrival.error,
            seen_at=arrival.received_at,
        )
        waiter.tell(status)

    # -- whether pushes come at all

    def _check(self, waiter: Waiter) -> None:
        late = asyncio.get_running_loop().time() - _GRACE
        for job_id in [job_id for job_id, ended_at in self._silent.items() if ended_at <= late]:
            del self._silent[job_id]
            self._health.missing()
        if self._health.is_bad:
            waiter.expect_pushes(False)
            self._warn()
        elif self._health.is_good:
            waiter.expect_pushes(True)

    def _warn(self) -> None:
        if self._health.warned:
            return
        self._health.warned = True
        _log.warning(
            "%s: %d jobs in a row have ended and no push told of it; looking at jobs instead. Check that the "
            "receiver runs with this ledger, that the webhook's address leads to it, and its signing secret "
            "(the receiver counts what it refuses).",
            self._provider.title,
            self._health.missed,
        )
