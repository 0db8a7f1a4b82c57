"""The columns of the four tables: fixed ones, and one for each value that is found in documents.

A name that can be written without quotes is the column's name. Everything that is made here ends in an
underscore, which such a name never does, so that no two fields ever share a column:

| field | column |
|---|---|
| `total_amount` | `total_amount` |
| `supplier` with `name` in it | `supplier__name` |
| `reason`, which is a fixed column | `reason_` |
| `Total Amount` | `total_amount_1d2c4a5e_` (of its SHA-256) |
| `total_amount`, a text where the column is a number | `total_amount__text_` |
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import string
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime, timezone
from enum import Enum
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from prefect_docjobs.errors import ConfigurationError

MOST_COLUMNS = 400
"""Columns for fields, at most: a row of PostgreSQL has 8 KB, and a long text takes 18 bytes of them."""

Path: TypeAlias = tuple[str, ...]
"""Names from the outermost object to the value."""

Row: TypeAlias = dict[str, object]

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_EXACT = 2**53
_LONGEST_DATE = 40
_DATE = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{3}|\.\d{6})?)?(?:Z|[+-]\d\d:\d\d)?)?", re.ASCII
)
_PLAIN = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*", re.ASCII)
_OTHER = re.compile(r"[^a-z0-9]+", re.ASCII)
_LONGEST = 48  # PostgreSQL cuts a name after 63 bytes, and a kind may come behind it
_SLUG = 38
_SMALL = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


class Kind(str, Enum):
    """What a column holds. Numbers of documents are NUMBER, counts of ours are INTEGER."""

    TEXT = "text"
    NUMBER = "number"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    TIMESTAMP = "timestamp"

    def __str__(self) -> str:
        return self.value


# -- the tables

DOCUMENTS, FIELDS, LINE_ITEMS, FILES = "documents", "fields", "line_items", "files"

TABLES: Mapping[str, Mapping[str, Kind]] = MappingProxyType(
    {
        DOCUMENTS: {
            "sha256": Kind.TEXT,
            "job": Kind.TEXT,
            "document": Kind.TEXT,
            "source": Kind.TEXT,
            "size": Kind.INTEGER,
            "block": Kind.TEXT,
            "provider": Kind.TEXT,
            "product": Kind.TEXT,
            "tenant": Kind.TEXT,
            "job_id": Kind.TEXT,
            "submitted_at": Kind.TIMESTAMP,
            "loaded_at": Kind.TIMESTAMP,
            "phase": Kind.TEXT,
            "reason": Kind.TEXT,
            "error": Kind.TEXT,
            "pages": Kind.INTEGER,
            "credits": Kind.NUMBER,
            "warnings": Kind.TEXT,
            "text": Kind.TEXT,
            "ref": Kind.TEXT,
        },
        FIELDS: {
            "sha256": Kind.TEXT,
            "job": Kind.TEXT,
            "position": Kind.INTEGER,
            "path": Kind.TEXT,
            "kind": Kind.TEXT,
            "value_text": Kind.TEXT,
            "value_number": Kind.NUMBER,
            "value_integer": Kind.INTEGER,
            "value_boolean": Kind.BOOLEAN,
            "value_timestamp": Kind.TIMESTAMP,
            "confidence": Kind.NUMBER,
            "confidence_label": Kind.TEXT,
            "page": Kind.INTEGER,
        },
        LINE_ITEMS: {
            "sha256": Kind.TEXT,
            "job": Kind.TEXT,
            "position": Kind.INTEGER,
            "list": Kind.TEXT,
            "index": Kind.INTEGER,
        },
        FILES: {
            "job": Kind.TEXT,
            "source_sha256": Kind.TEXT,
            "source": Kind.TEXT,
            "version": Kind.TEXT,
            "size": Kind.INTEGER,
            "modified_at": Kind.TIMESTAMP,
            "sha256": Kind.TEXT,
            "error": Kind.TEXT,
            "seen_at": Kind.TIMESTAMP,
        },
    }
)
"""The columns that each table always has. `documents` and `line_items` get more, for what is found."""

KEYS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        DOCUMENTS: ("sha256", "job"),
        FIELDS: ("sha256", "job", "position"),
        LINE_ITEMS: ("sha256", "job", "position"),
        FILES: ("job", "source_sha256"),  # a source itself may be longer than an index takes
    }
)
"""The primary keys. Keys are of bounded length, whatever a document holds."""


def folded(name: str) -> str:
    """A column's name as DuckDB and Delta compare it: of A to Z only, where Python makes a k of U+212A."""
    return name.translate(_SMALL)


