"""The process that runs one flow in (d); started by `extraction`."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from prefect import flow, task, unmapped
from prefect.cache_policies import NO_CACHE

from bench.extraction import BATCH, FOLDER, MAPPED, RECORDED, TASK_EACH
from bench.processes import answer, memory_peak
from bench.services import KEY, TEMPLATE
from prefect_docjobs.blocks import NuMindCredentials, NuMindJob
from prefect_docjobs.extraction import fetch_one, submit_one, wait_one
from prefect_docjobs.flows import extract_folder
from prefect_docjobs.models import Document, Result
from prefect_docjobs.tasks import aextract_documents, fetch_result, submit_document, wait_for_job

Work = Callable[[NuMindJob, Sequence[Document]], int]
"""Extract from documents in a flow; gives the number of results."""


def batch(job: NuMindJob, documents: Sequence[Document]) -> int:
    """All documents in one task run of ours."""

    @flow(name="bench-batch")
    async def run() -> int:
        return len((await aextract_documents(job, documents)).results)

    return asyncio.run(run())


def task_each(job: NuMindJob, documents: Sequence[Document]) -> int:
    """An awaited task run for each document, gathered."""

    @task(cache_policy=NO_CACHE)
    async def extract(document: Document) -> Result:
        provider = job.provider()
        async with job.credentials.get_client() as http:
            ref = await submit_one(provider, http, document)
            return await fetch_one(provider, http, (await wait_one(provider, http, ref)).ref)

    @flow(name="bench-task-each")
    async def run() -> int:
        return len(await asyncio.gather(*(extract(document) for document in documents)))

    return asyncio.run(run())


def mapped(job: NuMindJob, documents: Sequence[Document]) -> int:
    """Submit, wait and fetch as three tasks in threads, mapped over the documents."""

    @flow(name="bench-map")
    def run() -> int:
        refs = submit_document.map(unmapped(job), documents)
        statuses = wait_for_job.map(unmapped(job), refs)
        results = fetch_result.map(unmapped(job), [status.ref for status in statuses.result()])
        return len(results.result())

    return run()


def folder(job: NuMindJob, documents: Sequence[Document]) -> int:
    """The deployable flow: chunks, results in a file, a table in the UI."""
    with tempfile.TemporaryDirectory() as place:
        inside, output = Path(place) / "in", Path(place) / "out"
        inside.mkdir()
        for document in documents:
            assert document.path  # noqa: S101 (they are files)
            (inside / document.path.name).symlink_to(document.path)
        job.save("bench", overwrite=True)
        asyncio.run(extract_folder(str(inside), "numind-job/bench", output=str(output)))
        with (output / "results.jsonl").open(encoding="utf-8") as lines:
            return sum(1 for _ in lines)


WAYS: Mapping[str, Work] = {
    BATCH: batch,
    RECORDED: batch,
    FOLDER: folder,
    TASK_EACH: task_each,
    MAPPED: mapped,
}


def measure(way: str, base_url: str, folder: str, documents: int) -> Mapping[str, Any]:
    """CPU time (ms for each document), seconds, and memory at most (MiB) of a flow run, imports left out."""
    job = NuMindJob(credentials=NuMindCredentials(api_key=KEY, base_url=base_url), template=TEMPLATE)
    given = [Document.from_path(path) for path in islice(sorted(Path(folder).iterdir()), documents)]
    cpu, wall = time.process_time(), time.monotonic()
    ok = WAYS[way](job, given)
    return {
        "ok": ok,
        "cpu": 1e3 * (time.process_time() - cpu) / documents,
        "seconds": time.monotonic() - wall,
        "peak": memory_peak(),
        "listed": way in {BATCH, RECORDED, FOLDER},
    }


if __name__ == "__main__":
    answer(measure)
