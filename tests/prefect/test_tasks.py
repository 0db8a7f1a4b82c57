"""The tasks, in and out of flows, for async and for sync code."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import pickle
import signal
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import pytest
from prefect import Task, flow, get_client, unmapped
from prefect.blocks.system import Secret
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterType
from prefect.runtime import flow_run
from support.blocks import aged, make_job
from support.services import invoice, says

from prefect_docjobs import (
    Batch,
    Document,
    JobRef,
    JobState,
    Outcome,
    aextract_documents,
    afetch_result,
    afetch_results,
    aretry_failures,
    as_jobs_complete,
    asubmit_document,
    asubmit_documents,
    await_for_job,
    await_for_jobs,
    extract_documents,
    fetch_result,
    fetch_results,
    retry_failures,
    sense_jobs,
    submit_document,
    submit_documents,
    wait_for_job,
    wait_for_jobs,
)
from prefect_docjobs.blocks import DocJob
from prefect_docjobs.blocks.sync_api import run_in_background
from prefect_docjobs.errors import (
    ConfigurationError,
    InvalidDocument,
    JobTimeout,
    Reason,
    RefMismatch,
)
from prefect_docjobs.models import Phase
from prefect_docjobs.simulator.server import Running, run_in_thread
from prefect_docjobs.simulator.settings import Settings
from prefect_docjobs.tasks import BlockingCall, _run

TWINS: list[tuple[Task[Any, Any], Task[Any, Any]]] = [
    (asubmit_document, submit_document),
    (await_for_job, wait_for_job),
    (afetch_result, fetch_result),
    (asubmit_documents, submit_documents),
    (await_for_jobs, wait_for_jobs),
    (afetch_results, fetch_results),
    (aextract_documents, extract_documents),
    (aretry_failures, retry_failures),
]
MISSING = Document.from_path("no/such/invoice.pdf")


@pytest.fixture(scope="module")
def stuck() -> Iterator[DocJob]:
    """A job block whose jobs never end."""
    with run_in_thread(Settings(stuck_share=1.0)) as running:
        yield make_job("mindee", running.base_url)


@pytest.fixture
async def named(job: DocJob) -> str:
    """The name of a saved job block."""
    await job.asave("by-name", overwrite=True)
    return "mindee-job/by-name"


# ------------------------------------------------------------------------------------- what they all are


@pytest.mark.parametrize("pair", TWINS, ids=lambda pair: pair[1].fn.__name__)
def test_no_task_caches_or_retries(pair: tuple[Task[Any, Any], Task[Any, Any]]) -> None:
    for one in pair:
        assert (one.cache_policy, one.retries, one.persist_result) == (NO_CACHE, 0, None)
        assert "docjobs" in one.tags


@pytest.mark.parametrize("pair", TWINS, ids=lambda pair: pair[1].fn.__name__)
def test_twins_differ_only_in_how_they_are_called(pair: tuple[Task[Any, Any], Task[Any, Any]]) -> None:
    twin, plain = pair
    assert (twin.isasync, plain.isasync) == (True, False)
    assert twin.fn.__name__ == f"a{plain.fn.__name__}"
    assert twin.name == plain.name
    assert twin.description == plain.description
    assert twin.task_key != plain.task_key


# -------------------------------------------------------------------------------------------- one document


async def test_one_document_in_an_async_flow(job: DocJob, records: list[logging.LogRecord]) -> None:
    @flow
    async def whole_way(document: Document) -> tuple[Any, Any]:
        ref = await asubmit_document(job, document)
        status = await await_for_job(job, aged(ref), timeout=30)
        return says(await afetch_result(job, status.ref))

    assert await whole_way(invoice(1)) == ("N-00001", 1.5)
    runs = [vars(record)["task_run_name"] for record in records]
    for name in ("submit invoice-00001.png", "wait for invoice-00001.png", "fetch invoice-00001.png"):
        assert name in runs


def test_one_document_in_a_sync_flow(job: DocJob) -> None:
    @flow
    def whole_way(document: Document) -> tuple[Any, Any]:
        ref = submit_document(job, document)
        status = wait_for_job(job, aged(ref), timeout=30)
        return says(fetch_result(job, status.ref))

    assert whole_way(invoice(2)) == ("N-00002", 2.5)


def test_plain_tasks_work_in_a_script_without_a_flow(job: DocJob) -> None:
    ref = submit_document(job, invoice(3))
    assert wait_for_job(job, aged(ref)).state is JobState.SUCCEEDED
    assert says(fetch_result(job, ref)) == ("N-00003", 3.5)


async def test_async_tasks_work_in_a_script_without_a_flow(job: DocJob) -> None:
    ref = await asubmit_document(job, invoice(4))
    assert says(await afetch_result(job, ref)) == ("N-00004", 4.5)


async def test_a_job_is_taken_by_its_name(named: str) -> None:
    ref = await asubmit_document(named, invoice(5))
    assert says(await afetch_result(named, ref)) == ("N-00005", 5.5)


def test_a_ref_is_taken_as_json_and_as_a_dict(job: DocJob) -> None:
    ref = submit_document(job, invoice(6))
    assert says(fetch_result(job, ref.model_dump_json())) == ("N-00006", 6.5)
    assert says(fetch_result(job, ref.model_dump(mode="json"))) == ("N-00006", 6.5)


def test_the_ref_is_logged_so_that_it_can_be_taken_up(job: DocJob, records: list[logging.LogRecord]) -> None:
    ref = submit_document(job, invoice(7))
    [line] = [record.getMessage() for record in records if "its ref is " in record.getMessage()]
    assert JobRef.model_validate_json(line.split("its ref is ")[1]) == ref


async def test_no_key_is_in_a_log_line_or_in_a_row(
    simulator: Running, records: list[logging.LogRecord]
) -> None:
    job = make_job("mindee", simulator.base_url, key="wr0ng-key")
    batch = await aextract_documents(job, [invoice(7)])
    assert [row.reason for row in batch] == [Reason.UNAUTHORIZED]
    assert "wr0ng-key" not in str([*batch, *batch.rows()])
    assert any("unauthorized" in record.getMessage() for record in records)
    assert not [record for record in records if "wr0ng-key" in record.getMessage()]


def test_the_error_of_a_document_is_raised_for_one(job: DocJob) -> None:
    with pytest.raises(InvalidDocument, match="does not exist"):
        submit_document(job, MISSING)


def test_a_ref_of_another_account_is_refused(job: DocJob, simulator: Running) -> None:
    ref = submit_document(job, invoice(8))
    with pytest.raises(RefMismatch, match="tenant"):
        fetch_result(make_job("mindee", simulator.base_url, key="another"), ref)


async def test_patience_that_ends_leaves_the_ref(stuck: DocJob) -> None:
    ref = await asubmit_document(stuck, invoice(9))
    with pytest.raises(JobTimeout, match="wait for the same ref again") as caught:
        await await_for_job(stuck, aged(ref), timeout=0.0)
    assert caught.value.ref is not None
    assert caught.value.ref.job_id == ref.job_id


# -------------------------------------------------------------------------------------- wrong arguments


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ("**********", "mask"),
        (("credentials", "x"), r"unmapped\(job\)"),
        ({"model_id": "x"}, "its name is needed"),
        (None, "its name is needed"),
        ("invoices", "mindee-job/invoices"),
        ("mindee-job/nobody", "Unable to find"),
    ],
)
def test_a_job_that_is_none_is_told_what_it_should_be(wrong: Any, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        submit_document(wrong, invoice(1))


async def test_a_saved_block_of_another_kind_is_no_job() -> None:
    await Secret(value="x").asave("not-a-job", overwrite=True)
    with pytest.raises(ConfigurationError, match="is a Secret, not a job block"):
        await asubmit_document("secret/not-a-job", invoice(1))


def test_something_else_than_documents_is_refused_before_anything_is_sent(job: DocJob) -> None:
    with pytest.raises(ConfigurationError, match="Document is needed, not str"):
        submit_document(job, "invoice.pdf")  # type: ignore[call-overload]
    with pytest.raises(ConfigurationError, match="list of documents"):
        submit_documents(job, invoice(1))  # type: ignore[call-overload]
    with pytest.raises(ConfigurationError, match="Document is needed, not PosixPath"):
        extract_documents(job, [invoice(1), Path("invoice.pdf")])  # type: ignore[list-item]


def test_something_else_than_refs_is_refused(job: DocJob) -> None:
    with pytest.raises(ConfigurationError, match=r"not the ref of a job: .*job_id"):
        fetch_result(job, {"provider": "mindee"})
    with pytest.raises(ConfigurationError, match="batch or a list of refs"):
        wait_for_jobs(job, "job-1")


# ---------------------------------------------------------------------------------- sync code and its loop


async def test_a_plain_task_on_a_running_loop_works_and_names_its_twin(job: DocJob) -> None:
    _run._warn_once.cache_clear()
    with pytest.warns(BlockingCall, match=r"await asubmit_document\("):
        ref = submit_document(job, invoice(10))
    assert ref.document_name == "invoice-00010.png"


async def test_it_warns_once(job: DocJob) -> None:
    _run._warn_once.cache_clear()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        for number in (11, 12):
            submit_document(job, invoice(number))
    assert [str(warning.message)[:15] for warning in seen if warning.category is BlockingCall] == [
        "submit_document"
    ]


async def test_a_submitted_plain_task_does_not_block_the_loop_of_its_flow(job: DocJob) -> None:
    @flow
    async def submits() -> list[str]:
        futures = [submit_document.submit(job, invoice(number)) for number in (13, 14)]
        return [(await asyncio.to_thread(future.result)).document_name for future in futures]

    assert await submits() == ["invoice-00013.png", "invoice-00014.png"]


def test_plain_tasks_map_over_documents_by_block_and_by_name(job: DocJob, simulator: Running) -> None:
    job.save("for-map", overwrite=True)

    @flow
    def maps() -> list[Any]:
        refs = submit_document.map(unmapped(job), [invoice(15), invoice(16)])
        return fetch_result.map("mindee-job/for-map", refs).result()

    assert [says(result) for result in maps()] == [("N-00015", 15.5), ("N-00016", 16.5)]


def test_a_block_in_map_without_unmapped_gets_the_sentence(job: DocJob) -> None:
    @flow
    def maps() -> None:
        submit_document.map(job, [invoice(1), invoice(2)])

    with pytest.raises(ConfigurationError, match=r"unmapped\(block\)"):
        maps()


def test_all_plain_tasks_share_one_background_loop() -> None:
    async def loop_and_thread() -> tuple[int, int]:
        return id(asyncio.get_running_loop()), threading.get_ident()

    told = {run_in_background(loop_and_thread()) for _ in range(3)}
    assert len(told) == 1
    assert threading.get_ident() not in {thread for _, thread in told}


def test_context_variables_travel_to_the_background_loop() -> None:
    where: contextvars.ContextVar[str] = contextvars.ContextVar("where", default="nowhere")

    async def read() -> str:
        return where.get()

    token = where.set("here")
    assert run_in_background(read()) == "here"
    where.reset(token)
    assert run_in_background(read()) == "nowhere"


def test_an_interrupt_cancels_what_runs_in_the_background() -> None:
    stopped = threading.Event()

    async def interrupted() -> None:
        await asyncio.sleep(0.1)  # until the main thread waits for it
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    with pytest.raises(KeyboardInterrupt):
        run_in_background(interrupted())
    assert stopped.wait(timeout=10)


async def test_a_cancelled_wait_leaves_nothing_behind(stuck: DocJob) -> None:
    ref = await asubmit_document(stuck, invoice(17))
    before = asyncio.all_tasks()
    with anyio.move_on_after(0.3) as scope:
        await await_for_job(stuck, aged(ref), timeout=None)
    assert scope.cancelled_caught
    assert asyncio.all_tasks() == before


async def test_a_cancelled_batch_leaves_nothing_behind(stuck: DocJob) -> None:
    before = asyncio.all_tasks()
    with anyio.move_on_after(1.0) as scope:
        await aextract_documents(stuck, [invoice(number) for number in range(5)])
    assert scope.cancelled_caught
    assert asyncio.all_tasks() == before


# ------------------------------------------------------------------------------------------ many documents


async def test_a_batch_goes_through_three_tasks_and_keeps_its_failures(
    job: DocJob, records: list[logging.LogRecord]
) -> None:
    @flow
    async def in_steps() -> tuple[Batch, Batch, Batch]:
        submitted = await asubmit_documents(job, [invoice(20), MISSING, invoice(21)])
        waited = await await_for_jobs(job, _aged(submitted), timeout=30)
        return submitted, waited, await afetch_results(job, waited)

    submitted, waited, fetched = await in_steps()
    for batch in (submitted, waited, fetched):
        assert [row.document for row in batch] == ["invoice-00020.png", "invoice.pdf", "invoice-00021.png"]
        assert [row.reason for row in batch] == [None, Reason.INVALID_DOCUMENT, None]
    assert [row.phase for row in waited] == [Phase.WAIT, Phase.SUBMIT, Phase.WAIT]
    assert [says(result) for result in fetched.results] == [("N-00020", 20.5), ("N-00021", 21.5)]
    runs = {vars(record)["task_run_name"] for record in records}
    assert runs >= {"submit 3 documents", "wait for 3 jobs", "fetch 3 results"}


def _aged(batch: Batch) -> list[Outcome | JobRef]:
    return [aged(row.ref) if row.ref else row for row in batch]


def test_a_batch_in_a_sync_flow(job: DocJob) -> None:
    @flow
    def in_steps() -> Batch:
        waited = wait_for_jobs(job, _aged(submit_documents(job, [invoice(22), invoice(23)])))
        return fetch_results(job, waited)

    assert [says(result) for result in in_steps().results] == [("N-00022", 22.5), ("N-00023", 23.5)]


async def test_extract_delivers_every_document_but_the_bad_one(
    job: DocJob, records: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_DOCJOBS_LEDGER", "")

    @flow
    async def extracts() -> Batch:
        return await aextract_documents(job, [MISSING, *(invoice(number) for number in range(30, 40))])

    batch = await extracts()
    assert [row.reason for row in batch] == [Reason.INVALID_DOCUMENT, *[None] * 10]
    assert [says(result) for result in batch.results] == [(f"N-{n:05}", n + 0.5) for n in range(30, 40)]
    lines = [f"{record.levelname} {record.getMessage()}" for record in records]
    told = [line.partition("with the refs ")[2] for line in lines if " with the refs " in line]
    logged = {JobRef.model_validate(ref).job_id for line in told for ref in json.loads(line)}
    assert logged == {row.ref.job_id for row in batch if row.ref}
    assert len(logged) == 10
    assert any(line.startswith("WARNING invoice.pdf: invalid_document in submit") for line in lines)
    assert "INFO 11 documents: 10 succeeded, 1 failed (1 invalid_document)" in lines
    assert "INFO 11 of 11 ended, 1 of them failed" in lines


async def test_with_a_ledger_the_log_has_no_refs(job: DocJob, records: list[logging.LogRecord]) -> None:
    @flow
    async def submits() -> Batch:
        return await asubmit_documents(job, [invoice(number) for number in range(500, 510)])

    batch = await submits()
    text = "\n".join(record.getMessage() for record in records)
    assert "submitted and recorded in the ledger" in text
    assert not [row for row in batch if row.ref is None or row.ref.job_id in text]

    records.clear()
    await submits()
    again = [record.getMessage() for record in records]
    assert "10 documents: 10 succeeded, 0 failed, 10 reused" in again
    assert not [line for line in again if "submitted" in line]


async def test_extract_shows_a_progress_bar_that_ends_at_one_hundred(job: DocJob) -> None:
    @flow
    async def extracts() -> str:
        await aextract_documents(job, [MISSING, MISSING])
        return str(flow_run.id)

    ran = await extracts()
    async with get_client() as client:
        bars = await client.read_artifacts(
            artifact_filter=ArtifactFilter(type=ArtifactFilterType(any_=["progress"]))
        )
    [bar] = [bar for bar in bars if str(bar.flow_run_id) == ran]
    assert bar.data == 100.0
    assert bar.description == "2 documents through Mindee V2: 2 of 2"


def test_extract_works_in_a_script_and_takes_any_iterable(job: DocJob) -> None:
    batch = extract_documents(job, (invoice(number) for number in (41, 42)))
    assert [says(result) for result in batch.results] == [("N-00041", 41.5), ("N-00042", 42.5)]


async def test_a_batch_of_nothing_is_an_empty_batch(job: DocJob) -> None:
    assert await aextract_documents(job, []) == Batch()
    assert await asubmit_documents(job, []) == Batch()
    assert await afetch_results(job, Batch()) == Batch()


async def test_extract_refuses_a_concurrency_that_does_nothing(job: DocJob) -> None:
    with pytest.raises(ConfigurationError, match="concurrency"):
        await aextract_documents(job, [invoice(1)], concurrency=0)


async def test_the_time_of_a_batch_ends_in_rows_that_keep_their_refs(stuck: DocJob) -> None:
    submitted = await asubmit_documents(stuck, [invoice(43), invoice(44)])
    waited = await await_for_jobs(stuck, _aged(submitted), timeout=0.0)
    assert [row.reason for row in waited] == [Reason.TIMEOUT, Reason.TIMEOUT]
    assert [ref.job_id for ref in waited.refs] == [ref.job_id for ref in submitted.refs]


def test_a_batch_survives_a_pickle(job: DocJob) -> None:
    batch = submit_documents(job, [invoice(45), MISSING])
    assert pickle.loads(pickle.dumps(batch)) == batch


@pytest.mark.parametrize("name", ["mindee_v1", "numind", "unsiloed"])
async def test_the_other_services_extract_too(name: str, jobs: Mapping[str, DocJob]) -> None:
    batch = await aextract_documents(jobs[name], [invoice(46), invoice(47)], timeout=60)
    assert [says(result) for result in batch.results] == [("N-00046", 46.5), ("N-00047", 47.5)]


# ------------------------------------------------------------------------------- iterating and sensing


async def test_jobs_come_as_they_complete_with_earlier_failures_first(job: DocJob) -> None:
    batch = await asubmit_documents(job, [invoice(48), MISSING, invoice(49)])
    ended = [row async for row in as_jobs_complete(job, _aged(batch), timeout=30)]
    assert ended[0].reason is Reason.INVALID_DOCUMENT
    assert {row.document for row in ended[1:]} == {"invoice-00048.png", "invoice-00049.png"}
    assert all(row.status and row.status.state is JobState.SUCCEEDED for row in ended[1:])


async def test_a_loop_over_jobs_that_is_left_early_leaves_nothing_behind(job: DocJob, stuck: DocJob) -> None:
    refs = (await asubmit_documents(stuck, [invoice(50), invoice(51)])).refs
    before = asyncio.all_tasks()
    async with aclosing(as_jobs_complete(stuck, [aged(refs[0]), refs[1]], document_timeout=0.0)) as ended:
        async for row in ended:
            assert row.reason is Reason.TIMEOUT
            break
    assert asyncio.all_tasks() == before


async def test_sense_jobs_waits_in_a_flow_for_refs_that_came_as_json(named: str) -> None:
    submitted = await asubmit_documents(named, [invoice(52), invoice(53)])

    @flow
    async def senses(refs: list[dict[str, Any]]) -> Batch:
        return await sense_jobs(named, refs, timeout=30)

    seen = await senses([aged(ref).model_dump(mode="json") for ref in submitted.refs])
    assert [row.status.state for row in seen if row.status] == [JobState.SUCCEEDED] * 2
