"""What a record of the ledger stands for: an error, a job, an answer. Pure."""

from __future__ import annotations

from datetime import datetime

import httpx

from prefect_docjobs.errors import (
    DocJobsError,
    JobCancelled,
    JobError,
    JobExpired,
    JobFailed,
    JobLost,
    JobTimeout,
    Reason,
    ResultLost,
    SubmitUncertain,
    Unavailable,
)
from prefect_docjobs.http import Answer
from prefect_docjobs.ledger import Record
from prefect_docjobs.models import JobRef

_ERRORS: dict[Reason, type[JobError]] = {
    Reason.FAILED: JobFailed,
    Reason.EXPIRED: JobExpired,
    Reason.LOST_JOB: JobLost,
    Reason.LOST_RESULT: ResultLost,
    Reason.CANCELLED: JobCancelled,
}


def recorded_failure(record: Record) -> DocJobsError:
    """The error that a failed record stands for."""
    told = record.error or f"{record.document_name} has no result ({record.reason})."
    if record.reason is Reason.UNCERTAIN:
        return SubmitUncertain(told, provider=record.provider).about(record.document_name)
    if record.reason in _ERRORS:
        return _ERRORS[record.reason](told, ref=record.ref).about(record.document_name)
    if record.ref is not None:
        return JobTimeout(told, ref=record.ref)
    return Unavailable(told, provider=record.provider).about(record.document_name)


def completed(ref: JobRef, record: Record | None) -> JobRef:
    """`ref` with what the ledger knows beyond it."""
    if record is None or record.ref is None:
        return ref
    known = {name: getattr(record.ref, name) for name in ("result_url", "document_id")}
    return ref.model_copy(update={name: value for name, value in known.items() if value is not None})


def kept_answer(record: Record, body: bytes) -> Answer:
    """A kept result, as it came."""
    return answer_of(body, record.content_type, record.fetched_at or record.updated_at)


def answer_of(body: bytes, content_type: str | None, received_at: datetime) -> Answer:
    """A result that came some other way, as if it had just been fetched."""
    headers = httpx.Headers({"content-type": content_type} if content_type else {})
    return Answer(status=200, headers=headers, body=body, received_at=received_at)
