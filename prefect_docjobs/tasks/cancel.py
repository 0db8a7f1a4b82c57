"""Cancelling the jobs of a run: when it was cancelled, crashed, or its transaction was rolled back."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from uuid import UUID

import anyio
from prefect import Flow, get_client
from prefect import State as RunState
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.client.schemas.objects import FlowRun
from prefect.logging.loggers import flow_run_logger
from prefect.transactions import BaseTransaction

from prefect_docjobs.blocks import DocJob, NuMindCredentials, NuMindJob
from prefect_docjobs.blocks.jobs import BUYER
from prefect_docjobs.blocks.ledger import open_ledger
from prefect_docjobs.errors import ConfigurationError, DocJobsError, Reason
from prefect_docjobs.http import Http
from prefect_docjobs.ledger import Record, State
from prefect_docjobs.models import JobRef, JobState
from prefect_docjobs.providers import Provider, provider_class
from prefect_docjobs.tasks._run import Log, count, resolve_job, run_log

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Ledger

OWNER_PATIENCE = 10.0
"""Seconds for a process that is ending to give its leases back."""

_POLL = 0.25  # seconds
_AT_A_TIME = 8
_PAGE = 1000
_RUNS_PAGE = 200
_OPEN = (State.INTENDED, State.SUBMITTED, State.DONE)
_ACCOUNT = ("provider", "base_url", "tenant")


class CancelOutcome(str, Enum):
    """What became of a job that was to be cancelled, in the words of the log."""

    CANCELLED = "cancelled at the service"
    NOTED = "cannot be cancelled there, run to their end and are billed; another run takes them up"
    ENDED = "had ended; another run takes them up"
    SENDING = "may have been accepted when the run ended; another run finds out"
    IN_USE = "kept, for another run is at work on them"
    KEPT = "kept, for they could not be cancelled"

    def __str__(self) -> str:
        return self.value


# ------------------------------------------------------------------------------------------------- hooks


async def cancel_remote_jobs(flow: Flow[..., Any], flow_run: FlowRun, state: RunState[Any]) -> None:
    """A hook for `on_cancellation=[…]` and `on_crashed=[…]` of a flow; it never raises.

    Cancelled: jobs that the run and its subflows submitted, and that have not ended, are cancelled where
    the service can. Where it cannot they run to their end and are billed, which is recorded in the ledger;
    the next run takes them up. Crashed, or ended because its runner was shut down: all jobs are kept, and are
    free at once for the next run to take up.

    Both follow what the flow run itself submitted. Jobs that it took up from an earlier run are kept. Prefect
    runs the hooks in the runner's process, which knows nothing but the flow run's id.

    Args:
        flow: The flow. (Prefect gives all three by name.)
        flow_run: Its run.
        state: The state that the run is entering.
    """
    log = flow_run_logger(flow_run, flow)
    try:
        async with open_ledger() as ledger:
            if ledger.in_memory:
                log.warning("There is no ledger, so the jobs of this run are not known; they go on.")
                return
            async with get_client() as client:
                family = await _run_and_subflows(client, flow_run)
                is_wanted = state.is_crashed() or not await _was_cancelled(client, flow_run)
            if is_wanted:
                await _keep(ledger, family, log)
                return
            records = [record for id_ in family for record in await running_records(ledger, id_)]
            outcomes = await cancel_jobs(ledger, records, f"The flow run {flow_run.name} was cancelled.", log)
            for outcome, number in outcomes.most_common():
                log.info("%s of this run: %s", count(number, "job"), outcome)
            if not outcomes:
                log.info("No job of this run was open; there is nothing to cancel.")
    except Exception:  # a hook that breaks helps nobody
        log.exception(
            "What becomes of the jobs of this run is not known; run the flow again to take them up."
        )


async def cancel_bought_jobs(transaction: BaseTransaction) -> None:
    """A rollback hook for tasks that submit; it never raises.

    The tasks of this package that submit have it. A task of your own that calls `job.trigger` gets it with
    `my_task.on_rollback(cancel_bought_jobs)`.

    Jobs that this task run submitted, and that have not ended, are cancelled where the service can, so that
    another run submits their documents again. Where it cannot they run to their end and are billed, which is
    recorded in the ledger; another run takes them up. Results that are there stay: they are paid for.

    Args:
        transaction: The task run's own; Prefect gives it.
    """
    nobody: dict[str, Any] = {}
    log, buyer = run_log(), transaction.get(BUYER, nobody)
    if not buyer:
        return
    try:
        async with open_ledger() as ledger:
            if ledger.in_memory:
                log.warning("There is no ledger, so the jobs that are rolled back are not known; they go on.")
                return
            running = await running_records(ledger, buyer["flow_run_id"])
            submitted = [record for record in running if record.task_run_id == buyer["task_run_id"]]
            outcomes = await cancel_jobs(ledger, submitted, "The transaction was rolled back.", log)
            for outcome, number in outcomes.most_common():
                log.info("Rolled back: %s %s", count(number, "job"), outcome)
    except Exception:  # the rollback of the other tasks goes on
        log.exception("What becomes of the jobs that are rolled back is not known.")


async def _was_cancelled(client: PrefectClient, flow_run: FlowRun) -> bool:
    """Whether somebody cancelled the run: a runner that is shut down calls the same hooks."""
    now = (await client.read_flow_run(flow_run.id)).state
    return now is not None and (now.is_cancelling() or now.is_cancelled())


async def _run_and_subflows(client: PrefectClient, flow_run: FlowRun) -> list[str]:
    """The ids of a run and of its subflows; a deployment's run has hooks of its own."""
    ids, parents = [str(flow_run.id)], [flow_run.id]
    while parents:
        parents = await _children(client, parents)
        ids += map(str, parents)
    return ids


