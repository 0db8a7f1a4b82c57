"""Mindee V2's errors: one shape, after RFC 9457, in error answers, failed jobs and webhook calls."""

from __future__ import annotations

from typing import Any

from prefect_docjobs.errors import QuotaExceeded, ServiceError, Unreadable
from prefect_docjobs.http import Answer, error_for
from prefect_docjobs.models import Problem
from prefect_docjobs.providers.values import (
    NO_REASON,
    code_of,
    excerpt,
    no_reason,
    objects,
    one_line,
    text,
)

_LONGEST_WITH_POINTERS = 2_000  # characters; a form with many fields at fault


def read_problem(raw: object) -> Problem | None:
    """An `ErrorResponse` (Mindee V2 OpenAPI) as a `Problem`; None for nothing; never raises.

    The schema requires `status`, `detail`, `title` and `code`; `errors` lists items of `pointer` (a JSON
    pointer to the field at fault, may be null) and `detail`, and becomes `Problem.details`.
    """
    if raw is None or raw == {}:
        return None
    if not isinstance(raw, dict):
        return Problem(message=one_line(str(raw)) or NO_REASON)
    message = one_line(text(raw.get("detail")) or text(raw.get("title"))) or NO_REASON
    return Problem(message=message, code=code_of(raw.get("code")), details=raw.get("errors") or None)


def read_error(answer: Answer, *, provider: str) -> ServiceError:
    """The typed error for an answer outside 2xx, whatever its body is.

    402 is `QuotaExceeded`: "an optional feature is not in your plan", or "your subscription is either not
    active or exceeded limits" (docs.mindee.com, problem-database).
    """
    problem, documented = _problem_in(answer)
    facts: dict[str, Any] = {
        "provider": provider,
        "code": problem.code,
        "details": problem.details,
        "from_service": documented,
    }
    message = _with_pointers(problem)
    if answer.status == 402:
        return QuotaExceeded(message, status=402, request_id=answer.request_id, **facts)
    return error_for(answer, message, **facts)


def _problem_in(answer: Answer) -> tuple[Problem, bool]:
    """What the body says, and whether it is an `ErrorResponse` (Mindee V2 OpenAPI) and not a gateway's."""
    try:
        body = answer.json()
    except Unreadable:
        return Problem(message=excerpt(answer) or no_reason(answer)), False
    documented = isinstance(body, dict) and all(text(body.get(key)) for key in ("title", "detail", "code"))
    return read_problem(body) or Problem(message=no_reason(answer)), documented


def _with_pointers(problem: Problem) -> str:
    """The message with each field at fault, since `details` is not part of an exception's text."""
    named = "; ".join(filter(None, map(_pointer, objects(problem.details))))
    return one_line(f"{problem.message} {named}", _LONGEST_WITH_POINTERS) or problem.message


def _pointer(item: dict[str, Any]) -> str:
    return ": ".join(filter(None, (text(item.get("pointer")), text(item.get("detail")))))
