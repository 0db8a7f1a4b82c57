"""A process that runs batch after batch, and prints how much memory it holds after some and after all.

Usage: `soak_process.py SOME ALL plain|ledger|pushes|watching`. It prints JSON: for each of the two moments
the objects that Python's collector knows, the blocks that Python has allocated, the resident bytes, and how
many of the blocks each file of the package has allocated, but for the simulator.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import sys
import tempfile
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import httpx
from support.patient_time import patient_time
from support.services import KEY, ORIGIN, connected, invoice
from support.shop import TENANT, Shop, shop
from support.suspended import town

import prefect_docjobs
from prefect_docjobs.blocks import MindeeCredentials
from prefect_docjobs.extraction import extract_many
from prefect_docjobs.http import Http
from prefect_docjobs.ledger import Account, Ledger
from prefect_docjobs.models import JobState
from prefect_docjobs.providers import provider_class

PACKAGE = Path(prefect_docjobs.__file__).parent
CLOCK = "simulator/virtual_time.py"  # it makes the times that others keep
EACH = 5  # documents of a batch
SOON = {"law": "fixed", "seconds": 2.0}
SERVICES = ("numind", "mindee", "unsiloed", "mindee_v1")

Batch: TypeAlias = Callable[[int], Awaitable[None]]
"""Runs the batch of this number."""


@functools.lru_cache(maxsize=1)
def _bounded() -> None:
    """What a bounded cache looks like."""


def held() -> dict[str, Any]:
    for cache in [it for it in gc.get_objects() if isinstance(it, type(_bounded))]:
        if cache.cache_parameters()["maxsize"] is not None:  # those are full sooner or later
            cache.cache_clear()
    gc.collect()
    blocks, objects = sys.getallocatedblocks(), len(gc.get_objects())
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1]) if sys.platform == "linux" else 0
    ours = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, f"{PACKAGE}/*")])
    files = Counter[str]()
    for told in ours.statistics("filename"):
        files[str(Path(told.traceback[0].filename).relative_to(PACKAGE))] += told.count
    told_of = {file: count for file, count in files.items() if file == CLOCK or "simulator" not in file}
    return {"objects": objects, "blocks": blocks, "resident": pages * 4096, "files": told_of}


async def extract(provider: object, http: Http, number: int, ledger: Ledger | None) -> None:
    """One batch; each document is delivered."""
    asked = [invoice(number * EACH + each) for each in range(EACH)]
    rows = [row async for _, row in extract_many(provider, http, asked, ledger=ledger)]  # type: ignore[arg-type]
    assert all(row.result for row in rows), [row.error for row in rows]


@asynccontextmanager
async def plain(folder: Path) -> AsyncIterator[Batch]:
    """Without a ledger: one service after the other, each batch with a client of its own."""
    account = MindeeCredentials(api_key=KEY, status_per_second=100.0)

    async def batch(number: int) -> None:
        async with connected(SERVICES[number % len(SERVICES)], duration=SOON) as at:
            await extract(at.provider, at.http, number, None)
        async with account.get_client():
            pass

    yield batch


@asynccontextmanager
async def ledger(folder: Path) -> AsyncIterator[Batch]:
    """With a ledger on SQLite that is opened by each batch."""

    async def batch(number: int) -> None:
        name = SERVICES[number % len(SERVICES)]
        async with connected(name, duration=SOON) as at, Ledger(str(folder / "ledger.db")) as opened:
            await extract(at.provider, at.http, number, opened)

    yield batch


class _Inbox(httpx.AsyncBaseTransport):
    """Keeps what the service pushes, as the receiver does, in the ledger of a shop."""

    at: Shop
    number = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body, self.number = await request.aread(), self.number + 1
        push = provider_class("mindee").read_push(body)
        await self.at.ledger.inbox.keep(
            Account("mindee", ORIGIN, TENANT),
            job_id=push.job_id,
            alias=push.alias,
            state=push.state if self.number % 3 else None,  # every third is a hint
            raw_state=push.raw_state,
            error=push.error,
            digest=f"{self.number:064}",
            body=body if push.state is JobState.SUCCEEDED and self.number % 3 else None,
            keep_for=60.0,
        )
        return httpx.Response(200)


@asynccontextmanager
async def pushes(folder: Path) -> AsyncIterator[Batch]:
    """With one ledger and one client for all batches, and pushes."""
    inbox = _Inbox()
    hook = {"url": "https://receiver.test/{service}"}
    async with shop("mindee", folder, push_transport=inbox, webhooks=hook, duration=SOON) as inbox.at:
        running = asyncio.create_task(inbox.at.pushes.run())

        async def batch(number: int) -> None:
            await extract(inbox.at.provider, inbox.at.http, number, inbox.at.ledger)
            inbox.at.backend.reset()
            inbox.at.requests.clear()

        yield batch
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@asynccontextmanager
async def watching(folder: Path) -> AsyncIterator[Batch]:
    """One waiter for the jobs of all batches, as the watcher has."""
    async with town("numind", folder, duration=SOON) as place:
        accounts = place.watcher().accounts
        async with accounts.of("toy-job/x") as account:

            async def batch(number: int) -> None:
                await account.wait(await place.submitted(EACH))
                place.backend.reset()
                place.requests.clear()

            yield batch


SCENARIOS = {scenario.__name__: scenario for scenario in (plain, ledger, pushes, watching)}


@patient_time
async def soak(some: int, batches: int, scenario: str) -> list[dict[str, Any]]:
    """What is held after some of the batches, and after all."""
    told = []
    with tempfile.TemporaryDirectory() as folder:
        async with SCENARIOS[scenario](Path(folder)) as batch:
            for number in range(batches):
                await batch(number)
                if number + 1 in (some, batches):
                    told.append(held())
    return told


if __name__ == "__main__":
    tracemalloc.start()
    print(json.dumps(soak(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])))
