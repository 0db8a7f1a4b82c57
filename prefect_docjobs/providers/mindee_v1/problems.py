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

_LONGEST_MESSAGE = 2_000
_LONGEST_EXCERPT = 200


def read_job_error(job: Mapping[str, Any]) -> Problem | None:
    """What the service says about a failed job; None for nothing (`{}`); never raises."""
    raw = job.get("error")
    return _problem(raw) if raw else None


def read_error(answer: Answer, *, provider: str) -> ServiceError:
    """The typed error for an answer outside 2xx, whatever its body is; the HTTP status decides its kind.

    The code `PlanLimitReached` is `QuotaExceeded`; it comes with HTTP 403 (docs.mindee.com, V1 errors).
    """
    problem = _problem_in(answer)
    facts: dict[str, Any] = {"provider": provider, "code": problem.code, "details": problem.details}
    message = _with_details(problem)
    if problem.code == "PlanLimitReached":
        return QuotaExceeded(message, status=answer.status, request_id=answer.request_id, **facts)
    return error_for(answer, message, **facts)


def _problem_in(answer: Answer) -> Problem:
    try:
        body = answer.json()
    except Unreadable:
        return Problem(message=_excerpt(answer))
    request = body.get("api_request") if isinstance(body, dict) else None
    found = request.get("error") if isinstance(request, dict) else body
    return _problem(found) if found else Problem(message=f"The service answered HTTP {answer.status}.")


def _problem(raw: object) -> Problem:
    if not isinstance(raw, dict):
        return Problem(message=_cut(str(raw)))
    message, code, details = _text(raw.get("message")), _text(raw.get("code")), raw.get("details")
    spoken = message or _text(details) or code or "The service gives no reason."
    return Problem(message=_cut(spoken), code=code, details=details or None)


def _with_details(problem: Problem) -> str:
    """The message with its details, since those are not part of an exception's text."""
    details = problem.details
    if not details or details == problem.message:
        return problem.message
    return _cut(f"{problem.message.rstrip('.')}: {details}")


def _excerpt(answer: Answer) -> str:
    """What a body that is not JSON says: gateways answer with pages of their own."""
    text = " ".join(answer.text.split())
    if not text or text.startswith("<"):
        kind = "an HTML page" if text else "an empty body"
        return f"The service answered HTTP {answer.status} with {kind}."
    return f"The service answered HTTP {answer.status}: {text[:_LONGEST_EXCERPT]}"


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]}…"
