"""Giving up jobs that nobody wants any more: stopped where the service can, noted where it cannot."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

import anyio

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.errors import DocJobsError, Reason
from prefect_docjobs.http import Http
from prefect_docjobs.ledger import Record, State
from prefect_docjobs.models import JobRef, JobState
from prefect_docjobs.providers import Provider, provider_class
from prefect_docjobs.tasks.accounts import job_of
from prefect_docjobs.tasks.journal import Log
from prefect_docjobs.tasks.names import count

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Ledger

_PATIENCE = 10.0  # seconds for a process that is ending to give its leases back
_EVERY = 0.25
_AT_A_TIME = 8
_PAGE = 1000
_OPEN = (State.INTENDED, State.SUBMITTED, State.DONE)


class Fate(str, Enum):
    """What became of a job that was to be given up, in the words of the log."""

    CANCELLED = "cancelled at the service"
    NOTED = "cannot be cancelled there, run to their end and are billed; another run takes them up"
    ENDED = "had ended; another run takes them up"
    SENDING = "may have been accepted when the run ended; another run finds out"
    IN_USE = "kept, for another run is at work on them"
    KEPT = "kept, for they could not be cancelled"

    def __str__(self) -> str:
        return self.value


async def open_records(ledger: Ledger, flow_run_id: str | None) -> list[Record]:
    """The records of a flow run that somebody has to go on with; None for those of all runs."""
    return await _pages(ledger, flow_run_id, states=_OPEN)


async def running_records(ledger: Ledger, flow_run_id: str | None) -> list[Record]:
    """The same, and those whose jobs were waited for too long and may still be running."""
    late = await _pages(ledger, flow_run_id, states=(State.FAILED,), reasons=(Reason.TIMEOUT,))
    return [*await open_records(ledger, flow_run_id), *(record for record in late if record.ref)]


async def _pages(ledger: Ledger, flow_run_id: str | None, **fits: Any) -> list[Record]:
    found: list[Record] = []
    while page := await ledger.find(
        flow_run_id=flow_run_id, limit=_PAGE, after_id=found[-1].id if found else 0, **fits
    ):
        found += page
    return found


async def free_of_the_dead(ledger: Ledger, record: Record) -> Record | None:
    """The record as it is now, without the lease of a process of this machine that has died."""
    if record.lease_left > 0.0 and has_died(record.owner):
        await ledger.let_go(record)
    return await ledger.record(record.id)


def has_died(owner: str) -> bool:
    """Whether an opened ledger (`Ledger.owner`) surely is no more: its process ran here, and is gone."""
    host, _, process = owner.rpartition(":")[0].rpartition(":")
    # On Windows signal 0 is Ctrl+C, no question.
    if os.name != "posix" or host != socket.gethostname() or not process.isdecimal():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


@dataclass
class GivingUp:
    """Gives up the jobs of one run; what cannot be done is told and never raised.

    Attributes:
        ledger: Opened.
        why: What happened, as the first sentence of the failures that are written.
        log: For what goes wrong.
        patience: Seconds for a process that is ending to give its leases back.
        fates: How many records had which fate.
    """

    ledger: Ledger
    why: str
    log: Log
    patience: float = _PATIENCE
    fates: Counter[Fate] = field(default_factory=Counter)

    async def all(self, records: Sequence[Record]) -> Counter[Fate]:
        """Give up all of these, account by account."""
        accounts: dict[tuple[str, ...], list[Record]] = defaultdict(list)
        for record in records:
            account = (record.provider, record.base_url, record.tenant, record.product, record.block or "")
            accounts[account].append(record)
        deadline = anyio.current_time() + self.patience
        for same in accounts.values():
            await self._account(same, deadline)
        return self.fates

    async def _account(self, records: Sequence[Record], deadline: float) -> None:
        async with AsyncExitStack() as stack:
            provider, http = None, None
            if provider_class(records[0].provider).capabilities.cancel:
                try:
                    job: DocJob = await job_of(records[0])
                except Exception as problem:  # noqa: BLE001 (whatever Prefect's API raises)
                    self._keep(records, problem)
                    return
                provider = job.provider()
                http = await stack.enter_async_context(job.credentials.get_client())
            turns = asyncio.Semaphore(_AT_A_TIME)
            stop = _Stop(self.ledger, self.why, deadline, provider, http)
            await asyncio.gather(*(self._one(stop, record, turns) for record in records))

    async def _one(self, stop: _Stop, record: Record, turns: asyncio.Semaphore) -> None:
        async with turns:
            try:
                fate = await stop.one(record)
            except Exception as problem:  # noqa: BLE001 (the other jobs are given up all the same)
                self._keep([record], problem)
            else:
                self.fates[fate] += 1

    def _keep(self, records: Sequence[Record], problem: Exception) -> None:
        self.fates[Fate.KEPT] += len(records)
        # The text of an error that is not ours may hold anything.
        told = str(problem) if isinstance(problem, DocJobsError) else type(problem).__name__
        self.log.warning("%s cannot be cancelled: %s", count(len(records), "job"), told)


@dataclass(frozen=True)
class _Stop:
    """How the jobs of one account are given up; without a provider its service cannot cancel."""

    ledger: Ledger
    why: str
    deadline: float
    provider: Provider | None
    http: Http | None

    async def one(self, record: Record) -> Fate:
        taken = await self._taken(record)
        if taken is None or taken.ref is None:
            return await self._not_taken(record)
        try:
            fate = await self._given_up(taken, taken.ref)
        except BaseException:
            await self.ledger.let_go(taken)
            raise
        if fate is Fate.ENDED:
            await self.ledger.let_go(taken)
        return fate

    async def _given_up(self, record: Record, ref: JobRef) -> Fate:
        if self.provider is None or self.http is None:
            title = provider_class(record.provider).title
            told = f"{self.why} {title} cannot cancel a job. It runs to its end and is billed; run again to "
            # Not `cancelled`, which would buy it again: it is paid for, and may be waited for.
            await self.ledger.failed(record, Reason.TIMEOUT, f"{told}take it up.")
            return Fate.NOTED
        await self.provider.cancel(self.http, ref)
        # A cancel does nothing to a job that has ended.
        seen = await self.provider.status(self.http, ref)
        if seen.state.is_terminal and seen.state is not JobState.CANCELLED:
            return Fate.ENDED
        told = f"{self.why} {self.provider.title} was told to cancel the job."
        await self.ledger.failed(record, Reason.CANCELLED, told)
        return Fate.CANCELLED

    async def _taken(self, record: Record) -> Record | None:
        """The record as ours, once its holder has let it go; None where it never does, or it has no job."""
        now = await free_of_the_dead(self.ledger, record)
        while now is not None and _is_open_job(now):
            if now.lease_left <= 0.0 and (taken := await self.ledger.take_over(now, as_new=False)):
                return taken
            if anyio.current_time() >= self.deadline:
                return None
            await anyio.sleep(_EVERY)
            now = await free_of_the_dead(self.ledger, now)
        return None

    async def _not_taken(self, record: Record) -> Fate:
        now = await self.ledger.record(record.id)
        if now is None or not now.state.is_open or now.state is State.DONE:
            return Fate.ENDED
        return Fate.SENDING if now.state is State.INTENDED else Fate.IN_USE


def _is_open_job(record: Record) -> bool:
    is_open = record.state is State.SUBMITTED or record.reason is Reason.TIMEOUT
    return record.ref is not None and is_open
