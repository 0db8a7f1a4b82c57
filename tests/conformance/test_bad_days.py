"""Batches on bad days: faults in every kind of request, and still one true outcome for every document."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.services import connected, invoice, says
from support.virtual_time import virtual_time

from prefect_docjobs.errors import Reason
from prefect_docjobs.extraction import extract_many
from prefect_docjobs.models import Batch, Outcome
from prefect_docjobs.providers.registry import BUILT_IN

pytestmark = pytest.mark.parametrize("name", list(BUILT_IN))
BAD = {"unavailable": 0.10, "dropped": 0.05, "bad_gateway": 0.05}


async def extracted(at: Any, count: int) -> Batch:
    outcomes: dict[int, Outcome] = {}
    async for index, outcome in extract_many(at.provider, at.http, [invoice(n) for n in range(count)]):
        assert index not in outcomes
        outcomes[index] = outcome
    return Batch.of(outcomes[index] for index in range(count))


@virtual_time
async def test_two_hundred_documents_on_a_bad_day(name: str) -> None:
    """10 % 503, 5 % dropped, 5 % HTML 502 on status and result; 2 s of 404; 3 % failing documents."""
    async with connected(
        name,
        faults={"status": BAD, "result": BAD},
        not_found_after_submit=2.0,
        failed_share=0.03,
        seed=7,
    ) as at:
        batch = await extracted(at, 200)
        report = at.backend.report()

    failed = {outcome.document for outcome in batch.failures}
    assert {outcome.reason for outcome in batch.failures} == {Reason.FAILED}
    assert 1 <= len(failed) == report["jobs"]["failed"] <= 15
    assert len(batch.results) == 200 - len(failed)
    for number, outcome in enumerate(batch):
        assert outcome.document == f"invoice-{number:05}.png"
        if outcome.result:
            assert says(outcome.result) == (f"N-{number:05}", number + 0.5)
    assert report["submits"]["total"] == 200
    assert report["submits"]["repeated"] == []
    assert sum(report["given"].get(kind, 0) for kind in ("503", "502", "dropped")) > 50


@virtual_time
async def test_lost_submit_answers_are_told_one_by_one_and_paid_once(name: str) -> None:
    async with connected(name, faults={"submit": {"lost": 0.10}}, seed=3) as at:
        batch = await extracted(at, 200)
        report = at.backend.report()

    lost = report["given"]["lost"]
    assert 8 <= lost <= 35
    assert [outcome.reason for outcome in batch.failures] == [Reason.UNCERTAIN] * lost
    assert all(outcome.document in (outcome.error or "") for outcome in batch.failures)
    assert len(batch.results) == 200 - lost
    assert report["submits"]["repeated"] == []


@virtual_time
async def test_single_use_results_whose_answers_are_lost_are_named(name: str) -> None:
    if name == "unsiloed":
        pytest.skip("the service answers each status request with the result: it cannot be single-use")
    async with connected(name, single_use_results=True, faults={"result": {"lost": 0.2}}, seed=5) as at:
        batch = await extracted(at, 50)
        report = at.backend.report()

    lost = report["given"].get("lost", 0)
    assert lost > 0
    assert [outcome.reason for outcome in batch.failures] == [Reason.LOST_RESULT] * lost
    assert len(batch.results) == 50 - lost
    assert report["submits"]["repeated"] == []


@virtual_time
async def test_an_overall_time_limit_leaves_every_document_with_a_row(name: str) -> None:
    async with connected(name, duration={"law": "uniform", "low": 5.0, "high": 100.0}) as at:
        outcomes = [
            outcome
            async for _, outcome in extract_many(
                at.provider, at.http, [invoice(n) for n in range(40)], timeout=40
            )
        ]
        assert asyncio.get_running_loop().time() < 60

    reasons = [outcome.reason for outcome in outcomes]
    assert set(reasons) == {None, Reason.TIMEOUT}
    assert len(reasons) == 40
    assert all(outcome.ref for outcome in outcomes)
