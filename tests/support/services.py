"""One way to set up each registered provider against the simulator in process, in virtual time."""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import httpx

from prefect_docjobs.http import Http, Limits
from prefect_docjobs.models import Document, Result
from prefect_docjobs.providers import Provider, provider_class
from prefect_docjobs.simulator.backend import Backend
from prefect_docjobs.simulator.server import SimulatorTransport, create_app
from prefect_docjobs.simulator.settings import Settings

KEY = "simulator"
ORIGIN = "http://localhost"
MODEL = "11111111-1111-4111-8111-111111111111"

SETTINGS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "mindee": {"model_id": MODEL, "webhook_ids": ("0f0e0d0c-0000-4000-8000-00000000beef",)},
        "mindee_v1": {"account": "mindee", "endpoint": "invoices", "version": "4"},
        "numind": {"template": {"invoice_number": "string", "total_amount": "number"}},
        "unsiloed": {
            "schema_data": {
                "type": "object",
                "properties": {"invoice_number": {"type": "string"}, "total_amount": {"type": "number"}},
            }
        },
    }
)
"""What makes a provider ask for an invoice's number and total. A new provider adds its line here."""


def provider(name: str) -> Provider:
    """A provider that asks for an invoice's number and total."""
    return provider_class(name)(**SETTINGS[name])


@dataclass(frozen=True)
class Connected:
    """A provider, its client, and the backend that answers."""

    provider: Provider
    http: Http
    backend: Backend
    requests: list[httpx.Request]


class Recorder(httpx.AsyncBaseTransport):
    """Remembers every request on its way to another transport."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return await self._inner.handle_async_request(request)


@asynccontextmanager
async def connected(
    name: str,
    *,
    key: str = KEY,
    limits: Limits | None = None,
    push_transport: httpx.AsyncBaseTransport | None = None,
    **settings: Any,
) -> AsyncIterator[Connected]:
    """A provider and a simulator on the running loop's clock; `settings` are merged into its defaults."""
    app = create_app(
        Settings().merged(settings), clock=asyncio.get_running_loop().time, push_transport=push_transport
    )
    recorder = Recorder(SimulatorTransport(app))
    http = provider_class(name).connect(
        base_url=ORIGIN, api_key=key, tenant="acme", limits=limits, transport=recorder
    )
    async with http:
        yield Connected(provider(name), http, app.state.backend, recorder.requests)
        await app.state.pushes.deliver_due()


def invoice(number: int) -> Document:
    """A small PNG, different for each number, whose text is an invoice: every service takes it."""
    text = f"INVOICE\nInvoice number: N-{number:05}\nTotal amount: {number}.50 EUR\n"
    return Document.from_bytes(png(text), name=f"invoice-{number:05}.png")


def says(result: Result) -> tuple[Any, Any]:
    """The invoice number and total that a result tells."""
    return result.fields["invoice_number"].value, result.fields["total_amount"].value


def png(text: str) -> bytes:
    """One grey pixel that carries a text chunk."""
    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    chunks = [
        (b"IHDR", header),
        (b"tEXt", b"Description\0" + text.encode("latin-1")),
        (b"IDAT", zlib.compress(b"\0\x80")),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
