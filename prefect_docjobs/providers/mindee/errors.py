"""Mindee V2's errors: one shape, after RFC 9457, in error answers, failed jobs and webhook calls."""

from __future__ import annotations

from prefect_docjobs.errors import ServiceError, Unreadable
from prefect_docjobs.http import Answer
from prefect_docjobs.models import Problem
from prefect_docjobs.providers.values import (
    NO_REASON,
    code_of,
    excerpt,
    mapping,
    no_reason,
    objects,
    one_line,
    text,
    typed_error,
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
    """The typed error for an answer outside 2xx, with each field at fault in its message.

    402 is `QuotaExceeded`: "an optional feature is not in your plan", or "your subscription is either not
    active or exceeded limits" (docs.mindee.com, problem-database).
    """
    try:
        body = answer.json()
        problem = read_problem(body) or Problem(message=no_reason(answer))
    except Unreadable:
        body, problem = None, Problem(message=excerpt(answer) or no_reason(answer))
    named = "; ".join(filter(None, map(_pointer, objects(problem.details))))
    return typed_error(
        answer,
        one_line(f"{problem.message} {named}", _LONGEST_WITH_POINTERS) or problem.message,
        quota=answer.status == 402,
        provider=provider,
        code=problem.code,
        details=problem.details,
        from_service=all(text(mapping(body).get(key)) for key in ("title", "detail", "code")),
    )


def _pointer(item: dict[str, object]) -> str:
    return ": ".join(filter(None, (text(item.get("pointer")), text(item.get("detail")))))
