"""People review what services are not sure of: with a real Prefect server, resumed as its API resumes."""

from __future__ import annotations

import ast
import asyncio
import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from prefect import get_client
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.states import AwaitingRetry
from prefect.states import Running as RunningState
from support.blocks import make_job
from support.deployed import DeployedRun
from support.pages import block_run_by
from support.services import invoice

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.flows import read_decisions, review_documents
from prefect_docjobs.models import Outcome
from prefect_docjobs.simulator.samples import SAMPLES
from prefect_docjobs.simulator.server import Running, run_in_thread
from prefect_docjobs.simulator.settings import Duration, Settings

pytestmark = pytest.mark.timeout(400)

JOB = "mindee-job/reviewed"
FIELDS = ["invoice_number", "total_amount"]
ANSWER = {"invoice_number": "N-00000", "total_amount": 4}
"""To all questions about the first invoice, one of them corrected."""

MINUTES = 10
"""For a form, where there is an end."""


@pytest.fixture
def service() -> Iterator[Running]:
    """Services that are 0.9 sure of the invoices here; the saved job goes there."""
    with run_in_thread(Settings(duration=Duration(law="fixed", seconds=0.0))) as running:
        make_job("mindee", running.base_url).save("reviewed", overwrite=True)
        yield running


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(invoice(number).data or b"")
    return folder


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def submits(service: Running) -> int:
    return int(service.backend.report()["submits"]["total"])


def asked(inbox: Path, **more: Any) -> dict[str, Any]:
    """Parameters with which every total and number is looked at."""
    output = str(inbox.parent / "out")
    return {
        "folder": str(inbox),
        "jobs": [JOB],
        "output": output,
        "min_confidence": 0.95,
        "only": FIELDS,
        **more,
    }


async def resume(run: DeployedRun, **answer: Any) -> Any:
    """Send an answer as it is given."""
    async with get_client() as client:
        return await client.resume_flow_run(run.id, run_input=answer)


async def fill_in(run: DeployedRun, *, reviewer: str, **typed: dict[str, Any]) -> None:
    """Send the form as the UI does: what is not typed is as it was shown."""
    form = await schema(run)
    sent: dict[str, dict[str, Any]] = {}
    for name in set(form["properties"]) - {"reviewer"}:
        questions = form["definitions"][f"Review_{name}"]["properties"].items()
        shown = {question: each["default"] for question, each in questions if "default" in each}
        sent[name] = {**shown, **typed.get(name, {})}
    answered = await resume(run, reviewer=reviewer, **sent)
    assert answered.status is SetStateStatus.ACCEPT, answered


async def schema(run: DeployedRun) -> dict[str, Any]:
    """Of the form that the run waits with, as the UI reads it."""
    state = await run.state()
    keys = state.state_details.run_input_keyset or {}
    async with get_client() as client:
        shown = json.loads(await client.read_flow_run_input(run.id, keys["schema"]))
    assert isinstance(shown, dict)
    return shown


async def test_what_people_say_goes_into_the_files_with_who_and_when(service: Running, inbox: Path) -> None:
    run = await DeployedRun.of(review_documents, **asked(inbox))
    suspended = await run.leg()
    assert (suspended.type, suspended.name) == (StateType.PAUSED, "Suspended")
    before = datetime.now(timezone.utc)
    answer: dict[str, dict[str, Any]] = {
        "document_1": {"total_amount": 77.25},
        "document_2": {"invoice_number": "  ", "total_amount": None},
    }
    await fill_in(run, reviewer="Ann", **answer)
    ended = await run.leg()
    assert ended.is_completed(), ended.message
    assert str(ended.message).startswith(
        "3 of 3 documents delivered; 3 looked at by people, 3 fields corrected"
    )
    out = inbox.parent / "out"
    first, second, third = map(Outcome.model_validate, lines(out / "results.jsonl"))
    assert first.result
    assert second.result
    assert third.result
    total = first.result.fields["total_amount"]
    assert (total.value, total.confidence, total.confidence_label) == (77.25, 1.0, "human")
    assert first.result.fields["currency"].confidence_label == "High"
    assert second.result.row()["invoice_number"] is None
    assert third.result.row()["total_amount"] == 2.5
    row = lines(out / "rows.jsonl")[0]
    told = {name: row[f"review.{name}"] for name in ("source", "reviewer", "corrected")}
    assert told == {"source": "human", "reviewer": "Ann", "corrected": ["total_amount"]}
    corrected = {
        (line["document"], line["field"]): line
        for line in lines(out / "fields.jsonl")
        if line["source"] == "human" and line["value"] != line["before"]
    }
    assert set(corrected) == {("0.png", "total_amount"), *(("1.png", field) for field in FIELDS)}
    line = corrected["0.png", "total_amount"]
    assert (line["value"], line["before"], line["reviewer"]) == (77.25, 0.5, "Ann")
    at = datetime.fromisoformat(line["at"].replace("Z", "+00:00"))
    assert before - timedelta(seconds=5) < at < datetime.now(timezone.utc)
    assert submits(service) == 3


