"""Which rows of different services' tables are the same line of the document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import fsum

from prefect_docjobs.comparison.fields import Row
from prefect_docjobs.comparison.values import Comparator, words_of

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
    lines: list[dict[str, _Keyed]] = []
    for service in sorted(tables, key=lambda service: (-len(tables[service]), service)):
        rows = [_Keyed(row, comparators) for row in tables[service]]
        matched = dict(_pairs(lines, rows))
        for index, row in enumerate(rows):
            if index in matched:
                lines[matched[index]][service] = row
            else:
                lines.append({service: row})
    return [{service: keyed.row for service, keyed in line.items()} for line in lines]


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
        words = {column: frozenset(words_of(value)) for column, value in texts.items()}
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
        pairs = ((self.words[column], other.words[column]) for column in texts)
        # An exact sum, so that it does not depend on the order of the columns.
        return fsum([len(same), *(len(mine & its) / len(mine | its) for mine, its in pairs)]) / columns


def _pairs(lines: Sequence[Mapping[str, _Keyed]], rows: Sequence[_Keyed]) -> Iterator[tuple[int, int]]:
    """Rows by their index, and the places of the lines that they join."""
    # What is the same at the same place is the best pair of all, and mostly leaves little to be searched.
    both = enumerate(zip(lines, rows, strict=False))
    settled = {
        index for index, (line, row) in both if any(row.cells == other.cells for other in line.values())
    }
    yield from ((index, index) for index in settled)
    free_lines, free_rows = set(range(len(lines))) - settled, set(range(len(rows))) - settled
    places: dict[tuple[str, Hashable], set[int]] = {}  # of the lines that have this trait
    for place in free_lines:
        for row in lines[place].values():
            for column, traits in row.traits.items():
                for trait in traits:
                    places.setdefault((column, trait), set()).add(place)
    scored = []
    for index in free_rows:
        row, shared = rows[index], Counter[int]()
        for column, traits in row.traits.items():
            shared.update(set().union(*(places.get((column, trait), ()) for trait in traits)))
        for place, columns in shared.items():
            if columns >= _ALIKE * len(row.row):  # all others share too little to be alike
                likeness = max(row.likeness(other) for other in lines[place].values())
                scored.append((-likeness, abs(place - index), place, index))
    for likeness, _, place, index in sorted(scored):
        if -likeness >= _ALIKE and place in free_lines and index in free_rows:
            free_lines.remove(place)
            free_rows.remove(index)
            yield index, place
