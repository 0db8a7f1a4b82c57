"""Unsiloed's answers and requests as tests write and read them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone
from email import message_from_bytes
from email.message import Message
from typing import Any

import anyio.lowlevel
import httpx

from prefect_docjobs.http import Answer, Http
from prefect_docjobs.models import JobRef
from prefect_docjobs.providers.unsiloed import Unsiloed

KEY = "un_test_123"
ORIGIN = "https://unsiloed.test"
JOB_ID = "b2094b38-e432-44b6-a5d0-67bed07d5de1"
SEEN = datetime(2026, 2, 3, 10, 15, tzinfo=timezone.utc)
SCHEMA = {"type": "object", "properties": {"supplier": {"type": "string"}}}


def job(product: str = "extract", **settings: Any) -> Unsiloed:
    """A job block's provider with the least that its product needs."""
    needed: dict[str, dict[str, Any]] = {
        "extract": {"schema_data": SCHEMA},
        "parse": {},
        "classify": {"categories": ["invoice", "contract"]},
        "split": {"categories": ["invoice", "contract"]},
    }
    return Unsiloed(**{"product": product, **needed[product], **settings})


def ref(product: str = "extract", **changes: Any) -> JobRef:
    facts: dict[str, Any] = {
        "provider": "unsiloed",
        "base_url": ORIGIN,
        "tenant": "acme",
        "product": product,
        "job_id": JOB_ID,
        "document_name": "acme.pdf",
        "document_sha256": "ab" * 32,
        "submitted_at": SEEN,
    }
    return JobRef(**{**facts, **changes})


def answer(
    payload: Any, status: int = 200, *, url: str = "", headers: dict[str, str] | None = None
) -> Answer:
    """An answer with a JSON body."""
    return raw_answer(json.dumps(payload).encode(), status, url=url, headers=headers)


def raw_answer(
    body: bytes, status: int = 200, *, url: str = "", headers: dict[str, str] | None = None
) -> Answer:
    """An answer with any body."""
    return Answer(status=status, headers=httpx.Headers(headers), body=body, url=url, received_at=SEEN)


class _Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        self._now += seconds
        await anyio.lowlevel.checkpoint()


def client(handler: Callable[[httpx.Request], httpx.Response]) -> Http:
    """The real client with Unsiloed's headers and errors, answered by a function; pauses take no time."""
    clock = _Clock()
    return Http(
        provider=Unsiloed.name,
        base_url=ORIGIN,
        headers=Unsiloed.auth_headers(KEY),
        tenant="acme",
        secrets=[KEY],
        read_error=Unsiloed.read_error,
        transport=httpx.MockTransport(handler),
        sleep=clock.sleep,
        clock=clock,
    )


def parts_of(request: httpx.Request) -> dict[str, Message]:
    """The parts of a multipart request by field name, as a server reads them."""
    head = b"Content-Type: " + request.headers["content-type"].encode() + b"\r\n\r\n"
    message = message_from_bytes(head + request.content)
    assert message.get_content_type() == "multipart/form-data"
    parts = [part for part in message.walk() if part is not message]
    named = {str(part.get_param("name", header="content-disposition")): part for part in parts}
    assert len(named) == len(parts), "a field was sent twice"
    return named


def texts_of(request: httpx.Request) -> dict[str, str]:
    """The text fields of a multipart request; a text field has no file name."""
    return {
        name: bytes(part.get_payload(decode=True)).decode()
        for name, part in parts_of(request).items()
        if part.get_filename() is None
    }
