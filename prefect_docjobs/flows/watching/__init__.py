"""Waiting for suspended flow runs: one loop for all their jobs, which resumes them."""

from prefect_docjobs.flows.watching.flow import watch, watch_jobs

__all__ = ["watch", "watch_jobs"]
