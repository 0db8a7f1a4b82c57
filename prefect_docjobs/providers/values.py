"""Readers of single JSON values, and of what an error says: pure, and the same for every provider.

Strict ones (`text_of`, `object_of`, `list_of`) raise ValueError, which `Provider.reading` turns into
`Unreadable`: for what an answer cannot do without. All others are tolerant: None, or nothing, stands for
a value that is not of the documented kind, so that one odd value does not cost the rest of an answer.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from pydantic import TypeAdapter

from prefect_docjobs.errors import ConfigurationError, QuotaExceeded, ServiceError, Unreadable
from prefect_docjobs.http import Answer, error_for
from prefect_docjobs.models import TextBlock

MAX_ID = 512
"""Characters of a job's id. PostgreSQL cannot index a text of 2,704 bytes or more."""

NO_REASON = "The service gave no reason."
_DATE = TypeAdapter(datetime)
_LONGEST_MESSAGE = 500
_LONGEST_CODE = 100
_LONGEST_DATE = 64
_MOST = 2**31 - 1  # pages, tokens: what every database takes as a whole number
_SHOWN_OF_ID = 60
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


# ------------------------------------------------------------------------------------------------ settings


def check_choice(field: str, value: object, choices: Iterable[str]) -> None:
    """Raise `ConfigurationError` unless `value` is one of `choices`."""
    if value not in tuple(choices):
        raise ConfigurationError(f"{field} must be one of {', '.join(choices)}, not {value!r}.")


def parsed(value: object) -> object:
    """A setting that may be given as JSON text, as what that text says; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return value


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


# -------------------------------------------------------------------------------------------------- strict


def text_of(value: object) -> str:
    """`value` as the non-empty text that a field documented as a string must be; raises ValueError."""
    if isinstance(value, str) and value.strip():
        return value
    raise ValueError("expected a non-empty text")


def object_of(value: object) -> dict[str, Any]:
    """`value` as the JSON object that it must be; raises ValueError."""
    if isinstance(value, dict):
        return value
    raise ValueError("expected an object")


def list_of(value: object) -> list[Any]:
    """`value` as the JSON list that it must be; raises ValueError."""
    if isinstance(value, list):
        return value
    raise ValueError("expected a list")


def segment(value: str) -> str:
    """`value` as one segment of a path: an id can never lead to another route.

    Raises:
        ValueError: It is empty, too long, a step up or down the path, or no text that can be encoded.
    """
    if value in {"", ".", ".."} or len(value) > MAX_ID or has_control_characters(value):
        raise ValueError("not an id")
    return quote(value, safe="")


def check_job_id(job_id: str) -> None:
    """Raise `Unreadable` for an id that cannot be stored or be part of a path."""
    try:
        segment(job_id)
    except ValueError:
        begins = job_id[:_SHOWN_OF_ID].encode("utf-8", "backslashreplace").decode()
        what = f"{begins!r}{'…' if len(job_id) > _SHOWN_OF_ID else ''} ({len(job_id):,} characters)"
        raise Unreadable(f"The answer's job id is none that can be used: {what}.") from None


def has_control_characters(value: str) -> bool:
    """Whether a text has characters that are none to print, such as NUL, which PostgreSQL does not take."""
    return _CONTROL.search(value) is not None


# ------------------------------------------------------------------------------------------------ tolerant


def number(value: object) -> float | None:
    """A finite number; None for anything else, booleans and NaN (which `json` reads) included."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        result = float(value)
    except OverflowError:
        return None
    return result if math.isfinite(result) else None


def share(value: object) -> float | None:
    """A number from 0 to 1, such as a confidence; None for anything else."""
    result = number(value)
    return result if result is not None and 0 <= result <= 1 else None


def whole(value: object) -> int | None:
    """A whole number of at most 2**31 - 1, also one written as `2.0`; None for anything else."""
    result = number(value)
    return int(result) if result is not None and result.is_integer() and abs(result) <= _MOST else None


