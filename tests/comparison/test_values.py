"""When two values are the same."""

from __future__ import annotations

import math
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_docjobs.comparison import COMPARATORS, read_date, read_number
from prefect_docjobs.comparison.values import is_found

scalars = st.one_of(
    st.text(max_size=50),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.dates(),
    st.decimals(allow_nan=False),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("25.50", "25.5"),
        ("25,50", "25.5"),
        ("1.234,56", "1234.56"),
        ("1,234.56", "1234.56"),
        ("1 234,56 €", "1234.56"),
        ("1'234.50", "1234.5"),
        ("1,234", "1234"),
        ("0,123", "0.123"),
        ("1.234", "1.234"),
        ("1.234.567", "1234567"),
        ("12,34,567.00", "1234567"),
        ("$25.50", "25.5"),
        ("-$25.50", "-25.5"),
        ("EUR 25.50", "25.5"),
        ("25.50 eur", "25.5"),
        ("(25.50)", "-25.5"),
        ("25.50-", "-25.5"),
        ("25-", "-25"),
        ("1.250,00-", "-1250"),
        ("25.-", "25"),
        ("25,-", "25"),
        ("25.--", "25"),
        ("25,\u2013", "25"),
        ("25.\u2014", "25"),
        ("25,\u2013\u2013", "25"),
        ("25. -", "25"),
        ("CHF 25.-", "25"),
        ("25,- EUR", "25"),
        ("25,-\u20ac", "25"),
        ("EUR 1.250,-", "1250"),
        ("1.250.-", "1250"),
        ("1,250.-", "1250"),
        ("1'250.-", "1250"),
        ("1 250,-", "1250"),
        ("-25,-", "-25"),
        ("(25.-)", "-25"),
        ("25.-5", None),
        ("+7", "7"),
        ("19 %", "19"),
        ("19,0%", "19"),
        (".5", "0.5"),
        ("5.", "5"),
        ("\u0661", None),
        ("1.2.3", None),
        ("1,23,4", None),
        ("1,2,3.4", None),
        ("INV 123", None),
        ("12 34", None),
        ("", None),
        (",", None),
        ("-", None),
        ("9" * 60, None),
    ],
)
def test_numbers_are_read_in_any_common_notation(text: str, number: str | None) -> None:
    assert read_number(text) == (None if number is None else Decimal(number))


@given(st.decimals(min_value=-(10**9), max_value=10**9, places=2))
def test_an_amount_is_the_same_in_english_and_in_german(amount: Decimal) -> None:
    english = f"{amount:,.2f}"
    german = english.translate(str.maketrans(",.", ".,"))
    assert read_number(english) == read_number(german) == amount


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2026-11-05", date(2026, 11, 5)),
        ("2026-11-05T10:00:00Z", date(2026, 11, 5)),
        ("2026/11/5", date(2026, 11, 5)),
        ("05.11.2026", date(2026, 11, 5)),
        ("5. 11. 2026", date(2026, 11, 5)),
        ("5/11/26", date(2026, 11, 5)),
        ("11/25/2026", date(2026, 11, 25)),
        ("5 November 2026", date(2026, 11, 5)),
        ("5th Nov. 2026", date(2026, 11, 5)),
        ("Nov 5, 2026", date(2026, 11, 5)),
        ("Sept 5 2026", date(2026, 9, 5)),
        ("31.02.2026", None),
        ("5.11/2026", None),
        ("05.11", None),
        ("Nix 5, 2026", None),
        ("20261105", None),
    ],
)
def test_dates_are_read_in_any_common_notation(text: str, day: date | None) -> None:
    assert read_date(text) == day


def test_the_month_comes_first_when_told_so_but_never_with_points() -> None:
    assert read_date("05/11/2026", month_first=True) == date(2026, 5, 11)
    assert read_date("05.11.2026", month_first=True) == date(2026, 11, 5)
    assert read_date("25/11/2026", month_first=True) == date(2026, 11, 25)


@pytest.mark.parametrize(
    ("comparator", "one", "other", "same"),
    [
        ("auto", 25.5, "25.50", True),
        ("auto", 25.5, "25,50 €", True),
        ("auto", "25.-", 25, True),
        ("auto", "25.-", -25, False),
        ("auto", "ACME  Ltd", "Acme Ltd", True),
        ("auto", "2026-11-05", "5.11.2026", True),
        ("auto", "00731", 731, False),
        ("auto", True, "true", True),
        ("auto", ["1.0", "A"], [1, "a"], True),
        ("auto", {"x": "1,5"}, {"x": 1.5}, True),
        ("auto", 1, 2, False),
        ("exact", 25.5, "25.5", False),
        ("exact", 1, 1.0, True),
        ("exact", True, 1, False),
        ("text", "25.50", "25.5", False),
        ("identifier", "INV-00 731", "inv00731", True),
        ("number", "1,5", 1.5, True),
        ("amount", 10.004, "10.00", True),
        ("amount", [10.004], ["10.00"], True),
        ("amount", 10.004, "10.02", False),
        ("date", "05/11/2026", "2026-11-05", True),
        ("date", "n/a", "N/A", True),
        ("date_month_first", "05/11/2026", "2026-05-11", True),
    ],
)
def test_values_are_the_same_as_their_comparator_says(
    comparator: str, one: Any, other: Any, same: bool
) -> None:
    key_of = COMPARATORS[comparator]
    assert (key_of(one) == key_of(other)) is same


@pytest.mark.parametrize("name", COMPARATORS)
@given(value=values)
def test_every_value_has_a_key_that_can_be_kept_and_is_its_own(name: str, value: Any) -> None:
    key = COMPARATORS[name](value)
    assert hash(key) == hash(COMPARATORS[name](value))
    assert key == COMPARATORS[name](value)


@pytest.mark.parametrize("nothing", [None, "", "  ", [], {}])
def test_nothing_and_blanks_are_not_found(nothing: Any) -> None:
    assert not is_found(nothing)


@pytest.mark.parametrize("something", [0, False, "0", [None], math.nan])
def test_zero_and_no_are_found(something: Any) -> None:
    assert is_found(something)
