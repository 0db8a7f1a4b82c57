"""The flows that people deploy as they are, and what their own flows may share with them."""

from prefect_docjobs.flows._output import DeadLetter, read_dead_letters
from prefect_docjobs.flows._review import Decision, read_decisions
from prefect_docjobs.flows._run import JobParameter, job_label
from prefect_docjobs.flows.announce_documents import announce_documents
from prefect_docjobs.flows.compare_services import compare_services
from prefect_docjobs.flows.extract_folder import extract_folder
from prefect_docjobs.flows.load_documents import load_documents
from prefect_docjobs.flows.reconcile_jobs import reconcile_jobs
from prefect_docjobs.flows.retry_run import retry_run
from prefect_docjobs.flows.review_documents import review_documents
from prefect_docjobs.flows.watch_jobs import watch_jobs

__all__ = [
    "DeadLetter",
    "Decision",
    "JobParameter",
    "announce_documents",
    "compare_services",
    "extract_folder",
    "job_label",
    "load_documents",
    "read_dead_letters",
    "read_decisions",
    "reconcile_jobs",
    "retry_run",
    "review_documents",
    "watch_jobs",
]
