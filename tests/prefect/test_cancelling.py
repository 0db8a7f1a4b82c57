"""Flow runs that are cancelled, or whose worker dies, with a real server, runners, processes and signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import pytest
from prefect import State, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.states import Cancelling
from prefect.types.entrypoint import EntrypointType
from support.blocks import make_job
from support.processes import process
from support.services import invoice

from prefect_docjobs.errors import Reason
from prefect_docjobs.flows import extract_folder
from prefect_docjobs.ledger import Record
from prefect_docjobs.ledger import State as Known
from prefect_docjobs.ledger.setting import open_ledger
from prefect_docjobs.simulator import server as simulator_server
from prefect_docjobs.simulator.settings import Duration, Settings

pytestmark = pytest.mark.timeout(400)

NUMBER = 6
PRINTED = "printed.txt"
JOB = "numind-job/cancelling"
SERVE = "from prefect_docjobs.flows import extract_folder; extract_folder.serve(name='cancelling')"


@contextmanager
def simulated(seconds: float) -> Iterator[simulator_server.Running]:
    """A simulator whose jobs take so long, and the saved job that goes there."""
    settings = Settings(duration=Duration(law="fixed", seconds=seconds))
    with simulator_server.run_in_thread(settings) as running:
        make_job("numind", running.base_url).save("cancelling", overwrite=True)
        yield running


@pytest.fixture
def endless() -> Iterator[simulator_server.Running]:
    with simulated(600.0) as running:
        yield running


@pytest.fixture
def slow() -> Iterator[simulator_server.Running]:
    with simulated(12.0) as running:
        yield running


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    for number in range(NUMBER):
        document = invoice(number)
        (folder / document.name).write_bytes(document.data or b"")
    return folder


async def until(condition: Callable[[], Awaitable[bool]], printed: Path) -> None:
    """Wait for what another process does."""
    with anyio.move_on_after(120) as limit:
        is_so = await condition()
        while not is_so:
            await anyio.sleep(0.2)
            is_so = await condition()
    assert not limit.cancelled_caught, _text(printed)[-6000:]


def _text(printed: Path) -> str:
    return printed.read_text("utf-8")


async def records(state: Known | None = None) -> list[Record]:
    async with open_ledger() as ledger:
        return await ledger.find(states=[state] if state else None)


async def submitted_by(name: str, folder: Path) -> UUID:
    """Start a run of a deployment, and wait until all its jobs are known."""
    parameters = {"folder": str(folder), "job": JOB, "output": str(folder.parent / "out"), "chunk_size": 2}
    async with get_client() as client:
        deployments: list[Any] = []

        async def is_there() -> bool:
            found = await client.read_deployments()
            deployments[:] = [deployment for deployment in found if deployment.name == name]
            return bool(deployments)

        await until(is_there, folder.parent / PRINTED)
        run = await client.create_flow_run_from_deployment(deployments[0].id, parameters=parameters)

    async def all_are_known() -> bool:
        return len(await records(Known.SUBMITTED)) == NUMBER

    await until(all_are_known, folder.parent / PRINTED)
    return run.id


async def ended(run_id: UUID, printed: Path) -> State[Any]:
    states: list[State[Any]] = []

    async def has_ended() -> bool:
        async with get_client() as client:
            state = (await client.read_flow_run(run_id)).state
        if state is not None and state.is_final():
            states.append(state)
        return bool(states)

    await until(has_ended, printed)
    return states[0]


async def hook_has_said(what: str, directory: Path) -> bool:
    """A crashed run is crashed for the server before its hooks are called."""
    return what in _text(directory / PRINTED)


def worker_of(rows: list[Record]) -> int:
    """The process that submitted all of these."""
    (pid,) = {int(row.owner.split(":")[1]) for row in rows}
    return pid


def phases(simulator: simulator_server.Running) -> dict[str, int]:
    jobs: dict[str, int] = simulator.backend.report()["jobs"]
    return {phase: number for phase, number in jobs.items() if phase != "total"}


async def delivered_by_a_rerun(folder: Path) -> dict[str, Any]:
    totals = await extract_folder(str(folder), JOB, output=str(folder.parent / "again"))
    rows = (folder.parent / "again" / "rows.jsonl").read_text("utf-8").splitlines()
    said = {row["document"]: row["invoice_number"] for row in map(json.loads, rows)}
    assert said == {invoice(number).name: f"N-{number:05}" for number in range(NUMBER)}
    return totals


async def test_cancelling_a_served_run_cancels_every_running_job_at_the_service(
    endless: simulator_server.Running, inbox: Path, tmp_path: Path
) -> None:
    with process("printed", "-c", SERVE, cwd=tmp_path):
        run_id = await submitted_by("cancelling", inbox)
        async with get_client() as client:
            await client.set_flow_run_state(run_id, Cancelling())
        state = await ended(run_id, tmp_path / PRINTED)
    assert state.is_cancelled()
    assert phases(endless) == {"cancelled": NUMBER}
    assert Counter((row.state, row.reason) for row in await records()) == {
        (Known.FAILED, Reason.CANCELLED): NUMBER
    }
    assert f"{NUMBER} jobs of this run: cancelled at the service" in _text(tmp_path / PRINTED)


async def test_shutting_a_runner_down_keeps_the_jobs_and_a_rerun_takes_them_up(
    slow: simulator_server.Running, inbox: Path, tmp_path: Path
) -> None:
    with process("printed", "-c", SERVE, cwd=tmp_path) as runner:
        await submitted_by("cancelling", inbox)
        runner.terminate()
        await anyio.to_thread.run_sync(runner.wait)
    assert "cancelled" not in phases(slow)
    totals = await delivered_by_a_rerun(inbox)
    assert totals["delivered"] == slow.backend.report()["submits"]["total"] == NUMBER


@asynccontextmanager
async def process_worker(directory: Path, **environment: str) -> AsyncIterator[subprocess.Popen[str]]:
    """A process worker, and a deployment of `extract_folder` that it runs."""
    async with get_client() as client:
        await client.create_work_pool(WorkPoolCreate(name="kept", type="process"), overwrite=True)
    deployment = await extract_folder.ato_deployment(
        name="kept", work_pool_name="kept", entrypoint_type=EntrypointType.MODULE_PATH
    )
    await deployment.aapply()
    command = ("-m", "prefect", "worker", "start", "--pool", "kept", "--type", "process")
    with process("printed", *command, cwd=directory, **environment) as worker:
        yield worker


async def test_a_run_that_is_killed_keeps_its_jobs_free_at_once_for_a_rerun(
    slow: simulator_server.Running, inbox: Path, tmp_path: Path
) -> None:
    async with process_worker(tmp_path):
        run_id = await submitted_by("kept", inbox)
        os.kill(worker_of(await records(Known.SUBMITTED)), signal.SIGKILL)
        state = await ended(run_id, tmp_path / PRINTED)
        await until(partial(hook_has_said, f"{NUMBER} jobs of this run kept", tmp_path), tmp_path / PRINTED)
    assert state.is_crashed()
    assert max(row.lease_left for row in await records(Known.SUBMITTED)) <= 0.0
    totals = await delivered_by_a_rerun(inbox)
    assert totals["delivered"] == slow.backend.report()["submits"]["total"] == NUMBER


async def test_when_worker_and_run_are_killed_a_rerun_delivers_without_a_second_submit(
    slow: simulator_server.Running, inbox: Path, tmp_path: Path
) -> None:
    async with process_worker(tmp_path, PREFECT_DOCJOBS_LEDGER_LEASE="3") as worker:
        await submitted_by("kept", inbox)
        worker.kill()
        os.kill(worker_of(await records(Known.SUBMITTED)), signal.SIGKILL)
    totals = await delivered_by_a_rerun(inbox)
    assert totals["delivered"] == slow.backend.report()["submits"]["total"] == NUMBER
