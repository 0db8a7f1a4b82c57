"""unsiloed-sdk 0.1.7, ``UnsiloedClient`` and ``AsyncUnsiloedClient``: the four products' own routes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from sdks.scripts.outcomes import BROKEN_PDF, REMOTE_URL, WRONG_KEY, Target, print_outcomes
from unsiloed_sdk import (  # type: ignore[import-not-found]  # only in the SDKs' own environment
    AsyncUnsiloedClient,
    Category,
    UnsiloedClient,
)

SCHEMA = {
    "type": "object",
    "properties": {
        "invoice_number": {"type": "string"},
        "total_amount": {"type": "number"},
        "line_items": {
            "type": "array",
            "items": {"type": "object", "properties": {"description": {"type": "string"}}},
        },
    },
}
CATEGORIES = ["invoice", "receipt", Category("contract", "An agreement between two parties")]
POLLING = {"poll_interval": 0.2, "max_wait": 20}


def calls_for(target: Target) -> Mapping[str, Callable[[], Any]]:
    """The calls by name; those of the asynchronous client begin with ``async_``."""
    client = UnsiloedClient(target.key, base_url=target.base_url)
    stranger = UnsiloedClient(WRONG_KEY, base_url=target.base_url)
    brightwater, bergmann = target.path("invoice-brightwater.pdf"), target.path("rechnung-bergmann.pdf")
    contract, cascade = target.path("contract-northgate.pdf"), target.path("invoice-cascade-3-pages.pdf")
    there = partial(asynchronously, target.key, target.base_url)
    return {
        "extract_brightwater": partial(finished, client.extract_and_wait, file=brightwater, schema=SCHEMA),
        "extract_bergmann": partial(finished, client.extract_and_wait, file=bergmann, schema=SCHEMA),
        "extract_url": partial(finished, client.extract_and_wait, file_url=REMOTE_URL, schema=SCHEMA),
        "parse": partial(finished, client.parse_and_wait, file=cascade),
        "parse_url": partial(finished, client.parse_and_wait, url=REMOTE_URL),
        "classify_invoice": partial(
            finished, client.classify_and_wait, file=brightwater, categories=CATEGORIES
        ),
        "classify_contract": partial(
            finished, client.classify_and_wait, file=contract, categories=CATEGORIES
        ),
        "split": partial(finished, client.split_and_wait, file=cascade, categories=CATEGORIES),
        "step_by_step": partial(step_by_step, client, brightwater),
        "failed_extract": partial(finished, client.extract_and_wait, file=BROKEN_PDF, schema=SCHEMA),
        "failed_parse": partial(finished, client.parse_and_wait, file=BROKEN_PDF),
        "wrong_key": partial(finished, stranger.extract_and_wait, file=brightwater, schema=SCHEMA),
        "missing_job": partial(client.get_extract_result, "no-such-job"),
        "async_extract_bergmann": partial(there, extract_asynchronously, bergmann),
        "async_parse": partial(there, parse_asynchronously, contract),
        "async_parse_url": partial(there, parse_url_asynchronously, REMOTE_URL),
        "async_classify": partial(there, classify_asynchronously, contract),
        "async_split": partial(there, split_asynchronously, cascade),
        "async_failed_extract": partial(there, extract_asynchronously, BROKEN_PDF),
        "async_wrong_key": partial(
            asynchronously, WRONG_KEY, target.base_url, extract_asynchronously, bergmann
        ),
    }


def finished(call: Callable[..., Any], **what: Any) -> dict[str, Any]:
    """All that the SDK tells of an ended job."""
    return asdict(call(**what, **POLLING))


def step_by_step(client: Any, path: Any) -> dict[str, Any]:
    """Submit, look, and take the last look's result."""
    submitted = client.extract(file=path, schema=SCHEMA, enable_citations=False)
    deadline = time.monotonic() + 20
    statuses = [submitted.status]
    while statuses[-1] != "completed" and time.monotonic() < deadline:
        time.sleep(0.1)
        answer = client.get_extract_result(submitted.job_id)
        statuses.append(answer.status)
    return {
        "statuses": list(dict.fromkeys(statuses)),
        "same_job": answer.job_id == submitted.job_id,
        "file_name": answer.file_name,
        "invoice_number": answer.result["invoice_number"],
    }


def asynchronously(
    key: str, base_url: str, call: Callable[[Any, Any], Awaitable[Any]], document: Any
) -> dict[str, Any]:
    """A call of the asynchronous client, which is closed afterwards."""

    async def run() -> Any:
        async with AsyncUnsiloedClient(key, base_url=base_url) as client:
            return await call(client, document)

    return asdict(asyncio.run(run()))


async def extract_asynchronously(client: Any, document: Any) -> Any:
    """An ended extraction."""
    return await client.extract_and_wait(file=document, schema=SCHEMA, **POLLING)


async def parse_asynchronously(client: Any, document: Any) -> Any:
    """An ended parse."""
    return await client.parse_and_wait(file=document, **POLLING)


async def parse_url_asynchronously(client: Any, url: str) -> Any:
    """An ended parse of a document behind a URL, which this client sends url-encoded."""
    return await client.parse_and_wait(url=url, **POLLING)


async def classify_asynchronously(client: Any, document: Any) -> Any:
    """An ended classification."""
    return await client.classify_and_wait(file=document, categories=CATEGORIES, **POLLING)


async def split_asynchronously(client: Any, document: Any) -> Any:
    """An ended split."""
    return await client.split_and_wait(file=document, categories=CATEGORIES, **POLLING)


if __name__ == "__main__":
    print_outcomes(calls_for)
