"""What a provider sends, as a server reads it, and what it is answered: literals instead of a service."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone
from email import message_from_bytes
from typing import Any, NamedTuple

import anyio.lowlevel
import httpx

from prefect_docjobs.http import Answer, Http, Limits
from prefect_docjobs.models import JobRef
from prefect_docjobs.providers import Provider

NOW = datetime(2026, 2, 3, 10, 15, tzinfo=timezone.utc)
TENANT = "acme"

Handler = Callable[[httpx.Request], httpx.Response]


def answer(body: Any = b"", status: int = 200, *, url: str = "", **headers: str) -> Answer:
    """An answer as `Http` gives it: bytes as they are, all else as JSON; header names with `_` for `-`."""
    octets = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = httpx.Headers({name.replace("_", "-"): value for name, value in headers.items()})
    return Answer(status=status, headers=named, body=octets, url=url, received_at=NOW)


def ref_of(kind: type[Provider], **facts: Any) -> JobRef:
    """A job of a service at its own address; `facts` say which, and may change all else."""
    known: dict[str, Any] = {
        "provider": kind.name,
        "base_url": kind.default_base_url,
        "tenant": TENANT,
        "document_name": "acme.pdf",
        "submitted_at": NOW,
    }
    return JobRef(**{**known, **facts})


class Script:
    """Answers requests with the given replies, one each, in order, and keeps the requests."""

    def __init__(self, *replies: httpx.Response) -> None:
        self.requests: list[httpx.Request] = []
        self._replies = list(replies)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        assert self._replies, f"nobody expected {request.method} {request.url}"
        return self._replies.pop(0)

    @property
    def only(self) -> httpx.Request:
        """The one request that there was."""
        (request,) = self.requests
        return request

    @property
    def urls(self) -> list[str]:
        """What was asked for, in order."""
        return [str(request.url) for request in self.requests]


class _Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        self._now += seconds
        await anyio.lowlevel.checkpoint()


def client(
    kind: type[Provider], handler: Handler, *, key: str, base_url: str | None = None, **limits: Any
) -> Http:
    """The real client of a service, answered by a function; pauses take no time."""
    clock = _Clock()
    return kind.connect(
        base_url=base_url,
        api_key=key,
        tenant=TENANT,
        limits=Limits(**limits),
        transport=httpx.MockTransport(handler),
        sleep=clock.sleep,
        clock=clock,
    )


class SentPart(NamedTuple):
    """One part of a multipart request; `filename` and `media_type` are None where they were not sent."""

    name: str
    filename: str | None
    media_type: str | None
    content: bytes


def parts_of(request: httpx.Request) -> list[SentPart]:
    """The parts of a multipart request, in order."""
    head = f"content-type: {request.headers['content-type']}\r\n\r\n".encode()
    message = message_from_bytes(head + request.content)
    assert message.get_content_type() == "multipart/form-data"
    return [
        SentPart(
            str(part.get_param("name", header="content-disposition")),
            part.get_filename(),
            part["content-type"],
            bytes(part.get_payload(decode=True)),
        )
        for part in message.walk()
        if part is not message
    ]


def texts_of(request: httpx.Request) -> dict[str, str]:
    """The text fields of a multipart request, each sent once; a text field has no file name."""
    texts = [part for part in parts_of(request) if part.filename is None]
    named = {part.name: part.content.decode() for part in texts}
    assert len(named) == len(texts), "a field was sent twice"
    return named
