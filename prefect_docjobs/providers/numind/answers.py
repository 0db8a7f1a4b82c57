"""Reading NuExtract's answers about jobs: states, errors, pages of the list. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from prefect_docjobs.errors import QuotaExceeded, ServiceError, Unavailable, Unfinished, Unreadable
from prefect_docjobs.http import Answer, error_for
from prefect_docjobs.models import JobRef, JobState, JobStatus, Problem
from prefect_docjobs.providers.base import JobPage, JobRow
from prefect_docjobs.providers.values import (
    code_of,
    date,
    excerpt,
    index,
    list_of,
    no_reason,
    object_of,
    objects,
    one_line,
    seconds_between,
    text,
    text_of,
    usable_id,
)

# The models say only "string" (numind JobsApi.md, numind 0.4.2 SDK). A word ends a job only together with
# `completedAt`, and any word beside `completed` then means failed: so the numind 0.4.2 SDK decides.
STATES: Mapping[str, JobState] = MappingProxyType(
    {
        "completed": JobState.SUCCEEDED,  # numind 0.4.2 SDK, JOB_STATUS_COMPLETED
        "failed": JobState.FAILED,  # numind SDK's own tests, 2026
        "running": JobState.PROCESSING,  # numind SDK's own tests, 2026
        "timeout": JobState.FAILED,  # code of users, 2026; the outcome is documented, its word is not
        "cancelled": JobState.CANCELLED,  # the same
        "canceled": JobState.CANCELLED,
    }
)
_TIMED_OUT = re.compile(r"time[^a-z]*(d[^a-z]*)?out")
_QUOTA = re.compile(r"quota|billing", re.IGNORECASE)
JOB_TIMEOUT = "JobTimeout"  # numind JobsApi.md, "Timeout Behavior"
JOB_NOT_COMPLETED = "JobNotCompleted"  # code of users, 2026: HTTP 400 for a result asked for too early


# ------------------------------------------------------------------------------------------------- one job


def own_job(ref: JobRef, payload: object) -> dict[str, Any]:
    """`payload` as the job that `ref` names.

    Raises:
        Unreadable: It is another job.
    """
    job = object_of(payload)
    if text_of(job["id"]) != ref.job_id:
        raise Unreadable("The answer is about another job than the one that was asked for.")
    return job


def job_state(job: Mapping[str, Any]) -> JobState:
    """The state of a job by its `status` and `completedAt`; one without the other ends nothing."""
    word = text_of(job["status"]).strip().lower()
    known = STATES.get(word, JobState.UNKNOWN)
    if not job.get("completedAt"):
        return JobState.UNKNOWN if known.is_terminal else known
    if "cancel" in word:
        return JobState.CANCELLED
    return known if known.is_terminal else JobState.FAILED


def job_status(ref: JobRef, answer: Answer) -> JobStatus:
    """One observation, from a JobStatusResponse or a JobResponse (numind JobsApi.md)."""
    return JobStatus(ref=ref, seen_at=answer.received_at, **_facts(own_job(ref, answer.json())))


def job_problem(job: Mapping[str, Any]) -> Problem | None:
    """What a JobResponse says about its failure, once it ended so; a JobStatusResponse says nothing."""
    return _problem_of(job, job_state(job))


def _problem_of(job: Mapping[str, Any], state: JobState) -> Problem | None:
    if state not in {JobState.FAILED, JobState.CANCELLED}:
        return None
    return problem(job.get("errorMessage"), job.get("errorCode"))


def timed_out(job: Mapping[str, Any]) -> bool:
    """Whether a failed job ran out of the service's own time limit, by its word or its code."""
    return bool(_TIMED_OUT.search(text_of(job["status"]).lower())) or job.get("errorCode") == JOB_TIMEOUT


def problem(message: object, code: object) -> Problem | None:
    """A message and a code, as text or as numbers, or None when both are missing."""
    told, known_as = _message(message), code_of(code)
    return Problem(message=told or known_as or "", code=known_as) if told or known_as else None


