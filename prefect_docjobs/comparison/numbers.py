"""Numbers as documents and services write them."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal

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
