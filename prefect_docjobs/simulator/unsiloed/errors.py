"""Unsiloed's errors, which differ between its routes.

Sources: Unsiloed docs, pages of extract, classify and split (`detail` as text, list or object), page of parse
(plain text, or a JSON string); for the envelope and HTTP 413 the service's newer OpenAPI. Texts are those of
the docs where they have one, and the simulator's own elsewhere.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from prefect_docjobs.simulator.service import ServiceError

_TEXTS = {
    400: "Bad request",
    401: "Invalid API key",
    404: "Not Found",
    405: "Method Not Allowed",
    429: "Rate limit exceeded",
    503: "Service temporarily unavailable",
}
_CODES = {
    400: "BAD_REQUEST",
    401: "UNAUTHORIZED",
    402: "QUOTA_EXCEEDED",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    422: "VALIDATION_ERROR",
    429: "RATE_LIMIT_EXCEEDED",
    500: "INTERNAL_ERROR",
    503: "SERVICE_UNAVAILABLE",
}


def not_found(request: Request, what: str) -> ServiceError:
    """HTTP 404; on `/parse` it is a JSON string."""
    text = f"{what} not found"
    return ServiceError(404, text, extra=text if _is_parse(request) else None)


def invalid_field(request: Request, field: str, message: str, value: object = None) -> ServiceError:
    """HTTP 422 that points at a field of the form; on `/parse` HTTP 400 with plain text."""
    text = f"{field}: {message}"
    if _is_parse(request):
        return ServiceError(400, text)
    kind = "missing" if value is None else "value_error"
    detail = [{"type": kind, "loc": ["body", field], "msg": message, "input": value}]
    return ServiceError(422, text, extra={"detail": detail})


def quota_exceeded(request: Request, limit: int, spent: int) -> ServiceError:
    """HTTP 402."""
    quota = {"current": spent, "limit": limit, "remaining": max(0, limit - spent)}
    detail = {"message": "Quota exceeded", "status": "QUOTA_EXCEEDED", "quota_data": quota}
    return ServiceError(402, "Insufficient quota", extra=None if _is_parse(request) else {"detail": detail})


def too_large(size: int, limit: int) -> ServiceError:
    """HTTP 413, the same on all routes and in all settings."""
    body = {
        "error": "FILE_TOO_LARGE",
        "message": "The file is too large",
        "file_size_bytes": size,
        "max_file_size_bytes": limit,
    }
    return ServiceError(413, extra=body)


def error_response(request: Request, error: ServiceError, *, in_envelope: bool) -> Response:
    """The error in the shape of its route, or in the envelope where the settings ask for it."""
    status, text = error.status, error.detail or _TEXTS.get(error.status, "Request failed")
    if status == 413:
        return JSONResponse(error.extra, status_code=status)
    # 503 on `/parse` is documented by the newer OpenAPI only, which has the envelope.
    if in_envelope or (_is_parse(request) and status == 503):
        details: dict[str, Any] = {"reason": "queue_full"} if status == 503 else {}
        if error.retry_after is not None:
            details["retry_after"] = error.retry_after
        envelope = {"code": _CODES.get(status, "ERROR"), "message": text, "details": details}
        return JSONResponse({"error": envelope}, status_code=status)
    if error.extra is not None:
        return JSONResponse(error.extra, status_code=status)
    if _is_parse(request):
        return PlainTextResponse(text, status_code=status)
    return JSONResponse({"detail": text}, status_code=status)


def _is_parse(request: Request) -> bool:
    return request.url.path.startswith(("/parse", "/v2/parse"))
