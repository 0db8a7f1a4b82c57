"""What kind a value is, and which column it gets."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_docjobs.loading.columns import (
    DOCUMENTS,
    MOST_COLUMNS,
    TABLES,
    Found,
    Kind,
    Path,
    Typed,
    column_name,
    placed,
    typed,
)

_at = datetime.fromisoformat
RESERVED = frozenset(TABLES[DOCUMENTS])


@pytest.mark.parametrize(
    ("value", "kind", "stored"),
    [
        (True, Kind.BOOLEAN, True),
        (3, Kind.NUMBER, 3.0),
        (1432.4, Kind.NUMBER, 1432.4),
        (2**53, Kind.NUMBER, 2.0**53),
        (2**53 + 1, Kind.TEXT, "9007199254740993"),
        (math.nan, Kind.TEXT, "nan"),
        (-math.inf, Kind.TEXT, "-inf"),
        ("", Kind.TEXT, ""),
        ("2026-01-31", Kind.TIMESTAMP, _at("2026-01-31")),
        ("2026-01-31T10:00:00+02:00", Kind.TIMESTAMP, _at("2026-01-31T08:00")),
        ("2026-01-31T10:00:00.123Z", Kind.TIMESTAMP, _at("2026-01-31T10:00:00.123")),
        ("2026-02-30", Kind.TEXT, "2026-02-30"),
        ("0001-01-01T00:00+14:00", Kind.TEXT, "0001-01-01T00:00+14:00"),
        ("20260131", Kind.TEXT, "20260131"),
        ("\u0662026-01-31", Kind.TEXT, "\u0662026-01-31"),
        ("a\0b\ud800", Kind.TEXT, "a\ufffdb\ufffd"),
        ({"a": [1, "é"]}, Kind.TEXT, '{"a": [1, "é"]}'),
    ],
)
def test_a_value_has_one_kind(value: Any, kind: Kind, stored: Any) -> None:
    assert typed(value) == Typed(kind, stored)


def test_nothing_has_no_kind() -> None:
    assert typed(None) is None


@pytest.mark.parametrize(
    ("path", "column"),
    [
        (("total_amount",), "total_amount"),
        (("supplier", "name"), "supplier__name"),
        (("select",), "select"),
        (("reason",), "reason_"),
        (("x2",), "x2"),
    ],
)
def test_a_plain_name_is_its_column(path: tuple[str, ...], column: str) -> None:
    assert column_name(path, RESERVED) == column


@pytest.mark.parametrize(
    "name", ["Total Amount", "total__amount", "total_amount_", "é" * 200, "合計", "", "1st"]
)
def test_another_name_gets_a_hash_so_that_it_meets_no_plain_one(name: str) -> None:
    column = column_name((name,), RESERVED)
    assert column.endswith("_")
    assert column.isascii()


_names = st.lists(st.text(st.sampled_from("aA_1 .é"), max_size=4), min_size=1, max_size=3).map(tuple)


@given(st.sets(_names, max_size=30))
def test_no_two_fields_share_a_column_and_none_is_too_long_for_postgresql(
    paths: set[tuple[str, ...]],
) -> None:
    columns = [column_name(path, RESERVED) for path in paths]
    assert len(set(columns)) == len(paths)
    assert not RESERVED & set(columns)
    assert all(len(f"{column}__{kind}_") <= 63 for column in columns for kind in Kind)


def test_a_value_of_another_kind_goes_to_a_column_beside_it() -> None:
    found = [Found({}, {("total",): typed(value)}) for value in (1, "two", True)]  # type: ignore[dict-item]
    rows = placed(DOCUMENTS, found, TABLES[DOCUMENTS])
    assert rows.rows == [{"total": 1.0}, {"total__text_": "two"}, {"total__boolean_": True}]
    assert rows.new == {"total": Kind.NUMBER, "total__text_": Kind.TEXT, "total__boolean_": Kind.BOOLEAN}
    later = placed(DOCUMENTS, found[1:2], {**TABLES[DOCUMENTS], **rows.new})
    assert (later.rows, later.new) == ([{"total__text_": "two"}], {})


def test_a_column_that_somebody_has_changed_is_left_alone() -> None:
    found = [Found({}, {("total",): Typed(Kind.NUMBER, 1.0)})]
    assert placed(DOCUMENTS, found, {"total": None}).rows == [{"total__number_": 1.0}]


def test_there_are_not_more_columns_than_a_table_takes() -> None:
    cells: dict[Path, Typed] = {
        (f"f{number}",): Typed(Kind.NUMBER, 1.0) for number in range(MOST_COLUMNS + 7)
    }
    rows = placed(DOCUMENTS, [Found({}, cells)], TABLES[DOCUMENTS])
    assert (len(rows.new), rows.left_out) == (MOST_COLUMNS, 7)
