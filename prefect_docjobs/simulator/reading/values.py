"""Printed numbers, dates, currencies and yes/no marks as values."""

from __future__ import annotations

import datetime as dt
import re

from prefect_docjobs.simulator.reading.vocabulary import folded

_LONGEST = 60
_CURRENCY_SIGNS = {"€": "EUR", "$": "USD", "£": "GBP", "¥": "JPY"}
CURRENCY_CODES = ("EUR", "USD", "GBP", "JPY", "CHF", "CAD", "AUD", "SEK", "NOK", "DKK", "PLN", "CZK")
_CURRENCY = "|".join((*CURRENCY_CODES, *map(re.escape, _CURRENCY_SIGNS)))
_DIGITS = r"\d[\d.,' \u00a0\u202f]*"
_NUMBER = re.compile(
    rf"(?P<sign>[-+\u2212]?)\s*(?:{_CURRENCY})?\s*(?P<inner>[-+\u2212]?)(?P<digits>{_DIGITS})(?:%|{_CURRENCY})?"
)
_MONEY = re.compile(rf"(?:{_CURRENCY})\s*[-+\u2212]?\d|\d\s*(?:{_CURRENCY})(?![A-Za-z])")
_CURRENCY_WORD = re.compile(rf"(?<![A-Za-z])({_CURRENCY})(?![A-Za-z])")
_TWO_DECIMALS = re.compile(rf"[-+\u2212]?{_DIGITS}[.,]\d\d")
_DECIMAL_COMMA = re.compile(r"\d,\d\d(?!\d)")
_DECIMAL_POINT = re.compile(r"\d\.\d\d(?![\d.])")

_ISO = re.compile(
    r"(?P<year>\d{4})-(?P<month>\d{2})-(?P<day>\d{2})(?:[T ](\d{2}):(\d{2})(?::(\d{2}))?)?(?![\d-])"
)
_SLASHED = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})(?!\d)")
_DATES = (
    _ISO,
    re.compile(r"(?P<day>\d{1,2})\.(?P<month>\d{1,2})\.(?P<year>\d{4})(?!\d)"),
    re.compile(r"(?P<day>\d{1,2})(?:\.|st|nd|rd|th)?\s+(?P<month>[a-z]{3,9})\.?,?\s+(?P<year>\d{4})(?!\d)"),
    re.compile(r"(?P<month>[a-z]{3,9})\.?\s+(?P<day>\d{1,2})(?:st|nd|rd|th)?,?\s+(?P<year>\d{4})(?!\d)"),
)

# English, German and French; the names are folded, so accents are gone.
_MONTHS = (
    "jan january januar janvier",
    "feb february februar fevrier",
    "mar march marz maerz mars",
    "apr april avril",
    "may mai",
    "jun june juni juin",
    "jul july juli juillet",
    "aug august aout",
    "sep sept september septembre",
    "oct october okt oktober octobre",
    "nov november novembre",
    "dec december dez dezember decembre",
)
_MONTH_NUMBERS = {name: number for number, names in enumerate(_MONTHS, 1) for name in names.split()}

_YES = frozenset({"yes", "y", "true", "ja", "oui", "si", "x", "[x]", "paid", "checked"})
_NO = frozenset({"no", "n", "false", "nein", "non", "[]", "[ ]", "unpaid", "unchecked"})


def uses_decimal_comma(text: str) -> bool:
    """Whether the numbers of a text are written `1.234,50` rather than `1,234.50`."""
    return len(_DECIMAL_COMMA.findall(text)) > len(_DECIMAL_POINT.findall(text))


