"""Everything that submits obeys one budget."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec  # type: ignore[import-untyped]
import pytest
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow_async
from prefect.settings import PREFECT_API_URL
from pypdf import PdfWriter
from support.blocks import make_job
from support.proxies import in_front
from support.services import invoice

from prefect_docjobs import Batch, Document, Outcome, flows, tasks
from prefect_docjobs.blocks import DocJob
from prefect_docjobs.errors import Reason
from prefect_docjobs.extraction.budget import Budget, OverBudget
from prefect_docjobs.extraction.options import SubmitOptions
from prefect_docjobs.models import Phase
from prefect_docjobs.simulator.server import Running, run_in_thread
from prefect_docjobs.simulator.settings import Duration, Settings

pytestmark = pytest.mark.timeout(400)
DOCUMENTS = [invoice(number) for number in range(3)]


@dataclass(frozen=True)
class Given:
    """A service, two jobs at it, and a folder of documents."""

    service: Running
    job: DocJob
    other: DocJob
    folder: Path

    @property
    def submits(self) -> int:
        return int(self.service.backend.report()["submits"]["total"])

    def set(self, **settings: Any) -> None:
        self.service.backend.settings = self.service.backend.settings.merged(settings)

    def place(self, name: str) -> str:
        return str(self.folder.parent / name)


@pytest.fixture
def given(tmp_path: Path) -> Iterator[Given]:
    folder = tmp_path / "inbox"
    folder.mkdir()
    for document in DOCUMENTS:
        (folder / document.name).write_bytes(document.read())
    with run_in_thread(Settings(duration=Duration(law="fixed", seconds=0.0))) as service:
        job, other = (make_job(name, service.base_url) for name in ("mindee", "unsiloed"))
        yield Given(service, job, other, folder)


def rows(reason: Reason) -> list[Outcome]:
    return [
        Outcome(document=document.name, phase=Phase.SUBMIT, reason=reason, error="Said.")
        for document in DOCUMENTS
    ]


def costs(records: list[logging.LogRecord]) -> list[str]:
    """What was said to be bought."""
    told = [record.getMessage() for record in records]
    return [line.split(";")[0] for line in told if " bought, " in line]


async def all_fail(at: Given) -> Batch:
    at.set(failed_share=1.0)
    failed = await tasks.aextract_documents(at.job, DOCUMENTS)
    at.set(failed_share=0.0)
    assert {row.reason for row in failed} == {Reason.FAILED}
    return failed


async def all_are_unsure(at: Given) -> Batch:
    at.set(faults={"submit": {"lost": 1.0}})
    unsure = await tasks.aextract_documents(at.job, DOCUMENTS)
    at.set(faults={"submit": {"lost": 0.0}})
    assert {row.reason for row in unsure} == {Reason.UNCERTAIN}
    return unsure


async def letters(at: Given) -> str:
    at.set(failed_share=1.0)
    out = at.place("failed")
    await flows.extract_folder(str(at.folder), at.job, output=out, return_state=True)
    at.set(failed_share=0.0)
    return f"{out}/failures.jsonl"


async def load_that_fails(at: Given) -> str:
    at.set(failed_share=1.0)
    tables = f"duckdb:{at.place('tables.duckdb')}"
    await flows.load_documents(str(at.folder), at.job, tables, return_state=True)
    at.set(failed_share=0.0)
    return tables


async def nothing(at: Given) -> None:
    return None


async def in_a_terminal(at: Given, *limits: str) -> int:
    await at.job.asave("of-a-budget", overwrite=True)
    command = [sys.executable, "-m", "prefect_docjobs.cli", "extract", str(at.folder)]
    process = await asyncio.create_subprocess_exec(
        *command,
        "--job",
        "mindee-job/of-a-budget",
        *limits,
        env={**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value())},
        stdout=asyncio.subprocess.DEVNULL,
    )
    return await process.wait()


Prepare = Callable[[Given], Awaitable[Any]]
Act = Callable[[Given, Any], Awaitable[Any]]
BUDGET: dict[str, Any] = {"budget": 0}
FLOW: dict[str, Any] = {"budget": 0, "return_state": True}
SUBMITTING: dict[str, tuple[Prepare, Act]] = {
    "submit_document": (nothing, lambda at, _: tasks.asubmit_document(at.job, DOCUMENTS[0], **BUDGET)),
    "submit_document in sync code": (
        nothing,
        lambda at, _: asyncio.to_thread(lambda: tasks.submit_document(at.job, DOCUMENTS[0], **BUDGET)),
    ),
    "trigger": (nothing, lambda at, _: at.job.atrigger(DOCUMENTS[0], **BUDGET)),
    "submit_documents": (nothing, lambda at, _: tasks.asubmit_documents(at.job, DOCUMENTS, **BUDGET)),
    "extract_documents": (nothing, lambda at, _: tasks.aextract_documents(at.job, DOCUMENTS, **BUDGET)),
    "extract_with_fallback": (
        nothing,
        lambda at, _: tasks.aextract_with_fallback([at.job, at.other], DOCUMENTS, **BUDGET),
    ),
    "retry of what was not accepted": (
        nothing,
        lambda at, _: tasks.aretry_failures(at.job, rows(Reason.THROTTLED), DOCUMENTS, **BUDGET),
    ),
    "retry of what failed": (
        all_fail,
        lambda at, failed: tasks.aretry_failures(at.job, failed, DOCUMENTS, resubmit=True, **BUDGET),
    ),
    "retry of what is uncertain": (
        all_are_unsure,
        lambda at, unsure: tasks.aretry_failures(
            at.job, unsure, DOCUMENTS, on_uncertain="resubmit", **BUDGET
        ),
    ),
    "extract_folder": (
        nothing,
        lambda at, _: flows.extract_folder(str(at.folder), at.job, output=at.place("out"), **FLOW),
    ),
    "extract_folder, suspended": (
        nothing,
        lambda at, _: flows.extract_folder(
            str(at.folder), at.job, wait="suspend", output=at.place("out"), **FLOW
        ),
    ),
    "retry_run": (
        letters,
        lambda at, path: flows.retry_run(path, at.job, resubmit=True, output=at.place("again"), **FLOW),
    ),
    "load_documents": (
        nothing,
        lambda at, _: flows.load_documents(str(at.folder), at.job, f"duckdb:{at.place('t.duckdb')}", **FLOW),
    ),
    "load_documents of what failed": (
        load_that_fails,
        lambda at, tables: flows.load_documents(str(at.folder), at.job, tables, resubmit=True, **FLOW),
    ),
    "compare_services": (
        nothing,
        lambda at, _: flows.compare_services(
            str(at.folder), [at.job, at.other], output=at.place("out"), **FLOW
        ),
    ),
    "review_documents": (
        nothing,
        lambda at, _: flows.review_documents(
            str(at.folder), [at.job, at.other], output=at.place("out"), **FLOW
        ),
    ),
    "prefect-docjobs extract": (nothing, lambda at, _: in_a_terminal(at, "--budget", "0")),
}
"""By name: what comes before, and the call with a budget of nothing."""


@pytest.mark.parametrize("name", SUBMITTING)
async def test_a_budget_of_nothing_submits_nothing(name: str, given: Given) -> None:
    prepare, act = SUBMITTING[name]
    prepared = await prepare(given)
    before = given.submits
    with suppress(OverBudget):  # of one document
        await act(given, prepared)
    assert given.submits == before


def all_that_submits() -> dict[str, set[str]]:
    """The parameters of every public task and flow that can submit."""
    public = {name: getattr(module, name) for module in (tasks, flows) for name in module.__all__}
    calls = {name: each.fn for name, each in public.items() if hasattr(each, "fn")}
    found: dict[str, set[str]] = {}
    for name, call in {**calls, "trigger": DocJob.trigger}.items():
        parameters = {*signature(call).parameters}
        found[name] = parameters | ({*SubmitOptions.__annotations__} if "options" in parameters else set())
    return {name: parameters for name, parameters in found.items() if "on_uncertain" in parameters}


def test_whatever_can_submit_takes_a_budget() -> None:
    found = all_that_submits()
    named = {"aretry_failures", "retry_failures", "review_documents", "compare_services", "submit_document"}
    assert named <= {*found}
    assert [name for name, takes in found.items() if not {"budget", "price_per_page"} <= takes] == []
    assert [name for name, takes in found.items() if "reuse_days" not in takes] == ["load_documents"]


async def test_what_a_retry_may_not_buy_has_the_reason_budget_and_stays_as_it_was_in_the_ledger(
    given: Given,
) -> None:
    failed = await all_fail(given)
    refused = await tasks.aretry_failures(given.job, failed, DOCUMENTS, resubmit=True, max_submits=1)
    assert sorted(str(row.reason) for row in refused) == ["None", "budget", "budget"]
    assert given.submits == 4
    later = await tasks.aextract_documents(given.job, DOCUMENTS)  # has no leave to buy again
    assert sorted(str(row.reason) for row in later) == ["None", "failed", "failed"]
    assert given.submits == 4


async def test_a_retry_shares_a_budget_and_tells_what_it_cost(
    given: Given, records: list[logging.LogRecord]
) -> None:
    budget = Budget(max_submits=2, price_per_page=0.5)
    some = (rows(Reason.UNAVAILABLE)[:2], DOCUMENTS[:2]), (rows(Reason.UNAVAILABLE)[2:], DOCUMENTS[2:])
    ended = [row for part in some for row in await tasks.aretry_failures(given.job, *part, budget=budget)]
    assert [row.reason for row in ended] == [None, None, Reason.BUDGET]
    told = [record.getMessage() for record in records if " bought, " in record.getMessage()]
    assert [line.split(";")[0] for line in told] == [
        "2 documents bought, 0 reused",
        "0 documents bought, 0 reused",
    ]


async def test_one_budget_holds_for_all_services_of_a_comparison(given: Given) -> None:
    await flows.compare_services(
        str(given.folder), [given.job, given.other], output=given.place("out"), budget=4
    )
    assert given.submits == 4


@pytest.mark.parametrize("is_far", [False, True])
async def test_a_load_that_is_retried_counts_all_pages_of_what_it_has_bought(
    is_far: bool, given: Given, tmp_path: Path
) -> None:
    given.set(stuck_share=1.0)
    folder = f"memory://budget-{uuid4()}" if is_far else f"{tmp_path}/pages"
    fsspec.url_to_fs(folder)[0].makedirs(folder, exist_ok=True)
    for number in range(4):
        with fsspec.open(f"{folder}/{number}.pdf", "wb") as file:
            file.write(blank_pages(5, width=100 + number))
    call = {
        "folder": folder,
        "job": given.job,
        "destination": f"duckdb:{given.place('retried.duckdb')}",
        "budget": 10,
        "document_timeout": 1.0,
    }
    retried = flows.load_documents.with_options(retries=1, retry_delay_seconds=0)
    ended: Any = await retried(**call, return_state=True)
    assert given.submits == 2  # of 5 pages each
    if ended.is_scheduled():  # Prefect before 3.9 leaves the second try to the worker
        async with get_client() as client:
            run = await client.read_flow_run(ended.state_details.flow_run_id)
        ended = await run_flow_async(retried, flow_run=run, parameters=call, return_type="state")
    assert ended.is_failed()
    assert given.submits == 2


def blank_pages(number: int, *, width: int) -> bytes:
    written, made = PdfWriter(), io.BytesIO()
    for _ in range(number):
        written.add_blank_page(width, 100)
    written.write(made)
    return made.getvalue()


async def test_a_load_waits_for_a_job_that_its_key_was_refused_for_also_without_a_ledger(
    given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_DOCJOBS_LEDGER", "")
    refused = ["/"]
    async with in_front(given.service, refuses=refused) as url:
        job, tables = make_job("mindee", url), f"duckdb:{given.place('refused.duckdb')}"
        state = await flows.load_documents(str(given.folder), job, tables, return_state=True)
        assert state.is_failed()
        refused.clear()
        told = await flows.load_documents(str(given.folder), job, tables)
    assert told["loaded"] == given.submits == 3


async def test_a_comparison_may_buy_again(given: Given) -> None:
    for _ in range(2):
        await flows.compare_services(str(given.folder), [given.job], output=given.place("out"), reuse_days=0)
    assert given.submits == 6


async def test_a_failure_that_sent_nothing_is_not_called_bought(
    given: Given, records: list[logging.LogRecord]
) -> None:
    await all_fail(given)
    again = await tasks.aextract_documents(given.job, DOCUMENTS)
    assert [row.reason for row in again] == [Reason.FAILED] * 3
    told = [record.getMessage() for record in records if " bought, " in record.getMessage()]
    assert [line.split(";")[0] for line in told] == [
        "3 documents bought, 0 reused",
        "0 documents bought, 0 reused",
    ]


async def test_an_uncertain_submit_that_may_not_be_repeated_stays_uncertain(
    given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    given.set(faults={"submit": {"lost": 1.0}})
    for ledger in (None, ""):
        if ledger is not None:
            monkeypatch.setenv("PREFECT_DOCJOBS_LEDGER", ledger)
        batch = await tasks.aextract_documents(
            given.job,
            [Document.from_bytes(DOCUMENTS[0].read(), name="a.png")],
            on_uncertain="resubmit",
            max_submits=1,
        )
        assert [row.reason for row in batch] == [Reason.UNCERTAIN]