async def _children(client: PrefectClient, parents: list[UUID]) -> list[UUID]:
    of_these = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=parents))
    found: list[FlowRun] = []
    while page := await client.read_flow_runs(flow_run_filter=of_these, limit=_RUNS_PAGE, offset=len(found)):
        found += page
    return [run.id for run in found if run.deployment_id is None]


async def _keep(ledger: Ledger, flow_run_ids: Sequence[str], log: Log) -> None:
    """Free the jobs of a process that has died."""
    records = [record for id_ in flow_run_ids for record in await open_records(ledger, id_)]
    held = 0.0
    for record in records:
        now = await release_of_the_dead(ledger, record)
        held = max(held, now.lease_left if now and now.state.is_open else 0.0)
    when = f"in {held:.0f} s at the latest" if held > 0.0 else "at once"
    log.info("%s of this run kept; the next run takes them up, %s.", count(len(records), "job"), when)


# ----------------------------------------------------------------------------------------------- cancelling


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


async def cancel_jobs(
    ledger: Ledger, records: Sequence[Record], why: str, log: Log, *, patience: float = OWNER_PATIENCE
) -> Counter[CancelOutcome]:
    """Cancel jobs where their services can, account by account; what cannot be done is logged, never raised.

    Args:
        ledger: Opened.
        records: Of the jobs.
        why: What happened, as the first sentence of the failures that are recorded.
        log: For what goes wrong.
        patience: Seconds for a process that is ending to give its leases back.

    Returns:
        How many records had which outcome.
    """
    outcomes: Counter[CancelOutcome] = Counter()
    deadline = anyio.current_time() + patience
    accounts: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for record in records:
        account = (record.provider, record.base_url, record.tenant, record.product, record.block or "")
        accounts[account].append(record)

    def kept(some: Sequence[Record], problem: Exception) -> None:
        outcomes[CancelOutcome.KEPT] += len(some)
        # The text of an error that is not ours may hold anything.
        what = str(problem) if isinstance(problem, DocJobsError) else type(problem).__name__
        log.warning("%s cannot be cancelled: %s", count(len(some), "job"), what)

    for same in accounts.values():
        async with AsyncExitStack() as stack:
            service: tuple[Provider, Http] | None = None
            if provider_class(same[0].provider).capabilities.cancel:
                try:
                    job = await job_of(same[0])
                except Exception as problem:  # noqa: BLE001 (whatever Prefect's API raises)
                    kept(same, problem)
                    continue
                client = await stack.enter_async_context(job.credentials.get_client())
                service = (job.provider(), client)
            slots = asyncio.Semaphore(_AT_A_TIME)

            async def cancel(
                record: Record,
                service: tuple[Provider, Http] | None = service,
                slots: asyncio.Semaphore = slots,
            ) -> None:
                async with slots:
                    try:
                        outcomes[await _cancel(ledger, record, service, why, deadline)] += 1
                    except Exception as problem:  # noqa: BLE001 (the other jobs are cancelled all the same)
                        kept([record], problem)

            await asyncio.gather(*map(cancel, same))
    return outcomes


