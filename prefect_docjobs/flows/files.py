"""The files of a run: one JSON object per line, complete under their names or not there at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect_docjobs.flows.dead_letters import DeadLetter
from prefect_docjobs.flows.lines import LineFiles
from prefect_docjobs.models import Batch

RESULTS = "results.jsonl"
FAILURES = "failures.jsonl"
ROWS = "rows.jsonl"
NAMES = (RESULTS, FAILURES, ROWS)
COMPARISON = "comparison.jsonl"
CONFLICTS = "conflicts.jsonl"
FIELDS = "fields.jsonl"
REVIEWS = "reviews.jsonl"
_OURS = (*NAMES, COMPARISON, CONFLICTS, FIELDS, REVIEWS)


def is_ours(path: Path) -> bool:
    """Whether a file is one that a flow writes, so that it is never taken for a document."""
    return path.name.startswith(_OURS)


class ResultFiles(LineFiles):
    """The files that a run writes, batch by batch, in the order in which batches end.

    `results.jsonl` has a whole `Outcome` for each delivered document, `failures.jsonl` a `DeadLetter` for
    each failed one, `rows.jsonl` a flat row for each document (`Outcome.row`).

    Args:
        folder: Where to; made if it is not there.
        run: A name for the partial files that no other run has.
    """

    def __init__(self, folder: Path, run: str) -> None:
        super().__init__(folder, NAMES, run)

    @property
    def heading(self) -> str:
        """See `Outputs`, as for those that follow."""
        return "Files"

    @property
    def parts(self) -> Mapping[str, str]:
        """The files with what is in them."""
        return {
            str(self.path(RESULTS)): "a whole result per line",
            str(self.path(FAILURES)): "a dead letter per line: a failed document, why, and what may be done",
            str(self.path(ROWS)): "a flat row for each document",
        }

    @property
    def where_documents(self) -> str:
        """The files with rows and results."""
        return f"`{self.path(ROWS)}` has them all, `{self.path(RESULTS)}` the whole results."

    @property
    def where_failures(self) -> str:
        """The file to redrive."""
        return f"`{self.path(FAILURES)}` has them all: the `dead_letter` of redrive-failures."

    async def append(self, batch: Batch, letters: Sequence[DeadLetter] | None = None) -> None:
        """Write the outcomes of a batch, in a thread; they are in the files when this returns.

        Args:
            batch: The outcomes.
            letters: Of those that failed; by default with what the outcomes themselves know.
        """
        if letters is None:
            letters = [DeadLetter.of(outcome) for outcome in batch.failures]
        await self.write(_lines(batch, letters))


def _lines(batch: Batch, letters: Sequence[DeadLetter]) -> Iterator[tuple[str, Any]]:
    for outcome in batch:  # once: a large batch is on the disk
        yield ROWS, outcome.row()
        if outcome.ok:
            yield RESULTS, outcome
    for letter in letters:
        yield FAILURES, letter
