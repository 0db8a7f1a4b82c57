"""The kinds of values that a column can have, and which one a value is."""

from __future__ import annotations

import json
import math
import re
from datetime import datetime, timezone
from enum import Enum
from typing import Any, NamedTuple

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_EXACT = 2**53
_LONGEST_DATE = 40
_DATE = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{3}|\.\d{6})?)?(?:Z|[+-]\d\d:\d\d)?)?", re.ASCII
)


class Kind(str, Enum):
    """What a column holds. Numbers of documents are NUMBER, counts of ours are INTEGER."""

    TEXT = "text"
    NUMBER = "number"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    TIMESTAMP = "timestamp"

    def __str__(self) -> str:
        return self.value


class Typed(NamedTuple):
    """A value as a column of its kind takes it."""

    kind: Kind
    value: Any


def typed(value: object) -> Typed | None:
    """The kind of a value, and the value as it is stored; None for None.

    A number is a double, for it has been one since the service's JSON was read. What a double cannot say
    (NaN, infinity, whole numbers beyond 2**53) is text, digit by digit. A date is a text in ISO 8601; with
    a zone it is turned into UTC, without one it is taken as it is. Lists and objects are JSON.
    """
    if value is None:
        return None
    if isinstance(value, bool):
        return Typed(Kind.BOOLEAN, value)
    if isinstance(value, (int, float)):
        return _number(value)
    if isinstance(value, str):
        date = timestamp(value)
        return Typed(Kind.TIMESTAMP, date) if date else Typed(Kind.TEXT, storable(value))
    return Typed(Kind.TEXT, as_text(value))


def _number(value: float) -> Typed:
    is_exact = abs(value) <= _EXACT if isinstance(value, int) else math.isfinite(value)
    return Typed(Kind.NUMBER, float(value)) if is_exact else Typed(Kind.TEXT, str(value))


def timestamp(text: str) -> datetime | None:
    """The moment that an ISO 8601 date, with or without a time, names; in UTC and without a zone."""
    if len(text) > _LONGEST_DATE or not _DATE.fullmatch(text):
        return None
    try:
        return in_utc(datetime.fromisoformat(text.replace("Z", "+00:00")))
    except (ValueError, OverflowError):  # as 2026-02-30, or a zone that leads out of the calendar
        return None


def in_utc(moment: datetime) -> datetime:
    """A moment as columns take it: in UTC, without a zone; one that has none stays as it is."""
    return moment.astimezone(timezone.utc).replace(tzinfo=None) if moment.tzinfo else moment


def as_text(value: object) -> str | None:
    """Any value as text: lists and objects as JSON, all else as it reads; None for None."""
    if value is None or isinstance(value, str):
        return None if value is None else storable(value)
    if isinstance(value, (list, tuple, dict, bool)):
        return storable(json.dumps(value, ensure_ascii=False, default=str))
    return storable(str(value))


def storable(text: str) -> str:
    """`text` as PostgreSQL and UTF-8 can hold it: NUL and halves of surrogate pairs become U+FFFD."""
    return _UNSTORABLE.sub("\ufffd", text)
