"""What a package brings to the conformance suite: its provider, and a service that answers it in process."""

from __future__ import annotations

import asyncio
import random
import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

from prefect_docjobs.http import Http, Limits
from prefect_docjobs.models import Document, Result
from prefect_docjobs.providers import Provider

ORIGIN = "http://localhost"
TENANT = "acme"

Fault = Literal["dropped", "lost", "unavailable", "bad_gateway"]


@dataclass(frozen=True)
class Conditions:
    """How the simulated service behaves, from its start.

    Attributes:
        seconds: How long each job takes on the running loop's clock; its first quarter in the queue, where
            the service has one.
        single_use_results: Whether a result is gone once it was read.
        downloads: What the service finds at an address that is submitted in place of a document.
        receiver: Takes the service's webhook calls, signed with `SimulatedService.secret`.
    """

    seconds: float = 8.0
    single_use_results: bool = False
    downloads: Mapping[str, bytes] = field(default_factory=dict)
    receiver: Callable[[httpx.Request], httpx.Response] | None = None


class SimulatedService(ABC):
    """A service in process, and the documents for it.

    Attributes:
        key: The one API key that it accepts; None where it asks for none.
        secret: Signs its webhook calls.
        can_delete_results: Whether it knows `Conditions.single_use_results`.
    """

    key: str | None = "simulator"
    secret = "signing-secret"  # noqa: S105
    can_delete_results = False

    @property
    @abstractmethod
    def provider(self) -> Provider:
        """Asks for what `expected` says."""

    @property
    def products(self) -> Sequence[Provider]:
        """One provider for each product whose answers are read differently; `provider` by default."""
        return [self.provider]

    @abstractmethod
    def serve(self, conditions: Conditions) -> AbstractAsyncContextManager[httpx.AsyncBaseTransport]:
        """The service without any job. All its webhook calls are made when it is left.

        Its clock is that of the running loop, `asyncio.get_running_loop().time`.
        """

    def document(self, number: int) -> Document:
        """A document that the service can read, another one for each number."""
        return invoice(number)

    def expected(self, number: int) -> Any:
        """What `found` finds in the result of `document(number)`."""
        return {"invoice_number": f"N-{number:05}", "total_amount": number + 0.5}

    def found(self, result: Result) -> Any:
        """The part of a result that shows which document it belongs to."""
        return {name: result.fields[name].value for name in ("invoice_number", "total_amount")}

    def unreadable_document(self) -> Document:
        """A document that the service takes, and whose job fails."""
        return Document.from_bytes(b"%PDF-1.7\nthis is no PDF", name="unreadable.pdf")


@dataclass(frozen=True)
class Connected:
    """A provider, a client of its service, and what went over the wire."""

    provider: Provider
    http: Http
    wire: Wire


@asynccontextmanager
async def connected(
    service: SimulatedService,
    *,
    provider: Provider | None = None,
    key: str | None = None,
    limits: Limits | None = None,
    faults: Mapping[str, Mapping[Fault, float]] | None = None,
    per_second: Mapping[str, float] | None = None,
    retry_after: bool = True,
    **conditions: Any,
) -> AsyncIterator[Connected]:
    """The service and a client of it on the running loop.

    Args:
        service: The service.
        provider: Submits the documents; `service.provider` by default.
        key: Another key than the service's.
        limits: The client's.
        faults: Shares of the requests that go wrong, by kind (`submit`, `read`) and fault.
        per_second: Requests that are not refused, by kind.
        retry_after: Whether a refusal says when to send the request again.
        conditions: See `Conditions`.
    """
    provider = provider or service.provider
    async with service.serve(Conditions(**conditions)) as inner:
        path = provider.submit_request(service.document(0), alias="docjobs-0").path
        wire = Wire(inner, path, faults or {}, per_second or {}, retry_after=retry_after)
        http = provider.connect(
            base_url=ORIGIN, api_key=key or service.key, tenant=TENANT, limits=limits, transport=wire
        )
        async with http:
            yield Connected(provider, http, wire)


class Wire(httpx.AsyncBaseTransport):
    """The way to a service, which keeps each exchange and breaks some.

    Attributes:
        requests: All of them, in order.
        answers: What the service answered, by request; the lost answers too.
        given: How many requests met each fault; `throttled` counts those that came too fast.
    """

    def __init__(
        self,
        service: httpx.AsyncBaseTransport,
        submits_to: str,
        faults: Mapping[str, Mapping[Fault, float]],
        per_second: Mapping[str, float],
        *,
        retry_after: bool,
    ) -> None:
        self._service = service
        self._submits_to = submits_to
        self._faults = faults
        self._per_second = per_second
        self._retry_after = retry_after
        self._free_at: dict[str, float] = {}
        self._chance = random.Random(7)
        self.requests: list[httpx.Request] = []
        self.answers: list[tuple[httpx.Request, httpx.Response]] = []
        self.given: dict[str, int] = {}

    @property
    def submits(self) -> int:
        """The submits that were sent."""
        return sum(self._kind(request) == "submit" for request in self.requests)

    @property
    def accepted(self) -> int:
        """The submits that the service accepted, one bill each."""
        answered = (answer for request, answer in self.answers if self._kind(request) == "submit")
        return sum(answer.is_success for answer in answered)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request, or break it."""
        await request.aread()
        self.requests.append(request)
        kind = self._kind(request)
        fault = self._fault(kind)
        if fault == "dropped":
            raise httpx.RemoteProtocolError("Server disconnected.", request=request)
        if fault == "bad_gateway":
            return httpx.Response(502, html="<html><h1>502 Bad Gateway</h1></html>")
        if fault == "unavailable":
            return httpx.Response(503, headers={"retry-after": "1"}, json={})
        if (wait := self._wait(kind)) > 0:
            self.given["throttled"] = self.given.get("throttled", 0) + 1
            headers = {"retry-after": str(int(wait) + 1)} if self._retry_after else {}
            return httpx.Response(429, headers=headers, json={})
        response = await self._service.handle_async_request(request)
        await response.aread()
        self.answers.append((request, response))
        if fault == "lost" and response.is_success:
            raise httpx.ReadError("Connection reset by peer.", request=request)
        return response

    def _kind(self, request: httpx.Request) -> str:
        return "submit" if request.method == "POST" and request.url.path == self._submits_to else "read"

    def _fault(self, kind: str) -> str | None:
        drawn = self._chance.random()
        for fault, share in self._faults.get(kind, {}).items():
            if drawn < share:
                self.given[fault] = self.given.get(fault, 0) + 1
                return fault
            drawn -= share
        return None

    def _wait(self, kind: str) -> float:
        if kind not in self._per_second:
            return 0.0
        now = asyncio.get_running_loop().time()
        wait = self._free_at.get(kind, now) - now
        if wait <= 0:
            self._free_at[kind] = now + 1 / self._per_second[kind]
        return wait


def invoice(number: int) -> Document:
    """A small PNG, another one for each number, whose text is an invoice."""
    text = f"INVOICE\nInvoice number: N-{number:05}\nTotal amount: {number}.50 EUR\n"
    return Document.from_bytes(png(text), name=f"invoice-{number:05}.png")


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