def event_status(ref: JobRef, name: str, answer: Answer) -> JobStatus | None:
    """What one event of a job's stream says; None for one that says nothing, such as `ping`.

    Args:
        ref: The job.
        name: The event's type.
        answer: The event's data, with the time at which it came.

    Raises:
        Unavailable: The service reports an error of its own, not of the job.
    """
    if name not in {"result", "error"}:
        return None
    if name == "result" and "status" in object_of(answer.json()):
        return job_status(ref, answer)
    message, code, _ = error_facts(answer)
    if name == "error" and code != JOB_TIMEOUT:
        raise Unavailable(f"The job's stream ended with an error: {message or 'no message'}", code=code)
    if message is None and code is None:
        raise ValueError("neither a job nor an error")
    # The numind SDK's own tests send a bare error, its code a number, as the `result` of a failed job.
    return JobStatus(
        ref=ref,
        state=JobState.FAILED,
        raw_state=code,
        error=problem(message, code),
        expired=code == JOB_TIMEOUT,
        seen_at=answer.received_at,
    )


# --------------------------------------------------------------------------------------------- many jobs


def job_page(answer: Answer) -> JobPage:
    """One page of `GET /api/jobs`. Rows that are not jobs are left out: one must not hide all others."""
    page = object_of(answer.json())
    given = objects(list_of(page["items"]))
    rows = [row for row in given if usable_id(row.get("id")) and text(row.get("status"))]
    return JobPage(
        rows={row["id"]: _row(row) for row in rows},
        seen_at=answer.received_at,
        total=index(page.get("totalCount")),
    )


def _row(job: Mapping[str, Any]) -> JobRow:
    return JobRow(**_facts(job), created_at=date(job.get("createdAt")))


def _facts(job: Mapping[str, Any]) -> dict[str, Any]:
    """What a job says of itself, in any of the answers that tell of jobs."""
    state = job_state(job)
    return {
        "state": state,
        "raw_state": job["status"],
        "error": _problem_of(job, state),
        "expired": state is JobState.FAILED and timed_out(job),
        "took": seconds_between(job.get("createdAt"), job.get("completedAt")) if state.is_terminal else None,
    }


# ------------------------------------------------------------------------------------------------- errors


def error_facts(answer: Answer) -> tuple[str | None, str | None, Any]:
    """Message, code and everything else of an error; whatever the body is, this does not raise.

    Documented are `{"code", "message"}` on every route and text/plain for HTTP 400 (numind JobsApi.md).
    """
    try:
        body = answer.json()
    except Unreadable:
        return excerpt(answer), None, None
    if isinstance(body, dict):
        rest = {key: value for key, value in body.items() if key not in {"code", "message"}}
        return _message(body.get("message")), code_of(body.get("code")), rest or None
    return (one_line(body), None, None) if isinstance(body, str) else (None, None, body)


def service_error(answer: Answer, *, provider: str) -> ServiceError:
    """The typed error for an answer outside 2xx."""
    message, code, details = error_facts(answer)
    # A number as the code, or no code, may be a gateway's body.
    documented = bool(message and code and not code.isdigit())
    facts: dict[str, Any] = {
        "provider": provider,
        "code": code,
        "details": details,
        "from_service": documented,
    }
    if answer.status == 403:
        return _forbidden(answer, message, facts)
    if answer.status == 400 and code == JOB_NOT_COMPLETED:
        return Unfinished(message or "The job has not ended yet.", status=400, **facts)
    return error_for(answer, message or no_reason(answer), **facts)


def _forbidden(answer: Answer, message: str | None, facts: Mapping[str, Any]) -> ServiceError:
    """403 is "no permission" as well as "billing quota exceeded" (numind JobsApi.md); the text may tell."""
    if _QUOTA.search(f"{message} {facts['code']}"):
        message = message or "The billing quota is exceeded."
        return QuotaExceeded(message, status=403, request_id=answer.request_id, **facts)
    meaning = "The API key has no permission for this, or the billing quota is exceeded."
    return error_for(answer, f"{meaning} The service says: {message}" if message else meaning, **facts)


def _message(value: object) -> str | None:
    """A message, which may be a number; None for anything else, and for nothing."""
    return one_line(text(value)) or code_of(value)
