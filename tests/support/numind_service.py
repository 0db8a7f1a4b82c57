"""A NuExtract of literals: answers by route, and the requests that it saw."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from email.message import Message
from email.parser import BytesParser
from typing import Any

import httpx

from prefect_docjobs.http import Answer, Http, Limits
from prefect_docjobs.models import JobRef
from prefect_docjobs.providers.numind import NuMind

ORIGIN = "https://nuextract.test"
KEY = "nu-secret-key"
WHEN = datetime(2026, 2, 3, 10, 15, 10, tzinfo=timezone.utc)

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
    known: dict[str, Any] = {
        "provider": "numind",
        "base_url": ORIGIN,
        "tenant": "t",
        "product": "extraction",
        "job_id": "j-123",
        "document_name": "acme.pdf",
        "submitted_at": WHEN,
    }
    return JobRef(**{**known, **changes})


def answer(body: bytes, status: int = 200, **headers: str) -> Answer:
    """An answer as `Http` gives it; header names with `_` for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status=status, headers=httpx.Headers(named), body=body, received_at=WHEN)


def events(*told: tuple[str, str]) -> httpx.Response:
    """A whole stream of events: type and data."""
    text = "".join(f"event: {name}\ndata: {data}\n\n" for name, data in told)
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, text=text)


class _Clock:
    """Seconds that only sleeping moves."""

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Let `seconds` pass at once."""
        self._now += seconds


class Service:
    """Answers by `"METHOD /path"`; what is not there is 404, as a JSON error."""

    def __init__(self, routes: Mapping[str, Reply] | None = None) -> None:
        self.routes = dict(routes or {})
        self.requests: list[httpx.Request] = []

    @property
    def asked(self) -> list[str]:
        """The requests so far, as `"METHOD /path"`."""
        return [f"{request.method} {request.url.path}" for request in self.requests]

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        await request.aread()
        self.requests.append(request)
        reply = self.routes.get(f"{request.method} {request.url.path}")
        if reply is None:
            return httpx.Response(404, json={"code": "NotFound", "message": "There is no such thing."})
        return reply if isinstance(reply, httpx.Response) else reply(request)


@asynccontextmanager
async def http_to(service: Service, **limits: Any) -> AsyncIterator[Http]:
    """A client of `service` for which time passes at once."""
    clock = _Clock()
    async with Http(
        provider=NuMind.name,
        base_url=ORIGIN,
        headers=NuMind.auth_headers(KEY),
        tenant="t",
        secrets=[KEY],
        read_error=NuMind.read_error,
        limits=Limits(**limits),
        transport=httpx.MockTransport(service),
        sleep=clock.sleep,
        clock=clock,
    ) as http:
        yield http


def parts_of(request: httpx.Request) -> list[Message]:
    """The parts of a multipart request."""
    head = f"content-type: {request.headers['content-type']}\r\n\r\n".encode()
    message = BytesParser().parsebytes(head + request.content)
    parts = message.get_payload()
    assert isinstance(parts, list)
    return [part for part in parts if isinstance(part, Message)]