async def test_the_form_shows_the_document_the_field_what_was_found_and_what_is_proposed(
    service: Running, inbox: Path
) -> None:
    run = await DeployedRun.of(review_documents, **asked(inbox, documents_per_form=2))
    await run.leg()
    form = await schema(run)
    assert form["required"] == ["reviewer", "document_1", "document_2"]
    section = form["properties"]["document_1"]
    assert (section["title"], section["description"]) == ("0.png", "2 fields to look at")
    questions = form["definitions"]["Review_document_1"]["properties"]
    total = questions["total_amount"]
    assert total["description"] == f"The confidence 0.9 is below 0.95. · {JOB}: 0.5 (confidence 0.9)"
    assert (total["title"], total["default"]) == ("total_amount", 0.5)
    assert questions["invoice_number"]["default"] == "N-00000"
    assert form["definitions"]["Review_document_1"]["required"] == list(questions)


async def test_an_answer_that_is_none_is_refused_and_the_run_waits_on(service: Running, inbox: Path) -> None:
    run = await DeployedRun.of(review_documents, **asked(inbox, max_documents=1))
    await run.leg()
    assert (await resume(run, reviewer=" ", document_1=ANSWER)).status is SetStateStatus.REJECT
    assert (await resume(run, reviewer="Ann")).status is SetStateStatus.REJECT
    wrong = {**ANSWER, "total_amount": "much"}
    assert (await resume(run, reviewer="Ann", document_1=wrong)).status is SetStateStatus.REJECT
    assert (await run.state()).is_paused()


async def test_a_question_that_is_left_out_is_refused_and_not_confirmed(
    service: Running, inbox: Path
) -> None:
    run = await DeployedRun.of(review_documents, **asked(inbox, max_documents=1))
    await run.leg()
    for name in FIELDS:
        rest = {other: value for other, value in ANSWER.items() if other != name}
        answered = await resume(run, reviewer="Ann", document_1=rest)
        assert answered.status is SetStateStatus.REJECT
        assert f"'{name}' is a required property" in str(answered.details)
    assert (await resume(run, reviewer="Ann", document_1=ANSWER)).status is SetStateStatus.ACCEPT


async def test_forms_come_one_after_the_other_and_a_replay_asks_nothing_again(
    service: Running, inbox: Path
) -> None:
    run = await DeployedRun.of(review_documents, **asked(inbox, documents_per_form=2))
    await run.leg()
    (inbox / "later.png").write_bytes(invoice(9).data or b"")
    await fill_in(run, reviewer="Ann")
    assert (await run.leg()).is_paused()
    assert (await schema(run))["required"] == ["reviewer", "document_1"]
    assert {decision.reviewer for decision in read_decisions(inbox.parent / "out" / "reviews.jsonl")} == {
        "Ann"
    }
    await fill_in(run, reviewer="Bob")
    assert (await run.leg()).is_completed()
    rows = lines(inbox.parent / "out" / "rows.jsonl")
    assert [row["review.reviewer"] for row in rows] == ["Ann", "Ann", "Bob"]
    assert submits(service) == 3


