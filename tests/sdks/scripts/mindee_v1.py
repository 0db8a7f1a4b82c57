"""mindee 5.4.0, ``mindee.v1.Client``: an off-the-shelf product, a splitter and a custom API."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from mindee import (  # type: ignore[import-not-found]  # only in the SDKs' own environment
    BytesInput,
    PathInput,
    URLInputSource,
)
from mindee.v1 import Client  # type: ignore[import-not-found]
from mindee.v1.product import (  # type: ignore[import-not-found]
    GeneratedV1,
    InvoiceSplitterV1,
    InvoiceV4,
)
from sdks.scripts.outcomes import BROKEN_PDF, REMOTE_URL, WRONG_KEY, Target, print_outcomes


def calls_for(target: Target) -> Mapping[str, Callable[[], Any]]:
    """The calls by name."""
    os.environ["MINDEE_BASE_URL"] = target.base_url
    client, stranger = Client(api_key=target.key), Client(api_key=WRONG_KEY)
    brightwater = target.path("invoice-brightwater.pdf")
    broken = BytesInput(BROKEN_PDF, "broken.pdf")
    return {
        "invoice_brightwater": partial(invoice, client, PathInput(brightwater)),
        "invoice_bergmann": partial(invoice, client, PathInput(target.path("rechnung-bergmann.pdf"))),
        "invoice_url": partial(invoice, client, URLInputSource(REMOTE_URL)),
        "splitter": partial(page_groups, client, PathInput(target.path("invoice-cascade-3-pages.pdf"))),
        "custom": partial(custom, client, PathInput(target.path("contract-northgate.pdf"))),
        "step_by_step": partial(step_by_step, client, PathInput(brightwater)),
        "failed_job": partial(invoice, client, broken),
        "wrong_key": partial(invoice, stranger, PathInput(brightwater)),
        "missing_job": partial(client.parse_queued, InvoiceV4, "00000000-0000-4000-8000-000000000000"),
    }


def finished(client: Any, product: Any, source: Any, **options: Any) -> Any:
    """The answer, waited for as often as the SDK permits."""
    return client.enqueue_and_parse(
        product, source, initial_delay_sec=1, delay_sec=1, max_retries=20, **options
    )


def invoice(client: Any, source: Any) -> dict[str, Any]:
    """The values of one invoice."""
    answer = finished(client, InvoiceV4, source)
    found = answer.document.inference.prediction
    return {
        "job_status": answer.job.status,
        "name": answer.document.filename,
        "pages": answer.document.n_pages,
        "ids_differ": answer.document.id != answer.job.id,
        "invoice_number": found.invoice_number.value,
        "supplier_name": found.supplier_name.value,
        "date": found.date.value,
        "total_amount": found.total_amount.value,
        "total_net": found.total_net.value,
        "currency": found.locale.currency,
        "total_page": found.total_amount.page_id,
        "total_confidence": found.total_amount.confidence,
        "line_items": [[item.description, item.quantity, item.total_amount] for item in found.line_items],
    }


def page_groups(client: Any, source: Any) -> list[list[int]]:
    """Page indexes of each invoice in a file."""
    prediction = finished(client, InvoiceSplitterV1, source).document.inference.prediction
    return [group.page_indexes for group in prediction.invoice_page_groups]


def custom(client: Any, source: Any) -> dict[str, Any]:
    """The fields of an account's own API, as texts."""
    endpoint = client.create_endpoint("contracts", "acme", "1")
    fields = finished(client, GeneratedV1, source, endpoint=endpoint).document.inference.prediction.fields
    return {name: field.value for name, field in fields.items()}


def step_by_step(client: Any, source: Any) -> dict[str, Any]:
    """Enqueue, look while there is no document, and take the last look's document."""
    job = client.enqueue(InvoiceV4, source).job
    statuses = [job.status]
    deadline = time.monotonic() + 20
    while (answer := client.parse_queued(InvoiceV4, job.id)).document is None and time.monotonic() < deadline:
        statuses.append(answer.job.status)
        time.sleep(0.1)
    return {
        "statuses": list(dict.fromkeys([*statuses, answer.job.status])),
        "same_job": answer.job.id == job.id,
        "invoice_number": answer.document.inference.prediction.invoice_number.value,
    }


if __name__ == "__main__":
    print_outcomes(calls_for)
