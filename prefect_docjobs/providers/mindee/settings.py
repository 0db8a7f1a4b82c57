"""What a Mindee V2 job can be told, checked before anything is sent."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.providers.values import parsed

EXTRACTION_ONLY = ("rag", "raw_text", "polygon", "confidence", "text_context", "data_schema")
"""Fields of the extraction product alone (mindee 5.4.0 SDK, `ExtractionParameters`)."""

_SWITCHES = ("rag", "raw_text", "polygon", "confidence")
_NAMED = ("alias", "webhook_ids", "filename")
_OURS = ("file", "url", "file_base64", "model_id")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def check_uuid(field: str, value: object) -> None:
    """Raise `ConfigurationError` unless `value` is written as a UUID (Mindee V2 OpenAPI, `uuid4`)."""
    if not (isinstance(value, str) and _UUID.fullmatch(value)):
        raise ConfigurationError(
            f"{field} must be a UUID such as 11111111-1111-4111-8111-111111111111, not {value!r}. "
            "Copy the ID from the model's page on Mindee's platform."
        )


def check_choice(field: str, value: object, choices: Iterable[str]) -> None:
    """Raise `ConfigurationError` unless `value` is one of `choices`."""
    if value not in tuple(choices):
        raise ConfigurationError(f"{field} must be one of {', '.join(choices)}, not {value!r}.")


def check_webhook_ids(value: object) -> None:
    """Raise `ConfigurationError` unless `value` is a list or tuple of UUIDs."""
    if not isinstance(value, (list, tuple)):
        raise ConfigurationError(f"webhook_ids must be a list of webhook IDs, not {value!r}.")
    for webhook_id in value:
        check_uuid("webhook_ids", webhook_id)


def check_extraction_only(job: object, product: str) -> None:
    """Raise `ConfigurationError` where a field of the extraction product is set for another one."""
    given = [name for name in EXTRACTION_ONLY if getattr(job, name) is not None]
    if given and product != "extraction":
        raise ConfigurationError(f"{', '.join(given)}: only product='extraction' has that, not {product!r}.")


def check_options(options: Mapping[str, Any]) -> None:
    """Raise `ConfigurationError` where `options` would replace the document or the model."""
    taken = [name for name in _OURS if name in options]
    if taken:
        raise ConfigurationError(f"options must not hold {', '.join(taken)}: the job fills that itself.")


def data_schema_text(schema: object) -> str | None:
    """`data_schema` as the JSON text that travels: `{"replace": {"fields": […]}}` (Mindee V2 OpenAPI).

    Args:
        schema: That object, its `{"fields": […]}` alone, the bare list of fields, or JSON text of any.

    Raises:
        ConfigurationError: None of these.
    """
    if schema is None:
        return None
    if isinstance(schema, str):
        schema = _parsed(schema)
    if isinstance(schema, (list, tuple)):
        schema = {"fields": list(schema)}
    if isinstance(schema, Mapping) and "replace" not in schema and "fields" in schema:
        schema = {"replace": schema}
    if not (isinstance(schema, Mapping) and "replace" in schema):
        raise ConfigurationError("data_schema must be {'replace': {'fields': […]}} or the list of fields.")
    return json_text("data_schema", schema)


def canonical(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a job in one notation: `options` replace what they name, as in the request."""
    options = dict(given["options"])
    named = {name: options.pop(name) for name in (*_NAMED, *EXTRACTION_ONLY) if name in options}
    switches = {name: parsed(named[name]) for name in _SWITCHES if name in named}
    settings = {**given, **named, **switches, "options": options}
    try:
        schema = data_schema_text(settings["data_schema"])
    except ConfigurationError:  # sent as it is in the options
        schema = settings["data_schema"]
    return {**settings, "model_id": given["model_id"].lower(), "data_schema": parsed(schema)}


def json_text(field: str, value: object) -> str:
    """`value` as compact JSON. Raises `ConfigurationError` where it has none."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        raise ConfigurationError(f"{field} holds something that JSON cannot carry.") from None


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ConfigurationError("data_schema is a text, but not JSON.") from None
