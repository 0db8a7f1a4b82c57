"""Dates as documents and services write them."""

from __future__ import annotations

import re
from datetime import date

_YEAR_FIRST = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?:[T ]\d{1,2}:\d{2}.*)?")
_YEAR_LAST = re.compile(r"(\d{1,2})([-/.]) ?(\d{1,2})\2 ?(\d{4}|\d{2})")
_DAY_MONTH = re.compile(r"(\d{1,2})(?:st|nd|rd|th|\.)?[ -]([a-z]{3,9})\.?,?[ -](\d{4})", re.IGNORECASE)
_MONTH_DAY = re.compile(r"([a-z]{3,9})\.? (\d{1,2})(?:st|nd|rd|th)?,? (\d{4})", re.IGNORECASE)
_MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip


def read_date(text: str, *, month_first: bool = False) -> date | None:
    """The day that a text names; None for what is no date.

    Read are `2026-11-05` (with or without a time), `05.11.2026`, `5/11/26` (this century), and English names
    of months: `5 November 2026`, `Nov 5, 2026`.

    Args:
        text: What may be a date.
        month_first: Whether `05/11/2026` is the 11th of May. Where only one order makes a date, that one is
            taken; with points the day is always first.
    """
    text = " ".join(text.split())
    if found := _YEAR_FIRST.fullmatch(text):
        return _day(*map(int, found.groups()))
    if found := _YEAR_LAST.fullmatch(text):
        first, sign, second, year = found.groups()
        return _in_either_order(
            int(first), int(second), _century(year), month_first=month_first and sign != "."
        )
    if found := _DAY_MONTH.fullmatch(text):
        return _named(found[3], found[2], found[1])
    if found := _MONTH_DAY.fullmatch(text):
        return _named(found[3], found[1], found[2])
    return None


def _century(year: str) -> int:
    return int(year) + (2000 if len(year) == 2 else 0)


def _in_either_order(first: int, second: int, year: int, *, month_first: bool) -> date | None:
    day_first, as_month_first = _day(year, second, first), _day(year, first, second)
    return (as_month_first or day_first) if month_first else (day_first or as_month_first)


def _named(year: str, month: str, day: str) -> date | None:
    word = "sep" if month.lower() == "sept" else month.lower()
    number = next((number for number, name in enumerate(_MONTHS, 1) if name == word or name[:3] == word), 0)
    return _day(int(year), number, int(day))


def _day(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None
