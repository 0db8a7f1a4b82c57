"""Mindee V2's errors: one shape, after RFC 9457, in error answers, failed jobs and webhook calls."""

from __future__ import annotations

from typing import Any

from prefect_docjobs.errors import QuotaExceeded, ServiceError, Unreadable
from prefect_docjobs.http import Answer, error_for
from prefect_docjobs.models import Problem

_LONGEST_MESSAGE = 2_000
_LONGEST_EXCERPT = 200


def read_problem(raw: object) -> Problem | None:
    """An `ErrorResponse` (Mindee V2 OpenAPI) as a `Problem`; None for nothing; never raises.

    The schema requires `status`, `detail`, `title` and `code`; `errors` lists items of `pointer` (a JSON
    pointer to the field at fault, may be null) and `detail`, and becomes `Problem.details`.
    """
    if raw is None or raw == {}:
        return None
    if not isinstance(raw, dict):
        return Problem(message=_cut(str(raw)))
    message = _text(raw.get("detail")) or _text(raw.get("title")) or "The service gives no reason."
    code = raw.get("code")
    known = isinstance(code, (str, int)) and not isinstance(code, bool)
    return Problem(
        message=_cut(message), code=str(code) if known else None, details=raw.get("errors") or None
    )


def read_error(answer: Answer, *, provider: str) -> ServiceError:
    """The typed error for an answer outside 2xx, whatever its body is.

    402 is `QuotaExceeded`: "an optional feature is not in your plan", or "your subscription is either not
    active or exceeded limits" (docs.mindee.com, problem-database).
    """
    problem = _problem_in(answer)
    facts = {"provider": provider, "code": problem.code, "details": problem.details}
    message = _with_pointers(problem)
    if answer.status == 402:
        return QuotaExceeded(message, status=402, request_id=answer.request_id, **facts)
    return error_for(answer, message, **facts)


def _problem_in(answer: Answer) -> Problem:
    try:
        body = answer.json()
    except Unreadable:
        return Problem(message=_excerpt(answer))
    return read_problem(body) or Problem(message=f"The service answered HTTP {answer.status} and no reason.")


def _excerpt(answer: Answer) -> str:
    """What a body that is not JSON says: gateways answer with pages of their own."""
    text = " ".join(answer.text.split())
    if not text or text.startswith("<"):
        kind = "an HTML page" if text else "an empty body"
        return f"The service answered HTTP {answer.status} with {kind}."
    return f"The service answered HTTP {answer.status}: {text[:_LONGEST_EXCERPT]}"


def _with_pointers(problem: Problem) -> str:
    """The message with each field at fault, since `details` is not part of an exception's text."""
    items = problem.details if isinstance(problem.details, list) else []
    named = [_pointer(item) for item in items if isinstance(item, dict)]
    return _cut(" ".join([problem.message, "; ".join(filter(None, named))]).strip())


def _pointer(item: dict[str, Any]) -> str:
    return ": ".join(filter(None, (_text(item.get("pointer")), _text(item.get("detail")))))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]}…"
