"""mindee 5.4.0, ``mindee.v2.Client``: every product, step by step and in one call."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from mindee import (  # type: ignore[import-not-found]  # only in the SDKs' own environment
    BytesInput,
    PathInput,
    PollingOptions,
    URLInputSource,
)
from mindee.v2 import (  # type: ignore[import-not-found]
    ClassificationParameters,
    ClassificationResponse,
    Client,
    CropParameters,
    CropResponse,
    ExtractionParameters,
    ExtractionResponse,
    OCRParameters,
    OCRResponse,
    SplitParameters,
    SplitResponse,
)
from sdks.scripts.outcomes import BROKEN_PDF, REMOTE_URL, WRONG_KEY, Target, print_outcomes

MODEL = "11111111-1111-4111-8111-111111111111"
NUMBER = {
    "title": "Number",
    "name": "invoice_number",
    "description": "The invoice's number",
    "is_array": False,
    "type": "string",
}
SUPPLIER = {
    "title": "Supplier",
    "name": "supplier",
    "description": "Who sells",
    "is_array": False,
    "type": "nested_object",
    "nested_fields": [
        {"title": "Name", "name": "name", "description": "Its name", "is_array": False, "type": "string"}
    ],
}


def calls_for(target: Target) -> Mapping[str, Callable[[], Any]]:
    """The calls by name."""
    os.environ["MINDEE_V2_BASE_URL"] = target.base_url
    client, stranger = Client(api_key=target.key), Client(api_key=WRONG_KEY)
    return {
        "extract_brightwater": partial(extract, client, sample(target, "invoice-brightwater.pdf")),
        "extract_bergmann": partial(extract, client, sample(target, "rechnung-bergmann.pdf")),
        "extract_by_schema": partial(extract_by_schema, client, sample(target, "rechnung-bergmann.pdf")),
        "extract_url": partial(extract, client, URLInputSource(REMOTE_URL)),
        "ocr": partial(ocr, client, sample(target, "receipt-green-leaf.png")),
        "crop": partial(crop, client, sample(target, "receipt-green-leaf.png")),
        "split": partial(split, client, sample(target, "invoice-cascade-3-pages.pdf")),
        "classify_contract": partial(classify, client, sample(target, "contract-northgate.pdf")),
        "classify_receipt": partial(classify, client, sample(target, "receipt-green-leaf.png")),
        "step_by_step": partial(step_by_step, client, sample(target, "invoice-brightwater.pdf")),
        "failed_job": partial(extract, client, broken()),
        "wrong_key": partial(extract, stranger, sample(target, "invoice-brightwater.pdf")),
        "wrong_model_id": partial(client.enqueue, broken(), ExtractionParameters(model_id="seven")),
        "missing_job": partial(client.get_job, "00000000-0000-4000-8000-000000000000"),
        "search_models": partial(search_models, client),
    }


def sample(target: Target, name: str) -> Any:
    """A sample as the SDK's input."""
    return PathInput(target.path(name))


def broken() -> Any:
    """A document that the service fails to read."""
    return BytesInput(BROKEN_PDF, "broken.pdf")


def finished(client: Any, response: Any, source: Any, parameters: Any) -> Any:
    """The inference, waited for as often as the SDK permits."""
    parameters.polling_options = PollingOptions(initial_delay_sec=1, delay_sec=1, max_retries=20)
    return client.enqueue_and_get_result(response, source, parameters).inference


def extract(client: Any, source: Any) -> dict[str, Any]:
    """The values of one document, and what belongs to one of them."""
    parameters = ExtractionParameters(model_id=MODEL, alias="order-42", raw_text=True, polygon=True)
    inference = finished(client, ExtractionResponse, source, parameters)
    fields = inference.result.fields
    total = fields.get_simple_field("total_amount")
    rows = fields.get_list_field("line_items").object_items if "line_items" in fields else []
    return {
        "values": {name: field.value for name, field in fields.items() if hasattr(field, "value")},
        "line_items": [{name: cell.value for name, cell in row.fields.items()} for row in rows],
        "confidence": total.confidence.value,
        "total_pages": [location.page for location in total.locations],
        "total_corners": [len(location.polygon) for location in total.locations],
        "raw_text": str(inference.result.raw_text),
        "file": [inference.file.name, inference.file.alias, inference.file.page_count],
        "model_id": inference.model.id,
        "polygon_was_active": inference.active_options.polygon,
    }


def extract_by_schema(client: Any, source: Any) -> dict[str, Any]:
    """A document read by a schema sent along, with an object among its fields."""
    parameters = ExtractionParameters(model_id=MODEL, data_schema={"replace": {"fields": [NUMBER, SUPPLIER]}})
    fields = finished(client, ExtractionResponse, source, parameters).result.fields
    supplier = fields.get_object_field("supplier")
    return {
        "names": sorted(fields),
        "invoice_number": fields.get_simple_field("invoice_number").value,
        "supplier_name": supplier.fields.get_simple_field("name").value,
    }


def ocr(client: Any, source: Any) -> dict[str, Any]:
    """Text and words of the first page."""
    page = finished(client, OCRResponse, source, OCRParameters(model_id=MODEL)).result.pages[0]
    return {"content": page.content, "words": [word.content for word in page.words]}


def crop(client: Any, source: Any) -> list[Any]:
    """Type, page and corner count of each crop."""
    crops = finished(client, CropResponse, source, CropParameters(model_id=MODEL)).result.crops
    return [[item.object_type, item.location.page, len(item.location.polygon)] for item in crops]


def split(client: Any, source: Any) -> list[Any]:
    """Type and page range of each part."""
    splits = finished(client, SplitResponse, source, SplitParameters(model_id=MODEL)).result.splits
    return [[part.document_type, part.page_range] for part in splits]


def classify(client: Any, source: Any) -> Any:
    """The type of a document."""
    parameters = ClassificationParameters(model_id=MODEL)
    return finished(client, ClassificationResponse, source, parameters).result.classification.document_type


def step_by_step(client: Any, source: Any) -> dict[str, Any]:
    """Enqueue, look until there is a result URL, and fetch: by that URL and by the job's id."""
    submitted = client.enqueue(source, ExtractionParameters(model_id=MODEL, alias="by-hand")).job
    deadline = time.monotonic() + 20
    while not (job := client.get_job(submitted.id).job).result_url and time.monotonic() < deadline:
        time.sleep(0.2)
    by_url = client.get_result_from_url(ExtractionResponse, job.result_url).inference
    by_id = client.get_result(ExtractionResponse, job.id).inference
    return {
        "submitted": [submitted.status, submitted.filename, submitted.alias, submitted.result_url],
        "finished": [job.status, job.filename, job.alias, job.completed_at > submitted.created_at],
        "invoice_numbers": [found.result.fields["invoice_number"].value for found in (by_url, by_id)],
    }


def search_models(client: Any) -> list[Any]:
    """Name and type of the OCR models."""
    models = client.mindee_api.req_get_search_models(None, "ocr").models
    return [[model.name, model.model_type] for model in models]


if __name__ == "__main__":
    print_outcomes(calls_for)
