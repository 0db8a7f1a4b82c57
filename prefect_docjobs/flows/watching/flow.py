"""The flow that watches, for a deployment; the command runs the same."""

# No `from __future__ import annotations`: a flow that is served is loaded by its path, and Prefect 3.8 does
# not find the types of its parameters then.

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from prefect import flow

from prefect_docjobs.blocks.buying import open_ledger
from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.flows.parameters import Seconds
from prefect_docjobs.flows.watching.accounts import Accounts, Service
from prefect_docjobs.flows.watching.runs import FlowRuns, PrefectRuns
from prefect_docjobs.flows.watching.watcher import Watcher
from prefect_docjobs.tasks._run import Log, resolve_job, run_log


@flow(name="watch-jobs")
async def watch_jobs(*, stop_after: Seconds | None = None) -> None:
    """Wait for the jobs of all suspended flow runs, and resume the runs when their jobs have ended.

    It runs until it is cancelled. It may die at any time, and any number of them may run: what one held goes
    to the others within 15 seconds.

    Args:
        stop_after: Seconds after which it ends by itself, for schedules that start it anew. Empty: never.

    Raises:
        ConfigurationError: There is no ledger.
    """
    await watch(stop_after)


async def watch(stop_after: float | None = None) -> None:
    """Do what `watch_jobs` does, without a flow run."""
    async with opened_watcher(run_log()) as watcher:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(watcher.run(), stop_after)


@asynccontextmanager
async def opened_watcher(
    log: Log, seen: Callable[[FlowRuns], FlowRuns] | None = None
) -> AsyncIterator[Watcher]:
    """A watcher of the flow runs of Prefect and the jobs of the ledger, both open while the context is.

    Args:
        log: Where it logs.
        seen: Makes of the flow runs what the watcher sees of them.

    Raises:
        ConfigurationError: There is no ledger.
    """
    async with open_ledger() as ledger:
        if ledger.in_memory:
            raise ConfigurationError("There is nothing to watch: PREFECT_DOCJOBS_LEDGER is empty.")
        async with PrefectRuns() as runs:
            yield Watcher(ledger, Accounts(ledger, _service), seen(runs) if seen else runs, log)


async def _service(job: str) -> Service:
    block = await resolve_job(job)
    return Service(block.provider(), block.credentials.get_client())
