"""The flow that extracts from a folder and holds no worker while it waits."""

# No `from __future__ import annotations`: a flow that is served is loaded by its path, and Prefect 3.8 does
# not find the types of its parameters then.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from prefect import flow, runtime

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.extraction import OnUncertain
from prefect_docjobs.extraction.options import REUSE_DAYS
from prefect_docjobs.flows.budgets import budget_of_run
from prefect_docjobs.flows.chunks import Chunk, ChunkedRun, chunks_of, item_numbers, side_by_side
from prefect_docjobs.flows.dead_letters import DeadLetter, LetterWriter
from prefect_docjobs.flows.ending import carry_out, letter_writer, result_files
from prefect_docjobs.flows.listing import list_documents_once
from prefect_docjobs.flows.parameters import (
    Amount,
    AtLeastOne,
    Days,
    JobParameter,
    MaxFailures,
    Seconds,
    job_label,
)
from prefect_docjobs.models import Batch, Document, Outcome
from prefect_docjobs.tasks import afetch_results, asubmit_documents, cancel_remote_jobs, sense_jobs
from prefect_docjobs.tasks._run import count, resolve_job, run_log
from prefect_docjobs.tasks.suspend import SUSPEND_COST, SenseMode

_Item: TypeAlias = tuple[Document, Outcome]
"""A document, and what became of it so far."""


def _run_name() -> str:
    given = runtime.flow_run.parameters
    return f"{Path(given['folder']).name or given['folder']} through {job_label(given['job'])}, deferred"


@flow(
    name="extract-folder-deferred",
    flow_run_name=_run_name,
    on_cancellation=[cancel_remote_jobs],
    on_crashed=[cancel_remote_jobs],
)
async def extract_folder_deferred(
    folder: str,
    job: JobParameter,
    *,
    mode: SenseMode = "auto",
    pattern: str = "*",
    recursive: bool = False,
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
    suspend_cost: Seconds = SUSPEND_COST,
) -> dict[str, Any]:
    """Extract from every document of a folder like extract-folder, without a worker while it waits.

    All documents are submitted, then the run is suspended until a watcher (watch-jobs) resumes it, then the
    results are fetched. Run it as a deployment. Its budget holds for the whole run, however often it is
    suspended.

    Args:
        folder: The folder with the documents.
        job: Name of a saved job block, such as mindee-job/invoices.
        mode: Give up the process while jobs run (suspend), keep it (poke), or decide by what is expected
            (auto).
        pattern: Which files, such as *.pdf. Hidden files are left out.
        recursive: Take the files of sub-folders too.
        output: Folder for results.jsonl, failures.jsonl and rows.jsonl. Files of an earlier run are
            replaced; {date} becomes the date on which the run is scheduled, or resumed (UTC).
        chunk_size: Documents per task run; four task runs go on at a time.
        timeout: Seconds for all jobs, from when they are submitted. Empty: no limit.
        document_timeout: Seconds for each job. Empty: no limit.
        max_documents: Take so many documents at most, in the order of their names. Empty: all.
        on_uncertain: When a submit's answer is lost: fail the document, or resubmit it at the risk of a
            second bill.
        reuse_days: Days for which a content that was bought is not bought again; 0 never. Empty: for ever.
        max_failures: The run fails, after everything is written, when more documents fail: below 1 a share
            of all, such as 0.05; from 1 on a number of them. Empty: when not one is delivered.
        budget: Pages that may be bought, or with a price what they may cost. Documents that do not fit are
            left to a later run. What is paid for already costs nothing. Empty: no limit.
        price_per_page: What a page costs, in any currency.
        suspend_cost: Seconds of a worker that a suspension costs, for auto.

    Returns:
        The totals (documents, delivered, failed, reasons, pages, credits, seconds) and the paths of the
        files; never the results themselves.

    Raises:
        InvalidDocument: The folder is not there or cannot be listed.
        OSError: The output folder cannot be made.
        ConfigurationError: There is no such job, or the run cannot be suspended although it has to be.
    """
    log, block = run_log(), await resolve_job(job)
    listed = await list_documents_once(folder, pattern, recursive=recursive, at_most=max_documents)
    documents = [Document.from_path(path, name=name) for name, path in listed]
    log.info("Found %s in %s", count(len(documents), "document"), folder)
    work = _Delivery(block, letter_writer(block, log))
    run = ChunkedRun(work, result_files(output))
    run.files.folder.mkdir(parents=True, exist_ok=True)  # what cannot be written is not bought
    options = {
        "on_uncertain": on_uncertain,
        "reuse_days": reuse_days,
        "budget": await budget_of_run(budget, price_per_page, documents),
    }
    submitted = await _submitted(block, documents, chunk_size, options)
    ended = await sense_jobs(
        block,
        submitted,
        mode=mode,
        timeout=timeout,
        document_timeout=document_timeout,
        suspend_cost=suspend_cost,
    )
    return await carry_out(
        run,
        list(zip(documents, ended.heads, strict=True)),
        chunk_size=chunk_size,
        source=folder,
        job=job_label(job),
        max_failures=max_failures,
        nothing=f"No file in {folder} matches {pattern}.",
        log=log,
    )


async def _submitted(
    job: DocJob, documents: Sequence[Document], chunk_size: int, options: Mapping[str, Any]
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
