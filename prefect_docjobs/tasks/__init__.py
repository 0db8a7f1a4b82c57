"""The tasks of Prefect: submit, wait and fetch, for one document and for many.

Each task is there twice: `await asubmit_document(…)` in async flows, and `submit_document(…)`, the same
task for sync flows, scripts, notebooks, `.submit` and `.map`. No task caches or retries: a request is
retried where that is safe, a submit is never sent twice because a task failed.
"""

from prefect_docjobs.tasks.cancelling import cancel_remote_jobs
from prefect_docjobs.tasks.fallback import aextract_with_fallback, extract_with_fallback
from prefect_docjobs.tasks.many import (
    aextract_documents,
    afetch_results,
    as_jobs_complete,
    asubmit_documents,
    await_for_jobs,
    extract_documents,
    fetch_results,
    submit_documents,
    wait_for_jobs,
)
from prefect_docjobs.tasks.one import (
    afetch_result,
    asubmit_document,
    await_for_job,
    fetch_result,
    submit_document,
    wait_for_job,
)
from prefect_docjobs.tasks.plans import aplan_documents, plan_documents
from prefect_docjobs.tasks.redriving import aredrive, redrive
from prefect_docjobs.tasks.sensing import sense_jobs
from prefect_docjobs.tasks.transactions import cancel_bought_jobs
from prefect_docjobs.tasks.twins import BlockingCall

__all__ = [
    "BlockingCall",
    "aextract_documents",
    "aextract_with_fallback",
    "afetch_result",
    "afetch_results",
    "aplan_documents",
    "aredrive",
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
    "redrive",
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
    aredrive,
    redrive,
):
    # Prefect declares plain functions only, and awaits others.
    _buying.on_rollback(cancel_bought_jobs)  # type: ignore[arg-type]
