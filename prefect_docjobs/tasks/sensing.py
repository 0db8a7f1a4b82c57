"""Waiting for jobs in the body of a flow: in its process, or without one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import anyio

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.blocks.buying import the_ledger
from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.extraction import wait_many
from prefect_docjobs.extraction.document import age_of
from prefect_docjobs.extraction.imports import import_refs
from prefect_docjobs.ledger import LedgerUnavailable
from prefect_docjobs.models import Batch, JobRef, Outcome
from prefect_docjobs.schedule import Schedule, shared_durations
from prefect_docjobs.schedule.suspending import suspend_after
from prefect_docjobs.tasks.arguments import Job, open_refs, the_job, the_outcomes
from prefect_docjobs.tasks.journal import run_log
from prefect_docjobs.tasks.many import Jobs, await_for_jobs
from prefect_docjobs.tasks.names import count
from prefect_docjobs.tasks.sense_points import SensePoint, all_have_ended, hindrance, recorded
from prefect_docjobs.waiter.watch import forecast

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Ledger, Wait

SenseMode: TypeAlias = Literal["poke", "suspend", "auto"]
"""Whether a wait keeps its process, gives it up, or decides that by what is expected."""

SUSPEND_COST = 20.0
"""Seconds of a worker that a suspension costs: the start of a process, and the replay of the flow."""

_LAST_LOOKS = 60.0  # seconds for jobs that have ended, but of whose end nobody could write
_LATE_LOOKS = 5.0  # the same when the time has passed

_Known: TypeAlias = "tuple[Sequence[Outcome], _Patience]"


async def sense_jobs(
    job: Job,
    refs: Jobs,
    *,
    mode: SenseMode = "poke",
    timeout: float | None = None,
    document_timeout: float | None = 3600.0,
    suspend_cost: float = SUSPEND_COST,
) -> Batch:
    """Wait, in the body of an async flow, for jobs that may have been submitted elsewhere.

    A run that is suspended holds no worker. A watcher (`prefect-docjobs watch`) resumes it when all its jobs
    have ended or its time has passed; the flow is then replayed from the top, the ledger answers for what it
    did before, and this call returns what it would have returned had it waited. When all jobs have ended
    already, nothing is suspended.

    Args:
        job: A job block, or the name of a saved one; the one that the documents were submitted with.
        refs: The jobs, also as the JSON that came as a flow's parameter.
        mode: `poke` keeps the process, and waits in one task run. `suspend` gives it up. `auto` waits while
            the jobs are expected to end soon, and suspends otherwise: it costs at most three times the worker
            time that an oracle would need, 1.5 times when the forecast is right; where a run cannot be
            suspended, it pokes.
        timeout: Seconds for the whole call; None for no limit.
        document_timeout: Seconds for each job; None for no limit.
        suspend_cost: Seconds of a worker that a suspension costs, for `auto`.

    Raises:
        ConfigurationError: The job or a ref is no such thing, or `mode="suspend"` where a run cannot be
            suspended: outside of a deployment's run, in a subflow or a task, without a ledger, or with a
            block that is not saved.
        LedgerUnavailable: The wait could not be written down; the run is not suspended.
    """
    block, rows = await the_job(job), the_outcomes(refs)
    patience = _Patience(timeout, document_timeout)
    obstacle = None if mode == "poke" else hindrance(block)
    if obstacle and mode == "suspend":
        raise ConfigurationError(f"This run cannot be suspended: {obstacle}, or use mode='poke'.")
    if mode == "poke" or obstacle:
        return await patience.poke(block, rows)
    point = SensePoint.here(block, rows)
    deferred = _Deferral(block, point, patience, suspend_cost if mode == "auto" else 0.0)
    known = await deferred.known(rows)
    if known is None:
        run_log().info("%s run; prefect-docjobs watch resumes this run", count(len(open_refs(rows)), "job"))
        await point.suspend()
        return await patience.poke(block, rows)  # Prefect did not suspend it
    told, last_looks = known
    return await last_looks.poke(block, told)


@dataclass(frozen=True)
class _Patience:
    """The limits of one call.

    Attributes:
        timeout: Seconds for all jobs, from the making of this object.
        document_timeout: Seconds for each.
    """

    timeout: float | None
    document_timeout: float | None
    started: float = field(default_factory=anyio.current_time)

    @property
    def left(self) -> float | None:
        """Seconds that are left for all jobs."""
        return self._of(self.timeout)

    @property
    def document_left(self) -> float | None:
        """Seconds that are left for each job."""
        return self._of(self.document_timeout)

    @property
    def ends_in(self) -> float | None:
        """Seconds until the first of the limits."""
        return min(
            (seconds for seconds in (self.left, self.document_left) if seconds is not None), default=None
        )

    def _of(self, limit: float | None) -> float | None:
        return None if limit is None else limit - (anyio.current_time() - self.started)

    async def poke(self, job: DocJob, rows: Sequence[Outcome]) -> Batch:
        """Wait in one task run of this process."""
        left = None if self.left is None else max(0.0, self.left)
        batch = Batch(tuple(rows))  # Prefect does not look into it
        return await await_for_jobs(job, batch, timeout=left, document_timeout=self.document_timeout)


@dataclass(frozen=True)
class _Deferral:
    """One wait that may do without a process.

    Attributes:
        job: A saved block.
        point: Where.
        patience: How long.
        suspend_cost: For a wait that may begin in the process; 0 to suspend at once.
    """

    job: DocJob
    point: SensePoint
    patience: _Patience
    suspend_cost: float

    async def known(self, rows: Sequence[Outcome]) -> _Known | None:
        """The rows with what the ledger knows, and the time for the rest; None to suspend."""
        async with the_ledger() as ledger:
            if ledger is None:
                raise LedgerUnavailable("There is no ledger any more.")
            wait = await ledger.waits.get(self.point.id)
            if wait is None:
                rows = await self._begun(ledger, rows)
                if await all_have_ended(ledger, self.job, rows) or _has_passed(self.patience.ends_in):
                    return rows, self._to_the_end(self.patience.ends_in)
                wait = await self._registered(ledger, rows)
            return await self._over(ledger, rows, wait)

    async def _begun(self, ledger: Ledger, rows: Sequence[Outcome]) -> Sequence[Outcome]:
        """The rows when the time to wait in the process is over."""
        refs = list(open_refs(rows).values())
        await import_refs(ledger, refs, block=self.job.saved_name)
        rows = await recorded(ledger, self.job, rows, is_over=False, waited_for=())
        if not self.suspend_cost or await all_have_ended(ledger, self.job, rows):
            return rows
        running = list(open_refs(rows).values())
        seconds = suspend_after(_expected(self.job, running), self.suspend_cost)
        left = self.patience.ends_in
        await self._watched(ledger, running, seconds if left is None else min(seconds, left))
        return await recorded(
            ledger, self.job, rows, is_over=False, waited_for={ref.job_id for ref in running}
        )

    async def _watched(self, ledger: Ledger, refs: Sequence[JobRef], seconds: float) -> None:
        """Wait in the process; what ends is in the ledger."""
        run_log().info(
            "Waiting for %s for %.0f s before the run is suspended", count(len(refs), "job"), seconds
        )

        async def to_the_end() -> None:
            async with self.job.credentials.get_client() as http:
                ends = wait_many(self.job.provider(), http, refs, document_timeout=None, ledger=ledger)
                async with aclosing(ends):
                    async for _ in ends:
                        pass

        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(to_the_end(), max(0.0, seconds))

    async def _registered(self, ledger: Ledger, rows: Sequence[Outcome]) -> Wait:
        return await ledger.waits.register(
            self.point.id,
            flow_run_id=self.point.flow_run_id,
            job=self.job.saved_name or "",
            refs=list(open_refs(rows).values()),
            timeout=self.patience.left,
            document_timeout=self.patience.document_left,
        )

    async def _over(self, ledger: Ledger, rows: Sequence[Outcome], wait: Wait) -> _Known | None:
        ids = {ref.job_id for ref in wait.refs}
        rows = await recorded(ledger, self.job, rows, is_over=wait.is_over, waited_for=ids)
        if not wait.is_over and not await all_have_ended(ledger, self.job, rows):
            return None  # new, or resumed by somebody too early
        await ledger.waits.resumed(wait.id)
        return rows, self._to_the_end(wait.left)

    def _to_the_end(self, left: float | None) -> _Patience:
        """For jobs of whose end nobody could write; of all others it is known."""
        seconds = _LATE_LOOKS if _has_passed(left) else _LAST_LOOKS
        return _Patience(seconds, self.patience.document_timeout)


def _has_passed(left: float | None) -> bool:
    return left is not None and left <= 0.0


def _expected(job: DocJob, refs: Sequence[JobRef]) -> float | None:
    """Seconds until all have ended, as likely as not; None where too little is known."""
    provider = job.provider()
    kind = (provider.name, job.credentials.base_url, provider.product, provider.variant)
    schedule = Schedule(provider.polling, kind, shared_durations())
    jobs = Counter((schedule.expected(ref.document_size), round(age_of(ref))) for ref in refs)
    return forecast((law, float(age), number) for (law, age), number in jobs.items()).likely
