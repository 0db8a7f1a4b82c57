"""Request bodies of NuMind's routes: JSON objects, templates, and documents in every form they come in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request

from prefect_docjobs.simulator.extraction_schema import InvalidQuestion, Wanted, from_template
from prefect_docjobs.simulator.forms import UnreadableBody, read_form
from prefect_docjobs.simulator.jobs import Source
from prefect_docjobs.simulator.numind.errors import rejected


async def json_object(request: Request) -> dict[str, Any]:
    """The body as a JSON object.

    Raises:
        Rejected: HTTP 400 if it is none.
    """
    return parsed_object(await request.body())


def parsed_object(text: bytes | str) -> dict[str, Any]:
    """A JSON object from text.

    Raises:
        Rejected: HTTP 400 if it is none.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise rejected(400, "BadRequest", "The body must be a JSON object.")
    return document


def wanted_by(template: Any) -> Wanted:
    """What a template asks for.

    Raises:
        Rejected: HTTP 400 for an invalid template.
    """
    if not isinstance(template, dict):
        raise rejected(400, "InvalidSchema", "The schema must be a JSON object.")
    try:
        return from_template(template)
    except InvalidQuestion as error:
        raise rejected(400, "InvalidSchema", f"The schema is invalid: {error}.") from error


async def raw_source(request: Request, name: str) -> Source:
    """The document that a raw body is.

    Raises:
        Rejected: HTTP 400 for an empty body.
    """
    return not_empty(Source.from_bytes(await request.body(), name))


async def text_source(request: Request) -> Source:
    """The document that `{"text": …}` holds.

    Raises:
        Rejected: HTTP 400 without a text.
    """
    text = (await json_object(request)).get("text")
    if not isinstance(text, str):
        raise rejected(400, "BadRequest", "The text is missing.")
    return not_empty(Source.from_bytes(text.encode("utf-8", "replace"), "text"))


def not_empty(source: Source) -> Source:
    """The document itself.

    Raises:
        Rejected: HTTP 400 if it has no bytes.
    """
    if not source.data:
        raise rejected(400, "BadRequest", "The document is empty.")
    return source


def mapping(value: object) -> Mapping[str, Any]:
    """The value if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


async def body_or_file(request: Request) -> Source:
    """The document in the part `file` of a multipart body, or the raw body of any other type.

    Raises:
        Rejected: HTTP 400 without a document.
    """
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return await raw_source(request, "document")
    try:
        source = (await read_form(request)).files.get("file")
    except UnreadableBody as error:
        raise rejected(400, "BadRequest", str(error)) from error
    if source is None:
        raise rejected(400, "BadRequest", "The part file is missing.")
    return not_empty(source)


async def text_of(part: UploadFile | str | None) -> bytes | str:
    """The part `request` of a multipart body, sent as text or as a file.

    Raises:
        Rejected: HTTP 400 if it is missing.
    """
    if part is None:
        raise rejected(400, "BadRequest", "The part request is missing.")
    return part if isinstance(part, str) else await part.read()


async def source_of(part: UploadFile | str | None, name: str) -> Source:
    """The document in a part of a multipart body.

    Raises:
        Rejected: HTTP 400 if it is missing or empty.
    """
    if part is None:
        raise rejected(400, "BadRequest", f"The part {name} is missing.")
    if isinstance(part, str):
        return not_empty(Source.from_bytes(part.encode(), name))
    return not_empty(Source.from_bytes(await part.read(), part.filename or name))


def check_examples(examples: object, files: int) -> None:
    """Refuses examples that do not fit their files.

    Raises:
        Rejected: HTTP 400 if one has no result, or if there are not as many files as examples.
    """
    if not isinstance(examples, list) or any("result" not in mapping(example) for example in examples):
        raise rejected(400, "BadRequest", "Every example needs a result.")
    if len(examples) != files:
        raise rejected(400, "BadRequest", "Attach exactly one file for each example.")
