"""Suspended runs of a served deployment, and watchers, each in a process of its own."""

from __future__ import annotations

import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import pytest
from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from support.blocks import make_job
from support.processes import Usage, process, until
from support.services import invoice

from prefect_docjobs.simulator.server import Running, run_in_thread
from prefect_docjobs.simulator.settings import Settings

JOB = "numind-job/deferred"
WATCH = ("-m", "prefect_docjobs.cli", "watch")

pytestmark = [pytest.mark.timeout(1800), pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]


@asynccontextmanager
async def simulated(seconds: float) -> AsyncIterator[Running]:
    """A service whose jobs take so long, and the saved job that goes there."""
    with run_in_thread(Settings().merged({"duration": {"law": "fixed", "seconds": seconds}})) as running:
        await make_job("numind", running.base_url).asave("deferred", overwrite=True)
        yield running


def serving(limit: int) -> tuple[str, str]:
    flows = "from prefect_docjobs.flows import extract_folder"
    return ("-c", f"{flows}; extract_folder.serve(name='deferred', limit={limit})")


class Runs:
    """Runs of the served deployment, each with a folder of its own.

    Attributes:
        ids: Of the runs.
    """

    def __init__(self, directory: Path, documents: int) -> None:
        self._directory = directory
        self._documents = documents
        self.ids: list[UUID] = []

    async def deployed(self) -> UUID:
        """The deployment, as soon as it is there."""
        found: list[UUID] = []

        async def is_there() -> bool:
            async with get_client() as client:
                found[:] = [each.id for each in await client.read_deployments() if each.name == "deferred"]
            return bool(found)

        await until(is_there, within=120)
        return found[0]

    async def start(self, deployment: UUID, number: int) -> None:
        async with get_client() as client:
            for each in range(number):
                parameters = self._parameters(each)
                run = await client.create_flow_run_from_deployment(deployment, parameters=parameters)
                self.ids.append(run.id)

    def _parameters(self, number: int) -> dict[str, Any]:
        folder = self._directory / f"inbox-{number}"
        folder.mkdir()
        for each in range(self._documents):
            document = invoice(number * self._documents + each)
            (folder / document.name).write_bytes(document.data or b"")
        output = str(self._directory / f"out-{number}")
        return {"folder": str(folder), "job": JOB, "wait": "suspend", "output": output}

    async def states(self) -> Counter[str]:
        async with get_client() as client:
            these = FlowRunFilter(id=FlowRunFilterId(any_=self.ids))
            return Counter(str(run.state_name) for run in await client.read_flow_runs(flow_run_filter=these))

    async def until(self, number: int, names: Sequence[str], *, within: float) -> None:
        async def so_many() -> bool:
            states = await self.states()
            assert not states["Failed"] + states["Crashed"], states
            return sum(states[name] for name in names) >= number

        await until(so_many, within=within)

    def delivered(self) -> int:
        outs = (self._directory / f"out-{number}" / "results.jsonl" for number in range(len(self.ids)))
        return sum(len(out.read_text("utf-8").splitlines()) for out in outs)


def end_all_jobs(service: Running) -> None:
    """An hour passes at the service."""
    service.backend.clock = lambda: time.monotonic() + 3600.0


def submits(service: Running) -> int:
    return int(service.backend.report()["submits"]["total"])


async def test_runs_of_a_deployment_are_suspended_and_resumed_by_the_command(tmp_path: Path) -> None:
    runs = Runs(tmp_path, documents=3)
    async with simulated(12.0) as service:
        with (
            process("runner", *serving(2), cwd=tmp_path),
            process("watcher", *WATCH, cwd=tmp_path) as watcher,
        ):
            await runs.start(await runs.deployed(), 2)
            await runs.until(1, ["Suspended"], within=120)
            await runs.until(2, ["Completed"], within=120)
            watcher.terminate()
            assert await anyio.to_thread.run_sync(watcher.wait) == 128 + signal.SIGTERM
        assert submits(service) == runs.delivered() == 6
    assert "Traceback" not in (tmp_path / "watcher.txt").read_text("utf-8")


@pytest.mark.e2e
async def test_fifty_runs_are_suspended_at_once_and_hold_no_worker(tmp_path: Path) -> None:
    number, runs = 50, Runs(tmp_path, documents=10)
    async with simulated(3600.0) as service:
        with process("runner", *serving(3), cwd=tmp_path) as runner:
            began = anyio.current_time()
            with process("watcher", *WATCH, cwd=tmp_path) as watcher:
                await runs.start(await runs.deployed(), number)
                await runs.until(number, ["Suspended"], within=900)
                suspended = anyio.current_time() - began
                await anyio.sleep(10)  # until the last process has ended
                before, watching = Usage.of(runner.pid), Usage.of(watcher.pid)
                await anyio.sleep(20)
                idle, watched = Usage.of(runner.pid), Usage.of(watcher.pid)
                assert (await runs.states())["Suspended"] == number
                end_all_jobs(service)
                woken = anyio.current_time()
                await runs.until(5, ["Resuming", "Pending", "Running", "Completed"], within=600)
                watcher.kill()
            resumed = number - (await runs.states())["Suspended"]
            with process("watcher", *WATCH, cwd=tmp_path):
                await runs.until(number, ["Completed"], within=900)
            ended = anyio.current_time() - woken
        assert submits(service) == runs.delivered() == number * 10
        looks = sum(job.polls for job in service.backend.all_jobs())
    print(
        f"\n{number} runs of 10 documents: all suspended after {suspended:.0f} s. "
        f"The runner meanwhile: {(idle.cpu - before.cpu) / 0.2:.1f} % of a core, {idle.memory >> 20} MiB, "
        f"{len(idle.children)} processes of runs; "
        f"the watcher: {(watched.cpu - watching.cpu) / 0.2:.1f} %, {watched.memory >> 20} MiB. "
        f"It was killed when {resumed} were resumed, "
        f"and all had ended {ended:.0f} s after their jobs. "
        f"{submits(service)} submits, {runs.delivered()} results, {looks} looks at single jobs."
    )
    assert idle.children == ()
