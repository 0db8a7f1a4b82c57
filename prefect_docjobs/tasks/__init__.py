"""The tasks of Prefect: submit, wait and fetch, for one document and for many.

Each task is there twice: `await asubmit_document(…)` in async flows, and `submit_document(…)`, the same
task for sync flows, scripts, notebooks, `.submit` and `.map`. No task caches or retries: a request is
retried where that is safe, a submit is never sent twice because a task failed.
"""

from prefect_docjobs.tasks._run import BlockingCall
from prefect_docjobs.tasks.cancel import cancel_bought_jobs, cancel_remote_jobs
from prefect_docjobs.tasks.extract import (
    aextract_documents,
    afetch_result,
    afetch_results,
    aplan_documents,
    as_jobs_complete,
    asubmit_document,
    asubmit_documents,
    await_for_job,
    await_for_jobs,
    extract_documents,
    fetch_result,
    fetch_results,
    plan_documents,
    submit_document,
    submit_documents,
    wait_for_job,
    wait_for_jobs,
)
from prefect_docjobs.tasks.fallback import aextract_with_fallback, extract_with_fallback
from prefect_docjobs.tasks.retry import aretry_failures, retry_failures
from prefect_docjobs.tasks.suspend import sense_jobs

__all__ = [
    "BlockingCall",
    "aextract_documents",
    "aextract_with_fallback",
    "afetch_result",
    "afetch_results",
    "aplan_documents",
    "aretry_failures",
    "as_jobs_complete",
    "asubmit_document",
    "asubmit_documents",
    "await_for_job",
    "await_for_jobs",
    "cancel_bought_jobs",
    "cancel_remote_jobs",
    "extract_documents",
    "extract_with_fallback",
    "fetch_result",
    "fetch_results",
    "plan_documents",
    "retry_failures",
    "sense_jobs",
    "submit_document",
    "submit_documents",
    "wait_for_job",
    "wait_for_jobs",
]

for _buying in (
    asubmit_document,
    submit_document,
    asubmit_documents,
    submit_documents,
    aextract_documents,
    extract_documents,
    aextract_with_fallback,
    extract_with_fallback,
    aretry_failures,
    retry_failures,
):
    # Prefect declares plain functions only, and awaits others.
    _buying.on_rollback(cancel_bought_jobs)  # type: ignore[arg-type]
