"""Failures driven again: by the task, and by the flow that reads dead letters."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect import State
from support.blocks import make_job
from support.services import invoice, says

from prefect_docjobs import Batch, Document, Outcome, aextract_documents, aretry_failures, retry_failures
from prefect_docjobs.blocks import DocJob
from prefect_docjobs.errors import ConfigurationError, Reason
from prefect_docjobs.flows import extract_folder, read_dead_letters, retry_run
from prefect_docjobs.models import Phase
from prefect_docjobs.simulator.server import Running, run_in_thread
from prefect_docjobs.simulator.settings import Duration, Settings


@pytest.fixture
def moody() -> Iterator[Running]:
    """A simulator whose mood a test changes."""
    with run_in_thread(Settings(duration=Duration(law="fixed", seconds=0.0))) as running:
        yield running


@pytest.fixture
def job(moody: Running) -> DocJob:
    return make_job("mindee", moody.base_url)


async def mood(simulator: Running, **settings: Any) -> None:
    """Change the simulator's settings."""
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.patch(f"{simulator.base_url}/_simulator/settings", json=settings)
    answer.raise_for_status()


def submits(simulator: Running) -> int:
    total: int = simulator.backend.report()["submits"]["total"]
    return total


def reasons(batch: Batch) -> list[Reason | None]:
    return [outcome.reason for outcome in batch]


def said(batch: Sequence[Outcome]) -> list[Any]:
    """What the results say; every outcome has one."""
    return [outcome.result and says(outcome.result) for outcome in batch]


def row(document: Document, reason: Reason) -> Outcome:
    return Outcome(document=document.name, phase=Phase.SUBMIT, reason=reason, error="Said.")


async def test_what_was_not_accepted_is_submitted_and_the_rest_stays_as_it_is(
    job: DocJob, moody: Running
) -> None:
    documents = [invoice(number) for number in range(5)]
    delivered = await aextract_documents(job, documents[:1])
    refused = [Reason.THROTTLED, Reason.UNAVAILABLE, Reason.REJECTED, Reason.CANCELLED]
    failed = [row(document, reason) for document, reason in zip(documents[1:], refused, strict=True)]
    batch = await aretry_failures(
        job, [delivered[0], *failed], documents, resubmit=True, on_uncertain="resubmit"
    )
    assert reasons(batch) == [None, None, None, Reason.REJECTED, Reason.CANCELLED]
    assert (batch[0], batch[3], batch[4]) == (delivered[0], failed[2], failed[3])
    assert said(batch[:3]) == [(f"N-{number:05}", number + 0.5) for number in range(3)]
    assert submits(moody) == 3


async def test_a_job_that_took_too_long_is_waited_for_under_its_own_name(job: DocJob, moody: Running) -> None:
    await mood(moody, duration={"seconds": 2.5})
    late = await aextract_documents(job, [invoice(1)], document_timeout=0.2)
    assert reasons(late) == [Reason.TIMEOUT]
    renamed = late[0].model_copy(update={"document": "of-ours.png"})
    batch = await aretry_failures(job, [renamed])
    assert batch[0].document == "of-ours.png"
    assert said(batch) == [("N-00001", 1.5)]
    assert submits(moody) == 1


async def test_what_is_paid_for_is_bought_again_only_when_told(job: DocJob, moody: Running) -> None:
    await mood(moody, failed_share=1.0)
    documents = [invoice(1), invoice(2)]
    failed = await aextract_documents(job, documents)
    assert reasons(failed) == [Reason.FAILED] * 2
    await mood(moody, failed_share=0.0)
    assert list(await aretry_failures(job, failed, documents)) == list(failed)
    assert submits(moody) == 2
    batch = await aretry_failures(job, failed, documents, resubmit=True)
    assert said(batch) == [("N-00001", 1.5), ("N-00002", 2.5)]
    assert submits(moody) == 4


async def test_the_same_content_twice_is_bought_again_once(job: DocJob, moody: Running) -> None:
    await mood(moody, failed_share=1.0)
    document = invoice(1)
    failed = await aextract_documents(job, [document, document])
    assert submits(moody) == 1
    again = await aretry_failures(job, failed, [document, document], resubmit=True)
    assert reasons(again) == [Reason.FAILED] * 2
    assert submits(moody) == 2


async def test_an_uncertain_submit_is_repeated_only_when_told(job: DocJob, moody: Running) -> None:
    await mood(moody, faults={"submit": {"lost": 1.0}})
    documents = [invoice(1)]
    unsure = await aextract_documents(job, documents)
    assert reasons(unsure) == [Reason.UNCERTAIN]
    await mood(moody, faults={"submit": {"lost": 0.0}})
    assert list(await aretry_failures(job, unsure, documents, resubmit=True)) == list(unsure)
    assert submits(moody) == 1
    batch = await aretry_failures(job, unsure, documents, on_uncertain="resubmit")
    assert said(batch) == [("N-00001", 1.5)]
    assert submits(moody) == 2


