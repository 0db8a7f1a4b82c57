"""NuMind's errors: `{"code", "message"}`, or plain text for a bad query value.

Source: numind 0.4.2 SDK, `models/error.py`; JobsApi.md of the same repository (400 of `GET /api/jobs`).
Where no source names a code, the simulator's code is its own and nothing to rely on.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from prefect_docjobs.simulator.service import ServiceError

_USUAL = {
    400: ("BadRequest", "The request could not be understood."),
    401: ("Unauthorized", "The access token is missing or invalid."),
    404: ("NotFound", "No such resource."),
    405: ("MethodNotAllowed", "The method is not allowed here."),
    429: ("TooManyRequests", "Too many requests."),
    503: ("ServiceUnavailable", "The service is temporarily unavailable."),
}
_BAD_QUERY = "BadQuery"


def refused(status: int, message: str, code: str | None = None) -> ServiceError:
    """An error with a message; the code is the usual one of its status by default."""
    return ServiceError(status, message, extra=code)


def bad_query(name: str) -> ServiceError:
    """A 400 in plain text that names the query parameter."""
    return ServiceError(400, f"Invalid value for: query parameter {name}", extra=_BAD_QUERY)


def error_response(_request: Request, error: ServiceError) -> Response:
    """The error as the service writes it."""
    if error.extra == _BAD_QUERY:
        return PlainTextResponse(error.detail, status_code=error.status)
    code, message = _USUAL.get(error.status, ("Error", "The request failed."))
    body = {"code": error.extra or code, "message": error.detail or message}
    return JSONResponse(body, status_code=error.status)
