"""The flows that people deploy as they are, and what their own flows may share with them."""

from prefect_docjobs.flows.folder import extract_folder
from prefect_docjobs.flows.parameters import JobParameter, job_label

__all__ = ["JobParameter", "extract_folder", "job_label"]
