"""Tasks that submit, wait and fetch, for one document or many; each has a plain form for sync code."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

from typing_extensions import Unpack

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.blocks.ledger import open_ledger
from prefect_docjobs.extraction import (
    extract_many,
    fetch_many,
    fetch_one,
    submit_many,
    submit_one,
    wait_many,
    wait_one,
)
from prefect_docjobs.extraction.options import ExtractOptions, Options, SubmitOptions
from prefect_docjobs.extraction.plan import Plan, plan_many
from prefect_docjobs.http import Http
from prefect_docjobs.models import Batch, Document, JobRef, JobStatus, Outcome, Result
from prefect_docjobs.models.batches import BatchBuilder
from prefect_docjobs.tasks._run import (
    Job,
    Log,
    Progress,
    Ref,
    RunLog,
    about,
    checked_document,
    checked_documents,
    count,
    counting,
    docjobs_task,
    log_costs,
    log_ref,
    open_refs,
    read_ref,
    resolve_job,
    rows_of,
    run_log,
    sync_form,
)
from prefect_docjobs.waiting import Forecast

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Ledger

Jobs: TypeAlias = Iterable[Ref | Outcome]
"""Refs, or the outcomes of an earlier call: rows that had failed stay in their place as they are."""

_Numbered: TypeAlias = tuple[int, Outcome]

# ---------------------------------------------------------------------------------------------------- one


@docjobs_task("submit-document", about("submit", "document"))
async def asubmit_document(job: Job, document: Document, **options: Unpack[SubmitOptions]) -> JobRef:
    """Submit one document, unless the ledger knows a job for the same content: one document, one bill.

    Args:
        job: A job block, or the name of a saved one.
        document: What to submit.
        **options: See `Options`.

    Returns:
        The ref of the job. It is in the log, too.

    Raises:
        OverBudget: Nothing was sent; the document costs more than is left.
        InvalidDocument: Nothing was sent; the document is at fault.
        SubmitUncertain: Sent, and the answer lost.
        JobError: It was submitted before, and has no result.
        ServiceError: Refused.
        LedgerUnavailable: Nothing was sent; no intent could be written.
        ConfigurationError: The job, the document or an option is no such thing.
    """
    block, document, log = await resolve_job(job), checked_document(document), run_log()
    terms = block.terms(Options.of(options, SubmitOptions))
    async with block.credentials.get_client() as http, open_ledger() as ledger:
        ref = await submit_one(block.provider(), http, document, terms=terms, ledger=ledger)
    log_ref(log, ref)
    return ref


@docjobs_task("wait-for-job", about("wait for", "ref"))
async def await_for_job(job: Job, ref: Ref, *, timeout: float | None = 3600.0) -> JobStatus:
    """Wait until one job has succeeded.

    Args:
        job: A job block, or the name of a saved one; the one that the document was submitted with.
        ref: The job, also as JSON.
        timeout: Seconds; None for no limit.

    Returns:
        The last status; its ref is completed with what fetching needs.

    Raises:
        JobError: The job ended otherwise, or `timeout` passed (`JobTimeout`, it may still be running).
        ServiceError: The service refuses to answer.
        RefMismatch: The job belongs to another service, host, account or product.
    """
    block, log = await resolve_job(job), run_log()
    async with block.credentials.get_client() as http, open_ledger() as ledger:
        status = await wait_one(block.provider(), http, read_ref(ref), timeout=timeout, ledger=ledger)
    log.info("%s has succeeded", status.ref)
    return status


@docjobs_task("fetch-result", about("fetch", "ref"))
async def afetch_result(job: Job, ref: Ref) -> Result:
    """Fetch the result of one job that has succeeded.

    Args:
        job: A job block, or the name of a saved one; the one that the document was submitted with.
        ref: The job, also as JSON; best as the status of the wait has it, otherwise one more status
            request may be needed.

    Raises:
        ResultLost: The service no longer has it.
        ServiceError: It has none yet, or does not answer.
        RefMismatch: The job belongs to another service, host, account or product.
    """
    block, log = await resolve_job(job), run_log()
    async with block.credentials.get_client() as http, open_ledger() as ledger:
        result = await fetch_one(block.provider(), http, read_ref(ref), ledger=ledger)
    log.info("%s is fetched: %d fields", result.ref, len(result.fields))
    for warning in result.warnings:
        log.warning("%s: %s", result.ref, warning)
    return result


# --------------------------------------------------------------------------------------------------- many
# Give a task a few thousand documents at most and run one for each chunk: Prefect looks into every parameter
# (about 0.1 ms for a document), and shows one bar for a task.


@docjobs_task("submit-documents", counting("submit", "documents", "document"))
async def asubmit_documents(
    job: Job, documents: Iterable[Document], **options: Unpack[SubmitOptions]
) -> Batch:
    """Submit documents, several at a time, except those whose content the ledger knows a job for.

    Args:
        job: A job block, or the name of a saved one.
        documents: What to submit.
        **options: See `Options`.

    Returns:
        A row for each document, in the same order: with the ref of its job, or with the reason why it has
        none. One document's failure never raises.

    Raises:
        ConfigurationError: The job, a document or an option is no such thing. Nothing was sent.
    """
    block, given, log = await resolve_job(job), checked_documents(documents), run_log()
    terms = block.terms(Options.of(options, SubmitOptions))
    async with _opened(block, log) as (http, ledger, lines):
        outcomes = submit_many(
            block.provider(), http, given, terms=terms, ledger=ledger, observe=lines.observe
        )
        batch = await _batch(outcomes, len(given), lines)
    log_costs(log, batch, terms.budget, is_shared=terms.budget is options.get("budget"))
    return batch


@docjobs_task("wait-for-jobs", counting("wait for", "refs", "job"))
async def await_for_jobs(
    job: Job, refs: Jobs, *, timeout: float | None = None, document_timeout: float | None = 3600.0
) -> Batch:
    """Wait until every job has ended.

    Args:
        job: A job block, or the name of a saved one; the one that the documents were submitted with.
        refs: The jobs.
        timeout: Seconds for the whole call; None for no limit.
        document_timeout: Seconds for each job; None for no limit.

    Returns:
        A row for each job, in the same order: with the last status and the completed ref, or with the
        reason. A row with `timeout` keeps its ref, for the job may still be running.

    Raises:
        ConfigurationError: The job or a ref is no such thing.
    """
    block, rows, log = await resolve_job(job), rows_of(refs), run_log()
    waiting = open_refs(rows)
    async with _opened(block, log) as (http, ledger, lines):
        outcomes = wait_many(
            block.provider(),
            http,
            list(waiting.values()),
            timeout=timeout,
            document_timeout=document_timeout,
            ledger=ledger,
            observe=lines.observe,
            on_forecast=lines.on_forecast,
        )
        return await _continued(rows, waiting, outcomes, lines)


@docjobs_task("fetch-results", counting("fetch", "refs", "result"))
async def afetch_results(job: Job, refs: Jobs) -> Batch:
    """Fetch the results of jobs that have succeeded.

    Args:
        job: A job block, or the name of a saved one; the one that the documents were submitted with.
        refs: The jobs.

    Returns:
        A row for each job, in the same order: with the result, or with the reason why there is none.

    Raises:
        ConfigurationError: The job or a ref is no such thing.
    """
    block, rows, log = await resolve_job(job), rows_of(refs), run_log()
    fetching = open_refs(rows)
    async with _opened(block, log) as (http, ledger, lines):
        outcomes = fetch_many(
            block.provider(), http, list(fetching.values()), ledger=ledger, observe=lines.observe
        )
        return await _continued(rows, fetching, outcomes, lines)


@docjobs_task("extract-documents", counting("extract", "documents", "document"))
async def aextract_documents(
    job: Job, documents: Iterable[Document], **options: Unpack[ExtractOptions]
) -> Batch:
    """Submit documents, wait for their jobs and fetch the results, each document at its own pace.

    What the ledger knows is not submitted again: results that are there are reused, and jobs that were
    submitted before, by whomever, are waited for. A progress artifact shows how far the batch is.

    Args:
        job: A job block, or the name of a saved one.
        documents: What to extract from.
        **options: See `Options`.

    Returns:
        A row for each document, in the same order: with its result, or with the reason why it has none.
        One document's failure never raises.

    Raises:
        ConfigurationError: The job, a document or an option is no such thing. Nothing was sent.
    """
    block, given, log = await resolve_job(job), checked_documents(documents), run_log()
    chosen = Options.of(options)
    terms, provider = block.terms(chosen), block.provider()
    what = f"{count(len(given), 'document')} through {provider.title}"
    log.info("Extracting %s (%s)", what, provider.product)
    async with (
        _opened(block, log) as (http, ledger, lines),
        Progress(len(given), what).shown(log) as progress,
    ):

        def on_forecast(forecast: Forecast) -> None:
            lines.on_forecast(forecast)
            progress.on_forecast(forecast)

        outcomes = extract_many(
            provider,
            http,
            given,
            timeout=chosen.timeout,
            document_timeout=chosen.document_timeout,
            concurrency=chosen.concurrency,
            terms=terms,
            ledger=ledger,
            observe=lines.observe,
            on_forecast=on_forecast,
        )
        batch = await _batch(outcomes, len(given), lines, progress)
    log_costs(log, batch, terms.budget, is_shared=terms.budget is options.get("budget"))
    return batch


async def as_jobs_complete(
    job: Job, refs: Jobs, *, timeout: float | None = None, document_timeout: float | None = 3600.0
) -> AsyncGenerator[Outcome, None]:
    """Iterate over jobs as they end, the failed ones included; no task run.

    Rows that had failed before come first. Wrap it in `contextlib.aclosing` where the loop may be left
    early.

    Args:
        job: A job block, or the name of a saved one; the one that the documents were submitted with.
        refs: The jobs.
        timeout: Seconds for the whole call; None for no limit.
        document_timeout: Seconds for each job; None for no limit.
    """
    block, rows = await resolve_job(job), rows_of(refs)
    waiting = open_refs(rows)
    for index, row in enumerate(rows):
        if index not in waiting:
            yield row
    async with block.credentials.get_client() as http, open_ledger() as ledger:
        outcomes = wait_many(
            block.provider(),
            http,
            list(waiting.values()),
            timeout=timeout,
            document_timeout=document_timeout,
            ledger=ledger,
        )
        async with aclosing(outcomes):
            async for _, outcome in outcomes:
                yield outcome


# ----------------------------------------------------------------------------------------------- dry runs


@docjobs_task("plan-documents", counting("plan", "documents", "document"))
async def aplan_documents(job: Job, documents: Iterable[Document], **options: Unpack[SubmitOptions]) -> Plan:
    """Say what `extract_documents` would do now with the same arguments.

    Nothing is sent to the service and nothing is written into the ledger. Each document is read once.

    Args:
        job: A job block, or the name of a saved one.
        documents: What would be extracted from.
        **options: See `Options`.

    Returns:
        What would become of each document, in the same order, with the pages and the cost in total.

    Raises:
        ConfigurationError: The job, a document or an option is no such thing.
        LedgerUnavailable: The ledger cannot be read.
    """
    block, given = await resolve_job(job), checked_documents(documents)
    terms = block.terms(Options.of(options, SubmitOptions))
    account = block.credentials
    async with open_ledger() as ledger:
        plan = await plan_many(
            block.provider(), account.base_url, account.tenant_id, given, terms=terms, ledger=ledger
        )
    run_log().info("%s", plan)
    return plan


submit_document = sync_form(asubmit_document)
wait_for_job = sync_form(await_for_job)
fetch_result = sync_form(afetch_result)
submit_documents = sync_form(asubmit_documents)
wait_for_jobs = sync_form(await_for_jobs)
fetch_results = sync_form(afetch_results)
extract_documents = sync_form(aextract_documents)
plan_documents = sync_form(aplan_documents)


# ------------------------------------------------------------------------------------------- how it is done


@asynccontextmanager
async def _opened(block: DocJob, log: Log) -> AsyncIterator[tuple[Http, Ledger, RunLog]]:
    async with (
        block.credentials.get_client() as http,
        open_ledger() as ledger,
        RunLog(log, with_refs=ledger.in_memory) as lines,
    ):
        yield http, ledger, lines


async def _continued(
    rows: Sequence[Outcome],
    open_rows: Mapping[int, JobRef],
    outcomes: AsyncGenerator[_Numbered, None],
    lines: RunLog,
) -> Batch:
    """The rows, those that went on replaced by what became of them."""
    builder = BatchBuilder()
    for index, row in enumerate(rows):
        if index not in open_rows:
            builder.add(index, row)
    await _add(builder, outcomes, list(open_rows), lines)
    batch = builder.build(len(rows))
    lines.close(Batch(tuple(batch.heads[index] for index in open_rows)))
    return batch


async def _batch(
    outcomes: AsyncGenerator[_Numbered, None], total: int, lines: RunLog, progress: Progress | None = None
) -> Batch:
    """All outcomes in the order of the input."""
    builder = BatchBuilder()
    await _add(builder, outcomes, range(total), lines, progress)
    batch = builder.build(total)
    lines.close(batch)
    return batch


async def _add(
    builder: BatchBuilder,
    outcomes: AsyncGenerator[_Numbered, None],
    positions: Sequence[int],
    lines: RunLog,
    progress: Progress | None = None,
) -> None:
    """Add all outcomes as they end, each at its position in the batch."""
    async with aclosing(outcomes):
        async for index, outcome in outcomes:
            builder.add(positions[index], outcome)
            lines.ended(outcome, len(positions))
            if progress:
                progress.advance()
