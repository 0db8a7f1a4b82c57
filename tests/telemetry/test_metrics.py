"""Metrics: what is counted and measured, once each."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics.export import HistogramDataPoint, NumberDataPoint
from support.exported import Exported, Point, facts
from support.patient_time import patient_time
from support.services import connected, invoice
from support.shop import shop
from support.virtual_time import virtual_time

from prefect_docjobs import telemetry as names
from prefect_docjobs.extraction import extract_many, fetch_one, submit_one, wait_one

TEN_SECONDS = {"law": "fixed", "seconds": 10.0}


def total(points: list[Point], **wanted: object) -> float:
    """The sum of a counter, over the points with these attributes (`.` of a name written as `_`)."""
    chosen = [point for point in points if _fits(point, wanted)]
    return sum(point.value for point in chosen if isinstance(point, NumberDataPoint))


def _fits(point: Point, wanted: dict[str, object]) -> bool:
    told = {name.replace(".", "_"): value for name, value in facts(point).items()}
    return told.items() >= wanted.items()


def histogram(points: list[Point]) -> HistogramDataPoint:
    """The only point of a histogram."""
    (point,) = points
    assert isinstance(point, HistogramDataPoint)
    return point


@virtual_time
async def test_documents_are_measured_by_outcome_and_reason() -> None:
    told = Exported()
    async with connected("mindee", duration=TEN_SECONDS, failed_share=0.5, seed=5) as at:
        at.http.telemetry = told.telemetry
        documents = [invoice(number) for number in range(20)]
        outcomes = [outcome async for _, outcome in extract_many(at.provider, at.http, documents)]
    measured = {
        (facts(point)["docjobs.outcome"], facts(point).get("docjobs.reason")): point.count
        for point in told.metrics()[names.DOCUMENT_DURATION]
        if isinstance(point, HistogramDataPoint)
    }
    ok = sum(outcome.ok for outcome in outcomes)
    assert 0 < ok < 20
    assert measured == {("done", None): ok, ("failed", "failed"): 20 - ok}


@virtual_time
async def test_the_duration_of_a_document_is_that_of_its_row() -> None:
    told = Exported()
    async with connected("mindee", duration=TEN_SECONDS) as at:
        at.http.telemetry = told.telemetry
        ((_, outcome),) = [each async for each in extract_many(at.provider, at.http, [invoice(1)])]
    assert histogram(told.metrics()[names.DOCUMENT_DURATION]).sum == outcome.seconds


@virtual_time
async def test_every_poll_is_counted_with_its_answer() -> None:
    told = Exported()
    unwell = {"status": {"unavailable": 0.3}}
    async with connected("mindee", duration=TEN_SECONDS, faults=unwell, seed=1) as at:
        at.http.telemetry = told.telemetry
        documents = [invoice(number) for number in range(10)]
        assert [outcome.ok async for _, outcome in extract_many(at.provider, at.http, documents)]
        polls = at.backend.stats.requests["status"]
    points = told.metrics()[names.POLLS]
    assert total(points, docjobs_provider="mindee") == polls
    failed = total(points, error_type="503", http_response_status_code=503)
    assert 0 < failed < polls


@virtual_time
async def test_pages_of_a_list_are_polls_and_a_stream_is_none() -> None:
    told = Exported()
    async with connected("numind", duration=TEN_SECONDS) as at:
        at.http.telemetry = told.telemetry
        documents = [invoice(number) for number in range(50)]
        assert [outcome.ok async for _, outcome in extract_many(at.provider, at.http, documents)]
        asked = [request.url.path for request in at.requests if request.method == "GET"]
        pages = sum(path.endswith("/jobs") for path in asked)
    assert pages
    results = len(told.named("GET"))
    streams = sum(path.endswith("/stream") for path in asked)
    assert total(told.metrics()[names.POLLS]) == len(asked) - results - streams


@virtual_time
async def test_refused_requests_are_counted_by_kind() -> None:
    told = Exported()
    few = {"submit": {"per_second": 1.0}, "status": {"per_second": 0.5}}
    async with connected("mindee", duration=TEN_SECONDS, rates=few) as at:
        at.http.telemetry = told.telemetry
        documents = [invoice(number) for number in range(10)]
        assert [outcome.ok async for _, outcome in extract_many(at.provider, at.http, documents)]
    points = told.metrics()[names.THROTTLED]
    by_kind = Counter({facts(point)["docjobs.request.kind"]: total([point]) for point in points})
    assert set(by_kind) == {"submit", "status"}
    submits = [span for span in told.named("POST") if facts(span).get("error.type") == "429"]
    assert by_kind["submit"] == len(submits)


@pytest.mark.parametrize("service", ["mindee", "numind", "unsiloed"])
@virtual_time
async def test_a_job_is_measured_and_how_late_its_end_was_seen(service: str) -> None:
    told = Exported()
    async with connected(service, duration=TEN_SECONDS) as at:
        at.http.telemetry = told.telemetry
        assert [outcome.ok async for _, outcome in extract_many(at.provider, at.http, [invoice(1)])]
        (job,) = at.backend.all_jobs()
    metrics = told.metrics()
    assert histogram(metrics[names.JOB_DURATION]).sum == pytest.approx(10.0, abs=2.5)
    if names.DETECTION_DELAY in metrics:
        assert histogram(metrics[names.DETECTION_DELAY]).sum == pytest.approx(job.detection_latency, abs=0.1)


@pytest.mark.parametrize("service", ["mindee", "unsiloed"])
@virtual_time
async def test_what_a_service_bills_is_counted(service: str) -> None:
    told = Exported()
    async with connected(service) as at:
        at.http.telemetry = told.telemetry
        ref = await submit_one(at.provider, at.http, invoice(1))
        status = await wait_one(at.provider, at.http, ref)
        result = await fetch_one(at.provider, at.http, status.ref)
    metrics = told.metrics()
    assert (result.usage.pages or 0) + (result.usage.credits or 0) > 0
    assert total(metrics.get(names.PAGES, [])) == (result.usage.pages or 0)
    assert total(metrics.get(names.CREDITS, [])) == (result.usage.credits or 0)


@patient_time
async def test_what_is_reused_is_not_billed_again(tmp_path: Path) -> None:
    told = Exported()
    async with shop("mindee", tmp_path) as at:
        at.http.telemetry = told.telemetry
        (outcome,) = await at.extract(invoice(1))
        assert outcome.result is not None
        first = told.metrics()
        await at.extract(invoice(1))
        again = told.metrics()
    assert total(first[names.PAGES]) == outcome.result.usage.pages
    assert names.PAGES not in again
