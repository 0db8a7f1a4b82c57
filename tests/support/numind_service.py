"""A NuExtract of literals: answers by route, and the requests that it saw."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import httpx
from support.wire import client, ref_of

from prefect_docjobs.http import Http
from prefect_docjobs.models import JobRef
from prefect_docjobs.providers.numind import NuMind

KEY = "nu-secret-key"

# The examples of NuExtract's models, field for field (numind JobsApi.md, numind 0.4.2 SDK).
STATUS: Mapping[str, Any] = {
    "id": "j-123",
    "jobType": "structured-extraction",
    "status": "completed",
    "ownerUser": "u-1",
    "startedAt": "2026-02-03T10:15:00Z",
    "completedAt": "2026-02-03T10:15:09Z",
    "createdAt": "2026-02-03T10:14:59Z",
    "updatedAt": "2026-02-03T10:15:09Z",
    "timeoutSeconds": 3600,
}
JOB: Mapping[str, Any] = {
    "id": "j-123",
    "jobType": "structured-extraction",
    "status": "completed",
    "ownerUser": "u-1",
    "inputData": "{}",
    "outputData": '{"result":{"total":118.5},"rawModelOutput":"{}","outputTokens":7,"inputTokens":90,'
    '"totalTokens":97,"logprobs":-0.2}',
    "startedAt": "2026-02-03T10:15:00Z",
    "completedAt": "2026-02-03T10:15:09Z",
    "createdAt": "2026-02-03T10:14:59Z",
    "updatedAt": "2026-02-03T10:15:09Z",
}
RESULT: Mapping[str, Any] = {
    "result": {"total": 118.5},
    "thinkingTrace": None,
    "rawModelOutput": '{"total":118.5}',
    "error": None,
    "documentInfo": None,
    "outputTokens": 7,
    "inputTokens": 90,
    "totalTokens": 97,
    "logprobs": -0.2,
    "outputTokenProbability": 0.91,
    "selectedExamples": [],
    "randomSeed": 1,
    "isTruncated": False,
}

Reply = httpx.Response | Callable[[httpx.Request], httpx.Response]


def job_ref(**changes: Any) -> JobRef:
    """The ref of the job in the examples."""
    return ref_of(NuMind, **{"product": "extraction", "job_id": "j-123", **changes})


def events(*told: tuple[str, str]) -> httpx.Response:
    """A whole stream of events: type and data."""
    text = "".join(f"event: {name}\ndata: {data}\n\n" for name, data in told)
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, text=text)


class Service:
    """Answers by `"METHOD /path"`; what is not there is 404, as a JSON error."""

    def __init__(self, routes: Mapping[str, Reply] | None = None) -> None:
        self.routes = dict(routes or {})
        self.requests: list[httpx.Request] = []

    @property
    def asked(self) -> list[str]:
        """The requests so far, as `"METHOD /path"`."""
        return [f"{request.method} {request.url.path}" for request in self.requests]

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        self.requests.append(request)
        reply = self.routes.get(f"{request.method} {request.url.path}")
        if reply is None:
            return httpx.Response(404, json={"code": "NotFound", "message": "There is no such thing."})
        return reply if isinstance(reply, httpx.Response) else reply(request)


def http_to(service: Service, **limits: Any) -> Http:
    """A client of `service` for which time passes at once."""
    return client(NuMind, service, key=KEY, **limits)
