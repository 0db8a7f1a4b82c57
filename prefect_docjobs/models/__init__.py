"""The nouns: documents, jobs, results, batches. No Prefect, no network."""

from __future__ import annotations

from prefect_docjobs.models.batches import Attempt, Batch, BatchBuilder, Billed, Outcome, Phase
from prefect_docjobs.models.documents import Document, guess_media_type
from prefect_docjobs.models.jobs import JobRef, JobState, JobStatus, Problem
from prefect_docjobs.models.results import Field, Location, Page, Result, TextBlock, Usage

__all__ = [
    "Attempt",
    "Batch",
    "BatchBuilder",
    "Billed",
    "Document",
    "Field",
    "JobRef",
    "JobState",
    "JobStatus",
    "Location",
    "Outcome",
    "Page",
    "Phase",
    "Problem",
    "Result",
    "TextBlock",
    "Usage",
    "guess_media_type",
]
