"""Rows and verdicts as tables in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from bench.figures import REAL_TIME, Row
from bench.goals import Verdict

_WIDTH = 160
_MET = {True: "yes", False: "NO", None: "-"}


def show_rows(title: str, rows: Sequence[Row]) -> None:
    """Print the rows of one part; a column for each figure that any of them has."""
    names = list(dict.fromkeys(name for row in rows for name in row.figures))
    clocks = any(row.clock != REAL_TIME for row in rows)
    table = Table(title=title, title_justify="left", show_edge=False)
    for name in ("", "", *(["clock"] if clocks else [])):
        table.add_column(name)
    for name in names:
        table.add_column(name, justify="right")
    case = None
    for row in rows:
        if case not in {None, row.case}:
            table.add_section()
        shown = row.case if row.case != case else ""
        case = row.case
        table.add_row(
            shown,
            row.way,
            *([row.clock] if clocks else []),
            *(_text(row.figures.get(name)) for name in names),
        )
    _console().print(table, "")


def show_verdicts(verdicts: Iterable[Verdict]) -> None:
    """Print each goal with what was measured for it."""
    table = Table(title="Goals", title_justify="left", show_edge=False)
    for name in ("goal", "measured", "met?"):
        table.add_column(name)
    for verdict in verdicts:
        table.add_row(verdict.goal, verdict.measured, _MET[verdict.met])
    _console().print(table)


def say(text: str) -> None:
    """Print a line about what is going on."""
    _console().print(text, style="dim")


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDTH)


def _text(value: float | str | None) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}"
