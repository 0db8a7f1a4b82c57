"""The flow that extracts from every document of a folder."""

# No `from __future__ import annotations`: a flow that is served is loaded by its path, and Prefect 3.8 does
# not find the types of its parameters then.

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
from prefect import flow, runtime
from prefect.utilities.annotations import quote

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.extraction import OnUncertain
from prefect_docjobs.extraction.budget import Budget
from prefect_docjobs.extraction.options import REUSE_DAYS
from prefect_docjobs.flows.budgets import budget_of_run
from prefect_docjobs.flows.chunks import ChunkedRun
from prefect_docjobs.flows.dead_letters import DeadLetter, LetterWriter
from prefect_docjobs.flows.ending import carry_out, letter_writer, result_files
from prefect_docjobs.flows.listing import documents_in
from prefect_docjobs.flows.parameters import (
    Amount,
    AtLeastOne,
    Days,
    JobParameter,
    MaxFailures,
    Seconds,
    job_label,
)
from prefect_docjobs.models import Batch, Document
from prefect_docjobs.tasks import aextract_documents, cancel_remote_jobs
from prefect_docjobs.tasks._run import count, resolve_job, run_log


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
        output: Folder for results.jsonl, failures.jsonl and rows.jsonl. Files of an earlier run are
            replaced; {date} becomes the date on which the run is scheduled (UTC).
        chunk_size: Documents per task run; four task runs go on at a time.
        timeout: Seconds for the whole run; then nothing more is submitted or waited for. Empty: no limit.
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
        ConfigurationError: There is no such job.
    """
    log, block = run_log(), await resolve_job(job)
    list_documents = partial(documents_in, folder, pattern, recursive=recursive, names=names)
    documents = (await anyio.to_thread.run_sync(list_documents))[:max_documents]
    log.info("Found %s in %s", count(len(documents), "document"), folder)
    limit = await budget_of_run(budget, price_per_page, documents)
    work = _Extraction(block, document_timeout, on_uncertain, reuse_days, limit, letter_writer(block, log))
    run = ChunkedRun(work, result_files(output), timeout, price_per_page)
    return await carry_out(
        run,
        documents,
        chunk_size=chunk_size,
        source=folder,
        job=job_label(job),
        max_failures=max_failures,
        nothing=f"No file in {folder} matches {pattern}.",
        log=log,
    )


@dataclass(frozen=True)
class _Extraction:
    """Extracts from documents, a chunk at a time."""

    job: DocJob
    document_timeout: float | None
    on_uncertain: OnUncertain
    reuse_days: float | None
    budget: Budget | None
    writer: LetterWriter

    async def drive(self, items: Sequence[Document], *, numbers: str, timeout: float | None) -> Batch:
        return await aextract_documents.with_options(task_run_name=f"extract {numbers}")(
            self.job,
            quote(items),  # Prefect does not look into it, and hands it on unwrapped
            timeout=timeout,
            document_timeout=self.document_timeout,
            on_uncertain=self.on_uncertain,
            reuse_days=self.reuse_days,
            budget=self.budget,
        )

    async def letters(self, items: Sequence[Document], batch: Batch) -> list[DeadLetter]:
        return await self.writer.letters(items, batch)
