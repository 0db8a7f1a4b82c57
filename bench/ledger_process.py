"""The process that is measured in (f); started by `ledger`."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack, aclosing
from typing import Any

from bench.documents import invoices
from bench.ledger import CPU, WALL
from bench.processes import answer
from bench.services import client, provider
from prefect_docjobs.extraction import extract_many
from prefect_docjobs.http import Http
from prefect_docjobs.ledger import Ledger
from prefect_docjobs.simulator.stats import summary

_SERVICE = "numind"


class Window:
    """Measures from the end of a result's GET to its commit: when a crash would lose a single-use result."""

    def __init__(self) -> None:
        self._received: dict[int, float] = {}
        self.seconds: list[float] = []

    def watch(self) -> None:
        """Look on at every result that is received and kept."""
        send, fetched = Http.send, Ledger.kept

        @functools.wraps(send)
        async def sent(http: Http, request: Any, **options: Any) -> Any:
            given = await send(http, request, **options)
            if request.verbatim:
                self._received[id(given.body)] = time.perf_counter()
            return given

        @functools.wraps(fetched)
        async def kept(ledger: Ledger, record: Any, ref: Any, body: bytes, **options: Any) -> Any:
            written = await fetched(ledger, record, ref, body, **options)
            self.seconds.append(time.perf_counter() - self._received.pop(id(body)))
            return written

        setattr(Http, "send", sent)  # noqa: B010 (a method of a class)
        setattr(Ledger, "kept", kept)  # noqa: B010


async def _run(base_url: str, documents: int, address: str) -> int:
    async with AsyncExitStack() as opened:
        http = await opened.enter_async_context(client(_SERVICE, base_url))
        ledger = await opened.enter_async_context(Ledger(address)) if address else None
        outcomes = extract_many(provider(_SERVICE), http, invoices(documents), ledger=ledger)
        async with aclosing(outcomes):
            return sum([outcome.ok async for _, outcome in outcomes])


def measure(base_url: str, documents: int, ledger: str) -> Mapping[str, Any]:
    """CPU time (ms for each document) and seconds of a run, imports left out, and the window in ms."""
    window = Window()
    window.watch()
    cpu, wall = time.process_time(), time.monotonic()
    ok = asyncio.run(_run(base_url, documents, ledger))
    told = {"ok": ok, CPU: 1e3 * (time.process_time() - cpu) / documents, WALL: time.monotonic() - wall}
    if not window.seconds:
        return told
    spread = summary(1e3 * seconds for seconds in window.seconds)
    return {**told, "window p50, ms": spread["p50"], "window p95, ms": spread["p95"]}


if __name__ == "__main__":
    answer(measure)
