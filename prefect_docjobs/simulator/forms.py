"""Request bodies as the services take them: multipart, url-encoded or JSON, read into one shape."""

from __future__ import annotations

import base64
import binascii
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.requests import Request

from prefect_docjobs.simulator.backend import Source

# Starlette refuses text parts over 1 MiB by default; base64 documents may come as text.
_LONGEST_TEXT = 256 * 1024 * 1024


class UnreadableBody(ValueError):
    """The body is not what its Content-Type says, or is of a type that no service takes."""


@dataclass(frozen=True, slots=True)
class Form:
    """A request body.

    Attributes:
        values: Every value of each field, in order: text for forms, any JSON value for JSON bodies.
        files: The file parts by field name; of several with one name the last.
        counts: The number of parts by field name, of files and of values.
    """

    values: Mapping[str, list[Any]] = field(default_factory=dict)
    files: Mapping[str, Source] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def first(self, name: str) -> Any:
        """The first value of a field, None when it is missing."""
        values = self.values.get(name)
        return values[0] if values else None

    def text(self, name: str) -> str | None:
        """The first value of a field if it is text and not empty, else None."""
        value = self.first(name)
        return value if isinstance(value, str) and value else None


async def read_form(request: Request) -> Form:
    """Read a body by its Content-Type; no body and no type gives an empty form.

    Raises:
        UnreadableBody: As the class says.
        starlette.exceptions.HTTPException: 400 for broken multipart (raised by Starlette).
    """
    media_type = request.headers.get("content-type", "").split(";", 1)[0].strip().lower()
    if media_type == "application/json":
        return _from_json(await request.body())
    if media_type in {"multipart/form-data", "application/x-www-form-urlencoded"}:
        return await _from_form(request)
    if await request.body():  # test_a_body_of_no_known_form_is_a_400_problem
        raise UnreadableBody(f"Content-Type {media_type or '(none)'} is not supported.")
    return Form()


def _from_json(body: bytes) -> Form:
    try:
        document = json.loads(body)
        if b"\\ud" in body.lower():  # test_half_a_surrogate_pair_in_json_is_refused_and_not_stored
            json.dumps(document, ensure_ascii=False).encode()
    except ValueError as error:  # also UnicodeDecodeError, UnicodeEncodeError and JSONDecodeError
        raise UnreadableBody("The body is not valid JSON.") from error
    if not isinstance(document, dict):
        raise UnreadableBody("The body must be a JSON object.")
    return Form({name: [value] for name, value in document.items()})


async def _from_form(request: Request) -> Form:
    values: dict[str, list[Any]] = {}
    files: dict[str, Source] = {}
    counts: Counter[str] = Counter()
    try:
        async with request.form(max_part_size=_LONGEST_TEXT) as parts:
            for name, part in parts.multi_items():
                counts[name] += 1
                if isinstance(part, UploadFile):
                    files[name] = Source.from_bytes(await part.read(), part.filename or name)
                else:
                    values.setdefault(name, []).append(part)
    except FormParserError as error:  # which Starlette itself answers with 400 from 1.7 on
        raise UnreadableBody("The form cannot be read.") from error
    return Form(values, files, counts)


def decode_base64(text: str) -> bytes:
    """The bytes of a base64 text, with or without a ``data:`` URL in front; line breaks are allowed.

    Raises:
        UnreadableBody: It is not base64.
    """
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise UnreadableBody("The value is not valid base64.") from error
