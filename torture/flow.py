"""The flow of a worker that runs under a Prefect server."""

from __future__ import annotations

from prefect import flow

from bench.documents import invoices
from bench.services import KEY, SETTINGS
from prefect_docjobs.blocks import DocJob, MindeeJob, NuMindJob, UnsiloedJob
from prefect_docjobs.models import Batch
from prefect_docjobs.tasks import aextract_documents
from torture.worker import Work

_JOBS: dict[str, type[DocJob]] = {"mindee": MindeeJob, "numind": NuMindJob, "unsiloed": UnsiloedJob}


async def batch(work: Work) -> Batch:
    """All documents in one task run of a new flow run."""
    account = {"api_key": KEY, "base_url": work.base_url}
    job = _JOBS[work.service](**{**SETTINGS[work.service], "credentials": account})

    @flow(name="torture")
    async def run() -> Batch:
        documents = invoices(work.documents)
        return await aextract_documents(job, documents, timeout=120.0, on_uncertain=work.on_uncertain)

    return await run()
