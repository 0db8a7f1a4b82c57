"""Intents whose submit may or may not have been accepted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.patient_time import patient_time
from support.services import invoice, says
from support.shop import Shop, shop
from support.toy import Toy

from prefect_docjobs.errors import Reason
from prefect_docjobs.extraction import Terms, submit_many
from prefect_docjobs.extraction.budget import Budget
from prefect_docjobs.http import Http
from prefect_docjobs.ledger import Ledger, State
from prefect_docjobs.models import Document, JobRef
from prefect_docjobs.providers.base import JobPage
from prefect_docjobs.providers.numind import NuMind

LOST: dict[str, Any] = {"faults": {"submit": {"lost": 1.0}}}
CUT_OFF: dict[str, Any] = {"faults": {"submit": {"dropped": 1.0}}}


@patient_time
async def test_an_intent_after_which_no_job_began_is_submitted(tmp_path: Path) -> None:
    async with shop("numind", tmp_path) as at:
        await at.orphaned_intent(invoice(1))
        (outcome,) = await at.extract(invoice(1))
        assert outcome.result
        assert says(outcome.result)[0] == "N-00001"
        assert at.submits == 1


@patient_time
async def test_a_job_that_nobody_claims_makes_an_intent_uncertain_and_is_named(tmp_path: Path) -> None:
    async with shop("numind", tmp_path) as at:
        await at.orphaned_intent(invoice(1))
        accepted = await at.provider.submit(at.http, invoice(1))
        (outcome,) = await at.extract(invoice(1))
        record = await at.the_record()
        assert (outcome.reason, record.reason) == (Reason.UNCERTAIN, Reason.UNCERTAIN)
        assert record.candidates == (accepted.job_id,)
        assert accepted.job_id in (outcome.error or "")
        assert at.submits == 1


@patient_time
async def test_jobs_that_the_ledger_knows_are_no_candidates(tmp_path: Path) -> None:
    async with shop("numind", tmp_path) as at:
        await at.extract(*(invoice(number) for number in range(150)))  # more than one page of the list
        await at.orphaned_intent(invoice(500))
        (outcome,) = await at.extract(invoice(500))
        assert outcome.ok
        assert at.submits == 151


@patient_time
async def test_a_job_that_another_worker_is_just_writing_down_is_no_candidate(tmp_path: Path) -> None:
    async with shop("numind", tmp_path) as at:
        await at.orphaned_intent(invoice(1))
        others = await at.provider.submit(at.http, invoice(2))
        reconciled = asyncio.create_task(at.extract(invoice(1)))
        await asyncio.sleep(33.0)  # after the grace, while it looks who claims the job
        async with at.another_worker() as other:
            await other.submitted(await other.claim(at.entry(invoice(2))), others)
            (outcome,) = await reconciled
        assert outcome.ok
        assert at.submits == 2


@pytest.mark.parametrize("service", ["mindee", "mindee_v1", "unsiloed"])
@patient_time
async def test_without_a_list_an_open_intent_is_uncertain_until_it_is_told_to_be_bought_again(
    service: str, tmp_path: Path
) -> None:
    async with shop(service, tmp_path) as at:
        await at.orphaned_intent(invoice(1))
        for _ in range(2):
            (outcome,) = await at.extract(invoice(1))
            assert outcome.reason is Reason.UNCERTAIN
        assert at.submits == 0
        (outcome,) = await at.extract(invoice(1), on_uncertain="resubmit")
        assert outcome.ok
        assert at.submits == 1


@pytest.mark.parametrize("service", ["mindee", "numind"])
@patient_time
async def test_a_lost_answer_is_uncertain_in_this_run_and_the_next(service: str, tmp_path: Path) -> None:
    async with shop(service, tmp_path, **LOST) as at:
        (first,) = await at.extract(invoice(1))
        at.set(faults=None)
        (second,) = await at.extract(invoice(1))
        assert first.reason is second.reason is Reason.UNCERTAIN
        assert at.submits == 1


@pytest.mark.parametrize("service", ["mindee", "numind"])
@patient_time
async def test_resubmit_buys_once_more_and_not_twice(service: str, tmp_path: Path) -> None:
    async with shop(service, tmp_path, **LOST) as at:
        (outcome,) = await at.extract(invoice(1), on_uncertain="resubmit")
        assert outcome.reason is Reason.UNCERTAIN
        assert at.submits == 2


@patient_time
async def test_a_submit_that_the_list_proves_not_accepted_is_made_again_in_the_same_run(
    tmp_path: Path,
) -> None:
    async with shop("numind", tmp_path, **CUT_OFF) as at:
        asyncio.get_running_loop().call_later(10.0, lambda: at.set(faults=None))
        budget = Budget(1)
        (outcome,) = await at.extract(invoice(1), budget=budget)
        assert outcome.ok
        assert (at.submits, budget.pages, budget.bought) == (1, 1, 1)


@patient_time
async def test_a_submit_that_is_cut_off_each_time_is_uncertain_in_the_end(tmp_path: Path) -> None:
    async with shop("numind", tmp_path, **CUT_OFF) as at:
        (outcome,) = await at.extract(invoice(1))
        assert outcome.reason is Reason.UNCERTAIN
        assert at.submits == 0


@patient_time
async def test_a_list_that_cannot_be_read_proves_nothing(tmp_path: Path) -> None:
    async with shop("numind", tmp_path, faults={"status": {"unavailable": 1.0}}) as at:
        await at.orphaned_intent(invoice(1))
        (outcome,) = await at.extract(invoice(1))
        assert outcome.reason is Reason.UNCERTAIN
        assert at.submits == 0


class Short(NuMind):
    """Its list tells no total."""

    async def list_jobs(self, http: Http, *, skip: int = 0, limit: int = 100, once: bool = False) -> JobPage:
        page = await super().list_jobs(http, skip=skip, limit=limit, once=once)
        return JobPage(rows=page.rows, seen_at=page.seen_at)


@pytest.mark.parametrize(("listed", "reason"), [(99, None), (100, Reason.UNCERTAIN)])
@patient_time
async def test_a_full_page_without_a_total_proves_nothing(
    tmp_path: Path, listed: int, reason: Reason | None
) -> None:
    async with shop("numind", tmp_path) as at:
        await at.extract(*(invoice(number) for number in range(listed)))
        await at.orphaned_intent(invoice(500))
        provider = Short(template=at.provider.template)  # type: ignore[attr-defined]
        (outcome,) = await at.extract(invoice(500), provider=provider)
        assert outcome.reason is reason


@patient_time
async def test_a_document_that_somebody_else_claims_before_its_turn_comes_is_not_sent(tmp_path: Path) -> None:
    async with shop("numind", tmp_path) as at, at.another_worker() as other:

        async def claimed() -> None:
            assert (await other.claim(at.entry(invoice(1)))).mine
            asyncio.get_running_loop().call_later(25.0, lambda: released.append(asyncio.create_task(free())))

        async def free() -> None:
            assert not at.requests
            (record,) = await other.find()
            await other.delete_intent(record)

        released: list[asyncio.Task[None]] = []
        (outcome,) = await at.extract(invoice(1), provider=delayed(at, claimed))
        assert outcome.ok
        assert at.submits == 1


def delayed(at: Shop, before: Callable[[], Any]) -> NuMind:
    """The service, with something that happens before the first document is sent."""
    begun: list[bool] = []

    class Delayed(NuMind):
        async def submit(self, http: Http, document: Document, **options: Any) -> JobRef:
            if not begun:
                begun.append(True)
                await before()
            return await super().submit(http, document, **options)

    return Delayed(template=at.provider.template)  # type: ignore[attr-defined]


@patient_time
async def test_an_answer_that_names_another_documents_job_is_uncertain_and_not_sent_again(
    tmp_path: Path,
) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        return httpx.Response(200, json={"id": "7"})

    transport = httpx.MockTransport(answer)
    http = Http(provider="toy", base_url="https://toy.test", headers={}, tenant="acme", transport=transport)
    async with http, Ledger(str(tmp_path / "ledger.db")) as ledger:
        outcomes = submit_many(Toy(), http, [invoice(1), invoice(2)], ledger=ledger)
        reasons = sorted(str(outcome.reason) for _, outcome in [row async for row in outcomes])
        assert reasons == ["None", "uncertain"]
        assert asked == ["POST", "POST"]
        failed = await ledger.find(states=[State.FAILED])
        assert [record.candidates for record in failed] == [("7",)]


@patient_time
async def test_a_job_that_the_ledger_has_under_another_document_is_not_taken_for_a_new_one(
    tmp_path: Path,
) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json={"id": "7"}))
    http = Http(provider="toy", base_url="https://toy.test", headers={}, tenant="acme", transport=transport)
    async with http, Ledger(str(tmp_path / "ledger.db")) as ledger:

        async def reason(number: int, **terms: Any) -> Reason | None:
            outcomes = submit_many(Toy(), http, [invoice(number)], ledger=ledger, terms=Terms(**terms))
            (found,) = [outcome.reason async for _, outcome in outcomes]
            return found

        assert await reason(1) is None
        assert await reason(2) is Reason.UNCERTAIN
        (failed,) = await ledger.find(states=[State.FAILED])
        assert (failed.candidates, failed.job_id) == (("7",), None)
        assert await reason(1, reuse_for=0) is None  # the service may give a document its own job again


@patient_time
async def test_a_document_that_changes_before_it_is_sent_does_not_become_anothers_result(
    tmp_path: Path,
) -> None:
    file = tmp_path / "invoice.png"
    file.write_bytes(invoice(1).read())

    async with shop("numind", tmp_path) as at:

        async def changed() -> None:
            file.write_bytes(invoice(2).read())

        (outcome,) = await at.extract(Document.from_path(file), provider=delayed(at, changed))
        assert (outcome.reason, outcome.result, at.submits) == (Reason.INVALID_DOCUMENT, None, 0)
