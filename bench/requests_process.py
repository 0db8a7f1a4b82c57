"""The process that only sends the requests of (d), through `Http` alone; started by `extraction`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path

from bench.processes import answer
from bench.services import client, provider
from prefect_docjobs.http import Answer, Request
from prefect_docjobs.models import Document

_SERVICE = "numind"
_AT_A_TIME = 8


def measure(base_url: str, folder: str, documents: int, looks: int, listed: bool) -> Mapping[str, float]:
    """Milliseconds of CPU for each document: its submit and fetch, and its share of the looks.

    Nothing is read out of answers but the job's id; requests of the same form are built once.
    """
    paths = islice(sorted(Path(folder).iterdir()), documents)
    given = [Document.from_path(path) for path in paths]
    return asyncio.run(_measured(base_url, given, looks, listed))


async def _measured(
    base_url: str, documents: Sequence[Document], looks: int, listed: bool
) -> Mapping[str, float]:
    service = provider(_SERVICE)
    async with client(_SERVICE, base_url) as http:
        submits = [service.submit_request(document, alias="") for document in documents]
        cpu = time.process_time()
        refs = [answered.json()["jobId"] for answered in await _all(http.submit, submits)]
        fetches = [Request("GET", f"/api/structured-extraction/jobs/{job}", verbatim=True) for job in refs]
        page = Request("GET", "/api/jobs", params={"skip": 0, "perPage": 100})
        singles = (Request("GET", f"/api/jobs/{job}/status") for job in refs)
        await _all(http.poll, islice(cycle([page] if listed else singles), looks))
        await _all(http.send, fetches)
        return {"cpu": 1e3 * (time.process_time() - cpu) / len(documents)}


async def _all(send: Callable[[Request], Awaitable[Answer]], requests: Iterable[Request]) -> list[Answer]:
    """Send requests, eight at a time as our pipeline does."""
    waiting = iter(requests)

    async def work() -> list[Answer]:
        return [await send(request) for request in waiting]

    answers = await asyncio.gather(*(work() for _ in range(_AT_A_TIME)))
    return [told for of_one in answers for told in of_one]


if __name__ == "__main__":
    answer(measure)
