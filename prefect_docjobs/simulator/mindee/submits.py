"""Mindee V2 enqueue requests: what a form asks for, checked field by field.

Source: Mindee V2 OpenAPI, ``POST /v2/products/{slug}/enqueue``; parameters of the mindee 5.4.0 SDK.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from typing import Any, TypedDict

from prefect_docjobs.simulator.forms import Form, UnreadableBody, decode_base64
from prefect_docjobs.simulator.jobs import Source
from prefect_docjobs.simulator.mindee.errors import invalid_fields
from prefect_docjobs.simulator.reading.media import media_type_of

FLAGS = ("rag", "raw_text", "polygon", "confidence")
# docs.mindee.com, technical limitations
MEDIA_TYPES = frozenset(
    {
        "application/pdf",
        "image/jpeg",
        "image/png",
        "image/webp",
        "image/tiff",
        "image/heic",
        "image/heif",
    }
)
_LONGEST_URL = 2048
_SHORTEST_BASE64 = 15
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


class Options(TypedDict):
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


def read_options(form: Form, *, extraction: bool, base_url: str) -> Options:
    """The options of an enqueue request.

    Args:
        form: The request's body.
        extraction: Whether the product knows the switches, the text context and the data schema.
        base_url: Origin of the request.

    Raises:
        Rejected: 422 with a pointer to the wrong field.
    """
    return {
        "model_id": _model_id(form),
        "alias": form.text("alias"),
        "webhook_ids": _webhook_ids(form),
        "flags": _flags(form) if extraction else {},
        "text_context": form.text("text_context") if extraction else None,
        "fields": _replacement_fields(form) if extraction else None,
        "base_url": base_url,
    }


def read_source(form: Form, *, check_media_type: bool) -> Source:
    """The document of an enqueue request: exactly one of ``file``, ``url`` and ``file_base64``.

    Raises:
        Rejected: 422 with a pointer to the wrong field.
    """
    given = [name for name in ("file", "url", "file_base64") if name in form.files or form.first(name)]
    if len(given) != 1:
        raise invalid_fields(("#/file", "Send exactly one of 'file', 'url' and 'file_base64'."))
    if given == ["url"]:
        return _from_url(form)
    source = _from_base64(form) if given == ["file_base64"] else _from_file(form)
    if not source.data:
        raise invalid_fields((f"#/{given[0]}", "The file is empty."))
    media_type = media_type_of(source.data)
    if check_media_type and media_type not in MEDIA_TYPES:
        raise invalid_fields((f"#/{given[0]}", f"Files of type {media_type} are not supported."))
    return source


def is_uuid4(text: object) -> bool:
    """Whether a value is the text of a UUID of version 4, in any of its usual spellings."""
    try:
        return isinstance(text, str) and uuid.UUID(text).version == 4
    except ValueError:
        return False


def read_boolean(text: object) -> bool | None:
    """A boolean of a form, query or JSON body; None when it is none."""
    return text if isinstance(text, bool) else _BOOLEANS.get(str(text).lower())


def _model_id(form: Form) -> str:
    model_id = form.first("model_id")
    if not model_id:
        raise invalid_fields(("#/model_id", "'model_id' is required"))
    if not is_uuid4(model_id):
        raise invalid_fields(("#/model_id", "'model_id' must be a valid UUID format"))
    return str(uuid.UUID(model_id))


def _webhook_ids(form: Form) -> list[str]:
    ids = [found for value in form.values.get("webhook_ids", []) for found in _split_ids(value)]
    if not all(map(is_uuid4, ids)):
        raise invalid_fields(("#/webhook_ids", "'webhook_ids' must hold valid UUIDs"))
    return list(dict.fromkeys(str(uuid.UUID(found)) for found in ids))


def _split_ids(value: Any) -> Iterable[str]:
    """One value of ``webhook_ids``: an id, ids with commas between them, or a JSON list."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = _json(value, "webhook_ids")
    if isinstance(value, list):
        return map(str, value)
    return (part.strip() for part in str(value or "").split(",") if part.strip())


def _flags(form: Form) -> dict[str, bool]:
    flags: dict[str, bool] = {}
    for name in FLAGS:
        sent = form.first(name)
        if sent is None or sent == "":
            continue
        flag = read_boolean(sent)
        if flag is None:
            raise invalid_fields((f"#/{name}", f"'{name}' must be a boolean"))
        flags[name] = flag
    return flags


def _replacement_fields(form: Form) -> list[dict[str, Any]] | None:
    """The fields of ``data_schema``: ``{"replace": {"fields": […]}}`` as JSON, or as text holding JSON."""
    schema = form.first("data_schema")
    if isinstance(schema, str) and schema:
        schema = _json(schema, "data_schema")
    if not schema:
        return None
    replace = schema.get("replace") if isinstance(schema, dict) else None
    fields = replace.get("fields") if isinstance(replace, dict) else None
    if not isinstance(fields, list) or not all(map(_is_field, fields)):
        raise invalid_fields(("#/data_schema", '\'data_schema\' must be {"replace": {"fields": [...]}}'))
    return fields


def _is_field(field: Any) -> bool:
    """Whether this is a field of a data schema, down to its nested fields."""
    if not isinstance(field, dict) or not isinstance(field.get("name"), str):
        return False
    nested = field.get("nested_fields") or []
    return isinstance(nested, list) and all(map(_is_field, nested))


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise invalid_fields((f"#/{name}", f"'{name}' is not valid JSON")) from error


def _from_url(form: Form) -> Source:
    url = form.text("url") or ""
    if not url.startswith("https://") or len(url) > _LONGEST_URL:
        raise invalid_fields(
            ("#/url", f"'url' must start with https:// and have at most {_LONGEST_URL} characters")
        )
    return Source.from_url(url, form.text("filename"))


def _from_base64(form: Form) -> Source:
    text = form.text("file_base64") or ""
    if len(text) < _SHORTEST_BASE64:
        raise invalid_fields(
            ("#/file_base64", f"'file_base64' must have at least {_SHORTEST_BASE64} characters")
        )
    try:
        data = decode_base64(text)
    except UnreadableBody as error:
        raise invalid_fields(("#/file_base64", str(error))) from error
    return Source.from_bytes(data, form.text("filename") or "file")


def _from_file(form: Form) -> Source:
    source = form.files.get("file")
    if source is None or source.data is None:
        raise invalid_fields(("#/file", "'file' must be a file part of a multipart form"))
    return Source.from_bytes(source.data, form.text("filename") or source.name)