async def _cancel(
    ledger: Ledger, record: Record, service: tuple[Provider, Http] | None, why: str, deadline: float
) -> CancelOutcome:
    """Cancel one job, at a service that can, or record that it goes on."""
    taken = await _taken(ledger, record, deadline)
    if taken is None or taken.ref is None:
        now = await ledger.record(record.id)
        if now is None or not now.state.is_open or now.state is State.DONE:
            return CancelOutcome.ENDED
        return CancelOutcome.SENDING if now.state is State.INTENDED else CancelOutcome.IN_USE
    try:
        outcome = await _cancel_at_the_service(ledger, taken, taken.ref, service, why)
    except BaseException:
        await ledger.release_lease(taken)
        raise
    if outcome is CancelOutcome.ENDED:
        await ledger.release_lease(taken)
    return outcome


async def _cancel_at_the_service(
    ledger: Ledger, record: Record, ref: JobRef, service: tuple[Provider, Http] | None, why: str
) -> CancelOutcome:
    if service is None:
        title = provider_class(record.provider).title
        # Not `cancelled`, which would submit it again: it is paid for, and may be waited for.
        message = (
            f"{why} {title} cannot cancel a job. It runs to its end and is billed; run again to take it up."
        )
        await ledger.failed(record, Reason.TIMEOUT, message)
        return CancelOutcome.NOTED
    provider, http = service
    await provider.cancel(http, ref)
    seen = await provider.status(http, ref)  # a cancel does nothing to a job that has ended
    if seen.state.is_terminal and seen.state is not JobState.CANCELLED:
        return CancelOutcome.ENDED
    await ledger.failed(record, Reason.CANCELLED, f"{why} The job was cancelled at {provider.title}.")
    return CancelOutcome.CANCELLED


async def _taken(ledger: Ledger, record: Record, deadline: float) -> Record | None:
    """The record as ours, once its owner has released it; None where it never does, or it has no job."""
    now = await release_of_the_dead(ledger, record)
    while now is not None and _is_open_job(now):
        if now.lease_left <= 0.0 and (taken := await ledger.take_over(now)):
            return taken
        if anyio.current_time() >= deadline:
            return None
        await anyio.sleep(_POLL)
        now = await release_of_the_dead(ledger, now)
    return None


def _is_open_job(record: Record) -> bool:
    is_open = record.state is State.SUBMITTED or record.reason is Reason.TIMEOUT
    return record.ref is not None and is_open


async def release_of_the_dead(ledger: Ledger, record: Record) -> Record | None:
    """The record as it is now, without the lease of a process of this machine that has died."""
    if record.lease_left > 0.0 and has_died(record.owner):
        await ledger.release_lease(record)
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


# ---------------------------------------------------------------------------------- the account of a record


def destination_of(job: DocJob) -> dict[str, str]:
    """Where the documents of a job block go, under the names that refs and records have for it.

    Returns:
        `provider`, `product`, `base_url` and `tenant`.
    """
    provider, account = job.provider(), job.credentials
    return {
        "provider": provider.name,
        "product": provider.product,
        "base_url": account.base_url,
        "tenant": account.tenant_id,
    }


async def job_of(record: Record) -> DocJob:
    """A job block that can poll, and cancel, the job of a record.

    The block that was saved under the name in the record comes first. Without one the provider's
    environment variable is used, but only when the key in it belongs to the account of the record.

    Raises:
        ConfigurationError: There is neither; the message says what to give.
    """
    job = _of_the_environment(record) if record.block is None else await resolve_job(record.block)
    here = destination_of(job)
    if any(here[name] != getattr(record, name) for name in _ACCOUNT):
        where = record.block or provider_class(record.provider).env_key
        raise ConfigurationError(
            f"{where} is another account than the {record.provider} account {record.tenant!r} at "
            f"{record.base_url} that the job belongs to."
        )
    return job


def _numind(key: str, record: Record) -> DocJob:
    account = NuMindCredentials(api_key=key, base_url=record.base_url)
    if record.product == "content":
        return NuMindJob(credentials=account, product="content")
    # Polling and cancelling need the account and the job's id. A template is for submits; none is made.
    return NuMindJob(credentials=account, template={"unused": "string"})


WITHOUT_A_BLOCK: Mapping[str, Callable[[str, Record], DocJob]] = MappingProxyType({"numind": _numind})
"""A job block from a key, for each service that can cancel."""


def _of_the_environment(record: Record) -> DocJob:
    variable = provider_class(record.provider).env_key
    key = os.environ.get(variable, "").strip()
    make = WITHOUT_A_BLOCK.get(record.provider)
    if not key or make is None:
        raise ConfigurationError(
            f"The job block was not saved, and {variable} is not set: the job's account cannot be reached. "
            "Save the block and pass its name."
        )
    try:
        return make(key, record)
    except (DocJobsError, ValueError) as problem:
        raise ConfigurationError(f"{variable} cannot be used: {type(problem).__name__}.") from None
