"""Waiting for jobs in the body of a flow: in its process, or suspended, without one."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import anyio
from prefect.context import FlowRunContext, TaskRunContext
from prefect.flow_runs import asuspend_flow_run

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.blocks.ledger import open_ledger
from prefect_docjobs.errors import ConfigurationError, Reason
from prefect_docjobs.extraction import wait_many
from prefect_docjobs.extraction.document import age_of
from prefect_docjobs.extraction.imports import import_refs
from prefect_docjobs.extraction.record import completed_ref
from prefect_docjobs.ledger import LedgerUnavailable, Record, State
from prefect_docjobs.ledger.setting import address
from prefect_docjobs.models import Batch, JobRef, Outcome, Phase
from prefect_docjobs.tasks._run import Job, count, open_refs, resolve_job, rows_of, run_log
from prefect_docjobs.tasks.extract import Jobs, await_for_jobs
from prefect_docjobs.waiting.durations import forecast, shared_durations
from prefect_docjobs.waiting.schedule import Schedule, suspend_after

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Ledger, Suspension

SenseMode: TypeAlias = Literal["poke", "suspend", "auto"]
"""Whether a wait keeps its process, gives it up, or decides that by what is expected."""

SUSPEND_COST = 20.0
"""Seconds of a worker that a suspension costs: the start of a process, and the replay of the flow."""

_LAST_POLLS = 60.0  # seconds for jobs that have ended, but of whose end nobody could write
_LATE_POLLS = 5.0  # the same when the time has passed

_Known: TypeAlias = "tuple[Sequence[Outcome], _Limits]"


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
    block, rows = await resolve_job(job), rows_of(refs)
    limits = _Limits(timeout, document_timeout)
    obstacle = None if mode == "poke" else obstacle_to_suspending(block)
    if obstacle and mode == "suspend":
        raise ConfigurationError(f"This run cannot be suspended: {obstacle}, or use mode='poke'.")
    if mode == "poke" or obstacle:
        return await limits.poke(block, rows)
    point = SensePoint.here(block, rows)
    deferred = _Deferral(block, point, limits, suspend_cost if mode == "auto" else 0.0)
    known = await deferred.known(rows)
    if known is None:
        run_log().info("%s run; prefect-docjobs watch resumes this run", count(len(open_refs(rows)), "job"))
        await point.suspend()
        return await limits.poke(block, rows)  # Prefect did not suspend it
    seen, last_polls = known
    return await last_polls.poke(block, seen)


@dataclass(frozen=True)
class _Limits:
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
        limits: How long.
        suspend_cost: For a wait that may begin in the process; 0 to suspend at once.
    """

    job: DocJob
    point: SensePoint
    limits: _Limits
    suspend_cost: float

    async def known(self, rows: Sequence[Outcome]) -> _Known | None:
        """The rows with what the ledger knows, and the time for the rest; None to suspend."""
        async with open_ledger() as ledger:
            if ledger.in_memory:
                raise LedgerUnavailable("There is no ledger any more.")
            wait = await ledger.suspensions.get(self.point.id)
            if wait is None:
                rows = await self._begun(ledger, rows)
                if await all_have_ended(ledger, self.job, rows) or _has_passed(self.limits.ends_in):
                    return rows, self._to_the_end(self.limits.ends_in)
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
        left = self.limits.ends_in
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

    async def _registered(self, ledger: Ledger, rows: Sequence[Outcome]) -> Suspension:
        return await ledger.suspensions.register(
            self.point.id,
            flow_run_id=self.point.flow_run_id,
            job=self.job.saved_name or "",
            refs=list(open_refs(rows).values()),
            timeout=self.limits.left,
            document_timeout=self.limits.document_left,
        )

    async def _over(self, ledger: Ledger, rows: Sequence[Outcome], wait: Suspension) -> _Known | None:
        ids = {ref.job_id for ref in wait.refs}
        rows = await recorded(ledger, self.job, rows, is_over=wait.is_over, waited_for=ids)
        if not wait.is_over and not await all_have_ended(ledger, self.job, rows):
            return None  # new, or resumed by somebody too early
        await ledger.suspensions.resumed(wait.id)
        return rows, self._to_the_end(wait.left)

    def _to_the_end(self, left: float | None) -> _Limits:
        """For jobs of whose end nobody could write; of all others it is known."""
        seconds = _LATE_POLLS if _has_passed(left) else _LAST_POLLS
        return _Limits(seconds, self.limits.document_timeout)


def _has_passed(left: float | None) -> bool:
    return left is not None and left <= 0.0


def _expected(job: DocJob, refs: Sequence[JobRef]) -> float | None:
    """Seconds until all have ended, as likely as not; None where too little is known."""
    provider = job.provider()
    kind = (provider.name, job.credentials.base_url, provider.product, provider.variant)
    schedule = Schedule(provider.polling, kind, shared_durations())
    jobs = Counter((schedule.expected(ref.document_size), round(age_of(ref))) for ref in refs)
    return forecast((law, float(age), number) for (law, age), number in jobs.items()).likely


# -------------------------------------------------------------------------------- where a flow is suspended

