"""The event of a push: what it tells, and of which pushes there is none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio
from support.ledgers import entry, ref
from support.receiver import MINDEE, ledger_account

from prefect_docjobs.ledger import Ledger, PushReceipt
from prefect_docjobs.models import JobRef, JobState
from prefect_docjobs.webhooks.calls import Call
from prefect_docjobs.webhooks.events import JobEvent, event_of


@pytest_asyncio.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    async with Ledger(str(tmp_path / "ledger.db")) as opened:
        facts = {"provider": "mindee", "base_url": MINDEE.base_url, "tenant": "acme"}
        record = await opened.claim(entry(flow_run_id="run-1", **facts))
        await opened.submitted(record, ref(document_sha256="ab" * 32, alias="docjobs-1", **facts))
        yield opened


async def announced(ledger: Ledger, call: Call) -> JobEvent | None:
    kept = await ledger.inbox.keep(
        ledger_account(MINDEE),
        job_id=call.job_id,
        alias=call.alias,
        state=call.state,
        raw_state=call.raw_state,
        error=call.error,
        digest=call.digest,
        body=call.body,
        keep_for=60.0,
    )
    return event_of(MINDEE, call, kept)


def call(state: JobState | None = JobState.SUCCEEDED, **facts: Any) -> Call:
    return Call(**{"digest": "1" * 64, "job_id": "job-a", "state": state, "body": b"{}", **facts})


async def test_a_completed_job_is_told_with_its_document_and_its_flow_run(ledger: Ledger) -> None:
    event = await announced(ledger, call())
    assert event is not None
    assert event.name == "docjobs.job.completed"
    assert event.resource == {
        "prefect.resource.id": "docjobs.job.mindee.job-a",
        "prefect.resource.name": "a.pdf",
        "docjobs.provider": "mindee",
        "docjobs.product": "extraction",
        "docjobs.tenant": "acme",
    }
    assert event.related == [
        {"prefect.resource.id": "prefect.flow-run.run-1", "prefect.resource.role": "flow-run"}
    ]
    seconds, told = event.payload.pop("seconds"), event.payload.pop("ref")
    assert event.payload == {
        "provider": "mindee",
        "job_id": "job-a",
        "document": "a.pdf",
        "sha256": "ab" * 32,
        "phase": "wait",
        "reason": None,
    }
    assert seconds >= 0.0
    assert JobRef.model_validate(told) == (await ledger.find())[0].ref


async def test_a_failure_that_has_an_alias_alone_is_told_of_its_job(ledger: Ledger) -> None:
    event = await announced(ledger, call(JobState.FAILED, job_id=None, alias="docjobs-1", body=None))
    assert event is not None
    assert (event.name, event.payload["reason"]) == ("docjobs.job.failed", "failed")
    assert (event.payload["job_id"], len(event.related)) == ("job-a", 1)


async def test_a_job_without_a_record_is_told_with_what_is_known(ledger: Ledger) -> None:
    event = await announced(ledger, call(job_id="unknown"))
    assert event is not None
    assert event.resource["prefect.resource.id"] == "docjobs.job.mindee.unknown"
    assert (event.related, event.payload["document"], event.payload["seconds"]) == ([], None, None)


async def test_replays_hints_and_jobs_without_an_id_are_not_told(ledger: Ledger) -> None:
    assert event_of(MINDEE, call(), PushReceipt(is_new=False)) is None
    assert await announced(ledger, call(None, digest="2" * 64)) is None
    assert await announced(ledger, call(job_id=None, alias="nobody's", digest="3" * 64)) is None
