"""The flow that extracts from every document of a folder, in one process or suspended while jobs run."""

# No `from __future__ import annotations`: a flow that is served is loaded by its path, and Prefect 3.8 does
# not find the types of its parameters then.

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import anyio.to_thread
from prefect import flow, runtime
from prefect.utilities.annotations import quote

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.extraction import OnUncertain
from prefect_docjobs.extraction.options import REUSE_DAYS, ExtractOptions, SubmitOptions
from prefect_docjobs.flows._output import DeadLetter, LetterWriter
from prefect_docjobs.flows._run import (
    Amount,
    AtLeastOne,
    Chunk,
    ChunkedRun,
    Days,
    JobParameter,
    MaxFailures,
    Seconds,
    budget_of_run,
    carry_out,
    chunks_of,
    documents_in,
    item_numbers,
    job_label,
    letter_writer,
    list_documents_once,
    result_files,
    side_by_side,
)
from prefect_docjobs.models import Batch, Document, Outcome
from prefect_docjobs.tasks import (
    aextract_documents,
    afetch_results,
    asubmit_documents,
    cancel_remote_jobs,
    sense_jobs,
)
from prefect_docjobs.tasks._run import count, resolve_job, run_log

WaitMode: TypeAlias = Literal["in_process", "suspend", "auto"]
"""Whether a run keeps its process while its jobs run."""

_Item: TypeAlias = tuple[Document, Outcome]
"""A document, and what became of it so far."""


def _run_name() -> str:
    given = runtime.flow_run.parameters
    return f"{Path(given['folder']).name or given['folder']} through {job_label(given['job'])}"


@flow(
    name="extract-folder",
    flow_run_name=_run_name,
    on_cancellation=[cancel_remote_jobs],
    on_crashed=[cancel_remote_jobs],
)
async def extract_folder(
    folder: str,
    job: JobParameter,
    *,
    pattern: str = "*",
    recursive: bool = False,
    names: list[str] | None = None,
    wait: WaitMode = "in_process",
    output: str = "docjobs-out",
    chunk_size: AtLeastOne = 100,
    timeout: Seconds | None = None,
    document_timeout: Seconds | None = 3600,
    max_documents: AtLeastOne | None = None,
    on_uncertain: OnUncertain = "fail",
    reuse_days: Days | None = REUSE_DAYS,
    max_failures: MaxFailures | None = None,
    budget: Amount | None = None,
    price_per_page: Amount | None = None,
) -> dict[str, Any]:
    """Extract from every document of a folder, and write what comes out as JSON lines.

    Each chunk of documents is one task run. A document that fails is a line in failures.jsonl, and does not
    fail the run unless there are too many of them. When the run is cancelled its jobs are cancelled where
    the service can; when it crashes they are kept, and a new run takes them up.

    Args:
        folder: The folder with the documents.
        job: Name of a saved job block, such as mindee-job/invoices.
        pattern: Which files, such as *.pdf. Hidden files are left out.
        recursive: Take the files of sub-folders too.
        names: Only these of them, by their paths inside the folder, as an event of announce_documents names
            them. Empty: all.
        wait: While jobs run, keep the process (in_process), give it up until a watcher resumes the run
            (suspend), or decide by what is expected (auto). The latter two need a deployment and a watcher.
        output: Folder for results.jsonl, failures.jsonl and rows.jsonl. Files of an earlier run are
            replaced; {date} becomes the date on which the run is scheduled, or resumed (UTC).
        chunk_size: Documents per task run; four task runs go on at a time.
        timeout: Seconds for the whole run, and where it may be suspended for all jobs from their submit; then
            nothing more is submitted or waited for. Empty: no limit.
        document_timeout: Seconds for each document. Empty: no limit.
        max_documents: Take so many documents at most, in the order of their names. Empty: all.
        on_uncertain: When a submit's answer is lost: fail the document, or resubmit it at the risk of a
            second bill.
        reuse_days: Days for which a content that was bought is not bought again; 0 never. Empty: for ever.
        max_failures: The run fails, after everything is written, when more documents fail: below 1 a share
            of all, such as 0.05; from 1 on a number of them. Empty: when not one is delivered.
        budget: Pages that may be bought, or with a price what they may cost. Documents that do not fit are
            left to a later run. What is paid for already costs nothing. Empty: no limit.
        price_per_page: What a page costs, in any currency.

    Returns:
        The totals (documents, delivered, failed, reasons, pages, credits, seconds) and the paths of the
        files; never the results themselves, which may be larger than Prefect should keep.

    Raises:
        InvalidDocument: The folder is not there or cannot be listed.
        OSError: The output folder cannot be made.
        ConfigurationError: There is no such job, or the run cannot be suspended although it has to be.
    """
    log, block = run_log(), await resolve_job(job)
    end = partial(
        carry_out,
        chunk_size=chunk_size,
        source=folder,
        job=job_label(job),
        max_failures=max_failures,
        nothing=f"No file in {folder} matches {pattern}.",
    )
    writer, files = letter_writer(block, log), result_files(output)
    options: ExtractOptions = {"on_uncertain": on_uncertain, "reuse_days": reuse_days}
    if wait == "in_process":
        list_documents = partial(documents_in, folder, pattern, recursive=recursive, names=names)
        documents = (await anyio.to_thread.run_sync(list_documents))[:max_documents]
        log.info("Found %s in %s", count(len(documents), "document"), folder)
        options["budget"] = await budget_of_run(budget, price_per_page, documents)
        options["document_timeout"] = document_timeout
        run = ChunkedRun(_Extraction(block, options, writer), files, timeout, price_per_page)
        return await end(run, documents, log=log)
    listed = await list_documents_once(
        folder, pattern, recursive=recursive, names=names, at_most=max_documents
    )
    documents = [Document.from_path(path, name=name) for name, path in listed]
    log.info("Found %s in %s", count(len(documents), "document"), folder)
    files.folder.mkdir(parents=True, exist_ok=True)  # what cannot be written is not bought
    options["budget"] = await budget_of_run(budget, price_per_page, documents)
    submitted = await _submitted(block, documents, chunk_size, options)
    ended = await sense_jobs(block, submitted, mode=wait, timeout=timeout, document_timeout=document_timeout)
    delivery = ChunkedRun(_Delivery(block, writer), files, price_per_page=price_per_page)
    return await end(delivery, list(zip(documents, ended.heads, strict=True)), log=log)


