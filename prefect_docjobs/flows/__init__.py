"""The flows that people deploy as they are, and what their own flows may share with them."""

from prefect_docjobs.flows.announcing import announce_documents
from prefect_docjobs.flows.dead_letters import DeadLetter, read_dead_letters
from prefect_docjobs.flows.deferred import extract_folder_deferred
from prefect_docjobs.flows.folder import extract_folder
from prefect_docjobs.flows.parameters import JobParameter, job_label
from prefect_docjobs.flows.reconcile import reconcile_jobs
from prefect_docjobs.flows.redrive import redrive_failures
from prefect_docjobs.flows.watching import watch_jobs

__all__ = [
    "DeadLetter",
    "JobParameter",
    "announce_documents",
    "extract_folder",
    "extract_folder_deferred",
    "job_label",
    "read_dead_letters",
    "reconcile_jobs",
    "redrive_failures",
    "watch_jobs",
]