def check_columns(where: str, table: str, columns: Mapping[str, object]) -> None:
    """Raise `ConfigurationError` for a table of the same name that another program has made."""
    missing = [column for column in KEYS[table] if column not in columns]
    if missing:
        raise ConfigurationError(
            f"{where} is no table of this flow: it has no {' and '.join(missing)}. Give another destination."
        )


# -- values


class Typed(NamedTuple):
    """A value as a column of its kind takes it."""

    kind: Kind
    value: Any


def typed(value: object) -> Typed | None:
    """The kind of a value, and the value as it is stored; None for None.

    A number is a double, for it has been one since the service's JSON was read. What a double cannot hold
    (NaN, infinity, whole numbers beyond 2**53) is text, digit by digit. A date is a text in ISO 8601; with
    a zone it is turned into UTC, without one it is taken as it is. Lists and objects are JSON.
    """
    if value is None:
        return None
    if isinstance(value, bool):
        return Typed(Kind.BOOLEAN, value)
    if isinstance(value, (int, float)):
        is_exact = abs(value) <= _EXACT if isinstance(value, int) else math.isfinite(value)
        return Typed(Kind.NUMBER, float(value)) if is_exact else Typed(Kind.TEXT, str(value))
    if isinstance(value, str) and (moment := _timestamp(value)):
        return Typed(Kind.TIMESTAMP, moment)
    return Typed(Kind.TEXT, as_text(value))


def _timestamp(text: str) -> datetime | None:
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
    if value is None:
        return None
    if isinstance(value, (list, tuple, dict, bool)):
        return storable(json.dumps(value, ensure_ascii=False, default=str))
    return storable(str(value))


def storable(text: str) -> str:
    """`text` as PostgreSQL and UTF-8 can hold it: NUL and halves of surrogate pairs become U+FFFD."""
    return _UNSTORABLE.sub("\ufffd", text)


# -- a column for each value


def column_name(path: Path, reserved: AbstractSet[str]) -> str:
    """The column of a field: the same for the same path, whatever other documents hold."""
    plain = "__".join(path)
    if all(map(_PLAIN.fullmatch, path)) and len(plain) <= _LONGEST:
        return f"{plain}_" if plain in reserved else plain
    ascii_only = unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode()
    slug = _OTHER.sub("_", ascii_only.lower()).strip("_")[:_SLUG].strip("_")
    if not slug[:1].isalpha():
        slug = f"field_{slug}".rstrip("_")
    return f"{slug}_{hashlib.sha256(json.dumps(path).encode()).hexdigest()[:8]}_"


@dataclass(frozen=True)
class Found:
    """A row to be: the columns that are always there, and the values that were found, by their paths."""

    fixed: Row
    cells: Mapping[Path, Typed] = field(default_factory=dict)


@dataclass(frozen=True)
class Placed:
    """Rows as a table takes them.

    Attributes:
        rows: Values by column; a column that a row does not name is empty.
        kinds: All columns of the table, with the new ones; a kind of None is one that is none of ours.
        new: The columns that the table does not have yet.
        left_out: Values that have no column, for there are `MOST_COLUMNS` already.
    """

    rows: Sequence[Row]
    kinds: Mapping[str, Kind | None]
    new: Mapping[str, Kind]
    left_out: int = 0


def placed(table: str, found: Iterable[Found], known: Mapping[str, Kind | None]) -> Placed:
    """Find a column for each value.

    A column has one kind. The first value gives it; a value of another kind goes to a column of its own
    beside it, such as `total_amount__text_`, so that neither is lost and sums stay sums.

    Args:
        table: The table's name.
        found: What was found.
        known: The columns that the table has; a kind of None is one that is none of ours.
    """
    fixed, kinds, new = frozenset(TABLES[table]), dict(known), dict[str, Kind]()

    def column_of(path: Path, kind: Kind) -> str | None:
        name = column_name(path, fixed)
        if name in kinds and kinds[name] is not kind:
            name = f"{name}__{kind}_"
        if name in kinds:
            return name if kinds[name] is kind else None
        if len(kinds) - len(fixed) >= MOST_COLUMNS:
            return None
        kinds[name] = new[name] = kind
        return name

    rows, left_out = [], 0
    for each in found:
        row = dict(each.fixed)
        for path, (kind, value) in each.cells.items():
            if column := column_of(path, kind):
                row[column] = value
            else:
                left_out += 1
        rows.append(row)
    return Placed(rows, kinds, new, left_out)
