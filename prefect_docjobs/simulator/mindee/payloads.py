"""Mindee V2 jobs, results and models as answers and webhook calls show them.

Source: the mindee 5.4.0 SDK's result classes, the Mindee V2 OpenAPI and Mindee's published test data. Pages
count from 0, polygons are four ``[x, y]`` points relative to the page; a value whose place is not known has
no location.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from prefect_docjobs.simulator.backend import Backend, Job, Phase, Push
from prefect_docjobs.simulator.mindee.errors import inference_failed, problem
from prefect_docjobs.simulator.reading.document import DocumentRead
from prefect_docjobs.simulator.reading.pages import Box, Found, PageRead, box_around

NAME = "mindee"
_KINDS = {"number": "number", "date": "date", "boolean": "boolean"}
_STATUS_WORDS = {Phase.SUCCEEDED: "Processed", Phase.FAILED: "Failed"}
# Any model id is accepted by enqueue; these are the ones that a search finds.
_MODEL_SPACE = uuid.UUID("6d1c1f0a-7f43-4c6e-9d9e-2f1f0a7f4300")


@dataclass(frozen=True)
class Options:
    """What the simulated service keeps of an enqueue request.

    ``flags`` holds the switches that were sent; ``fields`` the data schema's replacement fields, None for the
    model's own; ``base_url`` the origin that the client used, with no slash at the end.
    """

    model_id: str
    alias: str | None
    webhook_ids: list[str]
    flags: dict[str, bool]
    text_context: str | None
    fields: list[dict[str, Any]] | None
    base_url: str

    def flag(self, name: str) -> bool:
        """A switch as sent, or as the simulated model has it: places and confidence yes, text and RAG no."""
        return self.flags.get(name, name in {"polygon", "confidence"})


def job_body(backend: Backend, job: Job, *, ended: bool) -> dict[str, Any]:
    """A ``Job`` with all keys, those that may be left out too: the mindee SDKs need them."""
    options: Options = job.options
    phase = job.phase(backend.now()) if ended else Phase.PROCESSING
    failure = job.failure if phase is Phase.FAILED else None
    return {
        "id": job.id,
        "model_id": options.model_id,
        "filename": job.source.name,
        "alias": options.alias,
        "created_at": _date(backend, job.created_at),
        "completed_at": _date(backend, job.ends_at) if ended else None,
        "status": _STATUS_WORDS.get(phase, "Processing"),
        "polling_url": f"{options.base_url}/v2/jobs/{job.id}",
        "result_url": result_url(job) if phase is Phase.SUCCEEDED else None,
        "webhooks": [_webhook(backend, push) for push in job.pushes] if ended else [],
        "error": inference_failed(failure.detail) if failure else None,
    }


def result_url(job: Job) -> str:
    """Where a job's result is read."""
    return f"{job.options.base_url}/v2/products/{job.product}/results/{job.id}"


def push_body(backend: Backend, job: Job) -> dict[str, Any]:
    """The result as a GET would give it; a failure is flat and has no job id (mindee 5.4.0 SDK)."""
    if job.failure is None:
        return result_body(job, backend.read(job))
    return {
        "inference_id": job.id,
        "model_id": job.options.model_id,
        "file_name": job.source.name,
        "file_alias": job.options.alias,
        "error": inference_failed(job.failure.detail),
        "created_at": _date(backend, job.ends_at),
    }


def result_body(job: Job, read: DocumentRead) -> dict[str, Any]:
    """The whole body of a result: ``{"inference": …}``."""
    options: Options = job.options
    body: dict[str, Any] = {
        "id": job.id,
        "job": {"id": job.id},
        "model": {"id": options.model_id},
        "file": {
            "name": job.source.name,
            "alias": options.alias,
            "page_count": len(read.pages),
            "mime_type": read.media_type,
        },
        "result": _RESULTS[job.product](options, read),
    }
    if job.product == "extraction":
        body["active_options"] = {
            **{name: options.flag(name) for name in ("raw_text", "polygon", "confidence", "rag")},
            "text_context": options.text_context is not None,
            "data_schema": {"replace": options.fields is not None},
        }
    return {"inference": body}


def model_body(slug: str, webhook_url: str | None) -> dict[str, Any]:
    """A model as the search gives it; its id is the same in every simulator, and a UUID4 like all ids."""
    webhook = {
        "id": _fixed_id(f"{slug}/webhook"),
        "name": "simulator",
        "url": (webhook_url or "").replace("{service}", NAME),
    }
    return {
        "id": _fixed_id(slug),
        "name": f"Simulated {slug}",
        "model_type": slug,
        "webhooks": [webhook] if webhook_url else [],
    }


def _fixed_id(name: str) -> str:
    return str(uuid.UUID(bytes=uuid.uuid5(_MODEL_SPACE, name).bytes, version=4))


