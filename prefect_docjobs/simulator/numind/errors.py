"""NuMind's refusals: `{"code", "message"}`, or plain text for a bad query value.

Source: numind 0.4.2 SDK, `models/error.py`; JobsApi.md of the same repository (400 of `GET /api/jobs`).
Where no source names a code, the simulator's code is its own and nothing to rely on.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from prefect_docjobs.simulator.services import Refusal, Rejected

_REFUSALS = {
    400: ("BadRequest", "The request could not be understood."),
    401: ("Unauthorized", "The access token is missing or invalid."),
    404: ("NotFound", "No such resource."),
    405: ("MethodNotAllowed", "The method is not allowed here."),
    429: ("TooManyRequests", "Too many requests."),
    503: ("ServiceUnavailable", "The service is temporarily unavailable."),
}


def error(status: int, code: str, message: str) -> JSONResponse:
    """An error in NuMind's shape."""
    return JSONResponse({"code": code, "message": message}, status_code=status)


def rejected(status: int, code: str, message: str) -> Rejected:
    """An error in NuMind's shape, to be raised."""
    return Rejected(error(status, code, message))


def bad_query(name: str) -> Rejected:
    """The plain text that a bad query value gets, to be raised."""
    return Rejected(PlainTextResponse(f"Invalid value for: query parameter {name}", status_code=400))


def refuse(_request: Request, refusal: Refusal) -> Response:
    """The answer to a request that reaches no endpoint."""
    code, message = _REFUSALS.get(refusal.status, ("Error", "The request failed."))
    return error(refusal.status, code, refusal.detail or message)
