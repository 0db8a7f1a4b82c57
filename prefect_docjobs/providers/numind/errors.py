"""NuExtract's words for a refusal and for a failed job."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from prefect_docjobs.errors import ServiceError, Unfinished, Unreadable
from prefect_docjobs.http import Answer
from prefect_docjobs.models import Problem
from prefect_docjobs.providers.values import code_of, excerpt, no_reason, one_line, text, text_of, typed_error

JOB_TIMEOUT = "JobTimeout"  # numind JobsApi.md, "Timeout Behavior"
_JOB_NOT_COMPLETED = "JobNotCompleted"  # code of users, 2026: HTTP 400 for a result before the end
_TIMED_OUT = re.compile(r"time[^a-z]*(d[^a-z]*)?out")
_QUOTA = re.compile(r"quota|billing", re.IGNORECASE)


def problem(message: object, code: object) -> Problem | None:
    """A message and a code, as text or as numbers, or None when both are missing."""
    words, known_as = _message(message), code_of(code)
    return Problem(message=words or known_as or "", code=known_as) if words or known_as else None


def timed_out(job: Mapping[str, Any]) -> bool:
    """Whether a failed job ran out of the service's own time limit, by its word or its code."""
    return bool(_TIMED_OUT.search(text_of(job["status"]).lower())) or job.get("errorCode") == JOB_TIMEOUT


def error_facts(answer: Answer) -> tuple[str | None, str | None, Any]:
    """Message, code and everything else of an error; it never raises.

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


def read_error(answer: Answer, *, provider: str) -> ServiceError:
    """The typed error for an answer outside 2xx.

    403 is "no permission" as well as "billing quota exceeded" (numind JobsApi.md); only the text shows which.
    """
    message, code, details = error_facts(answer)
    # A number as the code, or no code, may be a gateway's body.
    documented = bool(message and code and not code.isdigit())
    facts: dict[str, Any] = {"code": code, "details": details, "from_service": documented}
    if answer.status == 400 and code == _JOB_NOT_COMPLETED:
        words = message or "The job has not ended yet."
        return Unfinished(words, status=400, provider=provider, **facts)
    quota = answer.status == 403 and _QUOTA.search(f"{message} {code}") is not None
    if quota:
        message = message or "The billing quota is exceeded."
    elif answer.status == 403:
        meaning = "The API key has no permission for this, or the billing quota is exceeded."
        message = f"{meaning} The service says: {message}" if message else meaning
    return typed_error(answer, message or no_reason(answer), quota=quota, provider=provider, **facts)


def _message(value: object) -> str | None:
    """A message, which may be a number; None for anything else, and for nothing."""
    return one_line(text(value)) or code_of(value)