def _date(backend: Backend, at: float) -> str:
    """A date-time of RFC 3339 as the OpenAPI demands; Mindee's test data mostly leaves the zone out."""
    text = backend.wall(at).replace(tzinfo=None).isoformat(timespec="microseconds")
    return text if backend.settings.mindee.dates_without_zone else f"{text}Z"


def _webhook(backend: Backend, push: Push) -> dict[str, Any]:
    refused = problem(502, "Webhook failed", "The webhook's receiver did not answer 2xx.", "502-000")
    return {
        "id": push.id,
        "created_at": _date(backend, push.called_at),
        "status": "Processed" if push.delivered else "Failed",
        "error": None if push.delivered else refused,
        "attempts_count": push.attempts,
    }


def _extraction(options: Options, read: DocumentRead) -> dict[str, Any]:
    pages = [{"content": page.text} for page in read.pages]
    return {
        "fields": _fields(options, read),
        "raw_text": {"pages": pages} if options.flag("raw_text") else None,
        "rag": {"retrieved_document_id": None} if options.flag("rag") else None,
    }


def _ocr(_options: Options, read: DocumentRead) -> dict[str, Any]:
    return {
        "pages": [
            {
                "words": [{"content": word.text, "polygon": _polygon(word.box)} for word in page.words],
                "content": page.text,
            }
            for page in read.pages
        ]
    }


def _crop(_options: Options, read: DocumentRead) -> dict[str, Any]:
    """One crop per page: the rectangle around its words, or the whole page where no place is known."""

    def rectangle(page: PageRead) -> Box:
        placed = tuple(word for word in page.words if word.box)
        return box_around(placed) or Box(page.number, 0.0, 0.0, 1.0, 1.0)

    return {
        "crops": [
            {
                "object_type": read.kind,
                "location": {"polygon": _polygon(rectangle(page)), "page": page.number - 1},
            }
            for page in read.pages
        ]
    }


def _split(_options: Options, read: DocumentRead) -> dict[str, Any]:
    return {
        "splits": [
            {"page_range": [first - 1, last - 1], "document_type": kind}
            for first, last, kind in read.sections
        ]
    }


def _classification(_options: Options, read: DocumentRead) -> dict[str, Any]:
    return {"classification": {"document_type": read.kind}}


_RESULTS: Mapping[str, Callable[[Options, DocumentRead], dict[str, Any]]] = {
    "extraction": _extraction,
    "ocr": _ocr,
    "crop": _crop,
    "split": _split,
    "classification": _classification,
}
PRODUCTS = tuple(_RESULTS)


def _fields(options: Options, read: DocumentRead) -> dict[str, Any]:
    """The fields of the data schema, or all that the document has."""

    def simple(found: Found) -> dict[str, Any]:
        """A value; one whose place is known is ``Certain``, any other value ``High``."""
        confidence = None
        if options.flag("confidence") and found.value is not None:
            confidence = "Certain" if found.box else "High"
        locations = []
        if options.flag("polygon") and found.box:
            locations.append({"page": found.box.page - 1, "polygon": _polygon(found.box)})
        return {"value": found.value, "confidence": confidence, "locations": locations}

    def row(item: Mapping[str, Found], columns: list[dict[str, Any]]) -> dict[str, Any]:
        cells = ((column, read.find_in_item(item, column["name"], _kind(column))) for column in columns)
        return {"fields": {column["name"]: simple(found) for column, found in cells}}

    def part(whole: str, part: Mapping[str, Any]) -> dict[str, Any]:
        """A field of an object, such as ``name`` of ``supplier``: found as ``supplier_name`` or ``name``."""
        found = read.find_field(f"{whole}_{part['name']}", _kind(part))
        return simple(found if found.value is not None else read.find_field(part["name"], _kind(part)))

    def wanted(field: Mapping[str, Any]) -> dict[str, Any]:
        nested = field.get("nested_fields") or []
        if nested and field.get("is_array"):
            return {"items": [row(item, nested) for item in read.line_items]}
        if nested:
            return {"fields": {each["name"]: part(field["name"], each) for each in nested}}
        found = read.find_field(field["name"], _kind(field))
        if field.get("is_array"):
            return {"items": [] if found.value is None else [simple(found)]}
        return simple(found)

    if options.fields is not None:
        return {field["name"]: wanted(field) for field in options.fields}
    fields: dict[str, Any] = {name: simple(found) for name, found in read.fields.items()}
    if read.line_items:
        items = [{name: simple(found) for name, found in item.items()} for item in read.line_items]
        fields["line_items"] = {"items": [{"fields": item} for item in items]}
    return fields


def _kind(field: Mapping[str, Any]) -> str:
    return _KINDS.get(str(field.get("type")), "string")


def _polygon(box: Box | None) -> list[list[float]]:
    return [] if box is None else box.corners
