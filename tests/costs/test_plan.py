"""A dry run says what a run would do, and changes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest_asyncio
from support.ledgers import dead, deliver
from support.services import Connected, connected, invoice

from prefect_docjobs.errors import Reason
from prefect_docjobs.extraction import Terms, submit_many
from prefect_docjobs.extraction.budget import Budget
from prefect_docjobs.extraction.plan import Plan, Verdict, plan_many
from prefect_docjobs.ledger import Entry, Ledger, entry_for
from prefect_docjobs.models import Document, JobRef


@pytest_asyncio.fixture
async def ledger(tmp_path: Any) -> AsyncIterator[Ledger]:
    async with Ledger(str(tmp_path / "l.db")) as opened:
        yield opened


@pytest_asyncio.fixture
async def service() -> AsyncIterator[Connected]:
    async with connected("mindee") as connection:
        yield connection


async def plan(
    service: Connected, documents: Sequence[Document], ledger: Ledger | None, **terms: Any
) -> Plan:
    http = service.http
    return await plan_many(
        service.provider, http.base_url, http.tenant, documents, terms=Terms(**terms), ledger=ledger
    )


async def submit(
    service: Connected, documents: Sequence[Document], ledger: Ledger, **terms: Any
) -> list[JobRef]:
    outcomes = submit_many(service.provider, service.http, documents, terms=Terms(**terms), ledger=ledger)
    return [outcome.ref async for _, outcome in outcomes if outcome.ref is not None]


def entry(service: Connected, document: Document) -> Entry:
    http = service.http
    return entry_for(
        service.provider, base_url=http.base_url, tenant=http.tenant, name=document.name,
        sha256=document.sha256, size=document.size,
    )  # fmt: skip


def verdicts(plan: Plan) -> list[Verdict]:
    return [planned.verdict for planned in plan]


async def test_what_nobody_knows_would_be_submitted_at_its_price(service: Connected, ledger: Ledger) -> None:
    told = await plan(service, [invoice(1), invoice(2)], ledger, budget=Budget(price_per_page=0.05))
    assert verdicts(told) == [Verdict.SUBMIT] * 2
    assert (told.pages, told.cost, [planned.cost for planned in told]) == (2, 0.1, [0.05, 0.05])
    assert str(told) == "2 documents: 2 submit. 2 pages would be bought for 0.1."


async def test_each_document_is_told_as_the_ledger_knows_it(service: Connected, ledger: Ledger) -> None:
    kept, running, failed, refused, hanging = (invoice(number) for number in range(5))
    ref = (await submit(service, [running], ledger))[0]
    record = await ledger.claim(entry(service, kept))
    record = await ledger.submitted(record, ref.model_copy(update={"job_id": "kept"}))
    await deliver(ledger, record, record.ref or ref, b"{}")
    record = await ledger.submitted(
        await ledger.claim(entry(service, failed)), ref.model_copy(update={"job_id": "failed"})
    )
    await ledger.failed(record, Reason.FAILED, "The page is blank.")
    await ledger.failed(await ledger.claim(entry(service, refused)), Reason.BUDGET, "Nothing was left.")
    await dead(ledger, await ledger.claim(entry(service, hanging)))

    told = {
        planned.document: planned
        for planned in await plan(service, [kept, running, failed, refused, hanging], ledger)
    }
    assert [planned.verdict.value for planned in told.values()] == [
        "paid", "in_flight", "failed", "submit", "unclear",
    ]  # fmt: skip
    assert told[running.name].job_id == ref.job_id
    assert (told[failed.name].reason, told[failed.name].note) == (Reason.FAILED, "The page is blank.")
    assert told[refused.name].reason is Reason.BUDGET
    assert [planned.pages for planned in told.values()] == [None, None, None, 1, None]


async def test_a_result_that_is_too_old_to_be_used_again_would_be_bought(
    service: Connected, ledger: Ledger
) -> None:
    ref = (await submit(service, [invoice(1)], ledger))[0]
    [record] = await ledger.find(job_ids=[ref.job_id])
    held = await ledger.take_over(await dead(ledger, record))
    assert held
    await deliver(ledger, held, ref, b"{}")
    assert verdicts(await plan(service, [invoice(1)], ledger)) == [Verdict.PAID]
    assert verdicts(await plan(service, [invoice(1)], ledger, reuse_for=0.0)) == [Verdict.SUBMIT]


async def test_the_same_content_twice_is_bought_once(service: Connected, ledger: Ledger) -> None:
    first = invoice(1)
    again = Document.from_bytes(first.read(), name="copy.png")
    told = await plan(service, [first, again], ledger)
    assert verdicts(told) == [Verdict.SUBMIT, Verdict.DUPLICATE]
    assert told.documents[1].note == f"the same content as {first.name}"
    assert len(await submit(service, [first, again], ledger)) == 2
    assert sum(request.method == "POST" for request in service.requests) == told.pages == 1


async def test_without_a_ledger_each_content_would_be_bought(service: Connected) -> None:
    told = await plan(service, [invoice(1), invoice(1), invoice(2)], None)
    assert verdicts(told) == [Verdict.SUBMIT, Verdict.DUPLICATE, Verdict.SUBMIT]


async def test_what_cannot_be_sent_is_invalid_and_costs_nothing(service: Connected, ledger: Ledger) -> None:
    wrong = [Document.from_path("no-such-file.pdf"), Document.from_bytes(b"", name="empty.pdf")]
    told = await plan(service, wrong, ledger)
    assert verdicts(told) == [Verdict.INVALID] * 2
    assert "does not exist" in (told.documents[0].note or "")
    assert told.pages == 0


async def test_a_budget_is_kept_as_a_run_would_keep_it(service: Connected, ledger: Ledger) -> None:
    documents = [invoice(number) for number in range(5)]
    told = await plan(service, documents, ledger, budget=Budget(3))
    bought = await submit(service, documents, ledger, budget=Budget(3))
    assert told.counts == {"submit": 3, "over_budget": 2}
    assert len(bought) == 3


async def test_what_cannot_be_counted_is_said(service: Connected, ledger: Ledger) -> None:
    told = await plan(service, [Document.from_url("https://documents.test/a.pdf")], ledger)
    assert (told.pages, told.uncounted) == (1, 1)
    assert "1 document taken for one page each" in str(told)


async def test_nothing_is_sent_and_nothing_is_written(service: Connected, ledger: Ledger) -> None:
    await submit(service, [invoice(1)], ledger)
    sent, before = len(service.requests), await ledger.find()
    await plan(service, [invoice(1), invoice(2)], ledger, budget=Budget(1))
    assert len(service.requests) == sent
    assert [(record.id, record.version) for record in await ledger.find()] == [
        (record.id, record.version) for record in before
    ]
