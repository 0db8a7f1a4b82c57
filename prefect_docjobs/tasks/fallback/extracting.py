"""The tasks that send documents from job to job."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from prefect_docjobs.blocks.buying import REUSE_DAYS
from prefect_docjobs.comparison import Acceptance, Names, check_settings
from prefect_docjobs.errors import ConfigurationError, Reason
from prefect_docjobs.extraction import OnUncertain
from prefect_docjobs.extraction.budget import Budget, budget_of
from prefect_docjobs.models import Document
from prefect_docjobs.tasks.arguments import Job, the_documents, the_job
from prefect_docjobs.tasks.fallback.attempts import FALL_BACK_ON, FallbackBatch
from prefect_docjobs.tasks.fallback.course import Course
from prefect_docjobs.tasks.fallback.service import labelled
from prefect_docjobs.tasks.journal import run_log
from prefect_docjobs.tasks.names import counting
from prefect_docjobs.tasks.twins import docjobs_task, plain_twin


@docjobs_task("extract-with-fallback", counting("extract", "documents", "document"))
async def aextract_with_fallback(
    jobs: Sequence[Job],
    documents: Iterable[Document],
    *,
    accept: Acceptance | None = None,
    names: Names | None = None,
    fall_back_on: Collection[Reason] = FALL_BACK_ON,
    timeout: float | None = None,
    document_timeout: float | None = 3600.0,
    on_uncertain: OnUncertain = "fail",
    reuse_days: float | None = REUSE_DAYS,
    concurrency: int = 1000,
    budget: Budget | float | None = None,
    max_documents: int | None = None,
    price_per_page: float | None = None,
) -> FallbackBatch:
    """Extract from documents through the first job; those that it does not deliver go on to the next.

    Each document goes on as soon as its outcome at a job is final, whatever the others are at. What the
    ledger knows of is not bought again. A document whose result, or running job, is there at a later
    job only begins with that one. A job that took too long is cancelled where the service can, before its
    document goes on; where it cannot, it goes on and is billed, and so may a submit whose answer was lost:
    `tried` says so for each document.

    Args:
        jobs: Job blocks or names of saved ones, the preferred one first.
        documents: What to extract from.
        accept: When a result is good enough. One that is not goes on, too, and is paid for twice; where no
            result is good enough, the one with the fewest doubts is kept. None: every result is.
        names: What the services call the fields that `accept` names.
        fall_back_on: The reasons after which a document goes on.
        timeout: Seconds for the whole call; then nothing goes on. None for no limit.
        document_timeout: Seconds for each job; None for no limit.
        on_uncertain: What to do first when a submit's answer is lost: `fail` at this job, or `resubmit` to it
            at the risk of a second bill.
        reuse_days: Days during which a result is used again for the same content; 0 never, None for ever.
        concurrency: Documents under way at the same time, at most.
        budget: What may be bought from all services together: pages, or with `price_per_page` what they may
            cost. None for no limit.
        max_documents: Submits that may be bought. What is paid for already does not count.
        price_per_page: What a page costs, in any currency.

    Raises:
        ConfigurationError: There is no job, one of them, a document or a limit is no such thing. Nothing was
            sent.
    """
    check_settings(names, None)
    if concurrency < 1:
        raise ConfigurationError("concurrency must be at least 1.")
    stages = labelled([await the_job(job) for job in jobs])
    course = Course(
        stages=stages,
        documents=the_documents(documents),
        accept=accept or Acceptance(),
        names=names,
        fall_back_on=frozenset(fall_back_on),
        timeout=timeout,
        document_timeout=document_timeout,
        on_uncertain=on_uncertain,
        reuse_days=reuse_days,
        concurrency=concurrency,
        budget=budget_of(budget, max_documents, price_per_page),
        log=run_log(),
    )
    return await course.run()


extract_with_fallback = plain_twin(aextract_with_fallback)
