"""The flows that people deploy as they are, and what their own flows may share with them."""

from prefect_docjobs.flows.announcing import announce_documents
from prefect_docjobs.flows.comparing import compare_services
from prefect_docjobs.flows.dead_letters import DeadLetter, read_dead_letters
from prefect_docjobs.flows.deferred import extract_folder_deferred
from prefect_docjobs.flows.folder import extract_folder
from prefect_docjobs.flows.load_documents import load_documents
from prefect_docjobs.flows.parameters import JobParameter, job_label
from prefect_docjobs.flows.reconcile import reconcile_jobs
from prefect_docjobs.flows.redrive import redrive_failures
from prefect_docjobs.flows.reviewing import Decision, read_decisions, review_documents
from prefect_docjobs.flows.watching import watch_jobs

__all__ = [
    "DeadLetter",
    "Decision",
    "JobParameter",
    "announce_documents",
    "compare_services",
    "extract_folder",
    "extract_folder_deferred",
    "job_label",
    "load_documents",
    "read_dead_letters",
    "read_decisions",
    "reconcile_jobs",
    "redrive_failures",
    "review_documents",
    "watch_jobs",
]
