"""The flows that people deploy as they are, and what their own flows may share with them."""

from prefect_docjobs.flows.dead_letters import DeadLetter, read_dead_letters
from prefect_docjobs.flows.folder import extract_folder
from prefect_docjobs.flows.parameters import JobParameter, job_label
from prefect_docjobs.flows.reconcile import reconcile_jobs
from prefect_docjobs.flows.redrive import redrive_failures

__all__ = [
    "DeadLetter",
    "JobParameter",
    "extract_folder",
    "job_label",
    "read_dead_letters",
    "reconcile_jobs",
    "redrive_failures",
]
