"""Mindee V1 errors: the ``api_request`` envelope that every answer has, with an ``error`` in it.

Codes and messages of Mindee's published test data; where it has none, the HTTP reason phrase.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from prefect_docjobs.simulator.service import ServiceError

_ERRORS = {
    400: ("BadRequest", "Invalid request", "The request could not be understood."),
    401: ("Unauthorized", "Authorization required", "Invalid token provided"),
    404: ("NotFound", "Resource not found", "No such resource."),
    405: ("MethodNotAllowed", "Method Not Allowed", "This method is not allowed here."),
    429: ("TooManyRequests", "Too many requests", "Too Many Requests."),
    503: ("ServiceUnavailable", "Service Unavailable", "The service is temporarily unavailable."),
}


def invalid_document(detail: str) -> ServiceError:
    """A 400 that names the field."""
    return ServiceError(400, extra={"document": [detail]})


def error_response(request: Request, error: ServiceError) -> Response:
    """The error in its envelope; ``details`` is a text, or an object that names the field."""
    code, message, usual = _ERRORS.get(error.status, ("failure", "Error", "An error occurred."))
    api_request = {
        "error": {"code": code, "message": message, "details": error.extra or error.detail or usual},
        "resources": [],
        "status": "failure",
        "status_code": error.status,
        "url": str(request.url),
    }
    return JSONResponse({"api_request": api_request}, status_code=error.status)
