"""When two values are the same: comparators, by name.

A comparator takes a value and returns a key; values with equal keys agree. So agreement does not depend on
who is compared with whom: it is symmetric, and when a agrees with b and b with c, a agrees with c.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Hashable, Mapping
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from functools import wraps
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from prefect_docjobs.errors import ConfigurationError

Comparator: TypeAlias = Callable[[Any], Hashable]
"""From a value to a key that is equal for equal values."""

ComparatorName: TypeAlias = Literal[
    "auto", "exact", "text", "identifier", "number", "amount", "date", "date_month_first"
]

Comparators: TypeAlias = Mapping[str, "ComparatorName | Comparator"]
"""By name of a field, such as `total_amount` or `line_items[].quantity`; `auto` for those without."""

_CENT = Decimal("0.01")


def is_found(value: Any) -> bool:
    """Whether a service found something: not nothing, no blank text, no empty list or object."""
    if isinstance(value, str):
        return bool(value.strip())
    return value is not None and not (isinstance(value, (list, tuple, Mapping)) and not value)


def _elementwise(comparator: Comparator) -> Comparator:
    """Compare the elements of lists and objects, however deep, instead of these as a whole."""

    @wraps(comparator)
    def compare(value: Any) -> Hashable:
        if isinstance(value, Mapping):
            return ("object", frozenset((str(name), compare(item)) for name, item in value.items()))
        if isinstance(value, (list, tuple)):
            return ("list", tuple(map(compare, value)))
        return comparator(value)

    return compare


@_elementwise
def exact(value: Any) -> Hashable:
    """The same value, of the same type: `25.5` is not `"25.5"`, but it is `25.50`."""
    if isinstance(value, float) and math.isnan(value):  # which is not equal to itself
        return ("number", "nan")
    return ("number" if _is_number(value) else type(value).__name__, value)


def words_of(value: object) -> list[str]:
    """The words of a value; case, white space, and forms of a letter that look alike do not count."""
    return unicodedata.normalize("NFKC", str(value)).casefold().split()


@_elementwise
def text(value: Any) -> Hashable:
    """The same words: case, white space, and forms of a letter that look alike do not count."""
    return ("text", " ".join(words_of(value)))


@_elementwise
def identifier(value: Any) -> Hashable:
    """The same letters and digits: `INV-00 731` is `inv00731`. For numbers of invoices, accounts, phones."""
    return ("text", "".join(sign for sign in "".join(words_of(value)) if sign.isalnum()))


@_elementwise
def number(value: Any) -> Hashable:
    """The same number, whatever its notation (see `read_number`); what is no number is compared as text."""
    if isinstance(value, str):
        found = read_number(value)
    elif _is_number(value):
        found = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    else:
        found = None
    return ("number", found) if found is not None and found.is_finite() else text(value)


@_elementwise
def amount(value: Any) -> Hashable:
    """The same number to the cent (half a cent goes to the even one); else as text."""
    match key := number(value):
        case ("number", Decimal() as found):
            try:
                return ("number", found.quantize(_CENT))
            except InvalidOperation:  # it has more digits than a cent could change
                return key
    return key


@_elementwise
def day(value: Any) -> Hashable:
    """The same day, whatever its notation, the day before the month (see `read_date`); else as text."""
    found = _date_of(value, month_first=False)
    return ("date", found) if found else text(value)


@_elementwise
def day_month_first(value: Any) -> Hashable:
    """The same as `date`, the month before the day."""
    found = _date_of(value, month_first=True)
    return ("date", found) if found else text(value)


@_elementwise
def auto(value: Any) -> Hashable:
    """The same date, number or words, whichever the value is first.

    A text with a leading zero is no number: `00731` is not `731`.
    """
    if found := _date_of(value, month_first=False):
        return ("date", found)
    has_leading_zero = isinstance(value, str) and re.match(r"\W*0\d", value)
    return text(value) if has_leading_zero or isinstance(value, bool) else number(value)


COMPARATORS: Mapping[str, Comparator] = MappingProxyType(
    {
        "auto": auto,
        "exact": exact,
        "text": text,
        "identifier": identifier,
        "number": number,
        "amount": amount,
        "date": day,
        "date_month_first": day_month_first,
    }
)
"""All named comparators."""


def comparator_of(field: str, comparators: Comparators) -> Comparator:
    """The comparator of a field, `auto` where none is given.

    Raises:
        ConfigurationError: There is none of the name that is given.
    """
    given = comparators.get(field, "auto")
    if callable(given):
        return given
    if given not in COMPARATORS:
        raise ConfigurationError(
            f"{field}: there is no comparator {given!r}. There are: {', '.join(COMPARATORS)}."
        )
    return COMPARATORS[given]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)


def _date_of(value: Any, *, month_first: bool) -> date | None:
    if isinstance(value, str):
        return read_date(value, month_first=month_first)
    return value.date() if isinstance(value, datetime) else value if isinstance(value, date) else None


# -- numbers and dates as people write them

_LONGEST = 40
_CODES = (
    "EUR|USD|GBP|CHF|JPY|CNY|INR|CAD|AUD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|RON|TRY|ZAR|BRL|MXN|SGD|HKD|KRW|ILS|AED"
)
_CODE = re.compile(rf"^(?:{_CODES})(?=[\s\d.,+-])|(?<=[\s\d.,])(?:{_CODES})$", re.IGNORECASE)
_SPACED = re.compile(r"(?<=\d)[\s'\u2019](?=\d{3}(?!\d))")  # 1 234 567 and 1'234'567
_WHOLE = re.compile(r"([\d.,]*\d)[.,]\s?[-\u2010-\u2015\u2212]{1,2}(?=\D*$)")  # 25.- and 1.250,-
_DIGITS = re.compile(r"\d[\d.,]*|[.,]\d+")
_GROUPED = {
    "": re.compile(r"\d+"),
    ",": re.compile(r"\d{1,3}(?:,\d{2,3})*,\d{3}|\d+"),  # 12,34,567, too
    ".": re.compile(r"\d{1,3}(?:\.\d{3})+|\d+"),
}


def read_number(text: str) -> Decimal | None:
    """The number that a text is, in any common notation; None for what is none.

    A currency (its symbol, or the code of a frequent one), a percent sign, spaces and apostrophes between
    thousands do not count. `(25.50)` and `25.50-` are negative; `25.-` and `25,-` are not, the dash stands
    for no cents. Of two kinds of separator the last is the decimal one. A single point is one, too; a single
    comma is, unless exactly three digits follow: `1,234` is 1234, `25,5` is 25.5.
    """
    if len(text) > _LONGEST:
        return None
    given = _with_cents(unicodedata.normalize("NFKC", text).strip())
    bare, is_negative = _unsigned(_without_currency(given))
    # The sign may stand before the currency or behind it.
    digits = _SPACED.sub("", _without_currency(bare).removesuffix("%").rstrip())
    plain = _plain(digits) if digits.isascii() and _DIGITS.fullmatch(digits) else None
    if plain is None:
        return None
    return -Decimal(plain) if is_negative else Decimal(plain)


def _with_cents(text: str) -> str:
    """`25.-` as `25.0`, `1.250,-` as `1.250,0`."""
    return _WHOLE.sub(lambda found: f"{found[1]},0" if "." in found[1] else f"{found[1]}.0", text)


def _without_currency(text: str) -> str:
    kept = "".join(sign for sign in text if unicodedata.category(sign) != "Sc").strip()
    return _CODE.sub("", kept).strip()


def _unsigned(text: str) -> tuple[str, bool]:
    if text.startswith("(") and text.endswith(")"):
        return text[1:-1].strip(), True
    for sign in ("-", "\u2212"):
        if text.startswith(sign) or text.endswith(sign):
            return text.strip(sign).strip(), True
    return text.removeprefix("+").lstrip(), False


def _plain(digits: str) -> str | None:
    """The same digits as Python writes them, or None where the separators make no sense."""
    decimal = _decimal_separator(digits)
    thousands = {"": "", ".": ",", ",": "."}[decimal] or next((sign for sign in ",." if sign in digits), "")
    whole, _, rest = digits.partition(decimal) if decimal else (digits, "", "")
    if (thousands in rest and thousands) or (whole and not _GROUPED[thousands].fullmatch(whole)):
        return None
    bare = whole.replace(thousands, "") if thousands else whole
    return f"{bare or '0'}.{rest or '0'}"


def _decimal_separator(digits: str) -> str:
    points, commas = digits.count("."), digits.count(",")
    if points and commas:
        last = max(".,", key=digits.rfind)
        return last if digits.count(last) == 1 else ""
    if points == 1:
        return "."
    is_thousands = len(digits.rpartition(",")[2]) == 3 and not digits.startswith((",", "0"))
    return "," if commas == 1 and not is_thousands else ""


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
        return _date(*map(int, found.groups()))
    if found := _YEAR_LAST.fullmatch(text):
        first, second, year = int(found[1]), int(found[3]), int(found[4])
        year += 2000 if len(found[4]) == 2 else 0
        day_first, as_month_first = _date(year, second, first), _date(year, first, second)
        return (
            (as_month_first or day_first) if month_first and found[2] != "." else day_first or as_month_first
        )
    if found := _DAY_MONTH.fullmatch(text):
        return _named(found[3], found[2], found[1])
    if found := _MONTH_DAY.fullmatch(text):
        return _named(found[3], found[1], found[2])
    return None


def _named(year: str, month: str, day: str) -> date | None:
    word = "sep" if month.lower() == "sept" else month.lower()
    number = next((number for number, name in enumerate(_MONTHS, 1) if name == word or name[:3] == word), 0)
    return _date(int(year), number, int(day))


def _date(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None
