"""Mindee V1's errors: `api_request.error` in error answers, `job.error` in failed jobs.

Both are `{"code", "message", "details"}`; any of them may be missing, and `details` is a text or an object
(official test data, mindee/client-lib-test-data, `v1/errors/`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect_docjobs.errors import QuotaExceeded, ServiceError, Unreadable
from prefect_docjobs.http import Answer, error_for
from prefect_docjobs.models import Problem
from prefect_docjobs.providers.values import NO_REASON, code_of, excerpt, mapping, no_reason, one_line, text

_LONGEST_WITH_DETAILS = 2_000  # characters


def read_job_error(job: Mapping[str, Any]) -> Problem | None:
    """What the service says about a failed job; None for nothing (`{}`); never raises."""
    raw = job.get("error")
    return _problem(raw) if raw else None


def read_error(answer: Answer, *, provider: str) -> ServiceError:
    """The typed error for an answer outside 2xx, whatever its body is; the HTTP status decides its kind.

    The code `PlanLimitReached` is `QuotaExceeded`; it comes with HTTP 403 (docs.mindee.com, V1 errors).
    """
    problem, documented = _problem_in(answer)
    facts: dict[str, Any] = {
        "provider": provider,
        "code": problem.code,
        "details": problem.details,
        "from_service": documented,
    }
    message = _with_details(problem)
    if problem.code == "PlanLimitReached":
        return QuotaExceeded(message, status=answer.status, request_id=answer.request_id, **facts)
    return error_for(answer, message, **facts)


def _problem_in(answer: Answer) -> tuple[Problem, bool]:
    """What the body says, and whether it is an `api_request` with an error and not a gateway's."""
    try:
        body = answer.json()
    except Unreadable:
        return Problem(message=excerpt(answer) or no_reason(answer)), False
    request = mapping(body).get("api_request")
    found = request.get("error") if isinstance(request, dict) else body
    documented = isinstance(request, dict) and bool(mapping(found))
    return _problem(found) if found else Problem(message=no_reason(answer)), documented


def _problem(raw: object) -> Problem:
    if not isinstance(raw, dict):
        return Problem(message=one_line(str(raw)) or NO_REASON)
    code, details = code_of(raw.get("code")), raw.get("details")
    message = one_line(text(raw.get("message")) or text(details) or code) or NO_REASON
    return Problem(message=message, code=code, details=details or None)


def _with_details(problem: Problem) -> str:
    """The message with its details, since those are not part of an exception's text."""
    details = problem.details
    if not details or one_line(text(details)) == problem.message:
        return problem.message
    return one_line(f"{problem.message.rstrip('.')}: {details}", _LONGEST_WITH_DETAILS) or problem.message
