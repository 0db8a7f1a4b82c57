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
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from prefect_docjobs.comparison.dates import read_date
from prefect_docjobs.comparison.numbers import read_number
from prefect_docjobs.errors import ConfigurationError

Comparator: TypeAlias = Callable[[Any], Hashable]
"""From a value to a key that is equal for equal values."""

ComparatorName: TypeAlias = Literal[
    "auto", "exact", "text", "identifier", "number", "amount", "date", "date_month_first"
]

Comparators: TypeAlias = Mapping[str, "ComparatorName | Comparator"]
"""By name of a field, such as `total_amount` or `line_items[].quantity`; `auto` for those without."""

_LEADING_ZERO = re.compile(r"\W*0\d")
_CENT = Decimal("0.01")


def exact(value: Any) -> Hashable:
    """The same value, of the same type: `25.5` is not `"25.5"`, but it is `25.50`."""
    if isinstance(value, (list, tuple)):
        return ("list", tuple(exact(item) for item in value))
    if isinstance(value, Mapping):
        return ("object", frozenset((str(name), exact(item)) for name, item in value.items()))
    if isinstance(value, float) and math.isnan(value):  # which is not equal to itself
        return ("number", "nan")
    return ("number" if _is_number(value) else type(value).__name__, value)


def text(value: Any) -> Hashable:
    """The same words: case, white space, and forms of a letter that look alike do not count."""
    if isinstance(value, (list, tuple, Mapping)):
        return _within(value, text)
    return ("text", " ".join(unicodedata.normalize("NFKC", str(value)).casefold().split()))


def identifier(value: Any) -> Hashable:
    """The same letters and digits: `INV-00 731` is `inv00731`. For numbers of invoices, accounts, phones."""
    if isinstance(value, (list, tuple, Mapping)):
        return _within(value, identifier)
    return (
        "text",
        "".join(sign for sign in unicodedata.normalize("NFKC", str(value)).casefold() if sign.isalnum()),
    )


def number(value: Any) -> Hashable:
    """The same number, whatever its notation (see `read_number`); what is no number is compared as text."""
    if isinstance(value, (list, tuple, Mapping)):
        return _within(value, number)
    found = _number(value)
    return text(value) if found is None else ("number", found)


def amount(value: Any) -> Hashable:
    """The same number to the cent (half a cent goes to the even one); else as text."""
    key = number(value)
    match key:
        case ("number", Decimal() as found):
            return ("number", _to_the_cent(found))
        case ("list" | "object", _):
            return _within(value, amount)
    return key


def day(value: Any) -> Hashable:
    """The same day, whatever its notation, the day before the month (see `read_date`); else as text."""
    return _day(value, month_first=False)


def day_month_first(value: Any) -> Hashable:
    """The same as `date`, the month before the day."""
    return _day(value, month_first=True)


def auto(value: Any) -> Hashable:
    """The same date, number or words, whichever the value is first.

    A text with a leading zero is no number: `00731` is not `731`.
    """
    if isinstance(value, (list, tuple, Mapping)):
        return _within(value, auto)
    if isinstance(value, bool):
        return text(value)
    if isinstance(value, str) and _LEADING_ZERO.match(value):
        return day(value)
    key = _day(value, month_first=False)
    return key if key[0] == "date" else number(value)


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


def is_found(value: Any) -> bool:
    """Whether a service found something: not nothing, no blank text, no empty list or object."""
    if isinstance(value, str):
        return bool(value.strip())
    return value is not None and not (isinstance(value, (list, tuple, Mapping)) and not value)


def _within(value: Any, comparator: Comparator) -> Hashable:
    if isinstance(value, Mapping):
        return ("object", frozenset((str(name), comparator(item)) for name, item in value.items()))
    return ("list", tuple(comparator(item) for item in value))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)


def _number(value: Any) -> Decimal | None:
    if isinstance(value, str):
        return read_number(value)
    if not _is_number(value):
        return None
    found = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    return found if found.is_finite() else None


def _to_the_cent(found: Decimal) -> Decimal:
    try:
        return found.quantize(_CENT)
    except InvalidOperation:  # it has more digits than a cent could change
        return found


def _day(value: Any, *, month_first: bool) -> tuple[str, Hashable]:
    if isinstance(value, datetime):
        return ("date", value.date())
    found = value if isinstance(value, date) else None
    if isinstance(value, str):
        found = read_date(value, month_first=month_first)
    if found is not None:
        return ("date", found)
    if isinstance(value, (list, tuple, Mapping)):
        return ("within", _within(value, day_month_first if month_first else day))
    return ("text", text(value))
