"""Mindee V1 jobs and documents as answers and webhook calls show them.

Source: Mindee's "Asynchronous Prediction" page; the product classes of the mindee 5.4.0 SDK, whose keys are
all required. A product that is not in here predicts every field that the document has, as a custom API does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from prefect_docjobs.simulator.backend import Backend, Job, Phase
from prefect_docjobs.simulator.reading.document import DocumentRead
from prefect_docjobs.simulator.reading.pages import Box, Found, around

_WORDS = {
    Phase.QUEUED: "waiting",
    Phase.PROCESSING: "processing",
    Phase.SUCCEEDED: "completed",
    Phase.FAILED: "failed",
}
_WITH_BOX, _WITHOUT_BOX = 0.99, 0.9

# mindee 5.4.0 SDK, v1/product/invoice/invoice_v4_document.py: field -> (its name in documents, kind)
_INVOICE_FIELDS: Mapping[str, tuple[str, str]] = {
    "billing_address": ("billing_address", "string"),
    "category": ("category", "string"),
    "customer_address": ("customer_address", "string"),
    "customer_id": ("customer_id", "string"),
    "customer_name": ("customer_name", "string"),
    "date": ("date", "date"),
    "document_type": ("document_type", "string"),
    "document_type_extended": ("document_type", "string"),
    "due_date": ("due_date", "date"),
    "invoice_number": ("invoice_number", "string"),
    "payment_date": ("payment_date", "date"),
    "po_number": ("po_number", "string"),
    "shipping_address": ("shipping_address", "string"),
    "subcategory": ("subcategory", "string"),
    "supplier_address": ("supplier_address", "string"),
    "supplier_email": ("supplier_email", "string"),
    "supplier_name": ("supplier_name", "string"),
    "supplier_phone_number": ("supplier_phone_number", "string"),
    "supplier_website": ("supplier_website", "string"),
    "total_amount": ("total_amount", "number"),
    "total_net": ("subtotal", "number"),
    "total_tax": ("tax", "number"),
}
_INVOICE_LISTS = (
    "customer_company_registrations",
    "reference_numbers",
    "supplier_company_registrations",
    "supplier_payment_details",
)
_LINE_ITEM_COLUMNS: Mapping[str, tuple[str, str]] = {
    "description": ("description", "string"),
    "product_code": ("product_code", "string"),
    "quantity": ("quantity", "number"),
    "tax_amount": ("tax_amount", "number"),
    "tax_rate": ("tax_rate", "number"),
    "total_amount": ("amount", "number"),
    "unit_measure": ("unit_measure", "string"),
    "unit_price": ("unit_price", "number"),
}


@dataclass(frozen=True)
class Options:
    """What the simulated service keeps of an enqueue request; ``version`` without a leading ``v``."""

    account: str
    version: str
    full_text_ocr: bool
    cropper: bool
    rag: bool


def job_body(backend: Backend, job: Job, phase: Phase) -> dict[str, Any]:
    """The ``job`` of an answer."""
    error = {}
    if phase is Phase.FAILED and job.failure is not None:
        error = {"code": "ServerError", "message": "An error occurred", "details": job.failure.detail}
    return {
        "id": job.id,
        "status": _WORDS[phase],
        "issued_at": _date(backend, job.created_at),
        "available_at": _date(backend, job.ends_at) if phase.is_terminal else None,
        "error": error,
    }


def document_body(backend: Backend, job: Job, read: DocumentRead) -> dict[str, Any]:
    """The ``document`` and the ``job`` of a finished job."""
    options: Options = job.options
    prediction = _PREDICTIONS.get(job.product, _everything)(read)
    inference = {
        "started_at": _date(backend, job.starts_at),
        "finished_at": _date(backend, job.ends_at),
        "processing_time": round(job.ends_at - job.starts_at, 3),
        "is_rotation_applied": False,
        "extras": {"rag": {"matching_document_id": None}} if options.rag else {},
        "product": {
            "name": f"{options.account}/{job.product}",
            "type": "standard" if options.account == "mindee" else "constructed",
            "version": options.version,
            "features": list(prediction),
        },
        "prediction": prediction,
        "pages": [
            {
                "id": page.number - 1,
                "orientation": {"value": 0},
                "extras": _page_extras(options, page.text),
                "prediction": {},
            }
            for page in read.pages
        ],
    }
    document = {
        "id": job.result_id,
        "name": job.source.name,
        "n_pages": len(read.pages),
        "inference": inference,
    }
    return {"document": document, "job": job_body(backend, job, Phase.SUCCEEDED)}


def _date(backend: Backend, at: float) -> str:
    """A date without a zone, as in the examples of Mindee's page."""
    return backend.wall(at).replace(tzinfo=None).isoformat(timespec="microseconds")


def _page_extras(options: Options, text: str) -> dict[str, Any]:
    """Extras of one page, as the mindee 5.4.0 SDK reads them; the cropper finds one document, the page."""
    extras: dict[str, Any] = {}
    if options.full_text_ocr:
        extras["full_text_ocr"] = {"content": text}
    if options.cropper:
        corners = Box(1, 0.0, 0.0, 1.0, 1.0).corners
        shapes = ("bounding_box", "polygon", "quadrangle", "rectangle")
        extras["cropper"] = {"cropping": [dict.fromkeys(shapes, corners)]}
    return extras


def _invoice(read: DocumentRead) -> dict[str, Any]:
    prediction = {
        field: _value(read.find_field(name, kind)) for field, (name, kind) in _INVOICE_FIELDS.items()
    }
    currency, tax = read.find_field("currency"), read.find_field("tax", "number")
    return {
        **prediction,
        **{name: [] for name in _INVOICE_LISTS},
        "line_items": [_line_item(read, item) for item in read.line_items],
        "locale": {"currency": currency.value, "language": None, "confidence": _confidence(currency)},
        "taxes": [] if tax.value is None else [{**_value(tax), "rate": None, "code": None, "base": None}],
    }


def _invoice_splitter(read: DocumentRead) -> dict[str, Any]:
    groups = (list(range(first - 1, last)) for first, last, _ in read.sections)
    return {"invoice_page_groups": [{"confidence": 1.0, "page_indexes": pages} for pages in groups]}


def _everything(read: DocumentRead) -> dict[str, Any]:
    prediction: dict[str, Any] = {name: _value(found) for name, found in read.fields.items()}
    if read.line_items:
        prediction["line_items"] = [
            {name: found.value for name, found in item.items()} for item in read.line_items
        ]
    return prediction


_PREDICTIONS: Mapping[str, Callable[[DocumentRead], dict[str, Any]]] = {
    "invoices": _invoice,
    "invoice_splitter": _invoice_splitter,
}


def _line_item(read: DocumentRead, item: Mapping[str, Found]) -> dict[str, Any]:
    cells = {
        column: read.find_in_item(item, name, kind).value
        for column, (name, kind) in _LINE_ITEM_COLUMNS.items()
    }
    boxes = [found.box for found in item.values() if found.box is not None]
    return {**cells, **_place(around(boxes)), "confidence": _WITH_BOX}


def _value(found: Found) -> dict[str, Any]:
    return {"value": found.value, "confidence": _confidence(found), **_place(found.box)}


def _confidence(found: Found) -> float:
    if found.value is None:
        return 0.0
    return _WITH_BOX if found.box else _WITHOUT_BOX


def _place(box: Box | None) -> dict[str, Any]:
    """``page_id`` counts from 0; the polygon is relative to the page, empty when the place is not known."""
    return {"page_id": box.page - 1, "polygon": box.corners} if box else {"page_id": None, "polygon": []}
