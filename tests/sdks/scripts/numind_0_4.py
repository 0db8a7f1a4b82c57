"""numind 0.4.2, ``NuMind`` and ``NuMindAsync``: template and content extraction without a project."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from numind import (  # type: ignore[import-not-found]  # only in the SDKs' own environment
    Configuration,
    NuMind,
    NuMindAsync,
)
from sdks.scripts.outcomes import BROKEN_PDF, WRONG_KEY, Target, print_outcomes

POLLING_SECONDS = 0.2
TEMPLATE = {
    "invoice_number": "verbatim-string",
    "total_amount": "number",
    "date": "date",
    "supplier": {"name": "string"},
    "line_items": [{"description": "string", "quantity": "integer"}],
}
NOTE = "INVOICE\nInvoice number: TEXT-3\nTotal amount: 3.30 EUR\n"


def calls_for(target: Target) -> Mapping[str, Callable[[], Any]]:
    """The calls by name; those of the asynchronous client begin with ``async_``."""
    right = Configuration(host=target.base_url, access_token=target.key)
    wrong = Configuration(host=target.base_url, access_token=WRONG_KEY)
    client, stranger = NuMind(configuration=right), NuMind(configuration=wrong)
    brightwater, bergmann = target.path("invoice-brightwater.pdf"), target.path("rechnung-bergmann.pdf")
    receipt, contract = target.path("receipt-green-leaf.png"), target.path("contract-northgate.pdf")
    return {
        "extract_brightwater": partial(extract, client, input_file=brightwater),
        "extract_bergmann": partial(extract, client, input_file=bergmann),
        "extract_text": partial(extract, client, input_text=NOTE, instructions="Read.", temperature=0.0),
        "extract_with_examples": partial(
            extract, client, input_file=receipt, examples=[(bergmann, {"invoice_number": "2026-0317"})]
        ),
        "content": partial(content, client, receipt),
        "cancelled": partial(cancelled, client, brightwater.read_bytes()),
        "reports": partial(reports, client, brightwater.read_bytes()),
        "failed_job": partial(extract, client, input_file=BROKEN_PDF),
        "failed_job_told": partial(failed_job_told, client),
        "wrong_key": partial(extract, stranger, input_file=brightwater),
        "missing_job": partial(client.get_api_jobs_jobid_status, "no-such-job"),
        "async_extract_brightwater": partial(asynchronously, right, extract_async, brightwater),
        "async_extract_contract": partial(asynchronously, right, extract_async, contract),
        "async_content": partial(asynchronously, right, content_async, receipt),
        "async_failed_job": partial(asynchronously, right, extract_async, BROKEN_PDF),
        "async_wrong_key": partial(asynchronously, wrong, extract_async, brightwater),
    }


def extract(client: Any, **what: Any) -> Any:
    """What the template's fields hold."""
    answer = client.extract_structured_data(TEMPLATE, job_status_polling_delay=POLLING_SECONDS, **what)
    assert answer.total_tokens == answer.input_tokens + answer.output_tokens
    return answer.result


def content(client: Any, path: Any) -> Any:
    """A document as Markdown."""
    return client.extract_content(path, job_status_polling_delay=POLLING_SECONDS).result


def cancelled(client: Any, document: bytes) -> dict[str, Any]:
    """The status of a job that was cancelled right after its submit."""
    job_id = client.post_api_content_extraction_jobs(document).job_id
    client.post_api_jobs_jobid_cancel(job_id)
    status = client.get_api_jobs_jobid_status(job_id)
    return {"status": status.status, "is_over": status.completed_at is not None}


def reports(client: Any, document: bytes) -> list[str]:
    """The job types of the reports about a job that has ended."""
    job_id = client.post_api_content_extraction_jobs(document).job_id
    deadline = time.monotonic() + 20
    while client.get_api_jobs_jobid_status(job_id).completed_at is None and time.monotonic() < deadline:
        time.sleep(POLLING_SECONDS)
    return [report.job_type for report in client.get_api_jobs_jobid_reports(job_id)]


def failed_job_told(client: Any) -> dict[str, Any]:
    """A failed job, told instead of raised."""
    told = client.extract_structured_data(
        TEMPLATE,
        input_file=BROKEN_PDF,
        job_status_polling_delay=POLLING_SECONDS,
        raise_on_job_fail=False,
    )
    return {"status": told.status, "reason": told.reason}


def asynchronously(configuration: Any, call: Callable[[Any, Any], Awaitable[Any]], document: Any) -> Any:
    """A call of the asynchronous client, which is closed afterwards."""

    async def run() -> Any:
        client = NuMindAsync(configuration=configuration)
        try:
            return await call(client, document)
        finally:
            await client.api_client.close()

    return asyncio.run(run())


async def extract_async(client: Any, document: Any) -> Any:
    """What the template's fields hold."""
    answer = await client.extract_structured_data(
        TEMPLATE, input_file=document, job_status_polling_delay=POLLING_SECONDS
    )
    return answer.result


async def content_async(client: Any, path: Any) -> Any:
    """A document as Markdown."""
    return (await client.extract_content(path, job_status_polling_delay=POLLING_SECONDS)).result


if __name__ == "__main__":
    print_outcomes(calls_for)
