"""Mindee V2 errors: RFC 9457 style problems (Mindee V2 OpenAPI, ``ErrorResponse``)."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from prefect_docjobs.simulator.service import ServiceError

_TITLES = {
    400: "Bad request",
    401: "Unauthorized",
    404: "Not found",
    405: "Method not allowed",
    422: "Invalid fields in form",
    429: "Too many requests",
    503: "Service unavailable",
}
_DETAILS = {
    400: "The request could not be understood.",
    404: "The requested resource does not exist, or is not ready.",
    405: "This method is not allowed here.",
    422: "One or more fields failed validation.",
    429: "The rate limit was exceeded: wait a few seconds.",
    503: "The service is temporarily unavailable.",
}


def problem(
    status: int, title: str, detail: str, code: str, errors: list[dict[str, str]] | None = None
) -> dict[str, Any]:
    """An ``ErrorResponse`` with all of its keys."""
    return {"status": status, "title": title, "detail": detail, "code": code, "errors": errors or []}


def inference_failed(detail: str) -> dict[str, Any]:
    """The ``error`` of a failed job."""
    return problem(500, "Inference failed", detail, "500-012")


def invalid_field(name: str, detail: str) -> ServiceError:
    """A 422 that points to the wrong field."""
    return ServiceError(422, extra=[{"pointer": f"#/{name}", "detail": detail}])


def error_response(request: Request, error: ServiceError) -> Response:
    """The error's problem, of the ``application/json`` type that the OpenAPI lists.

    Codes 401-001, 401-008, 422-001 and 500-012 are in Mindee's published test data. The codes of other
    problems are not published: their answers carry "-000", since ``code`` is a required key.
    """
    status = error.status
    title = _TITLES.get(status, "Error")
    detail, code = error.detail or _DETAILS.get(status, title), f"{status}-000"
    if status == 422:
        code = "422-001"
    if status == 401 and "authorization" in request.headers:
        detail, code = "The API key is invalid.", "401-001"
    elif status == 401:
        detail, code = "No API key was sent in the Authorization header.", "401-008"
    return JSONResponse(problem(status, title, detail, code, error.extra), status_code=status)
