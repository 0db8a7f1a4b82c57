"""What the demo shows: a table by document and service, and where to look next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from prefect_docjobs.cli.report import NOT_OFFERED, key_fields, key_headings, seconds, state, state_text
from prefect_docjobs.cli.screen import printable
from prefect_docjobs.models import Outcome

_SHOWN = 40
_HOME = "https://github.com/prefect-docjobs/prefect-docjobs"


@dataclass(frozen=True)
class Line:
    """What became of one document at one service; the outcome itself need not be kept."""

    state: Text
    found: RenderableType
    seconds: str
    ok: bool

    @classmethod
    def of(cls, outcome: Outcome) -> Line:
        """The line of a document that was sent."""
        return cls(state(outcome), key_fields(outcome), seconds(outcome), outcome.ok)


_UNSENT = Line(state_text(NOT_OFFERED), Text(""), "", ok=True)


class Page:
    """Collects the lines of a run.

    Args:
        documents: Names of the documents, in order.
        services: Registry names of the services, in order.
    """

    def __init__(self, documents: Sequence[str], services: Sequence[str]) -> None:
        self._documents = documents
        self._services = services
        self._lines: dict[tuple[str, str], Line] = {}

    def add(self, service: str, outcome: Outcome) -> None:
        """Note what became of a document at a service."""
        self._lines[outcome.document, service] = Line.of(outcome)

    @property
    def sent(self) -> int:
        """Documents that went to a service, counted once for each service."""
        return len(self._lines)

    @property
    def failed(self) -> int:
        """Those of them that have no result."""
        return sum(not line.ok for line in self._lines.values())

    def table(self) -> RenderableType:
        """A section for each document with a line for each service; of many, the first and the failed."""
        shown = [
            document
            for place, document in enumerate(self._documents)
            if place < _SHOWN or not all(line.ok for _, line in self._section(document))
        ]
        parts: list[RenderableType] = [_headings(), Rule(style="dim", characters="-")]
        for document in shown:
            name = Text(printable(document), style="bold", overflow="fold")
            parts += [name, _rows(self._section(document)), Text("")]
        if left_out := len(self._documents) - len(shown):
            parts.append(Text(f"... and {left_out:,} more documents, all delivered"))
        return Group(*parts)

    def _section(self, document: str) -> list[tuple[str, Line]]:
        return [(service, self._lines.get((document, service), _UNSENT)) for service in self._services]


def _headings() -> Table:
    table = _columns()
    table.add_row(
        *(Text(word, style="bold") for word in ("Service", "State")),
        key_headings(),
        Text("Sec", style="bold"),
    )
    return table


def _rows(section: Iterable[tuple[str, Line]]) -> Table:
    table = _columns()
    for service, line in section:
        table.add_row(Text(service), line.state, line.found, line.seconds)
    return table


def _columns() -> Table:
    table = Table.grid(expand=True, padding=(0, 1, 0, 0))
    table.add_column(width=9, no_wrap=True, overflow="ellipsis")
    table.add_column(width=11)
    table.add_column(ratio=1)
    table.add_column(width=4, justify="right", no_wrap=True)
    return table


def show_next_steps(console: Console, results: Path) -> None:
    """Say where the results are, and what one would do next."""
    steps = (
        ("Results", printable(results)),
        ("Your documents", "prefect-docjobs demo --folder DIR"),
        ("Your own key", "put it into a block, once:"),
        ("", "  from prefect_docjobs import MindeeCredentials, MindeeJob"),
        ("", '  key = MindeeCredentials(api_key="...")'),
        ("", '  MindeeJob(credentials=key, model_id="...").save("invoices")'),
        ("", "then: prefect-docjobs extract FILE --job mindee-job/invoices"),
        ("Your own flow", "copy one of flows/, try it against: prefect-docjobs simulate"),
        ("Read on", _HOME),
        ("", "README.md, docs/quickstart.md, docs/providers/, flows/"),
    )
    for name, what in steps:
        console.print(Text(f"{name:<16}{what}"), soft_wrap=True)
