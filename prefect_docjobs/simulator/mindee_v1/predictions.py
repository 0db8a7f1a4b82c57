"""Mindee V1 documents: what a document says, as the prediction of the product that was asked.

Source: the product classes of the mindee 5.4.0 SDK, whose keys are all required. A product that is not in
here predicts every field that the document has, as a custom API does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from prefect_docjobs.simulator.reading import Box, DocumentRead, Found

_WITH_BOX, _WITHOUT_BOX = 0.99, 0.9

# mindee 5.4.0 SDK, v1/product/invoice/invoice_v4_document.py: field -> (name to look for, kind)
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


def predict(product: str, read: DocumentRead) -> dict[str, Any]:
    """The document-level ``prediction`` of a product, such as ``invoices``."""
    return _PREDICTIONS.get(product, _everything)(read)


def _invoice(read: DocumentRead) -> dict[str, Any]:
    prediction = {field: _value(read.look_for(*asked)) for field, asked in _INVOICE_FIELDS.items()}
    currency, tax = read.look_for("currency"), read.look_for("tax", "number")
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
    cells = {column: read.look_in_item(item, *asked).value for column, asked in _LINE_ITEM_COLUMNS.items()}
    return {**cells, **_place(_box_around(item)), "confidence": _WITH_BOX}


def _value(found: Found) -> dict[str, Any]:
    return {"value": found.value, "confidence": _confidence(found), **_place(found.box)}


def _confidence(found: Found) -> float:
    if found.value is None:
        return 0.0
    return _WITH_BOX if found.box else _WITHOUT_BOX


def _place(box: Box | None) -> dict[str, Any]:
    """``page_id`` counts from 0; the polygon is relative to the page, empty when the place is not known."""
    if box is None:
        return {"page_id": None, "polygon": []}
    polygon = [[box.x0, box.y0], [box.x1, box.y0], [box.x1, box.y1], [box.x0, box.y1]]
    return {"page_id": box.page - 1, "polygon": polygon}


def _box_around(item: Mapping[str, Found]) -> Box | None:
    around: Box | None = None
    for found in item.values():
        if found.box is not None:
            around = found.box if around is None else around.joined(found.box)
    return around
