"""Unsiloed's submits, byte for byte, and the reading of their answers."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from support.unsiloed import JOB_ID, KEY, SCHEMA, client, job, ref
from support.wire import Script, answer, parts_of, texts_of

from prefect_docjobs.errors import (
    ConfigurationError,
    InvalidDocument,
    Rejected,
    SubmitUncertain,
)
from prefect_docjobs.models import Document
from prefect_docjobs.providers import provider_class
from prefect_docjobs.providers.unsiloed import Unsiloed

PDF = Document.from_bytes(b"%PDF-1.4 acme", name="acme.pdf")
QUEUED = {"job_id": JOB_ID, "status": "queued"}
URL = Document.from_url("https://files.example/acme.pdf?signature=1")


async def submitted(provider: Unsiloed, document: Document) -> httpx.Request:
    service = Script(httpx.Response(200, json=QUEUED))
    async with client(service) as http:
        assert (await provider.submit(http, document)).job_id == JOB_ID
    return service.only


def test_the_registry_names_it() -> None:
    assert provider_class("unsiloed") is Unsiloed


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

    assert (request.method, request.url.path) == ("POST", path)
    assert parts_of(request)[-1] == (field, "acme.pdf", "application/pdf", b"%PDF-1.4 acme")


@pytest.mark.parametrize(
    ("product", "field"),
    [("extract", "file_url"), ("parse", "url"), ("classify", "file_url"), ("split", "file_url")],
)
async def test_a_url_goes_as_a_text_field_of_a_multipart_form(product: str, field: str) -> None:
    texts = texts_of(await submitted(job(product), URL))

    assert texts[field] == "https://files.example/acme.pdf?signature=1"
    assert not {"file", "pdf_file"} & texts.keys()


async def test_both_key_headers_are_sent_on_every_request() -> None:
    service = Script(*[httpx.Response(200, json=QUEUED)] * 2)
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
    assert job().read_new_job(answer(body, status)).job_id == JOB_ID


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
    async with client(Script(httpx.Response(200, json=BLOCKED))) as http:
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
        job().read_new_job(answer(body))


def test_a_blocked_document_that_has_a_job_is_a_job() -> None:
    assert job().read_new_job(answer({**BLOCKED, "job_id": JOB_ID})).job_id == JOB_ID


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
        job().read_new_job(answer(body))
