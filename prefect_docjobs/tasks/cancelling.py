"""A flow run was cancelled, or its worker died: what becomes of its jobs.

Prefect runs the hooks of both in the runner's process, so nothing is known there but the flow run's id; the
ledger knows the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect import Flow, State, get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.client.schemas.objects import FlowRun
from prefect.logging.loggers import flow_run_logger

from prefect_docjobs.blocks.buying import the_ledger
from prefect_docjobs.tasks.giving_up import GivingUp, free_of_the_dead, open_records, running_records
from prefect_docjobs.tasks.journal import Log
from prefect_docjobs.tasks.names import count

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Ledger

_PAGE = 200


async def cancel_remote_jobs(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """A hook for `on_cancellation=[…]` and `on_crashed=[…]` of a flow; it never raises.

    Cancelled: jobs that the run and its subflows submitted, and that have not ended, are cancelled where
    the service can. Where it cannot they run to their end and are billed, which is noted in the ledger; the
    next run takes them up. Crashed, or ended because its runner was shut down: all jobs are kept, and are
    free at once for the next run to take up.

    Both follow what the flow run itself bought. Jobs that it took up from an earlier run are kept.

    Args:
        flow: The flow. (Prefect gives all three by name.)
        flow_run: Its run.
        state: The state that the run is entering.
    """
    log = flow_run_logger(flow_run, flow)
    try:
        async with the_ledger() as ledger:
            if ledger is None:
                log.warning("There is no ledger, so the jobs of this run are not known; they go on.")
                return
            async with get_client() as client:
                family = await _family(client, flow_run)
                is_wanted = state.is_crashed() or not await _was_cancelled(client, flow_run)
            if is_wanted:
                await _keep(ledger, family, log)
            else:
                await _cancel(ledger, family, f"The flow run {flow_run.name} was cancelled.", log)
    except Exception:  # a hook that breaks helps nobody
        log.exception(
            "What becomes of the jobs of this run is not known; run the flow again to take them up."
        )


async def _was_cancelled(client: PrefectClient, flow_run: FlowRun) -> bool:
    """Whether somebody cancelled the run: a runner that is shut down calls the same hooks."""
    now = (await client.read_flow_run(flow_run.id)).state
    return now is not None and (now.is_cancelling() or now.is_cancelled())


async def _family(client: PrefectClient, flow_run: FlowRun) -> list[str]:
    """The ids of a run and of its subflows; a deployment's run has hooks of its own."""
    ids, parents = [str(flow_run.id)], [flow_run.id]
    while parents:
        parents = await _children(client, parents)
        ids += map(str, parents)
    return ids


async def _children(client: PrefectClient, parents: list[UUID]) -> list[UUID]:
    of_these = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=parents))
    found: list[FlowRun] = []
    while page := await client.read_flow_runs(flow_run_filter=of_these, limit=_PAGE, offset=len(found)):
        found += page
    return [run.id for run in found if run.deployment_id is None]


async def _cancel(ledger: Ledger, flow_run_ids: Sequence[str], why: str, log: Log) -> None:
    records = [record for id_ in flow_run_ids for record in await running_records(ledger, id_)]
    fates = await GivingUp(ledger, why, log).all(records)
    for fate, number in fates.most_common():
        log.info("%s of this run: %s", count(number, "job"), fate)
    if not fates:
        log.info("No job of this run was open; there is nothing to cancel.")


async def _keep(ledger: Ledger, flow_run_ids: Sequence[str], log: Log) -> None:
    """Free the jobs of a process that has died."""
    records = [record for id_ in flow_run_ids for record in await open_records(ledger, id_)]
    held = 0.0
    for record in records:
        now = await free_of_the_dead(ledger, record)
        held = max(held, now.lease_left if now and now.state.is_open else 0.0)
    when = f"in {held:.0f} s at the latest" if held > 0.0 else "at once"
    log.info("%s of this run kept; the next run takes them up, %s.", count(len(records), "job"), when)
