"""Where in its body a flow may be suspended, and what the ledger knows of its jobs by then."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prefect.context import FlowRunContext, TaskRunContext
from prefect.flow_runs import asuspend_flow_run

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.errors import Reason
from prefect_docjobs.extraction.record import completed_ref
from prefect_docjobs.ledger import Record, State
from prefect_docjobs.ledger.setting import address
from prefect_docjobs.models import Outcome, Phase

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Ledger

_COUNTER = "docjobs-sense-points"
_FINAL = frozenset(
    {Reason.FAILED, Reason.EXPIRED, Reason.CANCELLED, Reason.LOST_JOB, Reason.LOST_RESULT}
)  # what waiting again does not change


def hindrance(job: DocJob) -> str | None:
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
    return [_told(row, records, is_over=is_over, waited_for=waited_for) for row in rows]


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


def _told(row: Outcome, records: dict[str, Record], *, is_over: bool, waited_for: Collection[str]) -> Outcome:
    if row.ref is None:
        return row
    if not row.ok:
        is_ours = row.phase is Phase.SUBMIT and row.ref.job_id in waited_for
        return row.model_copy(update={"phase": Phase.WAIT}) if is_ours else row
    record = records.get(row.ref.job_id)
    if record is None or record.state is not State.FAILED or not (is_over or has_ended(record)):
        return row
    told = {"phase": Phase.WAIT, "reason": record.reason, "error": record.error}
    return row.model_copy(update={**told, "ref": completed_ref(row.ref, record)})
