"""What the demo asks each service for."""

from __future__ import annotations

from prefect_docjobs.blocks import (
    DocJob,
    MindeeCredentials,
    MindeeJob,
    MindeeV1Credentials,
    MindeeV1Job,
    NuMindCredentials,
    NuMindJob,
    UnsiloedCredentials,
    UnsiloedJob,
)

_MODEL = "7f3c6a52-9d0e-4b1a-8c55-2e4d1b6f0a93"
_TEXTS = ("invoice_number", "purchase_order_number", "supplier_name", "customer_name", "email")
_DATES = ("date", "due_date")


def demo_jobs(services_url: str, api_key: str) -> list[DocJob]:
    """A job at each service that reads invoices: by a model, a product, a template, a schema.

    Args:
        services_url: Where all of them are.
        api_key: The key that they accept.
    """
    account = {"api_key": api_key, "base_url": services_url}
    return [
        MindeeJob(credentials=MindeeCredentials(**account), model_id=_MODEL),
        MindeeV1Job(credentials=MindeeV1Credentials(**account), endpoint="invoices", version="4"),
        NuMindJob(credentials=NuMindCredentials(**account), template=_template()),
        UnsiloedJob(credentials=UnsiloedCredentials(**account), schema_data=_schema()),
    ]


def _template() -> dict[str, object]:
    """A NuExtract template: names with the types that the service knows."""
    return {
        **dict.fromkeys(_TEXTS, "verbatim-string"),
        **dict.fromkeys(_DATES, "date"),
        "total_amount": "number",
        "currency": "string",
        "line_items": [{"description": "verbatim-string", "quantity": "number", "amount": "number"}],
    }


def _schema() -> dict[str, object]:
    """The same as a JSON Schema."""
    text, date, number = {"type": "string"}, {"type": "string", "format": "date"}, {"type": "number"}
    item = {"type": "object", "properties": {"description": text, "quantity": number, "amount": number}}
    fields = {
        **dict.fromkeys((*_TEXTS, "currency"), text),
        **dict.fromkeys(_DATES, date),
        "total_amount": number,
        "line_items": {"type": "array", "items": item},
    }
    return {"type": "object", "properties": fields}
