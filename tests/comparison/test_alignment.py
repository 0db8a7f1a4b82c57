"""Which rows are the same line: what the search finds is what looking at all pairs finds, in less time."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from support.answers import leaf

from prefect_docjobs.comparison import align
from prefect_docjobs.comparison.fields import Row
from prefect_docjobs.comparison.values import auto, text

COMPARATORS = dict.fromkeys("abcd", auto)
_values = st.sampled_from(["x y", "y x", "X", "x", "x y z", "1.0", 1, 2, "2026-01-01", "1.1.2026"])
_rows = st.dictionaries(st.sampled_from("abcd"), _values.map(leaf), max_size=4)
_tables = st.lists(_rows, max_size=6)


@given(st.dictionaries(st.sampled_from("ABC"), _tables))
@example({"A": [{}, {"a": leaf(1)}], "B": [{"a": leaf(1)}, {}]})
def test_lines_are_those_that_looking_at_all_pairs_finds(tables: dict[str, list[Row]]) -> None:
    assert align(tables, COMPARATORS) == _thorough(tables)


@given(_tables, st.integers(0, 5), st.integers(0, 5))
def test_a_row_that_is_missing_or_misread_leaves_the_others_alone(
    table: list[Row], missing: int, misread: int
) -> None:
    other = [{**row, "a": leaf("misread")} if place == misread else row for place, row in enumerate(table)]
    other = [row for place, row in enumerate(other) if place != missing]
    tables = {"A": table, "B": other}
    assert align(tables, COMPARATORS) == _thorough(tables)


def test_twice_as_many_equal_rows_are_about_twice_the_work_however_much_they_share() -> None:
    def tables(length: int) -> dict[str, list[Row]]:
        rows = [_booked(place, day="2026-01-01") for place in range(length)]
        return {"A": rows, "B": rows}

    assert _calls(tables(200)) < 2.5 * _calls(tables(100))


def test_twice_as_many_rows_that_all_differ_are_about_twice_the_work() -> None:
    def tables(length: int) -> dict[str, list[Row]]:
        return {
            service: [_booked(place, day=f"day-{place}", more=more) for place in range(length)]
            for service, more in (("A", 0.0), ("B", 0.5))
        }

    assert _calls(tables(200)) < 2.5 * _calls(tables(100))


def _booked(place: int, day: str, more: float = 0.0) -> Row:
    words = f"Card payment shop {place}"
    return {"a": leaf(words), "b": leaf(day), "c": leaf(place * 1.5), "d": leaf(place * 3 + more)}


def _calls(tables: Mapping[str, Sequence[Row]]) -> int:
    """How many functions are called to align the tables."""
    number = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal number
        number += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        align(tables, COMPARATORS)
    finally:
        sys.setprofile(before)
    return number


def _thorough(tables: Mapping[str, Sequence[Row]]) -> list[dict[str, Row]]:
    """The lines as `align` describes them, found by looking at all pairs."""
    lines: list[dict[str, Row]] = []
    for service in sorted(tables, key=lambda each: (-len(tables[each]), each)):
        rows = tables[service]
        scored = sorted(
            (-max(_likeness(row, other) for other in line.values()), abs(place - index), place, index)
            for place, line in enumerate(lines)
            for index, row in enumerate(rows)
        )
        joined: dict[int, int] = {}
        for unlike, _, place, index in scored:
            if -unlike >= Fraction(1, 2) and index not in joined and place not in joined.values():
                joined[index] = place
        for index, row in enumerate(rows):
            if index in joined:
                lines[joined[index]][service] = row
            else:
                lines.append({service: row})
    return lines


def _likeness(one: Row, other: Row) -> Fraction:
    columns = one.keys() | other.keys()
    both = one.keys() & other.keys()
    shared = sum((_alike(one[column].value, other[column].value) for column in both), Fraction(0))
    return shared / len(columns) if columns else Fraction(1)


def _alike(one: Any, other: Any) -> Fraction:
    if auto(one) == auto(other):
        return Fraction(1)
    if not (isinstance(one, str) and isinstance(other, str)):
        return Fraction(0)
    mine, its = (set(_key(value).split()) for value in (one, other))
    return Fraction(len(mine & its), len(mine | its))


def _key(value: str) -> str:
    key: Any = text(value)
    return str(key[1])
