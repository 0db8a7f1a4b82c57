"""Which rows of different services' tables are the same line of the document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import fsum
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

    def has_same(self, row: _Keyed) -> bool:
        return any(row.cells == other.cells for other in self.rows.values())


@dataclass
class _Keyed:
    """A row with what is compared of it."""

    row: Row
    comparators: Mapping[str, Comparator]

    @cached_property
    def cells(self) -> frozenset[tuple[str, Hashable]]:
        return frozenset((column, self.comparators[column](cell.value)) for column, cell in self.row.items())

    @cached_property
    def words(self) -> dict[str, frozenset[str]]:
        """Of the text columns that have any."""
        texts = {column: cell.value for column, cell in self.row.items() if isinstance(cell.value, str)}
        words = {column: _words(value) for column, value in texts.items()}
        return {column: some for column, some in words.items() if some}

    @cached_property
    def traits(self) -> dict[str, set[Hashable]]:
        """For each column all that makes it alike: its key, and its words."""
        return {column: {key, *self.words.get(column, ())} for column, key in self.cells} or {"": {None}}

    def likeness(self, other: _Keyed) -> float:
        """From 0 to 1."""
        columns = len(self.row.keys() | other.row.keys())
        if not columns:  # rows without anything that was found are alike
            return 1.0
        same = self.cells & other.cells
        texts = (self.words.keys() & other.words.keys()).difference(column for column, _ in same)
        # An exact sum, so that it does not depend on the order of the columns.
        return fsum([len(same), *(self._shared_words(other, column) for column in texts)]) / columns

    def _shared_words(self, other: _Keyed, column: str) -> float:
        mine, its = self.words[column], other.words[column]
        return len(mine & its) / len(mine | its)


def _words(value: str) -> frozenset[str]:
    key: Any = text(value)
    return frozenset(key[1].split())


def _pairs(lines: Sequence[_Line], rows: Sequence[_Keyed]) -> Iterator[tuple[int, _Line]]:
    """Rows by their index, and the lines that they join."""
    # What is the same at the same place is the best pair of all, and mostly leaves little to be searched.
    both = enumerate(zip(lines, rows, strict=False))
    settled = {index for index, (line, row) in both if line.has_same(row)}
    yield from ((index, lines[index]) for index in settled)
    free_lines, free_rows = set(range(len(lines))) - settled, set(range(len(rows))) - settled
    for place, index in _best_first(lines, rows, free_lines, free_rows):
        if place in free_lines and index in free_rows:
            free_lines.remove(place)
            free_rows.remove(index)
            yield index, lines[place]


def _best_first(
    lines: Sequence[_Line], rows: Sequence[_Keyed], places: Iterable[int], indices: Iterable[int]
) -> list[tuple[int, int]]:
    """Pairs of a line's place and a row's index that are alike."""
    search = _Search({place: lines[place] for place in places})
    scored = [
        (-likeness, abs(place - index), place, index)
        for index in indices
        for place in search.candidates(rows[index])
        if (likeness := lines[place].likeness(rows[index])) >= _ALIKE
    ]
    return [(place, index) for _, _, place, index in sorted(scored)]


class _Search:
    """Finds the few lines that a row may be alike, without looking at all of them."""

    def __init__(self, lines: Mapping[int, _Line]) -> None:
        self._places: dict[tuple[str, Hashable], set[int]] = {}
        for place, line in lines.items():
            for row in line.rows.values():
                for column, traits in row.traits.items():
                    for trait in traits:
                        self._places.setdefault((column, trait), set()).add(place)

    def candidates(self, row: _Keyed) -> Iterator[int]:
        """The places of lines that share anything at all with enough of the row's columns."""
        shared: Counter[int] = Counter()
        for column, traits in row.traits.items():
            shared.update(set().union(*(self._places.get((column, trait), ()) for trait in traits)))
        return (place for place, columns in shared.items() if columns >= _ALIKE * len(row.row))