_COUNTER = "docjobs-sense-points"
_FINAL = frozenset(
    {Reason.FAILED, Reason.EXPIRED, Reason.CANCELLED, Reason.LOST_JOB, Reason.LOST_RESULT}
)  # what waiting again does not change


def obstacle_to_suspending(job: DocJob) -> str | None:
    """What there is to do before this run can be suspended for a job; None when it can be."""
    context = FlowRunContext.get()
    if TaskRunContext.get() is not None or context is None or context.flow_run is None:
        return "call it in the body of a flow"
    if context.flow_run.parent_task_run_id is not None:
        return "call it in the flow that was deployed, not in a subflow"
    if context.flow_run.deployment_id is None:
        return "deploy the flow and run the deployment"
    if address() is None:
        return "have a ledger (PREFECT_DOCJOBS_LEDGER is empty)"
    if job.saved_name is None:
        return "save the job block and pass its name"
    return None


@dataclass(frozen=True, slots=True)
class SensePoint:
    """One call of `sense_jobs` in a flow run; a replay of the flow comes to the same one.

    Attributes:
        id: Of its wait in the ledger.
        flow_run_id: The run.
    """

    id: str
    flow_run_id: str

    @classmethod
    def here(cls, job: DocJob, rows: Iterable[Outcome]) -> SensePoint:
        """The next point of the flow run that is going on: the same jobs at the same place.

        A failed job counts as any other does, for a replay hears of failures earlier than the first run did.
        """
        context = FlowRunContext.get()
        if context is None or context.flow_run is None:
            raise RuntimeError("There is no flow run here.")
        passed = context.observed_flow_pauses  # begins anew with each replay
        passed[_COUNTER] = passed.get(_COUNTER, 0) + 1
        jobs = sorted(row.ref.job_id for row in rows if row.ref is not None)
        identity = "\n".join([job.saved_name or "", str(passed[_COUNTER]), *jobs])
        run_id = str(context.flow_run.id)
        return cls(f"{run_id}.{hashlib.sha256(identity.encode()).hexdigest()[:32]}", run_id)

    async def suspend(self) -> None:
        """Suspend the run: Prefect's `Pause` is raised, and ends this process's part of it.

        Every suspension has a key of its own: whether to suspend again is the ledger's to say, and Prefect
        would let a run that a person resumed too early pass. The key begins with the point's id, by which a
        watcher knows what it resumes.
        """
        await asuspend_flow_run(key=f"{self.id}.{secrets.token_hex(4)}", timeout=None)


def waits_for(pause_key: str) -> str:
    """The id of the sense point that a run is suspended at, from the key of its suspension."""
    return pause_key.rpartition(".")[0]


async def recorded(
    ledger: Ledger, job: DocJob, rows: Sequence[Outcome], *, is_over: bool, waited_for: Collection[str]
) -> list[Outcome]:
    """The rows, with the failures that the ledger knows of: nobody has to ask the service for them again.

    Args:
        ledger: What knows.
        job: The account.
        rows: A row for each document.
        is_over: The wait has ended, so what is written counts, whatever the reason; before that only what
            waiting does not change.
        waited_for: Ids of the jobs of this wait, which failed while it lasted and not before.
    """
    records = await _records(ledger, job, rows)
    return [_recorded_row(row, records, is_over=is_over, waited_for=waited_for) for row in rows]


async def all_have_ended(ledger: Ledger, job: DocJob, rows: Sequence[Outcome]) -> bool:
    """Whether the ledger knows the end of all jobs, so that waiting for them would cost no time."""
    records = await _records(ledger, job, rows)
    known = [records.get(row.ref.job_id) for row in rows if row.ok and row.ref is not None]
    return all(record is not None and has_ended(record) for record in known)


def has_ended(record: Record) -> bool:
    """Whether the job of a record has ended, in a way that waiting again does not change."""
    return record.state in (State.DONE, State.FETCHED) or record.reason in _FINAL


async def _records(ledger: Ledger, job: DocJob, rows: Sequence[Outcome]) -> dict[str, Record]:
    account, provider = job.credentials, job.provider()
    job_ids = [row.ref.job_id for row in rows if row.ref is not None]
    found = await ledger.find(
        job_ids=job_ids, limit=max(1, 2 * len(job_ids)),
        provider=provider.name, base_url=account.base_url, tenant=account.tenant_id,
    )  # fmt: skip
    return {record.job_id: record for record in found if record.job_id}


def _recorded_row(
    row: Outcome, records: dict[str, Record], *, is_over: bool, waited_for: Collection[str]
) -> Outcome:
    if row.ref is None:
        return row
    if not row.ok:
        is_ours = row.phase is Phase.SUBMIT and row.ref.job_id in waited_for
        return row.model_copy(update={"phase": Phase.WAIT}) if is_ours else row
    record = records.get(row.ref.job_id)
    if record is None or record.state is not State.FAILED or not (is_over or has_ended(record)):
        return row
    end = {"phase": Phase.WAIT, "reason": record.reason, "error": record.error}
    return row.model_copy(update={**end, "ref": completed_ref(row.ref, record)})
