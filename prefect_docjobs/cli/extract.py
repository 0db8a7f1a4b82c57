"""Extraction from a terminal, with a job block that is saved in Prefect."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from pathlib import Path

from prefect_docjobs.cli.exits import FAILED, WRONG_USE, CommandFailed
from prefect_docjobs.cli.quiet import quiet_prefect
from prefect_docjobs.cli.report import outcome_table
from prefect_docjobs.cli.screen import Advance, messages, output, print_json, progress_bar
from prefect_docjobs.extraction.budget import Budget
from prefect_docjobs.models import Batch, Document, Outcome


def run_extract(
    files: Iterable[str | Path],
    job: str,
    *,
    as_json: bool,
    timeout: float | None,
    budget: Budget | None = None,
    max_documents: int | None = None,
) -> int:
    """Extract, and show what came out.

    Args:
        files: Files, folders or https URLs.
        job: Name of a saved job block.
        as_json: Print a whole `Outcome` per line as documents end, instead of a table at the end.
        timeout: Seconds for all documents; None for no limit.
        budget: What all of them may cost; None for no limit.
        max_documents: How many are taken at most; None for all.

    Returns:
        0, or 1 when a document has no result.

    Raises:
        CommandFailed: There is no document, no name, the limit is none, or Prefect's API does not answer.
        ConfigurationError: There is no such job.
    """
    check_job_name(job)
    documents = documents_of(files)[:max_documents]
    if timeout is not None and not timeout > 0:
        raise CommandFailed("--timeout needs a number of seconds above 0.", WRONG_USE)
    quiet_prefect()
    from prefect_docjobs.cli.extract_flow import extract_with

    with progress_bar("Extracting", len(documents), hidden=as_json and sys.stdout.isatty()) as advance:
        shown = _JsonLines(advance) if as_json else _Table(advance)
        extracting = extract_with(
            job, documents, shown.add, timeout=timeout, foresee=advance.note, budget=budget
        )
        asyncio.run(extracting)
    return FAILED if shown.close() else 0


class _JsonLines:
    """Each outcome as a line of JSON, as soon as it is there."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self._failed = 0

    async def add(self, _first: int, batch: Batch) -> None:
        for outcome in batch:
            print_json(outcome)
        self._failed += len(batch.failures)
        self._advance(len(batch))

    def close(self) -> int:
        return self._failed


class _Table:
    """All outcomes in the order of the documents, and a line that sums them up."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self._outcomes: list[tuple[int, Outcome]] = []

    async def add(self, first: int, batch: Batch) -> None:
        self._outcomes.extend(enumerate(batch, first))
        self._advance(len(batch))

    def close(self) -> int:
        ordered = [outcome for _, outcome in sorted(self._outcomes, key=lambda numbered: numbered[0])]
        output().print(outcome_table(ordered))
        failed = sum(not outcome.ok for outcome in ordered)
        messages().print(f"{len(ordered) - failed} of {len(ordered)} documents delivered.")
        return failed


def check_job_name(job: str) -> None:
    """Raise `CommandFailed` where a name is empty, as an unset variable of a script is."""
    if not job.strip():
        raise CommandFailed("--job needs the name of a job block, such as mindee-job/invoices.", WRONG_USE)


def documents_of(names: Iterable[str | Path]) -> list[Document]:
    """The documents that files, folders and URLs name; raises `CommandFailed` when there is none."""
    documents = [document for name in names for document in _documents(str(name))]
    if not documents:
        raise CommandFailed("There is no document. Name files, folders with files, or URLs.", WRONG_USE)
    return documents


def _documents(name: str) -> list[Document]:
    if "://" in name:
        return [Document.from_url(name)]
    if Path(name).is_dir():
        return Document.from_folder(name)
    return [Document.from_path(name)]
