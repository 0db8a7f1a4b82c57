"""The measured services: providers that ask for an invoice's total, and clients for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import httpx

from prefect_docjobs.http import AccountLimits, Http
from prefect_docjobs.models import JobRef, JobStatus
from prefect_docjobs.providers import Provider, provider_class
from prefect_docjobs.providers.base import Polling

KEY = "simulator"
TEMPLATE = {"invoice_number": "verbatim-string", "total_amount": "number"}
SCHEMA = {
    "type": "object",
    "properties": {"invoice_number": {"type": "string"}, "total_amount": {"type": "number"}},
}
MODEL = "11111111-1111-4111-8111-111111111111"
SETTINGS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "numind": {"template": TEMPLATE},
        "unsiloed": {"schema_data": SCHEMA},
        "mindee": {"model_id": MODEL},
    }
)


def provider(name: str) -> Provider:
    """A provider with everything that its service can do."""
    return provider_class(name)(**SETTINGS[name])


def polled(
    name: str, polling: Polling | None = None, *, on_look: Callable[[JobRef], None] | None = None
) -> Provider:
    """A provider whose jobs can only be looked at one by one.

    Args:
        name: Registry name of the service.
        polling: When to look; by default as the service advises.
        on_look: Called at the start of each look.
    """
    kind = provider_class(name)
    able = replace(kind.capabilities, list_jobs=False, stream=False)
    attributes = {"capabilities": able, "polling": polling or kind.polling}
    if on_look:
        attributes["status"] = _announced(kind, on_look)
    made: Provider = type(f"Polled{kind.__name__}", (kind,), attributes)(**SETTINGS[name])
    return made


def _announced(kind: type[Provider], on_look: Callable[[JobRef], None]) -> Any:
    """The status verb of `kind`, with a call before it."""

    async def status(self: Provider, http: Http, ref: JobRef, *, once: bool = False) -> JobStatus:
        on_look(ref)
        return await kind.status(self, http, ref, once=once)

    return status


def client(
    name: str,
    base_url: str,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    account_limits: AccountLimits | None = None,
) -> Http:
    """A client of the simulated account, to be opened with `async with`.

    Args:
        name: Registry name of the service.
        base_url: Where the simulator is.
        transport: Takes all requests instead of the client's own ways.
        account_limits: How fast requests may be sent; no limit by default.
    """
    kind = provider_class(name)
    return Http(
        provider=name,
        base_url=base_url,
        headers=kind.auth_headers(KEY),
        tenant="bench",
        secrets=[KEY],
        read_error=kind.read_error,
        transport=transport,
        account_limits=account_limits,
    )
