"""Flow runs that are suspended while their jobs run: replayed leg by leg, against a real Prefect server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import pytest_asyncio
from prefect import flow, get_client, task
from prefect.states import Cancelled
from support.blocks import make_job
from support.deployed import DeployedRun
from support.services import invoice

from prefect_docjobs import Batch, asubmit_documents, sense_jobs
from prefect_docjobs.blocks import DocJob
from prefect_docjobs.errors import ConfigurationError, Reason
from prefect_docjobs.flows import extract_folder
from prefect_docjobs.flows.watch_jobs import watch
from prefect_docjobs.ledger import Suspension, SuspensionState
from prefect_docjobs.ledger.setting import open_ledger
from prefect_docjobs.models import JobState, Phase
from prefect_docjobs.simulator.server import Running, run_in_thread
from prefect_docjobs.simulator.settings import Settings

pytestmark = pytest.mark.timeout(400)

JOB = "mindee-job/deferred"
SECONDS = 2.0  # that a job takes

seen: list[Batch] = []
"""What `sense_jobs` returned."""


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    seen.clear()


@asynccontextmanager
async def simulated(**changes: Any) -> AsyncIterator[Running]:
    """Jobs take two seconds, unless told otherwise; the saved job goes there."""
    settings = Settings().merged({"duration": {"law": "fixed", "seconds": SECONDS}}).merged(changes)
    with run_in_thread(settings) as running:
        await make_job("mindee", running.base_url).asave("deferred", overwrite=True)
        yield running


@pytest_asyncio.fixture
async def service() -> AsyncIterator[Running]:
    async with simulated() as running:
        yield running


@flow(name="sense-legs")
async def senses(
    mode: str = "suspend", number: int = 2, timeout: float | None = None, cost: float = 20.0
) -> int:
    submitted = await asubmit_documents(JOB, [invoice(each) for each in range(number)])
    batch = await sense_jobs(JOB, submitted, mode=mode, timeout=timeout, suspend_cost=cost)  # type: ignore[arg-type]
    seen.append(batch)
    return len(batch)


async def waits_of(run: DeployedRun) -> list[Suspension]:
    async with open_ledger() as ledger:
        return await ledger.suspensions.find(str(run.id))


@asynccontextmanager
async def watched() -> AsyncIterator[None]:
    """A watcher at work."""
    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def until_resumed(run: DeployedRun) -> None:
    with anyio.fail_after(30):
        while (await run.state()).is_paused():  # noqa: ASYNC110 (it is Prefect's API that tells)
            await anyio.sleep(0.2)


def submits(service: Running) -> int:
    return int(service.backend.report()["submits"]["total"])


def looks(service: Running) -> int:
    return sum(job.polls for job in service.backend.all_jobs())


async def test_a_run_is_suspended_resumed_and_ends_as_if_it_had_waited(service: Running) -> None:
    run = await DeployedRun.of(senses)
    suspended = await run.leg()
    assert (suspended.is_paused(), suspended.name) == (True, "Suspended")
    assert not seen
    async with watched():
        await until_resumed(run)
    before = looks(service)
    assert (await run.leg()).is_completed()
    (batch,) = seen
    assert [row.status.state for row in batch if row.status] == [JobState.SUCCEEDED] * 2
    assert [row.phase for row in batch] == [Phase.WAIT] * 2
    assert submits(service) == 2
    assert looks(service) == before  # the ledger knows
    assert [wait.state for wait in await waits_of(run)] == [SuspensionState.RESUMED]


async def test_when_all_jobs_have_ended_nothing_is_suspended(service: Running) -> None:
    first = await DeployedRun.of(senses)
    await first.leg()
    async with watched():
        await until_resumed(first)
    assert (await first.leg()).is_completed()
    second = await DeployedRun.of(senses)
    assert (await second.leg()).is_completed()
    assert await waits_of(second) == []
    assert submits(service) == 2


async def test_a_run_that_a_person_resumes_too_early_is_suspended_again(service: Running) -> None:
    run = await DeployedRun.of(senses)
    await run.leg()
    await run.resume()
    assert (await run.leg()).is_paused()
    assert len(await waits_of(run)) == 1
    async with watched():
        await until_resumed(run)
    assert (await run.leg()).is_completed()
    assert submits(service) == 2


async def test_a_run_that_a_person_resumes_after_the_jobs_have_ended_goes_on(service: Running) -> None:
    run, other = await DeployedRun.of(senses), await DeployedRun.of(senses)
    await run.leg()
    await other.leg()
    async with watched():
        await until_resumed(run)
    async with open_ledger() as ledger:  # as if no watcher had got to it yet
        (wait,) = await ledger.suspensions.find(str(other.id))
        await ledger.suspensions.forget([str(other.id)])
        await ledger.suspensions.register(wait.id, flow_run_id=wait.flow_run_id, job=wait.job, refs=wait.refs)
    if (await other.state()).is_paused():
        await other.resume()
    assert (await other.leg()).is_completed()
    assert [wait.state for wait in await waits_of(other)] == [SuspensionState.RESUMED]
    assert submits(service) == 2


async def test_when_the_time_has_passed_the_rows_say_so() -> None:
    async with simulated(stuck_share=1.0) as service:
        run = await DeployedRun.of(senses, timeout=2.0)
        assert (await run.leg()).is_paused()
        async with watched():
            await until_resumed(run)
        assert (await run.leg()).is_completed()
        assert [row.reason for row in seen[0]] == [Reason.TIMEOUT] * 2
        assert submits(service) == 2


async def test_failed_jobs_are_rows_as_if_the_run_had_waited() -> None:
    async with simulated(failed_share=1.0) as service:
        run = await DeployedRun.of(senses)
        await run.leg()
        async with watched():
            await until_resumed(run)
        before = looks(service)
        assert (await run.leg()).is_completed()
        assert [(row.reason, row.phase) for row in seen[0]] == [(Reason.FAILED, Phase.WAIT)] * 2
        assert all(row.error for row in seen[0])
        assert (submits(service), looks(service)) == (2, before)


async def test_a_cancelled_run_is_forgotten_and_never_resumed() -> None:
    async with simulated(duration={"seconds": 1.0}):
        run = await DeployedRun.of(senses)
        await run.leg()
        async with get_client() as client:
            await client.set_flow_run_state(run.id, Cancelled(), force=True)
        async with watched():
            with anyio.fail_after(30):
                while await waits_of(run):  # noqa: ASYNC110 (it is another connection that writes)
                    await anyio.sleep(0.2)
        assert (await run.state()).is_cancelled()


async def test_short_jobs_wait_in_the_process(service: Running) -> None:
    run = await DeployedRun.of(senses, mode="auto", cost=20.0)
    assert (await run.leg()).is_completed()
    assert await waits_of(run) == []
    assert [row.ok for row in seen[0]] == [True, True]


async def test_long_jobs_are_suspended_after_a_while() -> None:
    async with simulated(duration={"seconds": 6.0}) as service:
        run = await DeployedRun.of(senses, mode="auto", cost=1.0)
        assert (await run.leg()).is_paused()
        async with watched():
            await until_resumed(run)
        assert (await run.leg()).is_completed()
        assert submits(service) == 2


async def test_without_a_deployment_auto_waits_in_the_process(service: Running) -> None:
    assert await senses("auto", cost=0.1) == 2
    assert [row.ok for row in seen[0]] == [True, True]


async def test_without_a_deployment_a_run_cannot_be_suspended(service: Running) -> None:
    with pytest.raises(ConfigurationError, match="deploy the flow and run the deployment"):
        await senses()


async def test_outside_of_a_flow_nothing_can_be_suspended(job: DocJob) -> None:
    with pytest.raises(ConfigurationError, match="call it in the body of a flow"):
        await sense_jobs(job, [], mode="suspend")


async def test_a_task_a_subflow_and_a_run_without_ledger_cannot_be_suspended(
    service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    async def told(job: DocJob | str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            await sense_jobs(job, [], mode="suspend")
        said.append(str(caught.value))

    @task
    async def in_a_task() -> None:
        await told(JOB)

    @flow
    async def in_a_subflow() -> None:
        await told(JOB)

    @flow(name="cannot-suspend")
    async def everywhere() -> None:
        await in_a_task()
        await in_a_subflow()
        await told(make_job("mindee", service.base_url))
        monkeypatch.setenv("PREFECT_DOCJOBS_LEDGER", "")
        await told(JOB)

    assert (await (await DeployedRun.of(everywhere)).leg()).is_completed()
    wanted = ["in the body of a flow", "not in a subflow", "save the job block", "have a ledger"]
    assert [want for want, line in zip(wanted, said, strict=True) if want in line] == wanted


async def test_the_ready_flow_delivers_what_was_in_the_folder_when_it_began(
    service: Running, tmp_path: Path
) -> None:
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    inbox.mkdir()
    for number in range(3):
        (inbox / f"{number}.png").write_bytes(invoice(number).data or b"")
    (inbox / "note.txt").write_text("no invoice")
    given = {"folder": str(inbox), "job": JOB, "wait": "suspend", "output": str(out), "chunk_size": 2}
    run = await DeployedRun.of(extract_folder, **given)
    assert (await run.leg()).is_paused()
    (inbox / "late.png").write_bytes(invoice(9).data or b"")
    async with watched():
        await until_resumed(run)
    ended = await run.leg()
    assert ended.is_completed(), ended.message
    assert str(ended.message).startswith("3 of 4 documents delivered; 1 invalid_document.")
    assert len((out / "rows.jsonl").read_text("utf-8").splitlines()) == 4
    assert submits(service) == 3


async def test_a_replay_buys_nothing_that_the_budget_had_left_out(service: Running, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for number in range(4):
        (inbox / f"{number}.png").write_bytes(invoice(number).data or b"")
    given = {"folder": str(inbox), "job": JOB, "wait": "suspend", "output": str(tmp_path / "out")}
    run = await DeployedRun.of(extract_folder, **given, budget=2)
    assert (await run.leg()).is_paused()
    async with watched():
        await until_resumed(run)
    ended = await run.leg()
    assert str(ended.message).startswith("2 of 4 documents delivered; 2 budget.")
    assert submits(service) == 2
