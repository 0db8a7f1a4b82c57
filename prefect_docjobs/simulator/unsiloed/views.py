"""An Unsiloed job as each of its routes shows it, in that route's own words for its state.

Sources: "Get Job Status" of the Unsiloed docs (`/jobs`: upper case), pages of the four products (`/parse`:
capitals; the others: lower case); unsiloed-sdk 0.1.7, `models.py`.
"""

from __future__ import annotations

import random
from typing import Any

from prefect_docjobs.simulator.backend import Backend
from prefect_docjobs.simulator.jobs import Job, Phase
from prefect_docjobs.simulator.reading import DocumentRead
from prefect_docjobs.simulator.unsiloed.results import (
    CLASSIFY,
    EXTRACT,
    PARSE,
    SPLIT,
    Task,
    chunks,
    classification,
    extraction,
    splits,
)

NAME = "unsiloed"

_GENERIC_WORDS = {
    Phase.QUEUED: "queued",
    Phase.PROCESSING: "PROCESSING",
    Phase.SUCCEEDED: "COMPLETED",
    Phase.FAILED: "FAILED",
}
_PARSE_WORDS = {
    Phase.QUEUED: "Queued",
    Phase.PROCESSING: "Processing",
    Phase.SUCCEEDED: "Succeeded",
    Phase.FAILED: "Failed",
}
_EXTRACT_WORDS = {
    Phase.QUEUED: "queued",
    Phase.PROCESSING: "processing",
    Phase.SUCCEEDED: "completed",
    Phase.FAILED: "failed",
}
_LABEL_WORDS = {**_EXTRACT_WORDS, Phase.QUEUED: "processing"}
_TYPES = {EXTRACT: "extraction", PARSE: "parsing", CLASSIFY: "classification", SPLIT: "splitting"}


def timestamp(backend: Backend, at: float) -> str:
    """A clock reading as the service writes dates."""
    return backend.wall(at).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Views:
    """Renders the jobs of one backend; `read` is the document once its result is given out, else None."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def generic(self, job: Job, phase: Phase) -> dict[str, Any]:
        """`GET /jobs/{id}`."""
        sha256 = job.source.sha256
        body = {
            "id": job.id,
            "status": _GENERIC_WORDS[phase],
            "type": _TYPES[job.product],
            **self._dates(job),
            "pdf_name": job.source.name,
            "pdf_hash": f"sha256:{sha256}" if sha256 else None,
            "user_id": "user_simulator",
        }
        return body if phase is not Phase.FAILED else {**body, "error": failure(job)}

    def product(self, job: Job, phase: Phase, read: DocumentRead | None) -> dict[str, Any]:
        """`GET /{product}/{id}`."""
        if job.product == PARSE:
            return self._parse(job, phase, read)
        if job.product == EXTRACT:
            return self._extract(job, phase, read)
        return self._classify(job, phase, read) if job.product == CLASSIFY else self._split(job, phase, read)

    def _parse(self, job: Job, phase: Phase, read: DocumentRead | None) -> dict[str, Any]:
        task, now = Task.of(job), self._backend.now()
        started, ended = job.started_at(now), job.ended_at(now)
        pieces = None if read is None else chunks(job, read)
        body: dict[str, Any] = {
            "job_id": job.id,
            "status": _PARSE_WORDS[phase],
            "created_at": timestamp(self._backend, job.created_at),
            "started_at": None if started is None else timestamp(self._backend, started),
            "finished_at": None if ended is None else timestamp(self._backend, ended),
            "metadata": {},
            "total_chunks": len(pieces or ()),
            "page_count": None if read is None else len(read.pages),
            "chunks": pieces,
            "pdf_url": None,
            "file_name": job.source.name,
            "file_type": None if read is None else read.media_type,
            "file_url": job.source.url,
            "credit_used": task.credits,
            "merge_tables": task.merge_tables,
            "message": None,
        }
        return body if phase is not Phase.FAILED else {**body, self._failure_key: failure(job)}

    @property
    def _failure_key(self) -> str:
        return self._backend.settings.unsiloed.parse_failure_key

    def _extract(self, job: Job, phase: Phase, read: DocumentRead | None) -> dict[str, Any]:
        task = Task.of(job)
        shape = self._backend.settings.unsiloed.field_shape
        schema = task.schema or {}
        done = phase is Phase.SUCCEEDED
        return {
            "job_id": job.id,
            "status": "review" if done and self._needs_review(job) else _EXTRACT_WORDS[phase],
            "file_name": job.source.name,
            "file_url": job.source.url,
            **self._dates(job),
            "metadata": {
                "order": list(schema.get("properties", ())),
                "schema": schema,
                "page_count": task.credits,
            },
            "result": None if read is None else extraction(job, read, shape),
            "error": failure(job) if phase is Phase.FAILED else None,
        }

    def _needs_review(self, job: Job) -> bool:
        settings = self._backend.settings
        key = f"{settings.seed}/review/{job.source.content}/{job.index}"
        return random.Random(key).random() < settings.unsiloed.review_share  # noqa: S311  (repeatable)

    def _classify(self, job: Job, phase: Phase, read: DocumentRead | None) -> dict[str, Any]:
        return {**self._progress(job, phase), "result": None if read is None else classification(job, read)}

    def _split(self, job: Job, phase: Phase, read: DocumentRead | None) -> dict[str, Any]:
        categories = Task.of(job).categories
        descriptions = {each.name: each.description for each in categories if each.description}
        return {
            **self._progress(job, phase),
            "file_url": job.source.url,
            "file_name": job.source.name,
            "parameters": {
                "classes": [each.name for each in categories],
                "category_descriptions": descriptions,
            },
            "result": None if read is None else splits(job, read),
            "quota_remaining": max(0, self._backend.settings.unsiloed.quota - Task.of(job).spent),
        }

    def _progress(self, job: Job, phase: Phase) -> dict[str, Any]:
        return {
            "job_id": job.id,
            "status": _LABEL_WORDS[phase],
            "progress": "done" if phase is Phase.SUCCEEDED else _LABEL_WORDS[phase],
            "error": failure(job) if phase is Phase.FAILED else None,
        }

    def _dates(self, job: Job) -> dict[str, str]:
        now = self._backend.now()
        latest = next(at for at in (job.ended_at(now), job.started_at(now), job.created_at) if at is not None)
        return {
            "created_at": timestamp(self._backend, job.created_at),
            "updated_at": timestamp(self._backend, latest),
        }


def failure(job: Job) -> str:
    """Why a job failed."""
    return job.failure.detail if job.failure else "Processing failed"
