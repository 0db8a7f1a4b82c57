"""Which rows of different services' tables are the same line of the document."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from prefect_docjobs.comparison.leaves import Row
from prefect_docjobs.comparison.values import Comparator, text

_ALIKE = 0.5
"""Rows that share less than this are no match."""


def align(tables: Mapping[str, Sequence[Row]], comparators: Mapping[str, Comparator]) -> list[dict[str, Row]]:
    """The lines of a table that several services read, each with the rows of those that have it.

    The longest table comes first and gives the order; rows of the others join the line that they share most
    with, the best pairs first, equally good ones by their places. Two rows share the part of their columns
    in which they agree; a text column counts by the words that both have. A row that shares less than half
    with every line is one of its own. The order in which services are given does not count.

    Args:
        tables: The rows of each service, in the order of the document.
        comparators: For each column when two values are the same.
    """
    order = sorted(tables, key=lambda service: (-len(tables[service]), service))
    lines: list[_Line] = []
    for service in order:
        rows = [_Keyed(row, comparators) for row in tables[service]]
        taken = dict(_pairs(lines, rows))
        for index, row in enumerate(rows):
            if index not in taken:
                lines.append(_Line({service: row}))
        for index, line in taken.items():
            line.rows[service] = rows[index]
    return [{service: keyed.row for service, keyed in line.rows.items()} for line in lines]


@dataclass
class _Line:
    rows: dict[str, _Keyed] = field(default_factory=dict)

    def likeness(self, row: _Keyed) -> float:
        return max(row.likeness(other) for other in self.rows.values())


@dataclass
class _Keyed:
    """A row with what is compared of it."""

    row: Row
    comparators: Mapping[str, Comparator]

    @cached_property
    def keys(self) -> dict[str, Hashable]:
        return {column: self.comparators[column](cell.value) for column, cell in self.row.items()}

    @cached_property
    def words(self) -> dict[str, frozenset[str]]:
        return {
            column: _words(cell.value) for column, cell in self.row.items() if isinstance(cell.value, str)
        }

    def likeness(self, other: _Keyed) -> float:
        """From 0 to 1."""
        columns = self.keys.keys() | other.keys.keys()
        if not columns:  # rows without anything that was found are alike
            return 1.0
        return sum(self._alike(other, column) for column in columns) / len(columns)

    def _alike(self, other: _Keyed, column: str) -> float:
        if column not in self.keys or column not in other.keys:
            return 0.0
        if self.keys[column] == other.keys[column]:
            return 1.0
        mine, its = self.words.get(column, frozenset()), other.words.get(column, frozenset())
        return len(mine & its) / len(mine | its) if mine and its else 0.0


def _words(value: str) -> frozenset[str]:
    key: Any = text(value)
    return frozenset(key[1].split())


def _pairs(lines: Sequence[_Line], rows: Sequence[_Keyed]) -> Iterator[tuple[int, _Line]]:
    """Rows by their index, and the lines that they join."""
    scored = [
        (-line.likeness(row), abs(place - index), place, index)
        for place, line in enumerate(lines)
        for index, row in enumerate(rows)
    ]
    free_lines, free_rows = set(range(len(lines))), set(range(len(rows)))
    for unlike, _, place, index in sorted(scored):
        if -unlike < _ALIKE:
            return
        if place in free_lines and index in free_rows:
            free_lines.remove(place)
            free_rows.remove(index)
            yield index, lines[place]