def index(value: object) -> int | None:
    """A count or a 0-based position up to 2**31 - 1, written without a point; None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST else None


def page_number(value: object) -> int | None:
    """A 1-based page number, also one written as `2.0`; None for anything else."""
    result = whole(value)
    return result if result is not None and result >= 1 else None


def text(value: object) -> str | None:
    """A text with something in it, as it is; None for anything else."""
    return value if isinstance(value, str) and value.strip() else None


def usable_id(value: object) -> str | None:
    """An id that can be stored and be part of a path; None for anything else."""
    found = text(value)
    try:
        return found if found is not None and segment(found) else None
    except ValueError:
        return None


def mapping(value: object) -> dict[str, Any]:
    """An object, or an empty one in place of anything else."""
    return value if isinstance(value, dict) else {}


def elements(value: object) -> list[Any]:
    """A list, or an empty one in place of anything else."""
    return value if isinstance(value, list) else []


def objects(value: object) -> list[dict[str, Any]]:
    """The objects of a list, in order; nothing where there is no list."""
    return [item for item in elements(value) if isinstance(item, dict)]


def date(value: object) -> datetime | None:
    """A date in UTC, None for anything else; one without a zone is taken as UTC."""
    return _date(value) if isinstance(value, str) and len(value) <= _LONGEST_DATE else None


@lru_cache(maxsize=4096)  # a list that is read again and again is mostly the same jobs
def _date(value: str) -> datetime | None:
    try:
        found = _DATE.validate_python(value)
        return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None


def seconds_between(start: object, end: object) -> float | None:
    """Seconds from one date of a service to another, None unless both are dates in this order."""
    begun, ended = date(start), date(end)
    seconds = (ended - begun).total_seconds() if begun and ended else -1.0
    return seconds if seconds > 0 else None


def polygon(points: object) -> tuple[tuple[float, float], ...] | None:
    """A list of `[x, y]` points; None unless there are some, each of them a pair of finite numbers."""
    pairs = [_point(point) for point in elements(points)]
    known = tuple(pair for pair in pairs if pair is not None)
    return known if known and len(known) == len(pairs) else None


def _point(raw: object) -> tuple[float, float] | None:
    x, y = map(number, raw) if isinstance(raw, list) and len(raw) == 2 else (None, None)
    return None if x is None or y is None else (x, y)


# --------------------------------------------------------------------------------------------------- texts


_MARKDOWN = {
    "heading_open": "heading",
    "paragraph_open": "text",
    "list_item_open": "list_item",
    "table_open": "table",
    "fence": "code",
    "code_block": "code",
    "blockquote_open": "quote",
    "html_block": "text",
}
_MARKS = re.compile(r"\A(?:[-*+]|#{1,6})(?:\s+|\Z)|\s+#+\s*\Z")


def markdown_blocks(markdown: str) -> tuple[TextBlock, ...]:
    """The pieces of a markdown text (CommonMark with tables), in order; items of the outermost lists only."""
    from markdown_it import MarkdownIt  # not at every start: 50 ms

    lines = re.split(r"\r\n?|\n", markdown)
    found = []
    for token in MarkdownIt("commonmark").enable("table").disable("inline").parse(markdown):
        kind, depth = _MARKDOWN.get(token.type), 1 if token.type == "list_item_open" else 0
        if kind is None or token.level != depth or token.map is None:
            continue
        piece = "\n".join(lines[slice(*token.map)]).strip()
        level = int(token.tag[1]) if kind == "heading" else None
        if level and token.markup in {"=", "-"}:
            piece = piece.rpartition("\n")[0]  # without the line below it
        found.append(TextBlock(kind=kind, text=unmarked(piece, kind), level=level))
    return tuple(block for block in found if block.text)


def unmarked(piece: str, kind: str) -> str:
    """The text of a title, a heading or a list item without its `#` or bullet; all else as it is."""
    return _MARKS.sub("", piece) if kind in {"title", "heading", "list_item"} else piece


# -------------------------------------------------------------------------------------------------- errors


def typed_error(answer: Answer, message: str, *, quota: bool = False, **facts: Any) -> ServiceError:
    """The error for an answer outside 2xx by its HTTP status, or `QuotaExceeded`, which is not retried."""
    if quota:
        return QuotaExceeded(message, status=answer.status, request_id=answer.request_id, **facts)
    return error_for(answer, message, **facts)


def one_line(words: str | None, longest: int = _LONGEST_MESSAGE) -> str | None:
    """`words` on one line of at most `longest` characters, an ellipsis for the rest; None for nothing."""
    line = " ".join((words or "").lstrip()[: 4 * longest].split())
    return (line if len(line) <= longest else f"{line[:longest]}…") or None


def code_of(value: object) -> str | None:
    """An error's code as text: a text, or a finite number, on one line; None for anything else."""
    if isinstance(value, str):
        return one_line(value, _LONGEST_CODE)
    return None if number(value) is None else one_line(str(value), _LONGEST_CODE)


def excerpt(answer: Answer) -> str | None:
    """What a body that is not JSON says to a person: its text; None for an HTML page, or for nothing."""
    return None if _is_html(answer) else one_line(answer.text)


def no_reason(answer: Answer) -> str:
    """A sentence for an answer without a message for people, such as the page of a gateway."""
    if _is_html(answer):
        how = "with an HTML page"
    else:
        how = "and gave no reason" if answer.body.strip() else "with an empty body"
    return f"The service answered HTTP {answer.status} {how}."


def _is_html(answer: Answer) -> bool:
    return answer.body.lstrip().startswith(b"<")
