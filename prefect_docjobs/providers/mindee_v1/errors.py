"""Mindee V1's errors: `api_request.error` in error answers, `job.error` in failed jobs.

Both are `{"code", "message", "details"}`; any of them may be missing, and `details` is a text or an object
(official test data, mindee/client-lib-test-data, `v1/errors/`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect_docjobs.errors import ServiceError, Unreadable
from prefect_docjobs.http import Answer
from prefect_docjobs.models import Problem
from prefect_docjobs.providers.values import (
    NO_REASON,
    code_of,
    excerpt,
    mapping,
    no_reason,
    one_line,
    text,
    typed_error,
)

_LONGEST_WITH_DETAILS = 2_000  # characters


def read_job_error(job: Mapping[str, Any]) -> Problem | None:
    """What the service says about a failed job; None for nothing (`{}`); never raises."""
    raw = job.get("error")
    return _problem(raw) if raw else None


def read_error(answer: Answer, *, provider: str) -> ServiceError:
    """The typed error for an answer outside 2xx; the HTTP status decides its kind.

    The code `PlanLimitReached` is `QuotaExceeded`; it comes with HTTP 403 (docs.mindee.com, V1 errors).
    """
    try:
        body = answer.json()
        request = mapping(body).get("api_request")
        found = request.get("error") if isinstance(request, dict) else body
        problem = _problem(found) if found else Problem(message=no_reason(answer))
    except Unreadable:
        request, found, problem = None, None, Problem(message=excerpt(answer) or no_reason(answer))
    message, details = problem.message, problem.details
    if details and one_line(text(details)) != message:
        message = one_line(f"{message.rstrip('.')}: {details}", _LONGEST_WITH_DETAILS) or message
    return typed_error(
        answer,
        message,
        quota=problem.code == "PlanLimitReached",
        provider=provider,
        code=problem.code,
        details=details,
        from_service=isinstance(request, dict) and bool(mapping(found)),
    )


def _problem(raw: object) -> Problem:
    if not isinstance(raw, dict):
        return Problem(message=one_line(str(raw)) or NO_REASON)
    code, details = code_of(raw.get("code")), raw.get("details")
    message = one_line(text(raw.get("message")) or text(details) or code) or NO_REASON
    return Problem(message=message, code=code, details=details or None)
