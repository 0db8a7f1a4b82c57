"""Outcomes as lines of a table: what was found in a document, in the order in which people ask for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from prefect_docjobs.cli.screen import printable
from prefect_docjobs.models import Outcome, Result

SUCCEEDED = "succeeded"
NOT_OFFERED = "not offered"

_TOTAL = "total_amount"
_KEYS = ("invoice_number", "supplier_name", "date", _TOTAL)
_FOUND_AT_MOST = 5
_BEGINNING = 200  # characters
_STYLES = {SUCCEEDED: "green", NOT_OFFERED: "dim"}


def state(outcome: Outcome) -> Text:
    """`succeeded`, or the reason why there is no result."""
    return state_text(SUCCEEDED if outcome.ok else str(outcome.reason).replace("_", " "))


def state_text(word: str) -> Text:
    """The word in its colour."""
    return Text(word, style=_STYLES.get(word, "red"))


def seconds(outcome: Outcome) -> str:
    """How long it took."""
    return "" if outcome.seconds is None else f"{outcome.seconds:.1f}"


def key_fields(outcome: Outcome) -> Table | Text:
    """An invoice's number, supplier, date and total, or else the first things found; of a failure, why."""
    if outcome.result is None:
        return Text(printable((outcome.error or "no result").removeprefix(f"{outcome.document}: ")))
    found = _found(outcome.result)
    if _TOTAL in found:
        return _four(*_invoice(found), heading=False)
    return _one_line(_listed(found) or _beginning(outcome.result))


def key_headings() -> Table:
    """The headings of an invoice's key fields."""
    return _four("Number", "Supplier", "Date", "Total", heading=True)


def outcome_table(outcomes: Iterable[Outcome]) -> Table:
    """One line for each document of one service."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, expand=True)
    table.add_column("Document", no_wrap=True, overflow="ellipsis", max_width=28)
    table.add_column("State", max_width=11)
    table.add_column("Found", ratio=1)
    table.add_column("Sec", justify="right", no_wrap=True)
    for outcome in outcomes:
        found = key_fields(outcome) if outcome.result is None else _one_line(_summary(outcome.result))
        table.add_row(Text(printable(outcome.document)), state(outcome), found, seconds(outcome))
    return table


def _summary(result: Result) -> str:
    found = _found(result)
    if _TOTAL in found:
        return ", ".join(part for part in _invoice(found) if part)
    return _listed(found) or _beginning(result)


def _found(result: Result) -> dict[str, Any]:
    return {name: value for name, value in result.row().items() if value not in (None, "", [])}


def _invoice(found: Mapping[str, Any]) -> tuple[str, str, str, str]:
    number = found.get("invoice_number") or found.get("purchase_order_number") or ""
    total = found[_TOTAL]
    amount = f"{total:,.2f}" if isinstance(total, (int, float)) else str(total)
    currency = found.get("currency") or found.get("locale.currency") or ""
    supplier, date = (str(found.get(name, "")) for name in ("supplier_name", "date"))
    return str(number), supplier, date, f"{amount} {currency}".strip()


def _listed(found: Mapping[str, Any]) -> str:
    names = sorted(found, key=lambda name: name not in _KEYS)[:_FOUND_AT_MOST]
    return ", ".join(f"{name.replace('_', ' ')}: {found[name]}" for name in names)


def _beginning(result: Result) -> str:
    """The first words of the text, or what there are lists of, such as `3 splits`."""
    lists = Counter(item["list"] for item in result.line_items())
    words = " ".join((result.text or "")[:_BEGINNING].split())
    return words or ", ".join(f"{number} {name}" for name, number in lists.items()) or "nothing asked for"


def _one_line(text: str) -> Text:
    return Text(printable(text), no_wrap=True, overflow="ellipsis")


def _four(number: str, supplier: str, date: str, total: str, *, heading: bool) -> Table:
    cells = Table.grid(expand=True, padding=(0, 1, 0, 0))
    cells.add_column(width=13, no_wrap=True, overflow="ellipsis")
    cells.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    cells.add_column(width=10, no_wrap=True)
    cells.add_column(width=13, no_wrap=True, justify="right")
    style = "bold" if heading else ""
    cells.add_row(*(Text(printable(cell), style=style) for cell in (number, supplier, date, total)))
    return cells
