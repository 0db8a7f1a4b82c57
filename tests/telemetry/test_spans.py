"""Spans: which there are, what they hang below, what they tell, and what they never tell."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import httpx
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.trace import SpanKind, StatusCode
from support.exported import Exported, facts, parent_of
from support.patient_time import patient_time
from support.services import Connected, connected, invoice, says
from support.shop import shop
from support.virtual_time import virtual_time

from prefect_docjobs.errors import JobFailed
from prefect_docjobs.extraction import extract_many, fetch_one, submit_one, wait_one
from prefect_docjobs.models import Document, Outcome, Phase
from prefect_docjobs.telemetry import Telemetry

TEN_SECONDS = {"law": "fixed", "seconds": 10.0}


async def _extracted(at: Connected, *documents: Document, timeout: float | None = None) -> list[Outcome]:
    return [outcome async for _, outcome in extract_many(at.provider, at.http, documents, timeout=timeout)]


@virtual_time
async def test_a_document_is_a_span_with_its_phases_and_the_requests_that_are_no_polls() -> None:
    told = Exported()
    async with connected("mindee", duration=TEN_SECONDS) as at:
        at.http.telemetry = told.telemetry
        (outcome,) = await _extracted(at, invoice(1))
    tree = {(parent_of(span, told.spans), span.name) for span in told.spans}
    assert tree == {
        (None, "docjobs.document"),
        ("docjobs.document", "docjobs.submit"),
        ("docjobs.document", "docjobs.wait"),
        ("docjobs.document", "docjobs.fetch"),
        ("docjobs.submit", "POST"),
        ("docjobs.fetch", "GET"),
    }
    assert len({span.context.trace_id for span in told.spans}) == 1
    assert outcome.ref is not None
    of_job = {
        "docjobs.provider": "mindee",
        "docjobs.product": "extraction",
        "docjobs.job.id": outcome.ref.job_id,
        "docjobs.document.size": outcome.ref.document_size,
    }
    ended = {"docjobs.outcome": "done", "docjobs.reused": False}
    assert facts(told.the("docjobs.document")) == {**of_job, **ended}
    assert facts(told.the("docjobs.submit")) == {**of_job, "docjobs.reused": False}
    assert facts(told.the("docjobs.fetch")) == of_job


@virtual_time
async def test_polls_are_counted_on_the_wait_and_have_no_spans() -> None:
    told = Exported()
    async with connected("mindee", duration=TEN_SECONDS) as at:
        at.http.telemetry = told.telemetry
        await _extracted(at, invoice(1))
        polls = at.backend.stats.requests["status"]
    assert polls
    assert facts(told.the("docjobs.wait"))["docjobs.poll.count"] == polls
    assert len(told.named("GET")) == 1


@virtual_time
async def test_a_request_names_its_server_and_its_status_and_no_address() -> None:
    told = Exported()
    async with connected("mindee") as at:
        at.http.telemetry = told.telemetry
        await _extracted(at, invoice(1))
    submit = told.the("POST")
    assert submit.kind is SpanKind.CLIENT
    assert facts(submit) == {
        "docjobs.provider": "mindee",
        "docjobs.request.kind": "submit",
        "http.request.method": "POST",
        "http.response.status_code": 202,
        "server.address": "localhost",
        "server.port": 80,
    }


@virtual_time
async def test_each_attempt_of_a_submit_is_a_span() -> None:
    told = Exported()
    async with connected("mindee", rates={"submit": {"per_second": 0.5}}) as at:
        at.http.telemetry = told.telemetry
        outcomes = await _extracted(at, invoice(1), invoice(2))
    assert all(outcome.ok for outcome in outcomes)
    statuses = Counter(facts(span)["http.response.status_code"] for span in told.named("POST"))
    assert statuses[202] == 2
    assert statuses[429] >= 1
    refused = [span for span in told.named("POST") if facts(span)["http.response.status_code"] == 429]
    assert {facts(span)["error.type"] for span in refused} == {"429"}
    assert {span.status.status_code for span in refused} == {StatusCode.ERROR}


@virtual_time
async def test_documents_hang_below_the_span_that_is_current_and_not_below_each_other() -> None:
    told = Exported()
    async with connected("numind", duration=TEN_SECONDS) as at:
        at.http.telemetry = told.telemetry
        with told.tracers.get_tracer("a caller").start_as_current_span("the caller's"):
            outcomes = await _extracted(at, *map(invoice, range(20)))
    assert all(outcome.ok for outcome in outcomes)
    assert {parent_of(span, told.spans) for span in told.named("docjobs.document")} == {"the caller's"}
    for phase in ("docjobs.submit", "docjobs.wait", "docjobs.fetch"):
        above = [span.parent.span_id for span in told.named(phase) if span.parent]
        assert len(set(above)) == 20
        assert {parent_of(span, told.spans) for span in told.named(phase)} == {"docjobs.document"}


@virtual_time
async def test_a_failed_job_is_an_error_with_its_reason_and_without_the_services_words() -> None:
    told = Exported()
    async with connected("mindee", duration={"law": "fixed", "seconds": 3.0}, failed_share=1.0) as at:
        at.http.telemetry = told.telemetry
        (outcome,) = await _extracted(at, invoice(1))
    document, wait = told.the("docjobs.document"), told.the("docjobs.wait")
    assert facts(document)["docjobs.outcome"] == "failed"
    assert facts(document)["docjobs.reason"] == facts(document)["error.type"] == "failed"
    assert facts(wait)["error.type"] == "JobFailed"
    for span in (document, wait):
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description is None
        assert span.events == ()
    assert outcome.error is not None
    assert outcome.error not in told.everything()


@virtual_time
async def test_what_is_cancelled_is_abandoned_and_no_error() -> None:
    told = Exported()
    async with connected("mindee", duration=TEN_SECONDS) as at:
        at.http.telemetry = told.telemetry
        extracting = asyncio.create_task(_extracted(at, invoice(1)))
        await asyncio.sleep(5)
        extracting.cancel()
        await asyncio.gather(extracting, return_exceptions=True)
    for name in ("docjobs.document", "docjobs.wait"):
        assert facts(told.the(name))["docjobs.outcome"] == "abandoned"
        assert told.the(name).status.status_code is StatusCode.UNSET


@virtual_time
async def test_the_verbs_for_one_document_make_the_same_phases() -> None:
    told = Exported()
    async with connected("unsiloed") as at:
        at.http.telemetry = told.telemetry
        ref = await submit_one(at.provider, at.http, invoice(1))
        status = await wait_one(at.provider, at.http, ref)
        await fetch_one(at.provider, at.http, status.ref)
    phases = [span for span in told.spans if span.name.startswith("docjobs.")]
    assert [span.name for span in phases] == ["docjobs.submit", "docjobs.wait", "docjobs.fetch"]
    assert {span.parent for span in phases} == {None}
    assert {facts(span)["docjobs.job.id"] for span in phases} == {ref.job_id}


@virtual_time
async def test_an_error_of_one_verb_is_on_its_span() -> None:
    told = Exported()
    async with connected("mindee", duration={"law": "fixed", "seconds": 3.0}, failed_share=1.0) as at:
        at.http.telemetry = told.telemetry
        ref = await submit_one(at.provider, at.http, invoice(1))
        with pytest.raises(JobFailed):
            await wait_one(at.provider, at.http, ref)
    assert facts(told.the("docjobs.wait"))["docjobs.reason"] == "failed"


@patient_time
async def test_what_is_reused_says_so_and_sends_no_request(tmp_path: Path) -> None:
    told = Exported()
    async with shop("mindee", tmp_path) as at:
        await at.extract(invoice(1))
        at.http.telemetry = told.telemetry
        await at.extract(invoice(1))
    assert facts(told.the("docjobs.document"))["docjobs.reused"] is True
    assert facts(told.the("docjobs.submit"))["docjobs.reused"] is True
    assert {span.name for span in told.spans} == {"docjobs.document", "docjobs.submit", "docjobs.fetch"}


# ---------------------------------------------------------------------------------------- what is never told


class _Echoing(httpx.AsyncBaseTransport):
    """A service that repeats the key, and what the document says, wherever it can."""

    def __init__(self, key: str, secret_value: str) -> None:
        self._said = f"{key} {secret_value}"
        self._key = key

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            body = {"job": {"id": f"job-{self._key}", "status": "Processing", "error": self._said}}
            return httpx.Response(202, json=body, headers={"x-request-id": self._said})
        return httpx.Response(500, json={"title": self._said, "detail": self._said, "code": self._said})


@virtual_time
async def test_no_secret_and_no_word_of_a_service_is_told() -> None:
    key, value = "sk-very-secret", "DE89 3704 0044 0532 0130 00"
    told = Exported()
    async with connected("mindee", key=key) as at:
        at.http.telemetry = told.telemetry
        at.http._transport = at.http._reads._transport = _Echoing(key, value)
        at.http._submits._transport = at.http._transport
        (outcome,) = await _extracted(at, invoice(1), timeout=60.0)
    assert not outcome.ok
    assert value in (outcome.error or "")  # the service did say it
    everything = told.everything()
    assert "docjobs.wait" in everything
    for hidden in (key, value, outcome.document):
        assert hidden not in everything


@virtual_time
async def test_no_field_of_a_result_is_told() -> None:
    told = Exported()
    async with connected("numind") as at:
        at.http.telemetry = told.telemetry
        (outcome,) = await _extracted(at, invoice(4711))
    assert outcome.result is not None
    number, total = says(outcome.result)
    everything = told.everything()
    for hidden in (number, str(total), "invoice_number", outcome.document):
        assert hidden not in everything


@virtual_time
async def test_the_name_of_a_document_is_told_where_that_is_asked_for() -> None:
    told = Exported(document_names=True)
    async with connected("mindee") as at:
        at.http.telemetry = told.telemetry
        await _extracted(at, invoice(1))
    assert facts(told.the("docjobs.document"))["docjobs.document.name"] == "invoice-00001.png"


@virtual_time
async def test_no_trace_context_is_sent_to_a_service() -> None:
    told = Exported()
    async with connected("mindee") as at:
        at.http.telemetry = told.telemetry
        await _extracted(at, invoice(1))
        headers = {name for request in at.requests for name in request.headers}
    assert "user-agent" in headers
    assert not headers & {"traceparent", "tracestate", "baggage"}


class BrokenProcessor(SpanProcessor):
    """An exporter that breaks whenever it is told something."""

    def on_start(self, span: object, parent_context: object = None) -> None:
        raise RuntimeError("no exporter")

    def on_end(self, span: object) -> None:
        raise RuntimeError("no exporter")


@virtual_time
async def test_an_exporter_that_breaks_costs_no_document(caplog: pytest.LogCaptureFixture) -> None:
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(BrokenProcessor())
    async with connected("mindee") as at:
        at.http.telemetry = Telemetry(tracers, MeterProvider(shutdown_on_exit=False))
        rows = await _extracted(at, *(invoice(number) for number in range(3)))
    assert [row.phase for row in rows] == [Phase.DONE] * 3
    assert 1 <= sum(bool(record.exc_info) for record in caplog.records) <= 10
