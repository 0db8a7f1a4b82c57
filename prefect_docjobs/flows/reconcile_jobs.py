"""The flow that holds a service's jobs against the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Any, cast

import anyio.to_thread
from prefect import State, flow, runtime
from prefect.artifacts import acreate_table_artifact
from prefect.states import Completed
from pydantic import Field

from prefect_docjobs.blocks.ledger import open_ledger
from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.extraction.imports import import_refs, read_refs_file
from prefect_docjobs.extraction.reconcile import SETTLED_AFTER, Action, Reconciliation, Standing, reconcile
from prefect_docjobs.flows._report import TABLE_ROWS, artifact_key, not_fatal
from prefect_docjobs.flows._run import JobParameter, job_label
from prefect_docjobs.ledger import Ledger
from prefect_docjobs.models import JobRef
from prefect_docjobs.tasks._run import Log, resolve_job, run_log

_ORDER = (Standing.ORPHANED, Standing.CANCELLED, Standing.ADOPTED, Standing.NEW, Standing.KNOWN)


def _run_name() -> str:
    given = runtime.flow_run.parameters
    return f"{given.get('action', 'report')} jobs of {job_label(given['job'])}"


@flow(name="reconcile-jobs", flow_run_name=_run_name)
async def reconcile_jobs(
    job: JobParameter,
    *,
    action: Action = "report",
    hours: Annotated[float, Field(gt=0)] | None = 168,
    settled_after: Annotated[float, Field(ge=0)] = SETTLED_AFTER,
    refs: str | None = None,
) -> dict[str, Any]:
    """Find jobs of an account that the ledger does not know, and adopt or cancel them.

    A service that lists its jobs lists those of the whole account: other people's and other programs', too.
    So look at the report before you adopt or cancel.

    Args:
        job: Name of a saved job block, such as numind-job/invoices: its account is asked, and adopted jobs
            become jobs of its product.
        action: report; or adopt orphans, so that their results can be fetched; or cancel those that run.
        hours: Jobs of the last hours. Empty: all that the service lists.
        settled_after: Seconds. A job that is younger may be one whose submit is under way, and is left alone.
        refs: A file of refs, as JSON lines, that were made elsewhere; they are imported first.

    Returns:
        How many jobs are known, new, orphaned, adopted and cancelled; how many refs were imported; and
        whether the service's whole list was read.

    Raises:
        Unsupported: The service has no list of jobs, or cannot cancel.
        ConfigurationError: There is no such job, no ledger, or the file holds something else.
    """
    log, block = run_log(), await resolve_job(job)
    given = await anyio.to_thread.run_sync(read_refs_file, Path(refs)) if refs else []
    since = None if hours is None else datetime.now(timezone.utc) - timedelta(hours=hours)
    async with block.credentials.get_client() as http, open_ledger() as ledger:
        imported = await _imported(ledger, given, log)
        found = await reconcile(
            block.provider(), http, _needed(ledger), since=since, action=action, settled_after=settled_after
        )
    await _publish(found, job_label(job), log)
    # Prefect takes the run's state from here and hands the caller the state's data.
    return cast("dict[str, Any]", _state(found, imported))


async def _imported(ledger: Ledger, refs: Sequence[JobRef], log: Log) -> int:
    if not refs:
        return 0
    imported = await import_refs(_needed(ledger), refs)
    log.info("%d refs imported, %d known already", len(imported.new), len(imported.known))
    return len(imported.new)


def _needed(ledger: Ledger) -> Ledger:
    if ledger.in_memory:
        raise ConfigurationError("There is no ledger to hold jobs against: PREFECT_DOCJOBS_LEDGER is empty.")
    return ledger


async def _publish(found: Reconciliation, job: str, log: Log) -> None:
    """Show a table, orphans first; a run never fails because one cannot be made."""
    jobs = sorted(found.jobs, key=lambda job: _ORDER.index(job.standing))
    if not jobs:
        return
    left_out = max(0, len(jobs) - TABLE_ROWS)
    missing = f"{left_out:,} more jobs are not shown." if left_out else None
    rows = [job.row() for job in jobs[:TABLE_ROWS]]
    making = acreate_table_artifact(table=rows, key=artifact_key("jobs", job), description=missing)
    await not_fatal(making, "table of jobs", log)


def _state(found: Reconciliation, imported: int) -> State[dict[str, Any]]:
    counts = {name: number for name, number in found.counts.items() if number}
    told = ", ".join(f"{number:,} {name}" for name, number in counts.items()) or "no job"
    part = "" if found.complete else "; the list is longer than was read"
    data = {**found.counts, "imported": imported, "complete": found.complete}
    return Completed(message=f"{told}{part}", data=data)
