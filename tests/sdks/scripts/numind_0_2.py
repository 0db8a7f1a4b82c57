"""numind 0.2.0 of December 2025, the SDK of JobsApi.md: projects, whole jobs, waiting on streams."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from numind import NuMind, NuMindAsync  # type: ignore[import-not-found]  # only in the SDK's own environment
from numind.models import CreateProjectRequest  # type: ignore[import-not-found]
from numind.openapi_client import Configuration  # type: ignore[import-not-found]
from sdks.scripts.outcomes import BROKEN_PDF, WRONG_KEY, Target, print_outcomes

TEMPLATE = {"invoice_number": "verbatim-string", "total_amount": "number", "supplier": {"name": "string"}}
CONTRACT_TEMPLATE = {"agreement_number": "verbatim-string", "effective_date": "date"}


def calls_for(target: Target) -> Mapping[str, Callable[[], Any]]:
    """The calls by name; those of the asynchronous client begin with ``async_``."""
    right = Configuration(host=target.base_url, access_token=target.key)
    client = NuMind(configuration=right)
    stranger = NuMind(configuration=Configuration(host=target.base_url, access_token=WRONG_KEY))
    brightwater, bergmann = target.path("invoice-brightwater.pdf"), target.path("rechnung-bergmann.pdf")
    return {
        "extract_brightwater": partial(extract, client, brightwater),
        "extract_bergmann": partial(extract, client, bergmann),
        "extract_with_examples": partial(
            extract,
            client,
            target.path("receipt-green-leaf.png"),
            examples=[(bergmann, {"total_amount": 1.0})],
        ),
        "content": partial(content, client, target.path("receipt-green-leaf.png")),
        "project": partial(project, client, target.read("contract-northgate.pdf")),
        "whole_job": partial(whole_job, client, brightwater.read_bytes()),
        "pages_of_jobs": partial(pages_of_jobs, client, brightwater.read_bytes()),
        "failed_job": partial(failed_job, client),
        "failed_job_waited_for": partial(extract, client, BROKEN_PDF),
        "wrong_key": partial(stranger.get_api_jobs),
        "missing_job": partial(client.get_api_jobs_jobid, "no-such-job"),
        "async_extract_bergmann": partial(extract_asynchronously, right, bergmann),
        "async_wrong_key": partial(extract_asynchronously, stranger.api_client.configuration, bergmann),
    }


def extract(client: Any, document: Any, **options: Any) -> Any:
    """What the template's fields hold; the SDK makes a project for it and deletes it."""
    return client.extract_structured_data(template=TEMPLATE, input_file=document, **options).result


def content(client: Any, path: Any) -> Any:
    """A document as Markdown."""
    return client.extract_content(path).result


def project(client: Any, document: bytes) -> dict[str, Any]:
    """A project made, used and deleted; ``after`` is the error of looking for it then."""
    made = client.post_api_structured_extraction(
        CreateProjectRequest(name="contracts", description="ours", template=CONTRACT_TEMPLATE)
    )
    result = client.extract_structured_data(project_id=made.id, input_file=document).result
    shown = client.get_api_structured_extraction_structuredextractionprojectid(made.id)
    client.delete_api_structured_extraction_structuredextractionprojectid(made.id)
    try:
        client.get_api_structured_extraction_structuredextractionprojectid(made.id)
    except Exception as error:  # noqa: BLE001  (told to the test)
        after = type(error).__name__
    return {"result": result, "shown": [shown.name, shown.description], "after": after}


def submitted(client: Any, document: bytes) -> str:
    """A new content extraction's job id."""
    job_id: str = client.post_api_content_extraction_jobs(document).job_id
    return job_id


def ended(client: Any, job_id: str) -> Any:
    """The last status of a job, once it has ended."""
    deadline = time.monotonic() + 20
    while (status := client.get_api_jobs_jobid_status(job_id)).completed_at is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return status


def whole_job(client: Any, document: bytes) -> dict[str, Any]:
    """Status, whole job and typed result of one job; ``before`` is the job before its end."""
    job_id = submitted(client, document)
    before = client.get_api_jobs_jobid(job_id)
    status = ended(client, job_id)
    job = client.get_api_jobs_jobid(job_id)
    return {
        "before": [before.completed_at, before.output_data],
        "same_id": before.id == status.id == job.id == job_id,
        "statuses": [status.status, job.status],
        "job_type": job.job_type,
        "input_data": job.input_data,
        "output_data": job.output_data,
    }


def pages_of_jobs(client: Any, document: bytes) -> dict[str, Any]:
    """Two pages of one job each, and what is told of their size."""
    for _ in range(2):
        submitted(client, document)
    first, second = (client.get_api_jobs(skip=skip, per_page=1) for skip in (0, 1))
    return {
        "sizes": [len(first.items), len(second.items)],
        "differ": first.items[0].id != second.items[0].id,
        "told": [second.skip, second.per_page],
        "at_least": first.total_count,
    }


def failed_job(client: Any) -> dict[str, Any]:
    """A job that fails, as its own route shows it."""
    job_id = submitted(client, BROKEN_PDF)
    ended(client, job_id)
    job = client.get_api_jobs_jobid(job_id)
    return {"status": job.status, "error_message": job.error_message, "output_data": job.output_data}


def extract_asynchronously(configuration: Any, document: Any) -> Any:
    """What the template's fields hold, from the asynchronous client."""

    async def run() -> Any:
        client = NuMindAsync(configuration=configuration)
        try:
            return (await client.extract_structured_data(template=TEMPLATE, input_file=document)).result
        finally:
            await client.api_client.close()

    return asyncio.run(run())


if __name__ == "__main__":
    print_outcomes(calls_for)
