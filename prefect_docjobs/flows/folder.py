"""The flow that extracts from every document of a folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio.to_thread
from prefect import State, flow, runtime
from prefect.states import Completed, Failed

from prefect_docjobs.flows.artifacts import publish_summary, publish_table
from prefect_docjobs.flows.chunks import ChunkedRun
from prefect_docjobs.flows.files import FAILURES, NAMES, ResultFiles, is_ours
from prefect_docjobs.flows.parameters import AtLeastOne, JobParameter, Seconds, job_label, output_folder
from prefect_docjobs.flows.report import summary
from prefect_docjobs.models import Document
from prefect_docjobs.pipeline import OnUncertain
from prefect_docjobs.tasks.arguments import the_job
from prefect_docjobs.tasks.journal import Log, run_log


def _run_name() -> str:
    given = runtime.flow_run.parameters
    return f"{Path(given['folder']).name or given['folder']} through {job_label(given['job'])}"


@flow(name="extract-folder", flow_run_name=_run_name)
async def extract_folder(
    folder: str,
    job: JobParameter,
    *,
    pattern: str = "*",
    recursive: bool = False,
    output: str = "docjobs-out",
    chunk_size: AtLeastOne = 100,
    timeout: Seconds | None = None,
    document_timeout: Seconds | None = 3600,
    max_documents: AtLeastOne | None = None,
    on_uncertain: OnUncertain = "fail",
) -> dict[str, Any]:
    """Extract from every document of a folder, and write what comes out as JSON lines.

    Each chunk of documents is one task run. A document that fails is a line in failures.jsonl and does not
    fail the run; a run that delivers nothing at all fails.

    Args:
        folder: The folder with the documents.
        job: Name of a saved job block, such as mindee-job/invoices.
        pattern: Which files, such as *.pdf. Hidden files are left out.
        recursive: Take the files of sub-folders too.
        output: Folder for results.jsonl, failures.jsonl and rows.jsonl. Files of an earlier run are
            replaced; {date} becomes the date on which the run is scheduled (UTC).
        chunk_size: Documents per task run; four task runs go on at a time.
        timeout: Seconds for the whole run; then nothing more is submitted or waited for. Empty: no limit.
        document_timeout: Seconds for each document. Empty: no limit.
        max_documents: Take so many documents at most, in the order of their names. Empty: all.
        on_uncertain: When a submit's answer is lost: fail the document, or resubmit it at the risk of a
            second bill.

    Returns:
        The totals (documents, delivered, failed, reasons, pages, credits, seconds) and the paths of the
        files; never the results themselves, which may be larger than Prefect should keep.

    Raises:
        InvalidDocument: The folder is not there or cannot be listed.
        ConfigurationError: There is no such job.
    """
    log, block = run_log(), await the_job(job)
    list_documents = partial(_documents, folder, pattern, recursive=recursive, at_most=max_documents)
    documents = await anyio.to_thread.run_sync(list_documents)
    log.info("Found %d documents in %s", len(documents), folder)
    run = ChunkedRun(block, documents, _files(output), timeout, document_timeout, on_uncertain)
    with run.files.written():
        await run.extract(chunk_size, log)
    await _publish(run, folder, job_label(job), log)
    # Prefect takes the run's state from here and hands the caller the state's data.
    return cast("dict[str, Any]", _state(run, nothing=f"No file in {folder} matches {pattern}."))


def _documents(folder: str, pattern: str, *, recursive: bool, at_most: int | None) -> list[Document]:
    found = Document.from_folder(folder, pattern, recursive=recursive)
    return [document for document in found if document.path and not is_ours(document.path)][:at_most]


def _files(output: str) -> ResultFiles:
    this = runtime.flow_run
    return ResultFiles(output_folder(output, this.scheduled_start_time), run=str(this.id)[:8])


async def _publish(run: ChunkedRun, folder: str, job: str, log: Log) -> None:
    await publish_table(run.table, run.files, job=job, log=log)
    text = summary(f"{folder} through {job}", run.tally, run.files, elapsed=run.elapsed)
    await publish_summary(text, job=job, log=log)


def _state(run: ChunkedRun, *, nothing: str) -> State[dict[str, Any]]:
    """How the run has ended: failed if there were documents and not one was delivered."""
    tally, files = run.tally, run.files
    if tally.documents and not tally.delivered:
        return Failed(message=f"{tally.sentence()}. See {files.path(FAILURES)}")
    message = f"{tally.sentence()}. Results are in {files.folder}" if tally.documents else nothing
    return Completed(
        message=message, data={**tally.totals(), "files": [str(files.path(name)) for name in NAMES]}
    )
