"""Many documents: submit, wait, fetch, or all three in one pipeline. One task run, a row per document.

Give a task a few thousand documents at most and run one for each chunk: Prefect looks into every parameter
(about 0.1 ms for a document), and shows one bar for a task.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias

from prefect_docjobs.blocks.buying import REUSE_DAYS, terms_of, the_ledger
from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.extraction import OnUncertain, extract_many, fetch_many, submit_many, wait_many
from prefect_docjobs.extraction.budget import Budget, budget_of
from prefect_docjobs.models import Batch, Document, JobRef, Outcome
from prefect_docjobs.models.batches import BatchBuilder
from prefect_docjobs.tasks.arguments import Job, Ref, open_refs, the_documents, the_job, the_outcomes
from prefect_docjobs.tasks.costs import log_costs
from prefect_docjobs.tasks.journal import Journal, Progress, run_log
from prefect_docjobs.tasks.names import count, counting
from prefect_docjobs.tasks.twins import docjobs_task, plain_twin
from prefect_docjobs.waiter import Forecast

Jobs: TypeAlias = Iterable[Ref | Outcome]
"""Refs, also as JSON; or a batch, whose failed rows stay as they are."""

_Numbered: TypeAlias = tuple[int, Outcome]


@docjobs_task("submit-documents", counting("submit", "documents", "document"))
async def asubmit_documents(
    job: Job,
    documents: Iterable[Document],
    *,
    on_uncertain: OnUncertain = "fail",
    reuse_days: float | None = REUSE_DAYS,
    budget: Budget | float | None = None,
    max_documents: int | None = None,
    price_per_page: float | None = None,
) -> Batch:
    """Submit documents, several at a time, except those whose content the ledger knows a job for.

    Args:
        job: A job block, or the name of a saved one.
        documents: What to submit.
        on_uncertain: What to do when a submit's answer is lost: `fail` the row, or `resubmit` at the risk
            of a second bill.
        reuse_days: Days during which a finished job counts for the same content; 0 never, None for ever.
        budget: What may be bought: pages, or with `price_per_page` what they may cost. The submit that would
            pass it is not made; its row has the reason `budget`, and a later run may buy it. None for no
            limit; a `Budget` is shared by all calls that are given it.
        max_documents: Documents that may be bought. What is paid for already does not count.
        price_per_page: What a page costs, in any currency.

    Returns:
        A row for each document, in the same order: with the ref of its job, or with the reason why it has
        none. One document's failure never raises.

    Raises:
        ConfigurationError: The job, a document or a limit is no such thing. Nothing was sent.
    """
    block, given, log = await the_job(job), the_documents(documents), run_log()
    limit = budget_of(budget, max_documents, price_per_page)
    terms = terms_of(block, on_uncertain, reuse_days, limit)
    async with (
        block.credentials.get_client() as http,
        the_ledger() as ledger,
        Journal(log, has_ledger=ledger is not None) as journal,
    ):
        outcomes = submit_many(
            block.provider(), http, given, terms=terms, ledger=ledger, observe=journal.observe
        )
        batch = await _batch(outcomes, len(given), journal)
    log_costs(log, batch, limit, is_shared=limit is budget)
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
    block, rows, log = await the_job(job), the_outcomes(refs), run_log()
    waiting = open_refs(rows)
    async with (
        block.credentials.get_client() as http,
        the_ledger() as ledger,
        Journal(log, has_ledger=ledger is not None) as journal,
    ):
        outcomes = wait_many(
            block.provider(),
            http,
            list(waiting.values()),
            timeout=timeout,
            document_timeout=document_timeout,
            ledger=ledger,
            observe=journal.observe,
            on_forecast=journal.foresee,
        )
        return await _continued(rows, waiting, outcomes, journal)


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
    block, rows, log = await the_job(job), the_outcomes(refs), run_log()
    fetching = open_refs(rows)
    async with (
        block.credentials.get_client() as http,
        the_ledger() as ledger,
        Journal(log, has_ledger=ledger is not None) as journal,
    ):
        outcomes = fetch_many(
            block.provider(), http, list(fetching.values()), ledger=ledger, observe=journal.observe
        )
        return await _continued(rows, fetching, outcomes, journal)


@docjobs_task("extract-documents", counting("extract", "documents", "document"))
async def aextract_documents(
    job: Job,
    documents: Iterable[Document],
    *,
    timeout: float | None = None,
    document_timeout: float | None = 3600.0,
    on_uncertain: OnUncertain = "fail",
    reuse_days: float | None = REUSE_DAYS,
    concurrency: int = 1000,
    budget: Budget | float | None = None,
    max_documents: int | None = None,
    price_per_page: float | None = None,
) -> Batch:
    """Submit documents, wait for their jobs and fetch the results, each document at its own pace.

    What the ledger knows of is not bought again: results that are there are used, and jobs that were
    submitted before, by whomever, are waited for. A progress artifact shows how far the batch is.

    Args:
        job: A job block, or the name of a saved one.
        documents: What to extract from.
        timeout: Seconds for the whole call; then nothing more is submitted or waited for, and what is
            done is still fetched. None for no limit.
        document_timeout: Seconds for each job; None for no limit.
        on_uncertain: What to do when a submit's answer is lost: `fail` the row, or `resubmit` at the risk
            of a second bill.
        reuse_days: Days during which a result is used again for the same content; 0 never, None for ever.
        concurrency: Documents under way at the same time, at most.
        budget: What may be bought: pages, or with `price_per_page` what they may cost. The submit that would
            pass it is not made; its row has the reason `budget`, and a later run may buy it. None for no
            limit; a `Budget` is shared by all calls that are given it.
        max_documents: Documents that may be bought. What is paid for already does not count.
        price_per_page: What a page costs, in any currency.

    Returns:
        A row for each document, in the same order: with its result, or with the reason why it has none.
        One document's failure never raises.

    Raises:
        ConfigurationError: The job, a document or a limit is no such thing. Nothing was sent.
    """
    block, given, log = await the_job(job), the_documents(documents), run_log()
    if concurrency < 1:
        raise ConfigurationError("concurrency must be at least 1.")
    provider = block.provider()
    what = f"{count(len(given), 'document')} through {provider.title}"
    log.info("Extracting %s (%s)", what, provider.product)
    limit = budget_of(budget, max_documents, price_per_page)
    terms = terms_of(block, on_uncertain, reuse_days, limit)
    async with (
        block.credentials.get_client() as http,
        the_ledger() as ledger,
        Journal(log, has_ledger=ledger is not None) as journal,
        Progress(len(given), what).shown(log) as progress,
    ):

        def both(forecast: Forecast) -> None:
            journal.foresee(forecast)
            progress.foresee(forecast)

        outcomes = extract_many(
            provider,
            http,
            given,
            timeout=timeout,
            document_timeout=document_timeout,
            concurrency=concurrency,
            terms=terms,
            ledger=ledger,
            observe=journal.observe,
            on_forecast=both,
        )
        batch = await _batch(outcomes, len(given), journal, progress)
    log_costs(log, batch, limit, is_shared=limit is budget)
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
    block, rows = await the_job(job), the_outcomes(refs)
    waiting = open_refs(rows)
    for index, row in enumerate(rows):
        if index not in waiting:
            yield row
    async with block.credentials.get_client() as http, the_ledger() as ledger:
        outcomes = wait_many(
            block.provider(),
            http,
            list(waiting.values()),
            timeout=timeout,
            document_timeout=document_timeout,
            ledger=ledger,
        )
        async with _closed_at_the_end(outcomes):
            async for _, outcome in outcomes:
                yield outcome


submit_documents = plain_twin(asubmit_documents)
wait_for_jobs = plain_twin(await_for_jobs)
fetch_results = plain_twin(afetch_results)
extract_documents = plain_twin(aextract_documents)


async def _continued(
    rows: Sequence[Outcome],
    open_rows: Mapping[int, JobRef],
    outcomes: AsyncIterator[_Numbered],
    journal: Journal,
) -> Batch:
    """The rows, those that went on replaced by what became of them."""
    builder = BatchBuilder()
    for index, row in enumerate(rows):
        if index not in open_rows:
            builder.add(index, row)
    await _added(builder, outcomes, list(open_rows), journal)
    batch = builder.build(len(rows))
    journal.close(Batch(tuple(batch.heads[index] for index in open_rows)))
    return batch


async def _batch(
    outcomes: AsyncIterator[_Numbered], total: int, journal: Journal, progress: Progress | None = None
) -> Batch:
    """All outcomes in the order of the input."""
    builder = BatchBuilder()
    await _added(builder, outcomes, range(total), journal, progress)
    batch = builder.build(total)
    journal.close(batch)
    return batch


async def _added(
    builder: BatchBuilder,
    outcomes: AsyncIterator[_Numbered],
    positions: Sequence[int],
    journal: Journal,
    progress: Progress | None = None,
) -> None:
    """Add all outcomes as they end, each at its position in the batch."""
    async with _closed_at_the_end(outcomes):
        async for index, outcome in outcomes:
            builder.add(positions[index], outcome)
            journal.ended(outcome, len(positions))
            if progress:
                progress.advance()


@asynccontextmanager
async def _closed_at_the_end(outcomes: AsyncIterator[_Numbered]) -> AsyncIterator[None]:
    """Cancel what is under way when the consumer stops early."""
    try:
        yield
    finally:
        if isinstance(outcomes, AsyncGenerator):
            await outcomes.aclose()
