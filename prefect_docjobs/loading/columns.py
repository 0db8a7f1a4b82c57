"""Columns for what is found in documents: their names, and where a value goes whose kind is another.

A name that a person can write without quotes is the column's name. Everything that is made here ends in an
underscore, which such a name never does, so that no two fields ever share a column:

| field | column |
|---|---|
| `total_amount` | `total_amount` |
| `supplier` with `name` in it | `supplier__name` |
| `reason`, which is a column of ours | `reason_` |
| `Total Amount` | `total_amount_1d2c4a5e_` (of its SHA-256) |
| `total_amount`, a text where the column is a number | `total_amount__text_` |
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import TypeAlias

from prefect_docjobs.loading.kinds import Kind, Typed
from prefect_docjobs.loading.tables import TABLES

MOST_COLUMNS = 400
"""Columns for fields, at most: a row of PostgreSQL has 8 KB, and a long text takes 18 bytes of them."""

Path: TypeAlias = tuple[str, ...]
"""Names from the outermost object to the value."""

Row: TypeAlias = dict[str, object]

_PLAIN = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*", re.ASCII)
_OTHER = re.compile(r"[^a-z0-9]+", re.ASCII)
_LONGEST = 48  # PostgreSQL cuts a name after 63 bytes, and a kind may come behind it
_SLUG = 38


def column_name(path: Path, reserved: AbstractSet[str]) -> str:
    """The column of a field: the same for the same path, whatever other documents hold."""
    plain = "__".join(path)
    if not all(map(_PLAIN.fullmatch, path)) or len(plain) > _LONGEST:
        return f"{_slug(plain)}_{_digest(path)}_"
    return f"{plain}_" if plain in reserved else plain


def _slug(name: str) -> str:
    ascii_only = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    slug = _OTHER.sub("_", ascii_only.lower()).strip("_")[:_SLUG].strip("_")
    return slug if slug[:1].isalpha() else f"field_{slug}".rstrip("_")


def _digest(path: Path) -> str:
    return hashlib.sha256(json.dumps(path).encode()).hexdigest()[:8]


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
        new: The columns that the table does not have yet, with their kinds.
        left_out: Values that have no column, for there are `MOST_COLUMNS` already.
    """

    rows: Sequence[Row]
    new: Mapping[str, Kind]
    left_out: int = 0

    def columns(self) -> list[str]:
        """The columns that any of the rows names."""
        return list(dict.fromkeys(name for row in self.rows for name in row))


def placed(table: str, found: Iterable[Found], known: Mapping[str, Kind | None]) -> Placed:
    """Find a column for each value.

    A column has one kind. The first value gives it; a value of another kind goes to a column of its own
    beside it, such as `total_amount__text_`, so that neither is lost and sums stay sums.

    Args:
        table: The table's name.
        found: What was found.
        known: The columns that the table has; a kind of None is one that is none of ours.
    """
    placing = _Placing(frozenset(TABLES[table]), dict(known))
    rows = [placing.row(each) for each in found]
    return Placed(rows, placing.new, placing.left_out)


@dataclass
class _Placing:
    reserved: frozenset[str]
    known: dict[str, Kind | None]
    new: dict[str, Kind] = field(default_factory=dict)
    left_out: int = 0

    def row(self, found: Found) -> Row:
        row = dict(found.fixed)
        for path, (kind, value) in found.cells.items():
            column = self._column(column_name(path, self.reserved), kind)
            if column is None:
                self.left_out += 1
            else:
                row[column] = value
        return row

    def _column(self, name: str, kind: Kind) -> str | None:
        if name in self.known and self.known[name] is not kind:
            name = f"{name}__{kind}_"
        if name in self.known:
            return name if self.known[name] is kind else None
        if len(self.known) - len(self.reserved) >= MOST_COLUMNS:
            return None
        self.known[name] = self.new[name] = kind
        return name
