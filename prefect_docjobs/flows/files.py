"""The files of a run: one JSON object per line, complete under their names or not there at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import anyio
import anyio.to_thread
from pydantic_core import to_jsonable_python

from prefect_docjobs.flows.dead_letters import DeadLetter
from prefect_docjobs.models import Batch, Outcome

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


class ResultFiles:
    """The files that a run writes, batch by batch, in the order in which batches end.

    `results.jsonl` has a whole `Outcome` for each delivered document, `failures.jsonl` a `DeadLetter` for
    each failed one, `rows.jsonl` a flat row for each document (`Outcome.row`). Until the run has ended they
    bear the name of the run behind theirs.

    Args:
        folder: Where to; made if it is not there.
        run: A name for the partial files that no other run has.
    """

    def __init__(self, folder: Path, run: str) -> None:
        self.folder = folder
        self._run = run
        self._streams: dict[str, IO[str]] = {}
        self._writing = anyio.Lock()

    def path(self, name: str) -> Path:
        """Where a file is when the run has ended."""
        return self.folder / name

    def partial(self, name: str) -> Path:
        """Where a file is until then, and stays if the run is broken off."""
        return self.folder / f"{name}.{self._run}.partial"

    @contextmanager
    def written(self) -> Iterator[ResultFiles]:
        """Open the files; name them as complete when the context closes without an exception.

        Raises:
            OSError: The folder or a file cannot be made.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            self._streams = {name: stack.enter_context(_opened(self.partial(name))) for name in NAMES}
            yield self
        for name in NAMES:
            self.partial(name).replace(self.path(name))

    async def append(self, batch: Batch, letters: Sequence[DeadLetter] | None = None) -> None:
        """Write the outcomes of a batch, in a thread; they are in the files when this returns.

        Args:
            batch: The outcomes.
            letters: Of those that failed; by default with what the outcomes themselves know.
        """
        if letters is None:
            letters = [DeadLetter.of(outcome) for outcome in batch.failures]
        async with self._writing:
            await anyio.to_thread.run_sync(self._append, batch, letters)

    def _append(self, batch: Batch, letters: Sequence[DeadLetter]) -> None:
        for outcome in batch:
            self._streams[ROWS].write(_line(outcome.row()))
            if outcome.ok:
                self._streams[RESULTS].write(_line(outcome))
        self._streams[FAILURES].writelines(map(_line, letters))
        _flush(self._streams.values())


def _opened(path: Path) -> IO[str]:
    # Half a surrogate pair, as in a file name that is not UTF-8, becomes its JSON escape.
    return path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n")


def _line(content: Outcome | DeadLetter | dict[str, Any]) -> str:
    # Numbers that JSON does not have, which some answers do, become null.
    return json.dumps(to_jsonable_python(content, inf_nan_mode="null"), ensure_ascii=False) + "\n"


def _flush(streams: Iterable[IO[str]]) -> None:
    for stream in streams:
        stream.flush()
