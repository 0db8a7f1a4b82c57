"""The tables of a run, each of bounded size: its documents, and its failures with what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prefect_docjobs.flows.dead_letters import DeadLetter
from prefect_docjobs.flows.report import TABLE_ROWS, error_of, pages_of
from prefect_docjobs.models import Batch, Field, Outcome
from prefect_docjobs.models.escapes import escaped
from prefect_docjobs.models.results import joined

_TABLE_FIELDS = 8
_KEPT_FIELDS = 60  # of one document, until it is known which ones most documents have
_CELL = 120  # characters
EXACT = 2**53
"""The largest whole number that a browser does not show as another one."""


@dataclass(frozen=True)
class _Row:
    """What a table may show of one document.

    Attributes:
        head: Columns that every document has.
        cells: Values by flat field name.
        confidences: The lowest confidence within each of these fields, where the service gives one.
    """

    head: Mapping[str, Any]
    cells: Mapping[str, Any]
    confidences: Mapping[str, float]
    job: str


class ResultTable:
    """The rows of the table of documents: failures first, then by number; never more than fit.

    Args:
        price_per_page: What a page costs, in any currency; None for a table without costs.
    """

    def __init__(self, price_per_page: float | None = None) -> None:
        self._price = price_per_page
        self._failed: list[tuple[int, _Row]] = []
        self._delivered: list[tuple[int, _Row]] = []
        self._documents = 0

    def add(self, first: int, batch: Batch) -> None:
        """Add a batch that has ended, whose first document is number `first` of the run."""
        self._documents += len(batch)
        for index, head in enumerate(batch.heads):
            kept = self._delivered if head.ok else self._failed
            if len(kept) < TABLE_ROWS:
                kept.append((first + index, self._row(batch[index])))  # which may read the disk

    @property
    def left_out(self) -> int:
        """Documents that have no row."""
        return self._documents - len(self._chosen())

    def rows(self) -> list[dict[str, Any]]:
        """At most `TABLE_ROWS` rows with the same columns.

        These are the document, its state, the lowest confidence among the fields that are shown, seconds,
        pages, credits and cost where they are known, the fields that most documents have, and the job.
        """
        chosen = self._chosen()
        present = Counter(name for row in chosen for name, value in row.cells.items() if value != "")
        names = [name for name, _ in present.most_common(_TABLE_FIELDS)]
        return _without_empty_columns([_flat(row, names) for row in chosen])

    def _chosen(self) -> Sequence[_Row]:
        ordered = [row for kept in (self._failed, self._delivered) for _, row in sorted(kept, key=_number)]
        return ordered[:TABLE_ROWS]

    def _row(self, outcome: Outcome) -> _Row:
        result = outcome.result
        fields = list(_leaves(result.fields) if result else ())[:_KEPT_FIELDS]
        pages = pages_of(outcome)
        lowest = {name: _lowest_confidence(field) for name, field in fields}
        return _Row(
            head={
                "document": cell(outcome.document),
                "state": "delivered" if outcome.ok else str(outcome.reason),
                "confidence": "",
                "seconds": "" if outcome.seconds is None else round(outcome.seconds, 2),
                "pages": cell(pages),
                "credits": cell(result.usage.credits if result else None),
                "cost": self._cost(pages, is_reused=outcome.reused),
            },
            cells={name: cell(field.value) for name, field in fields},
            confidences={name: value for name, value in lowest.items() if value is not None},
            job=cell(outcome.ref.job_id if outcome.ref else None),
        )

    def _cost(self, pages: int | None, *, is_reused: bool) -> float | str:
        if self._price is None or pages is None:
            return ""
        return 0 if is_reused else round(pages * self._price, 6)


class FailureTable:
    """The rows of the table of failures, in the order of their numbers; never more than fit."""

    def __init__(self) -> None:
        self._letters: list[tuple[int, DeadLetter]] = []
        self._all = 0

    def add(self, first: int, letters: Sequence[DeadLetter]) -> None:
        """Add the dead letters of a chunk, whose first document is number `first` of the run."""
        self._all += len(letters)
        self._letters += [(first, letter) for letter in letters[: TABLE_ROWS - len(self._letters)]]

    @property
    def left_out(self) -> int:
        """Failures that have no row."""
        return self._all - len(self._letters)

    def rows(self) -> list[dict[str, Any]]:
        """At most `TABLE_ROWS` rows: the document, the reason, what to do, its job and where it is."""
        return _without_empty_columns([_failure(letter) for _, letter in sorted(self._letters, key=_number)])


def _failure(letter: DeadLetter) -> dict[str, Any]:
    return {
        "document": cell(letter.document),
        "reason": letter.reason.value,
        "what to do": letter.how,
        "error": cell(error_of(letter)),
        "job": cell(letter.job_id),
        "where": letter.url or letter.path or "",
    }


def _number(numbered: tuple[int, Any]) -> int:
    return numbered[0]


def _flat(row: _Row, names: Sequence[str]) -> dict[str, Any]:
    known = [row.confidences[name] for name in names if name in row.confidences]
    head = {**row.head, "confidence": round(min(known), 3) if known else ""}
    told = joined({**head, "job": ""}, {name: row.cells.get(name, "") for name in names})
    return {name: told[name] for name in told if name != "job"} | {"job": row.job}


def _without_empty_columns(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows without the columns in which none of them has anything."""
    shown = [name for name in (rows[0] if rows else ()) if any(row[name] != "" for row in rows)]
    return [{name: row[name] for name in shown} for row in rows]


def _leaves(fields: Mapping[str, Field], prefix: str = "") -> Iterator[tuple[str, Field]]:
    """The fields of a flat row with their names, as `Result.row` has them."""
    for name, field in fields.items():
        if field.fields is not None:
            yield from _leaves(field.fields, f"{prefix}{name}.")
        elif not any(item.fields is not None for item in field.items or ()):
            yield f"{prefix}{name}", field


def _lowest_confidence(field: Field) -> float | None:
    own = [] if field.confidence is None else [field.confidence]
    known = [*own, *(item.confidence for item in field.items or () if item.confidence is not None)]
    return min(known, default=None)


def cell(value: Any) -> Any:
    """A value as a table can show it: a number as it is, all else as a text of bounded length."""
    if value is None:
        return ""
    if isinstance(value, (int, float)) and abs(value) <= EXACT:
        return value
    text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    text = escaped(text)  # file names need not be UTF-8, artifacts must
    return text if len(text) <= _CELL else f"{text[: _CELL - 1]}…"
