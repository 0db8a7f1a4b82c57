"""The same content is bought once: in one call, in two, after a crash, and by several workers."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.ledgers import dead, later
from support.patient_time import patient_time
from support.services import invoice, says
from support.shop import Shop, shop

from prefect_docjobs.errors import Reason
from prefect_docjobs.extraction import fetch_one, submit_many, submit_one, wait_one
from prefect_docjobs.ledger import State
from prefect_docjobs.models import Document, Outcome

SERVICES = pytest.mark.parametrize("service", ["mindee", "mindee_v1", "numind", "unsiloed"])


def right(outcome: Outcome, number: int) -> bool:
    """Whether this is the result of the invoice of that number."""
    return outcome.result is not None and says(outcome.result)[0] == f"N-{number:05}"


def renamed(document: Document, name: str) -> Document:
    return Document.from_bytes(document.read(), name=name)


@SERVICES
@patient_time
async def test_the_same_content_twice_in_a_batch_is_submitted_once_and_both_names_get_the_result(
    service: str, tmp_path: Path
) -> None:
    async with shop(service, tmp_path) as at:
        outcomes = await at.extract(invoice(1), renamed(invoice(1), "copy.png"), invoice(2))
        assert [right(outcome, number) for outcome, number in zip(outcomes, (1, 1, 2), strict=True)] == [
            True
        ] * 3
        assert [outcome.document for outcome in outcomes] == [
            "invoice-00001.png",
            "copy.png",
            "invoice-00002.png",
        ]
        assert sorted(outcome.reused for outcome in outcomes) == [False, False, True]
        assert at.submits == 2


@SERVICES
@patient_time
async def test_a_second_run_asks_the_service_nothing(service: str, tmp_path: Path) -> None:
    async with shop(service, tmp_path) as at:
        first = await at.extract(invoice(1), invoice(2))
        at.requests.clear()
        second = await at.extract(invoice(1), renamed(invoice(2), "other.png"))
        assert not at.requests
        assert all(outcome.reused for outcome in second)
        assert [outcome.result and outcome.result.fields for outcome in second] == [
            outcome.result and outcome.result.fields for outcome in first
        ]


@patient_time
async def test_another_setting_is_another_purchase(tmp_path: Path) -> None:
    async with shop("numind", tmp_path) as at:
        other = type(at.provider)(template={"total_amount": "number"})  # type: ignore[call-arg]
        await at.extract(invoice(1))
        await at.extract(invoice(1), provider=other)
        assert at.submits == 2


@pytest.mark.parametrize(
    ("service", "settings"),
    [
        ("mindee", {"webhook_ids": ()}),
        ("mindee", {"send": "base64", "alias": "order-42", "filename": "a.png"}),
        ("mindee_v1", {"send": "base64", "rag": False}),
        ("numind", {"upload": "multipart", "instructions": ""}),
        ("unsiloed", {"routes": "jobs"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("the_other_way", [False, True])
@patient_time
async def test_how_a_document_travels_does_not_buy_it_again(
    service: str, settings: dict[str, Any], the_other_way: bool, tmp_path: Path
) -> None:
    async with shop(service, tmp_path) as at:
        one, two = at.provider, replace(at.provider, **settings)  # type: ignore[type-var]
        if the_other_way:
            one, two = two, one
        await at.extract(invoice(1), provider=one)
        (outcome,) = await at.extract(invoice(1), provider=two)
        assert right(outcome, 1)
        assert outcome.reused
        assert at.submits == 1


@patient_time
async def test_a_flow_run_that_is_replayed_buys_nothing_again_though_results_are_not_reused(
    tmp_path: Path,
) -> None:
    async with shop("numind", tmp_path) as at:
        for run, submits in (("one", 1), ("one", 1), ("another", 2)):
            (outcome,) = await at.extract(invoice(1), reuse_for=0.0, flow_run_id=run)
            assert outcome.ok
            assert at.submits == submits


@pytest.mark.parametrize(("reuse_for", "submits"), [(0.0, 2), (50.0, 2), (150.0, 1), (None, 1)])
@patient_time
async def test_a_result_is_used_again_as_long_as_the_terms_say(
    tmp_path: Path, reuse_for: float | None, submits: int
) -> None:
    async with shop("mindee", tmp_path) as at:
        await at.extract(invoice(1))
        await later(at.ledger, await at.the_record(), 100.0)
        (again,) = await at.extract(invoice(1), reuse_for=reuse_for)
        assert right(again, 1)
        assert at.submits == submits


@patient_time
async def test_work_in_flight_is_taken_up_even_when_nothing_is_used_again(tmp_path: Path) -> None:
    async with shop("mindee", tmp_path) as at:
        await submit_one(at.provider, at.http, invoice(1), ledger=at.ledger)
        await dead(at.ledger, await at.the_record())
        async with at.another_worker() as other:
            (outcome,) = await at.extract(invoice(1), ledger=other, reuse_for=0.0)
        assert right(outcome, 1)
        assert at.submits == 1


@patient_time
async def test_a_url_is_the_same_document_within_one_call_only(tmp_path: Path) -> None:
    async with shop("mindee", tmp_path) as at:
        address = "https://files.test/acme.png"
        at.backend.documents[address] = invoice(1).read()
        document = Document.from_url(address)
        first = await at.extract(document, renamed_url(document), scope="run/1")
        assert all(right(outcome, 1) for outcome in first)
        assert at.submits == 1
        await at.extract(document, scope="run/1")  # the same call, run again
        assert at.submits == 1
        await at.extract(document, scope="run/2")
        await at.extract(document)
        assert at.submits == 3


def renamed_url(document: Document) -> Document:
    assert document.url
    return Document.from_url(document.url, name="copy.png")


# -- a worker dies; the next one goes on with what is known


@SERVICES
@patient_time
async def test_a_job_that_was_submitted_is_waited_for(service: str, tmp_path: Path) -> None:
    async with shop(service, tmp_path) as at:
        await submit_one(at.provider, at.http, invoice(1), ledger=at.ledger)
        await dead(at.ledger, await at.the_record())
        async with at.another_worker() as other:
            (outcome,) = await at.extract(invoice(1), ledger=other)
        assert right(outcome, 1)
        assert outcome.reused
        assert at.submits == 1


@SERVICES
@patient_time
async def test_a_job_that_was_done_is_fetched_without_another_look(service: str, tmp_path: Path) -> None:
    async with shop(service, tmp_path) as at:
        ref = await submit_one(at.provider, at.http, invoice(1), ledger=at.ledger)
        await wait_one(at.provider, at.http, ref, ledger=at.ledger)
        await dead(at.ledger, await at.the_record())
        at.requests.clear()
        async with at.another_worker() as other:
            (outcome,) = await at.extract(invoice(1), ledger=other)
        assert right(outcome, 1)
        assert len(at.requests) == 1


@patient_time
async def test_steps_in_calls_of_their_own_buy_once_too(tmp_path: Path) -> None:
    async with shop("mindee", tmp_path, single_use_results=True) as at:
        for _ in range(2):
            ref = await submit_one(at.provider, at.http, invoice(1), ledger=at.ledger)
            done = await wait_one(at.provider, at.http, ref, ledger=at.ledger)
            result = await fetch_one(at.provider, at.http, done.ref, ledger=at.ledger)
            assert says(result)[0] == "N-00001"
        assert (at.submits, at.fetches) == (1, 1)


@patient_time
async def test_what_a_single_wait_finds_is_written_down(tmp_path: Path) -> None:
    async with shop("mindee", tmp_path, failed_share=1.0) as at:
        ref = await submit_one(at.provider, at.http, invoice(1), ledger=at.ledger)
        with pytest.raises(Exception, match="processed"):
            await wait_one(at.provider, at.http, ref, ledger=at.ledger)
        record = await at.the_record()
        assert (record.state, record.reason) == (State.FAILED, Reason.FAILED)


# -- failures


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        ({"api_key": "another"}, Reason.UNAUTHORIZED),
        ({"numind": {"quota": 0}}, Reason.QUOTA),
        ({"faults": {"submit": {"unavailable": 1.0}}}, Reason.UNAVAILABLE),
    ],
)
@patient_time
async def test_a_document_that_was_refused_is_submitted_by_the_next_run(
    tmp_path: Path, refusal: dict[str, Any], reason: Reason
) -> None:
    async with shop("numind", tmp_path, **refusal) as at:
        (refused,) = await at.extract(invoice(1))
        assert (refused.reason, at.submits) == (reason, 0)
        at.set(**dict.fromkeys(refusal))
        (outcome,) = await at.extract(invoice(1))
        assert right(outcome, 1)
        assert at.submits == 1


@SERVICES
@patient_time
async def test_a_document_that_the_service_could_not_process_is_not_bought_again(
    service: str, tmp_path: Path
) -> None:
    async with shop(service, tmp_path, failed_share=1.0) as at:
        (first,) = await at.extract(invoice(1))
        at.set(failed_share=0.0)
        (second,) = await at.extract(invoice(1))
        assert first.reason is second.reason is Reason.FAILED
        assert second.ref == first.ref
        assert at.submits == 1


@patient_time
async def test_a_job_that_took_too_long_is_waited_for_by_the_next_run(tmp_path: Path) -> None:
    async with shop("mindee", tmp_path, duration={"law": "fixed", "seconds": 100.0}) as at:
        (late,) = await at.extract(invoice(1), document_timeout=20.0)
        assert late.reason is Reason.TIMEOUT
        (outcome,) = await at.extract(invoice(1))
        assert right(outcome, 1)
        assert at.submits == 1


# -- several workers


async def _both(at: Shop, documents: list[Document]) -> tuple[list[Outcome], list[Outcome]]:
    async with at.another_worker() as other:
        one, two = await asyncio.gather(at.extract(*documents), at.extract(*documents, ledger=other))
    return list(one), list(two)


@pytest.mark.parametrize("service", ["mindee", "numind"])
@patient_time
async def test_two_workers_with_the_same_documents_submit_each_once_and_both_get_all_results(
    service: str, tmp_path: Path
) -> None:
    async with shop(service, tmp_path, single_use_results=True) as at:
        for outcomes in await _both(at, [invoice(number) for number in range(20)]):
            assert all(right(outcome, number) for number, outcome in enumerate(outcomes))
        assert (at.submits, at.fetches) == (20, 20)


@patient_time
async def test_a_holder_that_lives_is_waited_for_and_one_that_dies_is_noticed_by_its_lease(
    tmp_path: Path,
) -> None:
    async with shop("mindee", tmp_path) as at:
        await at.ledger.submitted(
            await at.ledger.claim(at.entry(invoice(1))), await at.provider.submit(at.http, invoice(1))
        )
        async with at.another_worker() as other:
            waiting = asyncio.create_task(at.extract(invoice(1), ledger=other))
            await asyncio.sleep(30.0)  # the job has ended long ago
            assert not waiting.done()
            await dead(at.ledger, await at.the_record())
            (outcome,) = await waiting
        assert right(outcome, 1)
        assert at.submits == 1


@patient_time
async def test_who_only_submits_needs_not_wait_for_the_holder_of_a_known_job(tmp_path: Path) -> None:
    async with shop("mindee", tmp_path) as at:
        ref = await at.provider.submit(at.http, invoice(1))
        await at.ledger.submitted(await at.ledger.claim(at.entry(invoice(1))), ref)
        async with at.another_worker() as other:
            outcomes = submit_many(at.provider, at.http, [invoice(1)], ledger=other)
            assert [outcome.ref async for _, outcome in outcomes] == [ref]
        assert at.submits == 1


@patient_time
async def test_patience_with_the_holder_ends_and_buys_nothing(tmp_path: Path) -> None:
    async with shop("mindee", tmp_path) as at:
        await at.ledger.claim(at.entry(invoice(1)))
        async with at.another_worker() as other:
            (outcome,) = await at.extract(invoice(1), ledger=other, document_timeout=15.0)
        assert outcome.reason is Reason.TIMEOUT
        assert outcome.error
        assert "at work on the same document" in outcome.error
        assert at.submits == 0


@patient_time
async def test_a_worker_that_lost_its_job_to_another_gets_the_others_result(tmp_path: Path) -> None:
    async with shop("mindee", tmp_path, single_use_results=True) as at:
        sleeper = asyncio.create_task(at.extract(invoice(1)))
        await asyncio.sleep(5.0)
        async with at.another_worker() as other:
            await dead(at.ledger, await at.the_record())
            (theirs,) = await at.extract(invoice(1), ledger=other)
        (ours,) = await sleeper
        assert right(theirs, 1)
        assert right(ours, 1)
        assert (at.submits, at.fetches) == (1, 1)
