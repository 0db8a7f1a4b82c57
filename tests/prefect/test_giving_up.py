"""What the hook of cancelled and crashed runs does, case by case; no other process is needed."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import State, flow, get_client, runtime
from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelled, Cancelling, Crashed
from support.blocks import make_job
from support.services import invoice

from prefect_docjobs import asubmit_documents, await_for_jobs, cancel_remote_jobs
from prefect_docjobs.blocks import DocJob
from prefect_docjobs.errors import ConfigurationError, Reason
from prefect_docjobs.ledger import Record
from prefect_docjobs.ledger import State as Known
from prefect_docjobs.ledger.setting import address, open_ledger
from prefect_docjobs.providers import provider_class
from prefect_docjobs.providers.registry import BUILT_IN
from prefect_docjobs.simulator.server import Running, run_in_thread
from prefect_docjobs.simulator.settings import Duration, Settings
from prefect_docjobs.tasks.cancel import WITHOUT_A_BLOCK, CancelOutcome, cancel_jobs, has_died, job_of

DOCUMENTS = [invoice(number) for number in range(3)]


@pytest.fixture
def slow() -> Iterator[Running]:
    """A simulator whose jobs outlast every test."""
    with run_in_thread(Settings(duration=Duration(law="fixed", seconds=600.0))) as running:
        yield running


@pytest.fixture
def job(slow: Running) -> DocJob:
    """A saved job of the service that can cancel."""
    block = make_job("numind", slow.base_url)
    block.save("given-up", overwrite=True)
    return block


async def records() -> list[Record]:
    async with open_ledger() as ledger:
        assert ledger
        return await ledger.find()


async def known() -> Counter[tuple[Known, Reason | None]]:
    return Counter((record.state, record.reason) for record in await records())


def phases(simulator: Running) -> dict[str, int]:
    jobs: dict[str, int] = simulator.backend.report()["jobs"]
    return {phase: number for phase, number in jobs.items() if phase != "total"}


@flow
async def part(job: DocJob) -> None:
    await asubmit_documents(job, DOCUMENTS[1:])


@flow
async def buys(job: DocJob) -> str:
    await asubmit_documents(job, DOCUMENTS[:1])
    await part(job)
    return str(runtime.flow_run.id)


async def hooked(run_id: str, state: State[Any]) -> None:
    """Call the hook as a runner does, when a run has ended for the server too."""
    async with get_client() as client:
        if state.is_cancelling():
            await client.set_flow_run_state(UUID(run_id), Cancelled(), force=True)
        run = await client.read_flow_run(UUID(run_id))
    await cancel_remote_jobs(flow=buys, flow_run=run, state=state)


async def test_a_cancelled_run_cancels_its_jobs_and_those_of_its_subflows(job: DocJob, slow: Running) -> None:
    await hooked(await buys(job), Cancelling())
    assert phases(slow) == {"cancelled": 3}
    assert await known() == {(Known.FAILED, Reason.CANCELLED): 3}


async def test_a_crashed_run_keeps_its_jobs(job: DocJob, slow: Running) -> None:
    await hooked(await buys(job), Crashed())
    assert "cancelled" not in phases(slow)
    assert await known() == {(Known.SUBMITTED, None): 3}


async def test_a_run_that_nobody_cancelled_keeps_its_jobs_when_its_runner_is_shut_down(
    job: DocJob, slow: Running
) -> None:
    """The runner calls the hook with a state of its own making; the server knows better."""

    run_id = await buys(job)
    async with get_client() as client:
        run = await client.read_flow_run(UUID(run_id))
    assert run.state
    assert not run.state.is_cancelled()
    await cancel_remote_jobs(flow=buys, flow_run=run, state=Cancelling())
    assert "cancelled" not in phases(slow)
    assert await known() == {(Known.SUBMITTED, None): 3}


async def test_a_service_that_cannot_cancel_is_noted_and_nothing_is_bought_twice(slow: Running) -> None:
    mindee = make_job("mindee", slow.base_url)
    await hooked(await buys(mindee), Cancelling())
    assert await known() == {(Known.FAILED, Reason.TIMEOUT): 3}
    assert all("runs to its end and is billed" in (record.error or "") for record in await records())
    await hooked(await buys(mindee), Crashed())
    assert slow.backend.report()["submits"]["total"] == 3


async def test_a_job_that_had_ended_is_kept_for_the_next_run(job: DocJob) -> None:
    with run_in_thread(Settings(duration=Duration(law="fixed", seconds=0.0))) as quick:
        ended = make_job("numind", quick.base_url)
        await ended.asave("ended", overwrite=True)
        await hooked(await buys(ended), Cancelling())
    assert await known() == {(Known.SUBMITTED, None): 3}


async def test_a_job_that_was_waited_for_too_long_is_cancelled_too(job: DocJob, slow: Running) -> None:
    @flow
    async def impatient() -> str:
        submitted = await asubmit_documents(job, DOCUMENTS)
        await await_for_jobs(job, submitted, document_timeout=0.1)
        return str(runtime.flow_run.id)

    run_id = await impatient()
    assert await known() == {(Known.FAILED, Reason.TIMEOUT): 3}
    await hooked(run_id, Cancelling())
    assert phases(slow) == {"cancelled": 3}


async def test_jobs_that_another_run_is_at_work_on_are_kept(job: DocJob, slow: Running) -> None:
    await asubmit_documents(job, DOCUMENTS[:1])
    async with open_ledger() as other, open_ledger() as ledger:
        assert other
        assert ledger
        (record,) = await other.find()
        taken = await other.take_over(record)
        assert taken
        outcomes = await cancel_jobs(ledger, [record], "Cancelled.", logging.getLogger("test"), patience=0.3)
        assert outcomes == {CancelOutcome.IN_USE: 1}
        assert other.holds(taken)
    assert "cancelled" not in phases(slow)


async def test_without_the_account_jobs_are_kept(slow: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUMIND_API_KEY", raising=False)
    await hooked(await buys(make_job("numind", slow.base_url)), Cancelling())
    assert "cancelled" not in phases(slow)
    assert await known() == {(Known.SUBMITTED, None): 3}


async def test_the_hook_never_raises(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "no-folder").touch()
    monkeypatch.setenv("PREFECT_DOCJOBS_LEDGER", str(tmp_path / "no-folder" / "ledger.db"))
    run = FlowRun(id=uuid4(), flow_id=uuid4(), name="unlucky")
    await cancel_remote_jobs(flow=part, flow_run=run, state=Cancelling())
    monkeypatch.setenv("PREFECT_DOCJOBS_LEDGER", "")
    assert address() is None
    await cancel_remote_jobs(flow=part, flow_run=run, state=Cancelling())


# -- accounts and holders


def test_every_service_that_can_cancel_can_be_reached_without_a_block() -> None:
    able = {name for name in BUILT_IN if provider_class(name).capabilities.cancel}
    assert set(WITHOUT_A_BLOCK) == able


@pytest.mark.parametrize("product", provider_class("numind").products)
async def test_the_key_of_the_environment_reaches_every_product(
    product: str, slow: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMIND_API_KEY", "simulator")
    settings = {"product": product} if product == "extraction" else {"product": product, "template": None}
    made = make_job("numind", slow.base_url, **settings)
    await asubmit_documents(made, DOCUMENTS[:1])
    (record,) = await records()
    found = await job_of(record)
    assert record.ref
    await found.attach(record.ref).acancel()
    assert phases(slow) == {"cancelled": 1}


async def test_a_block_that_is_another_account_by_now_is_refused(job: DocJob, slow: Running) -> None:
    await asubmit_documents(job, DOCUMENTS[:1])
    await make_job("numind", slow.base_url, key="another-key").asave("given-up", overwrite=True)
    (record,) = await records()
    with pytest.raises(ConfigurationError, match="is another account"):
        await job_of(record)


def test_only_a_process_of_this_machine_that_is_gone_is_known_to_be_dead() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    here = socket.gethostname()
    assert has_died(f"{here}:{gone.pid}:0a1b2c3d")
    assert not has_died(f"{here}:{os.getpid()}:0a1b2c3d")
    assert not has_died(f"elsewhere:{gone.pid}:0a1b2c3d")
    assert not has_died("nobody")
