"""The flow behind `prefect-docjobs extract`."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import flow

from prefect_docjobs.cli.fanout import Ended, extract_in_steps
from prefect_docjobs.cli.prefect_api import check_prefect_api
from prefect_docjobs.extraction import OnForecast
from prefect_docjobs.extraction.budget import Budget
from prefect_docjobs.models import Document
from prefect_docjobs.tasks._run import resolve_job


async def extract_with(
    job: str,
    documents: Sequence[Document],
    ended: Ended,
    *,
    timeout: float | None = None,
    foresee: OnForecast | None = None,
    budget: Budget | None = None,
) -> None:
    """Extract in a flow run of its own, so that Prefect shows what was done.

    Args:
        job: Name of a saved job block.
        documents: What to extract from.
        ended: Told of each chunk of documents that has ended.
        timeout: Seconds for all documents; None for no limit.
        foresee: Told when what is under way will be done.
        budget: What all of them may cost; None for no limit.

    Raises:
        CommandFailed: Prefect's API does not answer.
        ConfigurationError: There is no such job.
    """
    await check_prefect_api()
    block = await resolve_job(job)

    @flow(name="extract-from-terminal", flow_run_name="{count} through {job}")
    async def extract_from_terminal(job: str, count: int) -> None:  # noqa: ARG001 (shown in Prefect)
        await extract_in_steps(block, documents, ended, timeout=timeout, foresee=foresee, budget=budget)

    await extract_from_terminal(job, len(documents))
