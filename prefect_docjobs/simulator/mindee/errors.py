"""Mindee V2 errors: RFC 9457 style problems (Mindee V2 OpenAPI, ``ErrorResponse``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from prefect_docjobs.simulator.services import Refusal, Rejected

_TITLES = {
    400: "Bad request",
    401: "Unauthorized",
    404: "Not found",
    405: "Method not allowed",
    429: "Too many requests",
    503: "Service unavailable",
}
_DETAILS = {
    400: "The request could not be understood.",
    404: "The requested resource does not exist, or is not ready.",
    405: "This method is not allowed here.",
    429: "The rate limit was exceeded: wait a few seconds.",
    503: "The service is temporarily unavailable.",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One ``ErrorResponse``; ``errors`` holds ``(pointer, detail)`` pairs."""

    status: int
    title: str
    detail: str
    code: str
    errors: tuple[tuple[str, str], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """All of its keys, as on the wire."""
        return {
            "status": self.status,
            "title": self.title,
            "detail": self.detail,
            "code": self.code,
            "errors": [{"pointer": pointer, "detail": detail} for pointer, detail in self.errors],
        }

    def response(self) -> JSONResponse:
        """The problem as an answer, of the ``application/json`` type that the OpenAPI lists."""
        return JSONResponse(self.as_json(), status_code=self.status)


# Codes 401-001, 401-008, 422-001 and 500-012 are in Mindee's published test data. The codes of other problems
# are not published: their answers carry "-000", since ``code`` is a required key.
INVALID_KEY = Problem(401, "Unauthorized", "The API key is invalid.", "401-001")
MISSING_KEY = Problem(401, "Unauthorized", "No API key was sent in the Authorization header.", "401-008")


def inference_failed(detail: str) -> Problem:
    """The ``error`` of a failed job."""
    return Problem(500, "Inference failed", detail, "500-012")


def invalid_fields(*errors: tuple[str, str]) -> Rejected:
    """A 422 that names each wrong field, to be raised."""
    problem = Problem(
        422, "Invalid fields in form", "One or more fields failed validation.", "422-001", errors
    )
    return Rejected(problem.response())


def plain_problem(status: int, detail: str | None = None) -> Problem:
    """A problem without a published code."""
    title = _TITLES.get(status, "Error")
    return Problem(status, title, detail or _DETAILS.get(status, title), f"{status}-000")


def refuse(request: Request, refusal: Refusal) -> Response:
    """The answer to a request that reached no endpoint."""
    if refusal.status == 401:
        sent = "authorization" in request.headers
        return (INVALID_KEY if sent else MISSING_KEY).response()
    return plain_problem(refusal.status, refusal.detail).response()
