"""The jobs of all waits, waited for with one waiter for each account and product."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from prefect_docjobs.cancellation import cancelled
from prefect_docjobs.errors import DocJobsError
from prefect_docjobs.extraction.call import Call
from prefect_docjobs.extraction.document import age_of
from prefect_docjobs.extraction.record import JobRecord
from prefect_docjobs.http import Http
from prefect_docjobs.models import JobRef, Outcome, Phase
from prefect_docjobs.providers import Provider
from prefect_docjobs.schedule import Durations, shared_durations
from prefect_docjobs.tasks.suspend import has_ended
from prefect_docjobs.waiter import Patience, Waiter

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Ledger

_WRITTEN_EVERY = 0.5  # seconds; ends that are seen meanwhile share a few transactions
_NEVER = 1 << 30  # failed looks: while a service is away nobody is held up, so each wait's own limits count

_Key: TypeAlias = "tuple[str, ...]"


@dataclass(frozen=True, slots=True)
class Service:
    """What a job block stands for.

    Attributes:
        provider: With the block's settings.
        http: Of its account, not open yet.
    """

    provider: Provider
    http: Http

    @property
    def key(self) -> _Key:
        """Jobs of services with the same key are waited for together."""
        provider, http = self.provider, self.http
        return (provider.name, http.base_url, http.tenant, provider.product, provider.variant)


LoadService: TypeAlias = Callable[[str], Awaitable[Service]]
"""From the name of a saved job block; raises `ConfigurationError` where there is none."""


class Account:
    """One account and product: the one waiter of its jobs, and what is written of their ends.

    Args:
        service: Opened.
        waiter: Running.
        ledger: Opened.
        call: Opened; it reports pushes to the waiter, and sees ends, so that missing pushes are noticed.
    """

    def __init__(self, service: Service, waiter: Waiter, ledger: Ledger, call: Call) -> None:
        self._service = service
        self._waiter = waiter
        self._ledger = ledger
        self._call = call

    @property
    def is_broken(self) -> bool:
        """Whether nothing can be waited for with it any more."""
        return not self._waiter.is_running

    async def wait(self, refs: Sequence[JobRef]) -> None:
        """Return when all jobs have ended, or cannot be waited for; their ends are in the ledger by then.

        No record is held meanwhile: whoever else takes a job up need not wait for a watcher that died.

        Raises:
            JobTimeout: The waiter broke, which says nothing about the jobs: wait with another.
        """
        waiting = {asyncio.create_task(self._end_of(ref)) for ref in await self._running(refs)}
        try:
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if waiting:
                    more, waiting = await asyncio.wait(waiting, timeout=_WRITTEN_EVERY)
                    done |= more
                await self._write([task.result() for task in done])
        finally:
            await cancelled(*waiting)

    async def _running(self, refs: Sequence[JobRef]) -> list[JobRef]:
        """Those of whose end the ledger does not know."""
        http, job_ids = self._service.http, [ref.job_id for ref in refs]
        found = await self._ledger.find(
            job_ids=job_ids, limit=max(1, 2 * len(job_ids)),
            provider=self._service.provider.name, base_url=http.base_url, tenant=http.tenant,
        )  # fmt: skip
        ended = {record.job_id for record in found if has_ended(record)}
        return [ref for ref in refs if ref.job_id not in ended]

    async def _end_of(self, ref: JobRef) -> Outcome:
        seen = Outcome(document=ref.document_name, ref=ref, phase=Phase.WAIT)
        try:
            status = await self._waiter.done(ref, age=age_of(ref))
        except DocJobsError as error:
            if self.is_broken:
                raise
            return seen.failed(Phase.WAIT, error)
        return seen.model_copy(update={"status": status, "ref": status.ref})

    async def _write(self, ended: Sequence[Outcome]) -> None:
        jobs = [(outcome.ref, outcome) for outcome in ended if outcome.ref is not None]
        await self._call.look_up(ref for ref, _ in jobs)
        await asyncio.gather(*(self._write_one(ref, outcome) for ref, outcome in jobs))

    async def _write_one(self, ref: JobRef, ended: Outcome) -> None:
        job = JobRecord(self._call, ref)
        await job.take_up(ref, to_fetch=False)
        try:
            if not ended.ok:
                await job.failed(ended)
            elif job.end is None:
                await job.done(ref)
        finally:
            self._call.known.pop(ref.job_id, None)
            await job.release()


@dataclass
class _Open:
    """An account that is open, and how many waits use it."""

    account: Account
    stack: AsyncExitStack
    users: int = 0


@dataclass
class Accounts:
    """The accounts that are open: each while there are waits that use it.

    Attributes:
        ledger: Opened.
        load: Finds the service of a wait.
        durations: What jobs took in the past.
    """

    ledger: Ledger
    load: LoadService
    durations: Durations = field(default_factory=shared_durations)
    _open: dict[_Key, _Open] = field(default_factory=dict)
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __len__(self) -> int:
        return len(self._open)

    @asynccontextmanager
    async def of(self, job: str) -> AsyncIterator[Account]:
        """The account of a saved job block, open while the context is.

        Raises:
            ConfigurationError: There is no such block.
        """
        service = await self.load(job)
        async with self._opening:
            used = self._open.get(service.key)
            if used is None or used.account.is_broken:
                used = await self._opened(service)
            used.users += 1
        try:
            yield used.account
        finally:
            used.users -= 1
            if not used.users:
                if self._open.get(service.key) is used:
                    del self._open[service.key]
                await used.stack.aclose()

    async def _opened(self, service: Service) -> _Open:
        provider = service.provider
        patience = Patience(document_timeout=None, failed_looks=_NEVER)
        async with AsyncExitStack() as opening:  # closes what is open when it is cancelled halfway
            http = await opening.enter_async_context(service.http)
            waiter = Waiter(provider, http, patience, self.durations)
            await opening.enter_async_context(waiter)
            call = await opening.enter_async_context(Call(provider, http, self.ledger))
            await opening.enter_async_context(call.pushes.told_to(waiter))
            opened = _Open(Account(service, waiter, self.ledger, call), opening.pop_all())
        self._open[service.key] = opened
        return opened
