"""One way to set up each registered provider against the simulator in process, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import httpx

from prefect_docjobs.http import Http, Limits
from prefect_docjobs.models import Result
from prefect_docjobs.providers import Provider, provider_class
from prefect_docjobs.simulator.backend import Backend
from prefect_docjobs.simulator.server import SimulatorTransport, create_app
from prefect_docjobs.simulator.settings import Settings
from prefect_docjobs.testing import Conditions, SimulatedService
from prefect_docjobs.testing.service import invoice, png

__all__ = [
    "KEY",
    "MODEL",
    "ORIGIN",
    "SETTINGS",
    "Connected",
    "OurService",
    "Recorder",
    "connected",
    "invoice",
    "png",
    "provider",
    "says",
]

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


def says(result: Result) -> tuple[Any, Any]:
    """The invoice number and total that a result tells."""
    return result.fields["invoice_number"].value, result.fields["total_amount"].value


_CATEGORIES = ("invoice", "contract")
_PRODUCTS: Mapping[str, tuple[Mapping[str, Any], ...]] = MappingProxyType(
    {
        "mindee": tuple({"product": product} for product in ("ocr", "crop", "split", "classification")),
        "mindee_v1": (),
        "numind": ({"template": None, "product": "content"},),
        "unsiloed": (
            {"routes": "jobs"},
            *(
                {"schema_data": None, "routes": routes, **product}
                for routes in ("product", "jobs")
                for product in (
                    {"product": "parse"},
                    {"product": "classify", "categories": _CATEGORIES},
                    {"product": "split", "categories": _CATEGORIES},
                )
            ),
        ),
    }
)
"""What else there is to ask for, as changes of `SETTINGS`."""


class OurService(SimulatedService):
    """One of the services of this package, simulated."""

    def __init__(self, name: str) -> None:
        self._name = name
        # Unsiloed answers each status request with the result: it cannot be single-use.
        self.can_delete_results = name != "unsiloed"

    @property
    def provider(self) -> Provider:
        return provider(self._name)

    @property
    def products(self) -> list[Provider]:
        kind, settings = provider_class(self._name), SETTINGS[self._name]
        return [self.provider, *(kind(**{**settings, **changes}) for changes in _PRODUCTS[self._name])]

    @asynccontextmanager
    async def serve(self, conditions: Conditions) -> AsyncIterator[httpx.AsyncBaseTransport]:
        settings: dict[str, Any] = {
            "duration": {"law": "fixed", "seconds": conditions.seconds, "queue_share": 0.25},
            "single_use_results": conditions.single_use_results,
        }
        receiver = None
        if conditions.receiver:
            receiver = httpx.MockTransport(conditions.receiver)
            settings["webhooks"] = {"url": "http://receiver.test/{service}", "secret": self.secret}
        clock = asyncio.get_running_loop().time
        app = create_app(Settings().merged(settings), clock=clock, push_transport=receiver)
        app.state.backend.documents.update(conditions.downloads)
        yield SimulatorTransport(app)
        await app.state.pushes.deliver_due()
