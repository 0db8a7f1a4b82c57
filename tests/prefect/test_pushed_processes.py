"""From a job's end at the service to whoever waits: simulator, receiver, watcher and runs as processes."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect import flow, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from pydantic import SecretStr
from support.ports import free_port
from support.processes import process, until
from support.services import KEY, MODEL, invoice

from prefect_docjobs import (
    Batch,
    MindeeCredentials,
    MindeeJob,
    aextract_documents,
    afetch_results,
    as_jobs_complete,
    asubmit_documents,
)
from prefect_docjobs.simulator.server import Running, run_in_thread
from prefect_docjobs.simulator.settings import Settings

JOB = "mindee-job/pushed"
SERVE = "from prefect_docjobs.flows import extract_folder as flow; flow.serve(name='pushed', limit=5)"
WATCH = ("-m", "prefect_docjobs.cli", "watch")
SECRET = "simulator-secret"  # the simulator's default
WEBHOOK = "0f0e0d0c-0000-4000-8000-00000000beef"

pytestmark = [pytest.mark.timeout(900), pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]


@asynccontextmanager
async def pushing(tmp_path: Path, duration: dict[str, Any]) -> AsyncIterator[tuple[Running, MindeeJob]]:
    """Mindee V2, its receiver (a process), and the saved job."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/webhooks/{{service}}/pushed"
    settings = Settings().merged({"duration": duration, "webhooks": {"url": url, "attempts": 5}})
    with run_in_thread(settings) as running:
        secrets = [SecretStr(SECRET)]
        account = MindeeCredentials(
            api_key=SecretStr(KEY), base_url=running.base_url, webhook_secrets=secrets
        )
        await account.asave("pushed", overwrite=True)
        job = MindeeJob(credentials=account, model_id=MODEL, webhook_ids=[WEBHOOK])
        await job.asave("pushed", overwrite=True)
        receiver = ("-m", "prefect_docjobs.cli", "webhooks", "--port", str(port), "--block")
        with process("receiver", *receiver, "mindee-credentials/pushed", cwd=tmp_path):

            async def is_ready() -> bool:
                async with httpx.AsyncClient(trust_env=False) as client:
                    try:
                        return (await client.get(f"http://127.0.0.1:{port}/readyz")).is_success
                    except httpx.TransportError:
                        return False

            await until(is_ready, within=60)
            yield running, job


def told(what: str, seconds: list[float]) -> str:
    ordered = sorted(seconds)
    p95 = ordered[int(0.95 * (len(ordered) - 1))]
    return f"\n{what} ({len(ordered)}): median {statistics.median(ordered):.3f} s, p95 {p95:.3f} s"


def ends(service: Running) -> dict[str, float]:
    """When each job ends, on the monotonic clock."""
    return {job.id: job.ends_at for job in service.backend.all_jobs()}


def fetches(service: Running) -> int:
    return sum(job.fetches for job in service.backend.all_jobs())


async def test_pushes_end_the_wait_of_a_task_and_nothing_is_fetched(tmp_path: Path) -> None:
    async with pushing(tmp_path, {"law": "fixed", "seconds": 6.0}) as (service, job):

        @flow
        async def extracts() -> Batch:
            return await aextract_documents(job, [invoice(number) for number in range(10)])

        batch = await extracts()
        report = service.backend.report()
    assert len(batch.results) == report["submits"]["total"] == report["pushes"]["delivered"] == 10
    assert not fetches(service)


@pytest.mark.e2e
async def test_how_soon_a_push_wakes_a_waiting_task(tmp_path: Path) -> None:
    async with pushing(tmp_path, {"law": "uniform", "low": 15.0, "high": 45.0}) as (service, job):
        submitted = await asubmit_documents(job, [invoice(number) for number in range(200)])
        woken = {}
        async for outcome in as_jobs_complete(job, submitted):
            assert outcome.ref
            woken[outcome.ref.job_id] = time.monotonic()
        late = [woken[job_id] - ended for job_id, ended in ends(service).items()]
        results = await afetch_results(job, submitted)
        assert len(results.results) == 200
    print(told("From a job's end to the waiting task", late), f"; {fetches(service)} results were fetched")


@pytest.mark.e2e
async def test_how_soon_a_push_has_a_suspended_run_scheduled(tmp_path: Path) -> None:
    number = 20
    async with pushing(tmp_path, {"law": "uniform", "low": 60.0, "high": 90.0}) as (service, _):
        with process("runner", "-c", SERVE, cwd=tmp_path), process("watcher", *WATCH, cwd=tmp_path):
            runs = await started(tmp_path, number)

            async def all_have_ended() -> bool:
                async with get_client() as client:
                    these = FlowRunFilter(id=FlowRunFilterId(any_=runs))
                    found = await client.read_flow_runs(flow_run_filter=these)
                return all(run.state and run.state.is_completed() for run in found)

            await until(all_have_ended, within=600)
        late = [await resumed_at(run) - ended for run, ended in zip(runs, by_run(service, runs), strict=True)]
    print(
        told("From a job's end to its suspended run being scheduled", late), f"; {fetches(service)} fetched"
    )


async def started(directory: Path, number: int) -> list[UUID]:
    """Runs of one document each."""
    found: list[UUID] = []

    async def is_deployed() -> bool:
        async with get_client() as client:
            found[:] = [each.id for each in await client.read_deployments() if each.name == "pushed"]
        return bool(found)

    await until(is_deployed, within=120)
    runs = []
    async with get_client() as client:
        for each in range(number):
            folder = directory / f"in-{each}"
            folder.mkdir()
            document = invoice(each)
            (folder / document.name).write_bytes(document.data or b"")
            parameters = {
                "folder": str(folder),
                "job": JOB,
                "wait": "suspend",
                "output": str(directory / f"out-{each}"),
            }
            runs.append((await client.create_flow_run_from_deployment(found[0], parameters=parameters)).id)
    return runs


def by_run(service: Running, runs: list[UUID]) -> list[float]:
    """When the job of each run ended, by the wall clock; the documents are numbered as the runs."""
    wall = time.time() - time.monotonic()
    jobs = sorted(service.backend.all_jobs(), key=lambda job: job.source.name)
    assert len(jobs) == len(runs)
    return [job.ends_at + wall for job in jobs]


async def resumed_at(run: UUID) -> float:
    """When a suspended run was scheduled, by the wall clock."""
    async with get_client() as client:
        states = sorted(await client.read_flow_run_states(run), key=lambda state: state.timestamp)
    names = [state.name for state in states]
    return states[names.index("Suspended") + 1].timestamp.timestamp()
