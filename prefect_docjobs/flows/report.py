"""What a run says about itself: totals, a table of bounded size, a summary."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from prefect_docjobs.flows.files import FAILURES, RESULTS, ROWS, ResultFiles
from prefect_docjobs.models import Batch, Outcome

TABLE_ROWS = 500
"""Most rows of a table artifact: the browser draws every row, and a larger table stops it."""

_TABLE_FIELDS = 12
_KEPT_FIELDS = 60  # of one document, until it is known which ones most documents have
_CELL = 120  # characters
_HEAD = frozenset(Outcome(document="").row())


@dataclass
class Tally:
    """The sums of a run."""

    documents: int = 0
    delivered: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    pages: int = 0
    credits: float = 0
    reused: int = 0
    seconds: array[float] = field(default_factory=lambda: array("d"))

    def add(self, batch: Batch) -> None:
        """Add a batch that has ended."""
        totals = batch.totals
        self.documents += totals["documents"]
        self.delivered += totals["delivered"]
        self.reasons.update(totals["reasons"])
        self.pages += totals["pages"]
        self.credits += totals["credits"]
        self.reused += sum(head.reused for head in batch.heads)
        self.seconds.extend(head.seconds for head in batch.heads if head.ok and head.seconds is not None)

    @property
    def failed(self) -> int:
        """Documents without a result."""
        return self.documents - self.delivered

    def totals(self) -> dict[str, Any]:
        """All sums as plain JSON; `seconds` tells the time per delivered document (p50 and p95)."""
        return {
            "documents": self.documents,
            "delivered": self.delivered,
            "failed": self.failed,
            "reasons": dict(sorted(self.reasons.items())),
            "pages": self.pages,
            "credits": self.credits,
            "seconds": {"p50": percentile(self.seconds, 50), "p95": percentile(self.seconds, 95)},
        }

    def sentence(self) -> str:
        """The sums in one line, such as `97 of 100 documents delivered; 2 failed, 1 timeout`."""
        noun = "document" if self.documents == 1 else "documents"
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in self.reasons.most_common())
        delivered = f"{self.delivered:,} of {self.documents:,} {noun} delivered"
        return f"{delivered}; {reasons}" if reasons else delivered


def percentile(values: Iterable[float], percent: int) -> float | None:
    """The nearest-rank percentile, or None of nothing."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else None


class ResultTable:
    """The rows of the table artifact: failures first, then by document number; never more than fit."""

    def __init__(self) -> None:
        self._failed: list[tuple[int, dict[str, Any]]] = []
        self._delivered: list[tuple[int, dict[str, Any]]] = []
        self._documents = 0

    def add(self, first: int, batch: Batch) -> None:
        """Add a batch that has ended, whose first document is number `first` of the run."""
        self._documents += len(batch)
        for index, head in enumerate(batch.heads):
            kept = self._delivered if head.ok else self._failed
            if len(kept) < TABLE_ROWS:
                kept.append((first + index, _row(batch[index])))  # which may read the disk

    @property
    def left_out(self) -> int:
        """Documents that have no row."""
        return self._documents - len(self._chosen())

    def rows(self) -> list[dict[str, Any]]:
        """At most `TABLE_ROWS` rows, all with the same columns: the fields that most documents have."""
        chosen = self._chosen()
        present = Counter(
            name for row in chosen for name, value in row["fields"].items() if value not in (None, "")
        )
        names = [name for name, _ in present.most_common(_TABLE_FIELDS)]
        return [{**row["head"], **{name: _cell(row["fields"].get(name)) for name in names}} for row in chosen]

    def _chosen(self) -> Sequence[dict[str, Any]]:
        ordered = [row for kept in (self._failed, self._delivered) for _, row in sorted(kept, key=_number)]
        return ordered[:TABLE_ROWS]


def _number(numbered: tuple[int, dict[str, Any]]) -> int:
    return numbered[0]


def _row(outcome: Outcome) -> dict[str, Any]:
    row = outcome.row()
    fields = [(name, value) for name, value in row.items() if name not in _HEAD][:_KEPT_FIELDS]
    return {
        "head": {
            "document": _cell(outcome.document),
            "outcome": "delivered" if outcome.ok else str(outcome.reason),
            "seconds": outcome.seconds,
            "error": _cell(outcome.error),
            "job": _cell(row["job_id"]),
        },
        "fields": {name: _cell(value) for name, value in fields},
    }


def _cell(value: Any) -> Any:
    """A value as a table can show it: a number as it is, all else as a text of bounded length."""
    if value is None:
        return ""
    if isinstance(value, (bool, int, float)):
        return value
    text = value if isinstance(value, str) else ", ".join(map(str, value))
    text = text.encode(errors="backslashreplace").decode()  # file names need not be UTF-8, artifacts must
    return text if len(text) <= _CELL else f"{text[: _CELL - 1]}…"


def summary(title: str, tally: Tally, files: ResultFiles, *, elapsed: float) -> str:
    """The run in Markdown: sums, times, and where the files are."""
    totals = tally.totals()
    known = {name: value for name, value in totals["seconds"].items() if value is not None}
    times = ", ".join(f"{value:.1f} ({name})" for name, value in known.items())
    facts = [
        ("Documents", f"{tally.documents:,}"),
        ("Delivered", f"{tally.delivered:,}"),
        *((f"Failed: {reason}", f"{number:,}") for reason, number in tally.reasons.most_common()),
        *([("Paid for before", f"{tally.reused:,}")] if tally.reused else []),
        ("Pages, as the service counts", f"{tally.pages:,}" if tally.pages else "not told"),
        ("Credits, as the service counts", f"{tally.credits:,g}" if tally.credits else "not told"),
        ("Seconds per delivered document", times or "none"),
        ("Seconds in all", f"{elapsed:.1f}"),
    ]
    contents = {
        RESULTS: "a whole result per line",
        FAILURES: "a dead letter per line: a failed document, why, and what may be done",
        ROWS: "a flat row for each document",
    }
    return "\n".join(
        [
            f"## {title}",
            "",
            "| | |",
            "|---|---:|",
            *(f"| {name} | {value} |" for name, value in facts),
            "",
            *(f"- `{files.path(name)}`: {content}" for name, content in contents.items()),
        ]
    )
