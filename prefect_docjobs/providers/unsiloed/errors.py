"""Unsiloed's words for a refusal and for a failed job, in every shape that it is known to use.

The shapes: FastAPI's `{"detail": text | list | object}` (Unsiloed docs, extract-data.mdx and
classify-document.mdx), plain text and JSON strings of the parse routes (parse-document.mdx,
get-parse-job-status.mdx), `{"detail", "error_code", "timestamp"}` (faq/api.mdx), and in the newer OpenAPI
`{"error": {"code", "message", "details"}}` and `{"error", "message", "retry_after"}`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from prefect_docjobs.errors import ServiceError, Unavailable, Unreadable
from prefect_docjobs.http import Answer
from prefect_docjobs.models import Problem
from prefect_docjobs.providers.values import (
    NO_REASON,
    code_of,
    elements,
    excerpt,
    mapping,
    no_reason,
    number,
    one_line,
    text,
    typed_error,
)

_DAY = 86_400.0
_QUOTA_CODE = "quota_exceeded"
# Unsiloed docs, parse-document.mdx: this 429 is the billing cap; it has no Retry-After and no end.
_USAGE_CAP = "usage limit exceeded"
# Unsiloed docs of 2025-06, results.mdx: 400 while the job runs.
_RUNNING = "still processing"
_RESULT_PATH = re.compile(r"/jobs/[^/]+/result")
_KNOWN = frozenset({"message", "detail", "error", "code", "error_code", "status", "details", "retry_after"})


@dataclass(frozen=True, slots=True)
class Said:
    """What a body says: its message, its code, what stands beside them, and seconds to wait."""

    message: str | None = None
    code: str | None = None
    details: Any = None
    retry_after: float | None = None


def read_error(answer: Answer, *, provider: str) -> ServiceError:
    """The typed error for an answer outside 2xx; survives any body.

    402, the code `QUOTA_EXCEEDED` and the 429 of the billing cap are `QuotaExceeded`, so that they are not
    retried; the generic result route's 400 for a running job is `Unavailable`.
    """
    try:
        body = answer.json()
    except Unreadable:
        body = excerpt(answer)
    words = said(body)
    message, code = words.message or no_reason(answer), (words.code or "").lower()
    capped = answer.status == 429 and _USAGE_CAP in message.lower()
    facts: dict[str, Any] = {
        "provider": provider,
        "code": words.code,
        "details": words.details,
        # FastAPI's `detail`, or the newer envelope; texts and other objects may be a gateway's.
        "from_service": bool(mapping(body).get("detail"))
        or code_of(mapping(mapping(body).get("error")).get("code")) is not None,
    }
    if answer.status == 402 or code == _QUOTA_CODE or capped:
        return typed_error(answer, message, quota=True, **facts)
    facts["retry_after"] = answer.retry_after if words.retry_after is None else words.retry_after
    if answer.status == 400 and _RESULT_PATH.fullmatch(answer.url) and _RUNNING in message.lower():
        message = f"There is no result yet: {message}"
        return Unavailable(message, status=answer.status, request_id=answer.request_id, **facts)
    return typed_error(answer, message, **facts)


def read_problem(body: dict[str, Any]) -> Problem:
    """Why a job failed: `error`, or `message` (parse; Unsiloed docs, get-parse-job-status.mdx)."""
    words = said(body.get("error"))
    if words.message is None:
        words = said(body.get("message"))
    return Problem(message=words.message or NO_REASON, code=words.code, details=words.details)


def said(body: Any) -> Said:
    """What a JSON value of any shape says."""
    if isinstance(body, str):
        return Said(one_line(body))
    if isinstance(body, list):
        return Said(one_line("; ".join(map(_complaint, body))), details=body or None)
    if not isinstance(body, dict):
        return Said()
    inside = next((body[key] for key in ("error", "detail") if isinstance(body.get(key), (dict, list))), None)
    if isinstance(inside, dict):
        words = _said_by(inside)
    elif inside:
        words = said(inside)
    else:
        return _said_by(body)
    outer = _said_by({key: value for key, value in body.items() if not isinstance(value, (dict, list))})
    return replace(
        words,
        message=words.message or outer.message,
        code=words.code or outer.code,
        retry_after=outer.retry_after if words.retry_after is None else words.retry_after,
    )


def _said_by(body: dict[str, Any]) -> Said:
    message = _first(text, body, "message", "detail", "error", "msg", "reason")
    message = message or text(mapping(body.get("quota_data")).get("message"))
    code = _first(code_of, body, "code", "error_code", "status")
    if code is None and text(body.get("error")) != message:
        code = code_of(body.get("error"))  # newer OpenAPI, 413 and 429: `error` is the code beside `message`
    details = body.get("details")
    wait = number(body.get("retry_after"))
    wait = number(mapping(details).get("retry_after")) if wait is None else wait
    return Said(
        message=one_line(message),
        code=code,
        details=details or {key: value for key, value in body.items() if key not in _KNOWN} or None,
        retry_after=None if wait is None else min(max(0.0, wait), _DAY),
    )


def _first(read: Callable[[object], str | None], body: dict[str, Any], *keys: str) -> str | None:
    return next(filter(None, (read(body.get(key)) for key in keys)), None)


def _complaint(item: Any) -> str:
    """One element of a 422 list: FastAPI's `{"loc", "msg", …}`, or anything else."""
    fields = mapping(item)
    words = text(fields.get("msg")) or text(fields.get("message")) or text(item) or "(no message)"
    path = ".".join(str(part) for part in elements(fields.get("loc")) if isinstance(part, (str, int)))
    return f"{path}: {words}" if path else words