def parse_number(text: str, *, decimal_comma: bool = False) -> float | None:
    """A number with or without currency, percent sign and separators of thousands.

    Args:
        text: For example `1,234.50`, `1.234,50 EUR`, `-$12` or `19 %`.
        decimal_comma: What one separator before exactly three digits means: with True `1.234`
            is 1234 and `1,234` is 1.234, with False the other way round.

    Returns:
        The number, or None if the text is anything but one number.
    """
    stripped = text.strip()
    match = _NUMBER.fullmatch(stripped) if len(stripped) <= _LONGEST else None
    if match is None:
        return None
    digits = _plain_digits(re.sub(r"[' \u00a0\u202f]", "", match["digits"]), decimal_comma=decimal_comma)
    if digits is None:
        return None
    negative = (match["sign"] or match["inner"]) in {"-", "\u2212"}
    return -float(digits) if negative else float(digits)


def _plain_digits(digits: str, *, decimal_comma: bool) -> str | None:
    """Digits with `.` as the only separator, None if the separators make no sense."""
    decimal = _decimal_separator(digits, decimal_comma=decimal_comma)
    whole, _, fraction = digits.rpartition(decimal) if decimal else (digits, "", "")
    groups = re.split(r"[.,]", whole)
    if len(groups) > 1 and any(len(group) != 3 for group in groups[1:]):
        return None
    plain = "".join(groups) + (f".{fraction}" if fraction else "")
    return plain if re.fullmatch(r"[0-9]+(\.[0-9]+)?", plain) else None


def _decimal_separator(digits: str, *, decimal_comma: bool) -> str:
    """Which of the separators in the digits is the decimal one, empty if none is."""
    last = max(digits.rfind("."), digits.rfind(","))
    if last < 0:
        return ""
    separator = digits[last]
    other = "," if separator == "." else "."
    if other in digits:
        return separator
    if digits.count(separator) > 1:
        return ""
    if re.fullmatch(r"\d{1,3}", digits[:last]) and len(digits) - last == 4:
        return separator if (separator == ",") == decimal_comma else ""
    return separator


def is_money(text: str) -> bool:
    """Whether the whole text is an amount: a number with a currency or with two decimals."""
    if len(text) > _LONGEST or not _NUMBER.fullmatch(text.strip()):
        return False
    return bool(_MONEY.search(text) or _TWO_DECIMALS.fullmatch(text.strip()))


def currency_of(text: str) -> str | None:
    """The ISO 4217 code that a text names most often, None if it names none."""
    named = [_CURRENCY_SIGNS.get(word, word) for word in _CURRENCY_WORD.findall(text)]
    return max(named, key=named.count) if named else None


def parse_date(text: str) -> str | None:
    """The date that a text starts with, as `YYYY-MM-DD`; None if there is none or it is ambiguous.

    `03.02.2026` is read with the day first, as it is written wherever dots are used. With slashes only
    `13/02/2026`, `02/13/2026` and `02/02/2026` are sure.
    """
    plain = folded(text.strip()[:_LONGEST])
    if match := _SLASHED.match(plain):
        first, second = int(match[1]), int(match[2])
        if first <= 12 and second <= 12 and first != second:
            return None
        return _iso_date(match[3], *((second, first) if first > 12 else (first, second)))
    match = next((found for pattern in _DATES if (found := pattern.match(plain))), None)
    if match is None:
        return None
    return _iso_date(match["year"], _MONTH_NUMBERS.get(match["month"], match["month"]), match["day"])


def parse_date_time(text: str) -> str | None:
    """The moment that a text starts with, as `YYYY-MM-DDTHH:MM:SS`; midnight if only a date is given."""
    date = parse_date(text)
    match = _ISO.match(text.strip())
    if date is None or match is None or match[4] is None:
        return f"{date}T00:00:00" if date else None
    hour, minute, second = int(match[4]), int(match[5]), int(match[6] or 0)
    if hour > 23 or minute > 59 or second > 59:
        return None
    return f"{date}T{hour:02d}:{minute:02d}:{second:02d}"


def _iso_date(year: int | str, month: int | str, day: int | str) -> str | None:
    try:
        return dt.date(int(year), int(month), int(day)).isoformat()
    except ValueError:
        return None


def parse_boolean(text: str) -> bool | None:
    """Yes or no, None if the text is neither."""
    plain = folded(text.strip()[:_LONGEST])
    if plain in _YES:
        return True
    return False if plain in _NO else None