async def test_nothing_is_sent_when_a_document_is_missing(job: DocJob, moody: Running) -> None:
    failed = [row(invoice(number), Reason.THROTTLED) for number in range(2)]
    with pytest.raises(ConfigurationError, match="give documents="):
        await aretry_failures(job, failed)
    with pytest.raises(ConfigurationError, match="2 outcomes and 1 documents"):
        await aretry_failures(job, failed, [invoice(0)])
    batch = await aretry_failures(job, failed, [None, invoice(1)])
    assert reasons(batch) == [Reason.THROTTLED, None]
    assert submits(moody) == 1


def test_the_plain_task_retries_too(job: DocJob) -> None:
    batch = retry_failures(job, [row(invoice(1), Reason.UNAVAILABLE)], [invoice(1)])
    assert reasons(batch) == [None]


# -- the flow


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """Four invoices, and a file that no service reads."""
    folder = tmp_path / "inbox"
    folder.mkdir()
    for number in range(4):
        document = invoice(number)
        (folder / document.name).write_bytes(document.data or b"")
    (folder / "empty.png").touch()
    return folder


async def extracted(folder: Path, job: DocJob, **parameters: Any) -> tuple[State[Any], Path]:
    output = folder.parent / "out"
    state = await extract_folder(str(folder), job, output=str(output), return_state=True, **parameters)
    return state, output / "failures.jsonl"


async def retried(letters: Path, job: DocJob, **parameters: Any) -> tuple[State[Any], Path]:
    output = letters.parent.parent / "retried"
    state = await retry_run(str(letters), job, output=str(output), return_state=True, **parameters)
    return state, output


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


async def test_the_flow_drives_again_what_is_allowed_and_keeps_the_other_letters(
    inbox: Path, job: DocJob, moody: Running
) -> None:
    await mood(moody, failed_share=1.0)
    state, letters = await extracted(inbox, job)
    assert state.is_failed()
    before = {letter.document: letter for letter in read_dead_letters(letters)}
    assert {letter.again.value for letter in before.values()} == {"resubmit", "no"}
    assert before["empty.png"].path == str(inbox / "empty.png")

    await mood(moody, failed_share=0.0)
    state, output = await retried(letters, job, resubmit=True, chunk_size=2, max_failures=1)
    assert state.message == (f"4 of 5 documents delivered; 1 invalid_document. Results are in {output}")
    assert state.is_completed()
    assert sorted(line["document"] for line in lines(output / "results.jsonl")) == sorted(
        set(before) - {"empty.png"}
    )
    assert read_dead_letters(output / "failures.jsonl") == [before["empty.png"]]
    assert submits(moody) == 8


async def test_without_leave_the_flow_buys_nothing_and_fails(
    inbox: Path, job: DocJob, moody: Running
) -> None:
    await mood(moody, failed_share=1.0)
    _, letters = await extracted(inbox, job)
    state, output = await retried(letters, job)
    assert state.is_failed()
    assert {letter.document for letter in read_dead_letters(output / "failures.jsonl")} == set(
        os.listdir(inbox)
    )
    assert submits(moody) == 4


async def test_more_failures_than_allowed_fail_the_run_when_everything_is_written(
    inbox: Path, job: DocJob
) -> None:
    state, letters = await extracted(inbox, job, max_failures=0.1)
    assert state.is_failed()
    assert state.message == (
        f"4 of 5 documents delivered; 1 invalid_document, more than max_failures=0.1 allows. See {letters}"
    )
    assert len(lines(letters.with_name("results.jsonl"))) == 4
    state, _ = await extracted(inbox, job, max_failures=0.2)
    assert state.is_completed()


async def test_letters_of_another_account_are_not_sent(inbox: Path, job: DocJob, moody: Running) -> None:
    _, letters = await extracted(inbox, job)
    other = make_job("mindee", moody.base_url, key="another-key")
    state, output = await retried(letters, other)
    with pytest.raises(ConfigurationError, match="the dead letter's tenant is"):
        await state.aresult()
    assert not output.exists()


async def test_the_results_of_the_earlier_run_are_never_replaced(inbox: Path, job: DocJob) -> None:
    _, letters = await extracted(inbox, job)
    state = await retry_run(str(letters), job, output=str(letters.parent), return_state=True)
    with pytest.raises(ConfigurationError, match="holds the results of the earlier run"):
        await state.aresult()
    assert len(lines(letters.with_name("results.jsonl"))) == 4


def test_the_form_of_the_deployment_explains_every_parameter() -> None:
    fields = retry_run.parameters.model_dump()["properties"]
    assert [name for name, field in fields.items() if not field.get("description")] == []
    assert fields["job"]["type"] == "string"


@pytest.mark.parametrize("limit", [-1, 1.5])
async def test_max_failures_is_a_share_or_a_whole_number(limit: float, inbox: Path, job: DocJob) -> None:
    state, letters = await extracted(inbox, job, max_failures=limit)
    assert state.is_failed()
    assert not letters.parent.exists()
