"""Acme Reader's words for a refusal and for a failed job."""

from __future__ import annotations

from prefect_docjobs.errors import ServiceError
from prefect_docjobs.http import Answer, error_for
from prefect_docjobs.models import Problem
from prefect_docjobs.providers.values import excerpt, no_reason, object_of, one_line, text


def read_problem(problem: object) -> Problem | None:
    """`problem` of a failed job: a sentence, or null."""
    words = one_line(text(problem))
    return Problem(message=words) if words else None


def read_error(answer: Answer, *, provider: str) -> ServiceError:
    """`{"message"}`, or the page of a gateway."""
    try:
        message = one_line(text(object_of(answer.json()).get("message")))
    except (ServiceError, ValueError):
        message = None
    words = message or excerpt(answer) or no_reason(answer)
    return error_for(answer, words, provider=provider, from_service=message is not None)
