"""One document: submit, wait, fetch."""

from __future__ import annotations

from prefect_docjobs.blocks.buying import REUSE_DAYS, terms_of, the_ledger
from prefect_docjobs.extraction import OnUncertain, fetch_one, submit_one, wait_one
from prefect_docjobs.extraction.budget import Budget, budget_of
from prefect_docjobs.models import Document, JobRef, JobStatus, Result
from prefect_docjobs.tasks.arguments import Job, Ref, the_document, the_job, the_ref
from prefect_docjobs.tasks.journal import log_ref, run_log
from prefect_docjobs.tasks.names import about
from prefect_docjobs.tasks.twins import docjobs_task, plain_twin


@docjobs_task("submit-document", about("submit", "document"))
async def asubmit_document(
    job: Job,
    document: Document,
    *,
    on_uncertain: OnUncertain = "fail",
    reuse_days: float | None = REUSE_DAYS,
    budget: Budget | float | None = None,
    max_documents: int | None = None,
    price_per_page: float | None = None,
) -> JobRef:
    """Submit one document, unless the ledger knows a job for the same content: one document, one bill.

    Args:
        job: A job block, or the name of a saved one.
        document: What to submit.
        on_uncertain: What to do when the submit's answer is lost: `fail`, or `resubmit` at the risk of a
            second bill.
        reuse_days: Days during which a finished job counts; 0 never, None for ever.
        budget: What may be bought: pages, or with `price_per_page` what they may cost. None for no limit; a
            `Budget` is shared by all calls that are given it.
        max_documents: Documents that may be bought.
        price_per_page: What a page costs, in any currency.

    Returns:
        The ref of the job. It is in the log, too.

    Raises:
        OverBudget: Nothing was sent; the document costs more than is left.
        InvalidDocument: Nothing was sent; the document is at fault.
        SubmitUncertain: Sent, and the answer lost.
        JobError: It was bought before, and has no result.
        ServiceError: Refused.
        LedgerUnavailable: Nothing was sent; no intent could be written.
        ConfigurationError: The job or the document is no such thing.
    """
    block, document, log = await the_job(job), the_document(document), run_log()
    limit = budget_of(budget, max_documents, price_per_page)
    terms = terms_of(block, on_uncertain, reuse_days, limit)
    async with block.credentials.get_client() as http, the_ledger() as ledger:
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
        ServiceError: The service refuses to tell.
        RefMismatch: The job belongs to another service, host, account or product.
    """
    block, log = await the_job(job), run_log()
    async with block.credentials.get_client() as http, the_ledger() as ledger:
        status = await wait_one(block.provider(), http, the_ref(ref), timeout=timeout, ledger=ledger)
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
        ServiceError: It has none yet, or does not tell.
        RefMismatch: The job belongs to another service, host, account or product.
    """
    block, log = await the_job(job), run_log()
    async with block.credentials.get_client() as http, the_ledger() as ledger:
        result = await fetch_one(block.provider(), http, the_ref(ref), ledger=ledger)
    log.info("%s is fetched: %d fields", result.ref, len(result.fields))
    for warning in result.warnings:
        log.warning("%s: %s", result.ref, warning)
    return result


submit_document = plain_twin(asubmit_document)
wait_for_job = plain_twin(await_for_job)
fetch_result = plain_twin(afetch_result)
