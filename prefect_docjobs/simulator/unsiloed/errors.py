"""Unsiloed's refusals, which differ between its routes.

Sources: Unsiloed docs, pages of extract, classify and split (`detail` as text, list or object), page of parse
(plain text, or a JSON string); for the envelope and HTTP 413 the service's newer OpenAPI. Texts are those of
the docs where they have one, and the simulator's own elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from prefect_docjobs.simulator.backend import Backend
from prefect_docjobs.simulator.services import Refusal, Rejected

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
_REASONS = {503: "queue_full"}


class Errors:
    """Writes errors in the shape that the settings ask for."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def refuse(self, request: Request, refusal: Refusal) -> Response:
        """The answer to a request that reaches no endpoint."""
        text = refusal.detail or _TEXTS.get(refusal.status, "Request failed")
        return self._answer(request, refusal.status, text, retry_after=refusal.retry_after)

    def rejected(self, request: Request, status: int, text: str) -> Rejected:
        """An error with a text, to be raised."""
        return Rejected(self._answer(request, status, text))

    def not_found(self, request: Request, what: str) -> Rejected:
        """HTTP 404, to be raised; on `/parse` it is a JSON string."""
        text = f"{what} not found"
        if _is_parse(request) and not self._in_envelope:
            return Rejected(JSONResponse(text, status_code=404))
        return self.rejected(request, 404, text)

    def invalid(self, request: Request, field: str, message: str, value: object = None) -> Rejected:
        """HTTP 422 that points at a field of the form, to be raised; on `/parse` HTTP 400 with plain text."""
        if _is_parse(request):
            return self.rejected(request, 400, f"{field}: {message}")
        kind = "missing" if value is None else "value_error"
        detail = [{"type": kind, "loc": ["body", field], "msg": message, "input": value}]
        if self._in_envelope:
            return self.rejected(request, 422, f"{field}: {message}")
        return Rejected(JSONResponse({"detail": detail}, status_code=422))

    def without_quota(self, request: Request, limit: int, spent: int) -> Rejected:
        """HTTP 402, to be raised."""
        if _is_parse(request) or self._in_envelope:
            return self.rejected(request, 402, "Insufficient quota")
        quota = {"current": spent, "limit": limit, "remaining": max(0, limit - spent)}
        detail = {"message": "Quota exceeded", "status": "QUOTA_EXCEEDED", "quota_data": quota}
        return Rejected(JSONResponse({"detail": detail}, status_code=402))

    def too_large(self, size: int, limit: int) -> Rejected:
        """HTTP 413, to be raised."""
        body = {
            "error": "FILE_TOO_LARGE",
            "message": "The file is too large",
            "file_size_bytes": size,
            "max_file_size_bytes": limit,
        }
        return Rejected(JSONResponse(body, status_code=413))

    @property
    def _in_envelope(self) -> bool:
        return self._backend.settings.unsiloed.error_shape == "envelope"

    def _answer(self, request: Request, status: int, text: str, retry_after: int | None = None) -> Response:
        if self._in_envelope:
            return JSONResponse({"error": _envelope(status, text, retry_after)}, status_code=status)
        if _is_parse(request):
            if status == 503:  # documented by the newer OpenAPI only, which has the envelope
                return JSONResponse({"error": _envelope(status, text, retry_after)}, status_code=status)
            return PlainTextResponse(text, status_code=status)
        return JSONResponse({"detail": text}, status_code=status)


def _is_parse(request: Request) -> bool:
    return request.url.path.startswith(("/parse", "/v2/parse"))


def _envelope(status: int, text: str, retry_after: int | None) -> Mapping[str, Any]:
    details: dict[str, Any] = {}
    if status in _REASONS:
        details["reason"] = _REASONS[status]
    if retry_after is not None:
        details["retry_after"] = retry_after
    return {"code": _CODES.get(status, "ERROR"), "message": text, "details": details}
