"""The flow itself: parameters, and the state that it ends in."""

# No `from __future__ import annotations`: a flow that is served is loaded by its path, and Prefect 3.8 does
# not find the types of its parameters then.

import tempfile
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio.to_thread
from prefect import flow, runtime, tags

from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.extraction import OnUncertain
from prefect_docjobs.extraction.budget import Budget
from prefect_docjobs.flows._output import is_ours
from prefect_docjobs.flows._report import RunReport, artifact_key, tag_run
from prefect_docjobs.flows._run import (
    Amount,
    AtLeastOne,
    JobParameter,
    MaxFailures,
    Seconds,
    budget_of_run,
    job_label,
    letter_writer,
    too_many,
)
from prefect_docjobs.flows.loading.destination import Destination
from prefect_docjobs.flows.loading.ending import announce, artifacts_of, show, state_of
from prefect_docjobs.flows.loading.settings import identity_of, the_address
from prefect_docjobs.flows.loading.work import Load, Terms
from prefect_docjobs.loading import SourceFile, SourceFolder, Store, open_store
from prefect_docjobs.loading.kinds import in_utc
from prefect_docjobs.models import Document
from prefect_docjobs.tasks import cancel_remote_jobs
from prefect_docjobs.tasks._run import resolve_job, run_log

_DATABASES = (".duckdb", ".duckdb.wal")


def _run_name() -> str:
    given = runtime.flow_run.parameters
    folder = str(given["folder"]).rstrip("/")
    return f"load {folder.rpartition('/')[2] or folder} through {job_label(given['job'])}"


@flow(
    name="load-documents",
    flow_run_name=_run_name,
    on_cancellation=[cancel_remote_jobs],
    on_crashed=[cancel_remote_jobs],
)
async def load_documents(
    folder: str,
    job: JobParameter,
    destination: str = "duckdb:documents.duckdb",
    *,
    table_schema: str | None = None,
    pattern: str = "*",
    recursive: bool = False,
    modified_since: datetime | None = None,
    chunk_size: AtLeastOne = 100,
    timeout: Seconds | None = None,
    document_timeout: Seconds | None = 3600,
    max_documents: AtLeastOne | None = None,
    resubmit: bool = False,
    on_uncertain: OnUncertain = "fail",
    max_failures: MaxFailures | None = None,
    budget: Amount | None = None,
    price_per_page: Amount | None = None,
) -> dict[str, Any]:
    """Load what comes out of the documents of a folder into tables, each document once.

    Only files that are new, have changed, or failed are looked at. A content that is loaded is not extracted
    from again, whatever its file is called. Each chunk is one transaction: a run that dies has loaded whole
    chunks, and the next one goes on with the jobs that it had paid for.

    Args:
        folder: The folder with the documents: a path, or an address such as s3://bucket/inbox.
        job: Name of a saved job block, such as mindee-job/invoices.
        destination: duckdb:FILE, postgresql://USER@HOST/DATABASE or parquet:FOLDER. An address with a
            password is given as secret/NAME (a Secret block) or env:NAME (an environment variable).
        table_schema: The schema that the tables are in. Empty: docjobs in PostgreSQL, main in DuckDB.
        pattern: Which files, such as *.pdf. Hidden files are left out.
        recursive: Take the files of sub-folders too.
        modified_since: Leave out files that were last modified before. Empty: none.
        chunk_size: Documents per task run and transaction; four go on at a time.
        timeout: Seconds for the whole run; then nothing more is submitted or waited for. Empty: no limit.
        document_timeout: Seconds for each document. Empty: no limit.
        max_documents: Look at so many files at most, new ones first, then by name. Empty: all.
        resubmit: Buy again what failed after it was paid for (failed, expired, lost_job, lost_result), and
            try again what was rejected or cancelled.
        on_uncertain: When a submit's answer is lost: fail the document, or resubmit it at the risk of a
            second bill.
        max_failures: The run fails, after everything is loaded, when more documents fail: below 1 a share of
            those that were tried, such as 0.05; from 1 on a number of them. Empty: when not one is loaded.
        budget: Pages that may be bought, or with a price what they may cost. Documents that do not fit are
            left to a later run; it holds for those that failed before, too. Empty: no limit.
        price_per_page: What a page costs, in any currency.

    Returns:
        Numbers of files: found, unchanged, known, loaded, failed and left; the reasons of failures; pages
        and credits; the watermark, which is when the newest file was modified (UTC); the destination.

    Raises:
        InvalidDocument: The folder is not there or cannot be listed.
        ConfigurationError: There is no such job or destination, or the documents are in the destination's
            own folder. Nothing was sent.
        DestinationUnavailable: The destination cannot be reached or written. Before anything is sent, if
            that was so from the start.
    """
    log, block = run_log(), await resolve_job(job)
    address = await the_address(destination)
    store = open_store(address, table_schema)
    source = await anyio.to_thread.run_sync(SourceFolder, folder)
    if await anyio.to_thread.run_sync(store.owns, source.address):
        raise ConfigurationError("destination: the documents are in its folder. Give another one.")
    await store.prepare()
    listed = await anyio.to_thread.run_sync(partial(source.files, pattern, recursive=recursive))
    found = await anyio.to_thread.run_sync(_documents, listed, store)
    files = [file for file in found if _is_recent(file, modified_since)]
    limit = await _budget(budget, price_per_page, source, found)
    terms = Terms(document_timeout, timeout, resubmit, on_uncertain, limit)
    writer, report = letter_writer(block, log), RunReport(price_per_page)
    load = Load(block, identity_of(block), source, store, terms, log, writer, report)
    due = load.to_look_at(files, await store.seen(load.identity.key, source.address))
    log.info("%d of %d files in %s are new, changed or to be tried again", len(due), len(files), folder)
    where, told = Destination.of(address, table_schema), job_label(job)
    await tag_run("docjobs", block.provider().name, log=log)
    with tags(block.provider().name):
        await load.through(due[:max_documents], chunk_size, bar=artifact_key("progress", artifacts_of(told)))
        await show(load, where, source=folder, job=told)
    is_well = not too_many(report.tally, max_failures)
    announce(load, where, source=folder, job=told, is_well=is_well)
    # Prefect takes the run's state from here and hands the caller the state's data.
    return cast("dict[str, Any]", state_of(load, files, destination, is_well=is_well))


async def _budget(
    budget: float | None, price_per_page: float | None, source: SourceFolder, files: Sequence[SourceFile]
) -> Budget | None:
    """The budget of the run; what a retried run has bought is counted by the pages of its files."""
    documents = [document for file in files if (document := source.document(file))]
    by_name = {file.name: file for file in files}
    with tempfile.TemporaryDirectory(prefix="docjobs-") as here:

        def fetch(name: str) -> Document | None:
            return source.fetch(by_name[name], Path(here)).document if name in by_name else None

        return await budget_of_run(budget, price_per_page, documents, fetch=fetch)


def _documents(files: Sequence[SourceFile], store: Store) -> list[SourceFile]:
    """Without what runs have written: results, the destination itself, and the databases of other loads."""
    return [file for file in files if not _is_written(file) and not store.owns(file.source)]


def _is_written(file: SourceFile) -> bool:
    return is_ours(Path(file.name)) or file.name.endswith(_DATABASES)


def _is_recent(file: SourceFile, since: datetime | None) -> bool:
    return since is None or file.modified_at is None or file.modified_at >= in_utc(since)
