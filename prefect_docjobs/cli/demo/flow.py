"""The flow of the demo: all documents through all services at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from prefect import flow

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.cli.demo.offers import takes
from prefect_docjobs.cli.fanout import extract_in_steps
from prefect_docjobs.flows._output import NAMES, ResultFiles
from prefect_docjobs.models import Batch, Document

Told = Callable[[str, Batch], None]
"""Told of outcomes: the registry name of the service, and the outcomes."""


async def through_all(
    jobs: Sequence[DocJob], documents: Sequence[Document], output: Path, told: Told
) -> None:
    """Extract in one flow run, and write the results as they come.

    Args:
        jobs: What to extract with, side by side.
        documents: What to extract from; each job gets those that its service takes.
        output: Folder for the files; partial ones are taken away if the run is broken off.
        told: Told of outcomes when they are written.
    """
    files = ResultFiles(output, run="demo")

    async def run(job: DocJob) -> None:
        taken = [document for document in documents if takes(type(job.provider()), document)]
        await extract_in_steps(job, taken, _written(job, files, told))

    @flow(name="docjobs-demo", flow_run_name="{documents} documents through {services} services")
    async def docjobs_demo(documents: int, services: int) -> None:  # noqa: ARG001 (shown in Prefect)
        await asyncio.gather(*(run(job) for job in jobs))

    try:
        with files.written():
            await docjobs_demo(len(documents), len(jobs))
    finally:
        for name in NAMES:
            files.partial(name).unlink(missing_ok=True)


def _written(job: DocJob, files: ResultFiles, told: Told) -> Callable[[int, Batch], Awaitable[None]]:
    async def ended(_first: int, batch: Batch) -> None:
        await files.append(batch)
        told(job.provider().name, batch)

    return ended