@dataclass(frozen=True)
class _Extraction:
    """Extracts from documents, a chunk at a time."""

    job: DocJob
    options: ExtractOptions
    writer: LetterWriter

    async def drive(self, items: Sequence[Document], *, numbers: str, timeout: float | None) -> Batch:
        named = aextract_documents.with_options(task_run_name=f"extract {numbers}")
        options: ExtractOptions = {**self.options, "timeout": timeout}
        # Prefect does not look into what is quoted, and hands it on unwrapped.
        return await named(self.job, quote(items), **options)

    async def letters(self, items: Sequence[Document], batch: Batch) -> list[DeadLetter]:
        return await self.writer.letters(items, batch)


async def _submitted(
    job: DocJob, documents: Sequence[Document], chunk_size: int, options: SubmitOptions
) -> Batch:
    """Submit all documents, a task run for each chunk; a replay is told by the ledger what it did before."""
    batches: dict[int, Batch] = {}

    async def submit(chunk: Chunk[Document]) -> None:
        first, some = chunk
        numbers = item_numbers(first, len(some), len(documents))
        named = asubmit_documents.with_options(task_run_name=f"submit {numbers}")
        batches[first] = await named(job, some, **options)

    await side_by_side(submit, chunks_of(documents, chunk_size))
    return Batch(tuple(row for first in sorted(batches) for row in batches[first]))


@dataclass(frozen=True)
class _Delivery:
    """Fetches the results of jobs that have ended, a chunk at a time."""

    job: DocJob
    writer: LetterWriter

    async def drive(self, items: Sequence[_Item], *, numbers: str, timeout: float | None) -> Batch:  # noqa: ARG002
        rows = Batch(tuple(row for _, row in items))
        return await afetch_results.with_options(task_run_name=f"fetch {numbers}")(self.job, rows)

    async def letters(self, items: Sequence[_Item], batch: Batch) -> list[DeadLetter]:
        return await self.writer.letters([document for document, _ in items], batch)
