"""Prefect's transactions, rolled back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prefect import flow, task
from prefect.transactions import Transaction, transaction
from support.blocks import make_job
from support.services import invoice

from prefect_docjobs import Batch, asubmit_documents, cancel_bought_jobs, submit_document
from prefect_docjobs.blocks import DocJob
from prefect_docjobs.errors import Reason
from prefect_docjobs.ledger import Record, State
from prefect_docjobs.ledger.setting import open_ledger
from prefect_docjobs.simulator.server import Running, run_in_thread
from prefect_docjobs.simulator.settings import Duration, Settings

DOCUMENTS = [invoice(number) for number in range(3)]


class Regret(Exception):
    """What a flow raises after its documents were submitted."""


@pytest.fixture
def slow() -> Iterator[Running]:
    """A simulator whose jobs outlast every test."""
    with run_in_thread(Settings(duration=Duration(law="fixed", seconds=600.0))) as running:
        yield running


async def records() -> list[Record]:
    async with open_ledger() as ledger:
        assert ledger
        return await ledger.find()


def phases(simulator: Running) -> dict[str, int]:
    jobs: dict[str, int] = simulator.backend.report()["jobs"]
    return {phase: number for phase, number in jobs.items() if phase != "total"}


@flow
async def submit_and_regret(job: DocJob, *, regret: bool = True) -> Batch:
    with transaction():
        batch = await asubmit_documents(job, DOCUMENTS)
        if regret:
            raise Regret
    return batch


async def test_a_rollback_cancels_at_the_service_and_a_rerun_submits_again(slow: Running) -> None:
    job = make_job("numind", slow.base_url)
    await job.asave("regretted", overwrite=True)
    with pytest.raises(Regret):
        await submit_and_regret(job)
    assert phases(slow) == {"cancelled": 3}
    assert [(row.state, row.reason) for row in await records()] == [(State.FAILED, Reason.CANCELLED)] * 3
    batch = await submit_and_regret(job, regret=False)
    assert len(batch.refs) == 3
    assert slow.backend.report()["submits"]["total"] == 6


async def test_what_a_service_cannot_cancel_is_noted_and_taken_up_by_a_rerun(slow: Running) -> None:
    job = make_job("mindee", slow.base_url)
    with pytest.raises(Regret):
        await submit_and_regret(job)
    rows = await records()
    assert [(row.state, row.reason) for row in rows] == [(State.FAILED, Reason.TIMEOUT)] * 3
    assert all("runs to its end and is billed" in (row.error or "") for row in rows)
    batch = await submit_and_regret(job, regret=False)
    assert {ref.job_id for ref in batch.refs} == {row.job_id for row in rows}
    assert slow.backend.report()["submits"]["total"] == 3


async def test_a_transaction_that_is_committed_cancels_nothing(slow: Running) -> None:
    await submit_and_regret(make_job("numind", slow.base_url), regret=False)
    assert phases(slow) == {"queued": 3} or phases(slow) == {"processing": 3}
    assert {row.state for row in await records()} == {State.SUBMITTED}


async def test_jobs_that_another_task_run_bought_are_kept(slow: Running) -> None:
    job = make_job("numind", slow.base_url)
    await job.asave("kept", overwrite=True)
    await submit_and_regret(job, regret=False)
    with pytest.raises(Regret):
        await submit_and_regret(job)
    assert "cancelled" not in phases(slow)
    assert {row.state for row in await records()} == {State.SUBMITTED}


def test_a_sync_flow_rolls_back_too(slow: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """The block is not saved: the key of the environment is that of the account."""
    monkeypatch.setenv("NUMIND_API_KEY", "simulator")
    job = make_job("numind", slow.base_url)

    @flow
    def submit_and_fail() -> None:
        with transaction():
            submit_document(job, DOCUMENTS[0])
            raise Regret

    with pytest.raises(Regret):
        submit_and_fail()
    assert phases(slow) == {"cancelled": 1}


async def test_the_key_of_another_account_cancels_nothing(
    slow: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMIND_API_KEY", "somebody-elses")
    with pytest.raises(Regret):
        await submit_and_regret(make_job("numind", slow.base_url))
    assert "cancelled" not in phases(slow)
    assert {row.state for row in await records()} == {State.SUBMITTED}


async def test_a_task_of_ones_own_that_triggers_a_job_can_have_the_hook(slow: Running) -> None:
    job = make_job("numind", slow.base_url)
    await job.asave("triggered", overwrite=True)

    @task
    async def trigger() -> None:
        await job.atrigger(DOCUMENTS[0])

    trigger.on_rollback(cancel_bought_jobs)  # type: ignore[arg-type]

    @flow
    async def trigger_and_regret() -> None:
        with transaction():
            await trigger()
            raise Regret

    with pytest.raises(Regret):
        await trigger_and_regret()
    assert phases(slow) == {"cancelled": 1}


async def test_a_transaction_that_bought_nothing_is_left_alone() -> None:
    await cancel_bought_jobs(Transaction())
    assert await records() == []
