"""Unsiloed's submits and status requests, byte for byte, and the reading of their answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from support.unsiloed import (
    JOB_ID,
    KEY,
    SCHEMA,
    SEEN,
    answer,
    client,
    job,
    parts_of,
    raw_answer,
    ref,
    texts_of,
)

from prefect_docjobs.errors import (
    ConfigurationError,
    InvalidDocument,
    Rejected,
    SubmitUncertain,
    Unreadable,
    Unsupported,
)
from prefect_docjobs.models import Document, JobState, JobStatus, Problem
from prefect_docjobs.providers import provider_class
from prefect_docjobs.providers.unsiloed import Unsiloed

PDF = Document.from_bytes(b"%PDF-1.4 acme", name="acme.pdf")
URL = Document.from_url("https://files.example/acme.pdf?signature=1")


class Recorder:
    """Answers every request with one JSON body, and keeps the requests."""

    def __init__(self, body: Any, status: int = 200) -> None:
        self.requests: list[httpx.Request] = []
        self._response: Callable[[], httpx.Response] = lambda: httpx.Response(status, json=body)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self._response()

    @property
    def only(self) -> httpx.Request:
        (request,) = self.requests
        return request


async def submitted(provider: Unsiloed, document: Document) -> httpx.Request:
    service = Recorder({"job_id": JOB_ID, "status": "queued"})
    async with client(service) as http:
        assert (await provider.submit(http, document)).job_id == JOB_ID
    return service.only


def status_of(body: Any, product: str = "extract", **settings: Any) -> JobStatus:
    provider = job(product, **settings)
    seen = answer(body)
    with provider.reading(seen):
        return provider.read_status(ref(product), seen)


def test_the_registry_names_it() -> None:
    assert provider_class("unsiloed") is Unsiloed


# ------------------------------------------------------------------------------------------------ submit


@pytest.mark.parametrize(
    ("product", "path", "field"),
    [
        ("extract", "/v2/extract", "pdf_file"),
        ("parse", "/parse", "file"),
        ("classify", "/classify", "pdf_file"),
        ("split", "/splitter", "file"),
    ],
)
@pytest.mark.parametrize("routes", ["product", "jobs"])
async def test_a_file_goes_to_its_products_route_in_its_products_field(
    product: str, path: str, field: str, routes: str
) -> None:
    request = await submitted(job(product, routes=routes), PDF)

    part = parts_of(request)[field]
    assert (request.method, request.url.path) == ("POST", path)
    assert part.get_payload(decode=True) == b"%PDF-1.4 acme"
    assert (part.get_filename(), part.get_content_type()) == ("acme.pdf", "application/pdf")


@pytest.mark.parametrize(
    ("product", "field"),
    [("extract", "file_url"), ("parse", "url"), ("classify", "file_url"), ("split", "file_url")],
)
async def test_a_url_goes_as_a_text_field_of_a_multipart_form(product: str, field: str) -> None:
    texts = texts_of(await submitted(job(product), URL))

    assert texts[field] == "https://files.example/acme.pdf?signature=1"
    assert not {"file", "pdf_file"} & texts.keys()


async def test_both_key_headers_are_sent_on_every_request() -> None:
    service = Recorder({"job_id": JOB_ID, "status": "queued"})
    async with client(service) as http:
        await job().submit(http, PDF)
        await job().status(http, ref())

    headers = [(request.headers["api-key"], request.headers["x-api-key"]) for request in service.requests]
    assert headers == [(KEY, KEY), (KEY, KEY)]


async def test_options_that_are_not_given_are_not_sent() -> None:
    assert texts_of(await submitted(job(), PDF)) == {"schema_data": json.dumps(SCHEMA)}
    assert texts_of(await submitted(job("parse"), PDF)) == {}


async def test_extract_options_go_out_in_the_services_own_words() -> None:
    provider = job(
        model="alpha",
        enable_citations=True,
        schema_name="invoice",
        high_accuracy_mode=False,
        detect_pii=True,
        pii_engine="advanced",
        pii_block_severity="any",
        options={"new_switch": True, "depth": 3, "tags": ["a"], "note": "as it is", "left_out": None},
    )

    assert texts_of(await submitted(provider, PDF)) == {
        "schema_data": json.dumps(SCHEMA),
        "model": "alpha",
        "enable_citations": "true",
        "schema_name": "invoice",
        "high_accuracy_mode": "false",
        "detect_pii": "true",
        "pii_engine": "advanced",
        "pii_block_severity": "any",
        "new_switch": "true",
        "depth": "3",
        "tags": '["a"]',
        "note": "as it is",
    }


async def test_parse_options_go_out_in_the_services_own_words() -> None:
    provider = job(
        "parse",
        use_high_resolution=True,
        segmentation_method="page_by_page",
        ocr_mode="force_ocr",
        ocr_engine="UnsiloedStorm",
        merge_tables=False,
        validate_segments=["Table", "Picture"],
        keep_segment_types="table,picture",
        page_range="1-5",
        segment_analysis={"Table": {"html": "LLM"}},
        output_fields={"ocr": False},
        xml_citation=True,
        error_handling="Fail",
    )

    assert texts_of(await submitted(provider, PDF)) == {
        "use_high_resolution": "true",
        "segmentation_method": "page_by_page",
        "ocr_mode": "force_ocr",
        "ocr_engine": "UnsiloedStorm",
        "merge_tables": "false",
        "validate_segments": '["Table", "Picture"]',
        "keep_segment_types": "table,picture",
        "page_range": "1-5",
        "segment_analysis": '{"Table": {"html": "LLM"}}',
        "output_fields": '{"ocr": false}',
        "xml_citation": "true",
        "error_handling": "Fail",
    }


@pytest.mark.parametrize("product", ["classify", "split"])
async def test_categories_go_out_as_objects_with_names(product: str) -> None:
    provider = job(product, categories=["invoice", {"name": "contract", "description": "Légal"}])

    sent = texts_of(await submitted(provider, PDF))["categories"]

    assert json.loads(sent) == [{"name": "invoice"}, {"name": "contract", "description": "Légal"}]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"product": "ocr"}, "product"),
        ({"product": "parse", "routes": "v2"}, "routes"),
        ({"product": "extract"}, "schema_data"),
        ({"product": "extract", "schema_data": {}}, "schema_data"),
        ({"product": "extract", "schema_data": {"limit": float("nan")}}, "schema_data"),
        ({"product": "extract", "schema_data": {"a": object()}}, "schema_data"),
        ({"product": "classify"}, "categories"),
        ({"product": "split", "categories": []}, "categories"),
        ({"product": "split", "categories": "invoice"}, "categories"),
        ({"product": "split", "categories": 7}, "categories"),
        ({"product": "split", "categories": [{"description": "no name"}]}, "categories"),
        ({"product": "split", "categories": [None]}, "categories"),
        ({"product": "parse", "model": "gamma"}, "model"),
        ({"product": "parse", "schema_data": SCHEMA}, "schema_data"),
        ({"product": "classify", "categories": ["a"], "enable_citations": False}, "enable_citations"),
        ({"product": "parse", "options": {"url": "https://x.example"}}, "url"),
        ({"product": "parse", "options": {"ocr_mode": "a"}, "ocr_mode": "b"}, "ocr_mode"),
        ({"product": "parse", "options": {"x": {1, 2}}}, "x"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_by_its_name(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        Unsiloed(**settings)


def test_an_option_may_be_given_as_a_free_option_instead() -> None:
    assert job("parse", options={"ocr_mode": "force_ocr"}).options == {"ocr_mode": "force_ocr"}


def test_a_document_over_500_mb_is_refused_before_it_is_sent(tmp_path: Any) -> None:
    path = tmp_path / "big.pdf"
    with path.open("wb") as file:
        file.truncate((500 << 20) + 1)

    with pytest.raises(InvalidDocument, match=r"524,288,000"):
        job("parse").check(Document.from_path(path))


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"job_id": JOB_ID, "status": "queued", "message": "started", "quota_remaining": 997}, 200),
        ({"job_id": JOB_ID, "status": "Starting", "file_name": "acme.pdf", "credit_used": 2}, 200),
        ({"job_id": JOB_ID, "status": "processing", "quota_remaining": 450}, 202),
        ({"id": JOB_ID, "status": "queued"}, 200),
        ({"id": "internal", "job_id": JOB_ID, "status": "Starting"}, 200),
    ],
)
def test_every_documented_submit_answer_names_its_job(body: Any, status: int) -> None:
    assert job()._read_submitted(answer(body, status)).job_id == JOB_ID


BLOCKED = {
    "job_id": None,
    "status": "pii_blocked",
    "blocked": True,
    "reason": "pii_detected:high",
    "severity": "high",
    "total_findings": 2,
    "by_category": {"identity": 2},
    "summary": "Jane Roe, 123-45-6789",
    "spans": [{"text": "Jane Roe"}],
}


async def test_a_document_with_personal_data_is_rejected_and_not_uncertain() -> None:
    async with client(Recorder(BLOCKED)) as http:
        with pytest.raises(Rejected, match=r"acme\.pdf.*pii_detected:high") as caught:
            await job(detect_pii=True).submit(http, PDF)

    assert (caught.value.code, caught.value.status, caught.value.provider) == ("pii_blocked", 200, "unsiloed")
    assert caught.value.details == {
        "reason": "pii_detected:high",
        "severity": "high",
        "total_findings": 2,
        "by_category": {"identity": 2},
    }
    assert "Roe" not in f"{caught.value}{caught.value.details}"


@pytest.mark.parametrize("body", [{"status": "pii_blocked"}, {"job_id": None, "blocked": True, "reason": 7}])
def test_either_sign_of_a_block_is_enough(body: Any) -> None:
    with pytest.raises(Rejected, match="no reason given"):
        job()._read_submitted(answer(body))


def test_a_blocked_document_that_has_a_job_is_a_job() -> None:
    assert job()._read_submitted(answer({**BLOCKED, "job_id": JOB_ID})).job_id == JOB_ID


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>ok</html>",
        b"[]",
        b'"done"',
        b"{}",
        b'{"job_id": null, "status": "queued"}',
        b'{"job_id": "  "}',
        b'{"job_id": 7}',
        b'{"job_id": ".."}',
    ],
)
def test_a_submit_answer_without_a_job_id_is_uncertain(body: bytes) -> None:
    with pytest.raises(SubmitUncertain):
        job()._read_submitted(raw_answer(body))


# ------------------------------------------------------------------------------------------------ status


@pytest.mark.parametrize(
    ("product", "routes", "status_path", "result_path"),
    [
        ("extract", "product", f"/extract/{JOB_ID}", f"/extract/{JOB_ID}"),
        ("parse", "product", f"/parse/{JOB_ID}", f"/parse/{JOB_ID}"),
        ("classify", "product", f"/classify/{JOB_ID}", f"/classify/{JOB_ID}"),
        ("split", "product", f"/splitter/{JOB_ID}", f"/splitter/{JOB_ID}"),
        ("extract", "jobs", f"/jobs/{JOB_ID}", f"/jobs/{JOB_ID}/result"),
        ("parse", "jobs", f"/jobs/{JOB_ID}", f"/jobs/{JOB_ID}/result"),
        ("classify", "jobs", f"/jobs/{JOB_ID}", f"/jobs/{JOB_ID}/result"),
        ("split", "jobs", f"/jobs/{JOB_ID}", f"/jobs/{JOB_ID}/result"),
    ],
)
async def test_status_and_result_are_asked_at_the_routes_that_were_chosen(
    product: str, routes: str, status_path: str, result_path: str
) -> None:
    provider = job(product, routes=routes)
    service = Recorder({"status": "processing"})
    async with client(service) as http:
        await provider.status(http, ref(product))
        await provider.fetch(http, ref(product))

    asked = [(request.method, request.url.path) for request in service.requests]
    assert asked == [("GET", status_path), ("GET", result_path)]
    assert provider.result_request(ref(product)).verbatim


@pytest.mark.parametrize("job_id", ["..", "."])
def test_a_job_id_that_is_a_path_is_never_asked_for(job_id: str) -> None:
    with pytest.raises(Unreadable):
        job().status_request(ref(job_id=job_id))


def test_a_job_id_stays_one_segment_of_the_path() -> None:
    assert job().status_request(ref(job_id="a/../b?c#d")).path == "/extract/a%2F..%2Fb%3Fc%23d"


STATES = {
    JobState.QUEUED: ["queued", "Queued", "Starting", "AwaitingUpload"],
    JobState.PROCESSING: ["PROCESSING", "processing", "Processing"],
    JobState.SUCCEEDED: ["COMPLETED", "completed", "Succeeded", "review"],
    JobState.FAILED: ["FAILED", "failed", "Failed", "error", "pii_blocked"],
    JobState.CANCELLED: ["Cancelled", "cancelled", "CANCELLED"],
    JobState.UNKNOWN: ["Archived", "paused"],
}


@pytest.mark.parametrize(
    ("state", "word"), [(state, word) for state, words in STATES.items() for word in words]
)
def test_every_state_word_in_every_case_has_its_meaning(state: JobState, word: str) -> None:
    status = status_of({"job_id": JOB_ID, "status": word})

    assert (status.state, status.raw_state, status.seen_at) == (state, word, SEEN)


def test_the_generic_routes_own_example_is_read() -> None:
    body = {
        "id": JOB_ID,
        "status": "queued",
        "type": "extraction",
        "created_at": "2024-01-15T10:30:00.000Z",
        "updated_at": "2024-01-15T10:30:00.000Z",
        "pdf_name": "financial_report.pdf",
        "pdf_hash": "sha256:abc123...",
        "user_id": "user_123",
    }

    assert status_of(body, routes="jobs").state is JobState.QUEUED


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"error": "Invalid PDF format"}, Problem(message="Invalid PDF format")),
        ({"error": None, "message": "corrupted"}, Problem(message="corrupted")),
        ({"message": "corrupted"}, Problem(message="corrupted")),
        ({"error": {"message": "bad", "code": "E7"}}, Problem(message="bad", code="E7")),
        (
            {"error": {"message": "bad", "details": {"page": 3}}},
            Problem(message="bad", details={"page": 3}),
        ),
        ({"error": ["bad page"]}, Problem(message="bad page", details=["bad page"])),
        ({"error": ""}, Problem(message="The service gave no reason.")),
        ({"error": 7, "message": []}, Problem(message="The service gave no reason.")),
        ({}, Problem(message="The service gave no reason.")),
    ],
)
def test_a_failed_job_says_why_in_error_or_in_message(body: dict[str, Any], problem: Problem) -> None:
    assert status_of({"job_id": JOB_ID, "status": "Failed", **body}, "parse").error == problem


def test_a_job_that_did_not_fail_has_no_error() -> None:
    assert (
        status_of({"job_id": JOB_ID, "status": "queued", "message": "PDF processing started"}).error is None
    )


@pytest.mark.parametrize(
    ("routes", "body"),
    [
        ("product", {"job_id": "other"}),
        ("product", {"job_id": 7}),
        ("jobs", {"id": "other"}),
        ("jobs", {"job_id": "other", "id": JOB_ID}),
        ("jobs", {"job_id": None, "id": "other"}),
    ],
)
def test_a_status_of_another_job_is_refused(routes: str, body: dict[str, Any]) -> None:
    with pytest.raises(Unreadable, match="another job"):
        status_of({"status": "completed", **body}, routes=routes)


def test_the_internal_record_id_of_a_parse_job_is_not_taken_for_its_job_id() -> None:
    assert status_of({"id": "record-1", "status": "Processing"}, "parse").state is JobState.PROCESSING


@pytest.mark.parametrize("given", ["sha256:" + "cd" * 32, "CD" * 32])
def test_a_status_of_another_document_is_refused(given: str) -> None:
    with pytest.raises(Unreadable, match="another document"):
        status_of({"id": JOB_ID, "status": "COMPLETED", "pdf_hash": given}, routes="jobs")


@pytest.mark.parametrize(
    "given", ["sha256:" + "ab" * 32, "SHA256:" + "AB" * 32, "sha256:abc123...", "md5:1", None, 7]
)
def test_our_own_hash_and_what_is_no_whole_hash_pass(given: object) -> None:
    body = {"id": JOB_ID, "status": "COMPLETED", "pdf_hash": given}

    assert status_of(body, routes="jobs").state is JobState.SUCCEEDED


def test_a_document_submitted_by_url_has_no_hash_to_compare() -> None:
    provider, seen = job(routes="jobs"), answer({"id": JOB_ID, "status": "queued", "pdf_hash": "cd" * 32})

    assert provider.read_status(ref(document_sha256=None), seen).state is JobState.QUEUED


@pytest.mark.parametrize("body", [{}, [], "queued", None, {"status": None}, {"status": 7}, {"status": " "}])
def test_a_status_without_a_state_word_is_unreadable(body: Any) -> None:
    with pytest.raises(Unreadable) as caught:
        status_of(body)

    assert caught.value.provider == "unsiloed"


# --------------------------------------------------------------------------------- what it does not offer


async def test_what_the_service_does_not_document_is_unsupported() -> None:
    provider = job()
    async with client(Recorder({})) as http:
        with pytest.raises(Unsupported):
            await provider.cancel(http, ref())
        with pytest.raises(Unsupported):
            await provider.list_jobs(http)
        with pytest.raises(Unsupported):
            provider.stream(http, ref())
    with pytest.raises(Unsupported):
        provider.verify_push({}, b"{}", ["secret"])
    with pytest.raises(Unsupported):
        provider.read_push(b"{}")