async def test_forms_are_numbered_through_the_run_however_often_it_is_resumed(
    service: Running, inbox: Path
) -> None:
    run = await DeployedRun.of(review_documents, **asked(inbox, documents_per_form=1))
    told: list[str] = []
    while (await run.leg()).is_paused():
        told.append((await schema(run))["properties"]["reviewer"]["description"])
        await fill_in(run, reviewer="Ann")
    assert [each.partition(",")[0] for each in told] == ["Form 1 of 3", "Form 2 of 3", "Form 3 of 3"]


async def test_the_code_of_the_how_to_answers_a_form(service: Running, inbox: Path) -> None:
    block = block_run_by(__file__, "docs/how-to/review-by-people.md")
    run = await DeployedRun.of(review_documents, **asked(inbox, max_documents=2))
    await run.leg()
    code = compile(block.code, str(block), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    await eval(code, {"flow_run_id": run.id})
    assert (await run.leg()).is_completed()
    first, second = lines(inbox.parent / "out" / "rows.jsonl")[:2]
    assert [first[name] for name in (*FIELDS, "review.reviewer")] == ["BW-10442", 1452.17, "Ann"]
    assert [second[name] for name in FIELDS] == ["BW-10443", None]


async def test_another_run_asks_only_what_nobody_has_answered(service: Running, inbox: Path) -> None:
    run = await DeployedRun.of(review_documents, **asked(inbox, max_documents=2))
    await run.leg()
    await fill_in(run, reviewer="Ann", document_1={"total_amount": 5})
    assert (await run.leg()).is_completed()
    (inbox / "the same again.png").write_bytes((inbox / "0.png").read_bytes())
    other = await DeployedRun.of(review_documents, **asked(inbox))
    assert (await other.leg()).is_paused()
    assert (await schema(other))["properties"]["document_1"]["title"] == "2.png"
    await fill_in(other, reviewer="Bob")
    assert (await other.leg()).is_completed()
    rows = {row["document"]: row for row in lines(inbox.parent / "out" / "rows.jsonl")}
    assert [rows[f"{number}.png"]["review.reviewer"] for number in range(3)] == ["Ann", "Ann", "Bob"]
    assert rows["the same again.png"]["total_amount"] == 5
    assert submits(service) == 3


async def test_a_run_that_is_forced_on_without_an_answer_asks_again(service: Running, inbox: Path) -> None:
    run = await DeployedRun.of(review_documents, **asked(inbox, max_documents=1))
    await run.leg()
    async with get_client() as client:
        await client.set_flow_run_state(run.id, RunningState(), force=True)
    assert (await run.leg()).is_paused()
    await fill_in(run, reviewer="Ann")
    assert (await run.leg()).is_completed()


async def test_the_answer_counts_also_when_the_process_dies_before_it_is_written(
    service: Running, inbox: Path
) -> None:
    run = await DeployedRun.of(review_documents, **asked(inbox, max_documents=1))
    await run.leg()
    await fill_in(run, reviewer="Ann", document_1={"total_amount": 3})
    out = inbox.parent / "out"
    out.write_text("no folder", encoding="utf-8")
    assert (await run.leg()).is_failed()
    out.unlink()
    async with get_client() as client:
        await client.set_flow_run_state(run.id, RunningState(), force=True)
    assert (await run.leg()).is_completed()
    assert lines(out / "rows.jsonl")[0]["total_amount"] == 3
    assert submits(service) == 1


async def test_a_form_that_nobody_fills_in_in_time_fails_the_run_and_another_run_asks_it_and_no_more(
    service: Running, inbox: Path
) -> None:
    out = inbox.parent / "out"
    given = asked(inbox, documents_per_form=1)
    run = await DeployedRun.of(review_documents, **given, review_timeout=60 * MINUTES)
    await run.leg()
    await fill_in(run, reviewer="Ann", document_1={"total_amount": 5})
    assert (await run.leg()).is_paused()
    await _refused(run, reviewer="Bob", document_1=ANSWER)
    assert {decision.document for decision in read_decisions(out / "reviews.jsonl")} == {"0.png"}
    assert [path.name for path in out.iterdir()] == ["reviews.jsonl"]
    other = await DeployedRun.of(review_documents, **given)
    assert await _titles_of_forms(other, reviewer="Cid") == ["1.png", "2.png"]
    rows = lines(out / "rows.jsonl")
    assert [row["review.reviewer"] for row in rows] == ["Ann", "Cid", "Cid"]
    assert rows[0]["total_amount"] == 5
    assert submits(service) == 3


async def test_a_run_that_was_not_answered_in_time_asks_again_when_it_is_retried(
    service: Running, inbox: Path
) -> None:
    run = await DeployedRun.of(review_documents, **asked(inbox, max_documents=1), review_timeout=60 * MINUTES)
    await run.leg()
    await _refused(run, reviewer="Bob", document_1=ANSWER)
    async with get_client() as client:
        await client.set_flow_run_state(run.id, AwaitingRetry())  # as the button of the UI
    assert (await run.leg()).is_paused()
    await fill_in(run, reviewer="Ann")
    assert (await run.leg()).is_completed()
    assert lines(inbox.parent / "out" / "rows.jsonl")[0]["review.reviewer"] == "Ann"


async def test_a_process_that_waits_gives_up_in_time_and_keeps_files_of_earlier_runs(
    service: Running, inbox: Path
) -> None:
    out = inbox.parent / "out"
    await review_documents(**asked(inbox, min_confidence=None, max_documents=1))
    before = {path: path.read_bytes() for path in out.iterdir()}
    assert before
    state = await review_documents(**asked(inbox, wait="pause", review_timeout=1), return_state=True)
    assert (state.is_failed(), str(state.message).endswith("never resumed.")) == (True, True)
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    other = await DeployedRun.of(review_documents, **asked(inbox, documents_per_form=1))
    assert await _titles_of_forms(other, reviewer="Ann") == ["0.png", "1.png", "2.png"]
    assert submits(service) == 3


async def test_services_that_disagree_are_decided_by_a_person(service: Running, tmp_path: Path) -> None:
    await make_job("mindee_v1", service.base_url).asave("one", overwrite=True)
    net_only = make_job("numind", service.base_url, template={"total_net": "number"})
    await net_only.asave("other", overwrite=True)
    (tmp_path / "inbox").mkdir()
    sample = (SAMPLES / "invoice-brightwater.pdf").read_bytes()
    (tmp_path / "inbox" / "b.pdf").write_bytes(sample)
    jobs = ["mindee-v1-job/one", "numind-job/other"]
    given = {"jobs": jobs, "fields": {"amount": ["total_amount", "total_net"], "number": ["invoice_number"]}}
    run = await DeployedRun.of(review_documents, **asked(tmp_path / "inbox", only=None, **given))
    await run.leg()
    form = await schema(run)
    asks = form["definitions"]["Review_document_1"]
    assert (list(asks["properties"]), asks["required"]) == (["amount"], ["amount"])
    assert "2 services found 2 different values." in asks["properties"]["amount"]["description"]
    assert (await resume(run, reviewer="Ann", document_1={})).status is SetStateStatus.REJECT
    await resume(run, reviewer="Ann", document_1={"amount": 1452.17})
    assert (await run.leg()).is_completed()
    (outcome,) = map(Outcome.model_validate, lines(tmp_path / "out" / "results.jsonl"))
    assert outcome.result
    assert outcome.result.row() == {"number": "BW-10442", "amount": 1452.17}
    assert outcome.result.fields["amount"].locations
    sources = {line["field"]: line for line in lines(tmp_path / "out" / "fields.jsonl")}
    assert sources["number"]["services"] == ["mindee-v1-job/one"]
    assert sources["amount"]["source"] == "human"


async def test_what_is_missing_is_asked_for_and_failures_are_dead_letters(
    service: Running, inbox: Path
) -> None:
    (inbox / "note.txt").write_text("no invoice", encoding="utf-8")
    given = asked(inbox, pattern="[0n]*", min_confidence=None, required=["supplier.name"])
    run = await DeployedRun.of(review_documents, **given)
    await run.leg()
    await resume(run, reviewer="Ann", document_1={"supplier_name": "Acme"})
    ended = await run.leg()
    assert str(ended.message).startswith(
        "1 of 2 documents delivered; 1 looked at by people, 1 field corrected"
    )
    out = inbox.parent / "out"
    (outcome,) = map(Outcome.model_validate, lines(out / "results.jsonl"))
    assert outcome.result
    assert outcome.result.row()["supplier.name"] == "Acme"
    assert [letter["reason"] for letter in lines(out / "failures.jsonl")] == ["invalid_document"]


async def test_without_a_deployment_the_run_keeps_its_process_while_it_waits(
    service: Running, inbox: Path
) -> None:
    going = asyncio.create_task(review_documents(**asked(inbox, max_documents=1)))
    try:
        await _answered(await _paused("review inbox"), reviewer="Ann", document_1=ANSWER)
        totals = await asyncio.wait_for(going, 60)
    finally:
        going.cancel()
    assert (totals["reviewed"], totals["corrected"]) == (1, 1)


async def test_a_run_that_cannot_be_suspended_says_what_to_do(service: Running, inbox: Path) -> None:
    with pytest.raises(
        ConfigurationError, match="deploy the flow and run the deployment, or use wait='pause'"
    ):
        await review_documents(**asked(inbox, wait="suspend"))
    assert submits(service) == 0


async def test_a_column_cannot_be_required_of_a_person(service: Running, inbox: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"'lines\[\].amount' is a column"):
        await review_documents(**asked(inbox, required=["lines[].amount"]))
    assert submits(service) == 0


async def test_nothing_in_doubt_asks_nobody(service: Running, inbox: Path) -> None:
    job: DocJob = make_job("mindee", service.base_url)
    totals = await review_documents(**asked(inbox, jobs=[job], min_confidence=0.5))
    assert (totals["delivered"], totals["reviewed"]) == (3, 0)
    assert {line["source"] for line in lines(inbox.parent / "out" / "fields.jsonl")} == {"services"}


async def test_a_file_of_reviews_that_is_none_stops_the_run_before_anything_is_bought(
    service: Running, inbox: Path
) -> None:
    out = inbox.parent / "out"
    out.mkdir()
    (out / "reviews.jsonl").write_text('{"document": "a"}\n', encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"reviews\.jsonl, line 1 is no review"):
        await review_documents(**asked(inbox))
    assert submits(service) == 0


async def _refused(run: DeployedRun, **answer: Any) -> None:
    """Answer when it is too late: the minutes for the form are over, which nobody here waits for.

    A server fails runs whose time is over every few seconds; that of Prefect's harness does when it is asked.
    """
    state = await run.state()
    end, now = state.state_details.pause_timeout, datetime.now(timezone.utc)
    assert end is not None
    assert now + timedelta(minutes=MINUTES - 2) < end <= now + timedelta(minutes=MINUTES)
    state.state_details.pause_timeout = end - timedelta(minutes=MINUTES)
    async with get_client() as client:
        await client.set_flow_run_state(run.id, state, force=True)
    assert (await resume(run, **answer)).status is not SetStateStatus.ACCEPT
    state = await run.state()
    assert (state.is_failed(), str(state.message).endswith("never resumed.")) == (True, True), state


async def _titles_of_forms(run: DeployedRun, *, reviewer: str) -> list[str]:
    """What a run with one document for each form asks about, all of it confirmed, until it is completed."""
    titles: list[str] = []
    while (state := await run.leg()).is_paused():
        titles.append((await schema(run))["properties"]["document_1"]["title"])
        await fill_in(run, reviewer=reviewer)
    assert state.is_completed(), state.message
    return titles


async def _paused(name: str) -> Any:
    async with get_client() as client:
        while True:
            runs = await client.read_flow_runs()
            for run in runs:
                if run.name == name and run.state and run.state.is_paused() and run.deployment_id is None:
                    return run
            await asyncio.sleep(0.2)


async def _answered(run: Any, **answer: Any) -> None:
    async with get_client() as client:
        await client.resume_flow_run(run.id, run_input=answer)
