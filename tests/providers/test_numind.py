"""NuExtract: settings and submits, against literals of its documents and SDKs."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from support.numind_service import KEY, Service, http_to
from support.wire import SentPart, parts_of

from prefect_docjobs.errors import (
    ConfigurationError,
    InvalidDocument,
    NotFound,
    SubmitUncertain,
    Unsupported,
)
from prefect_docjobs.models import Document
from prefect_docjobs.providers import provider_class
from prefect_docjobs.providers.numind import NuMind

PDF = Document.from_bytes(b"%PDF-1.4 acme", name="acme.pdf")
TEXT = Document.from_bytes("\ufeffTotal: 118,50 €".encode(), name="acme.txt")
ACCEPTED = httpx.Response(200, json={"jobId": "j-123"})
TEMPLATE = {"total": "number", "supplier": {"name": "verbatim-string"}, "tags": ["string"]}
BY_TEMPLATE = "POST /api/structured-extraction/jobs"
TO_PROJECT = "POST /api/structured-extraction/p-1/jobs"
CONTENT = "POST /api/content-extraction/jobs"
EVERYTHING: dict[str, Any] = {
    "temperature": 0.2,
    "dpi": 200,
    "image_width": "original",
    "max_output_tokens": 2048,
    "max_example_token_number": 12000,
    "max_example_number": 3,
    "min_example_similarity": 0,
    "enable_thinking": False,
    "thinking_token_budget": "8000",
    "loop_detection": True,
    "random_seed": 99,
    "timeout": "10m",
}


async def submitted(job: NuMind, route: str, document: Document = PDF) -> httpx.Request:
    service = Service({route: ACCEPTED})
    async with http_to(service) as http:
        ref = await job.submit(http, document)
    assert ref.job_id == "j-123"
    assert ref.product == job.product
    assert service.asked == [route]
    return service.requests[0]


def json_of(part: SentPart) -> Any:
    return json.loads(part.content)


# ---------------------------------------------------------------------------------------------- registry


def test_the_registry_knows_it_and_what_it_can_do() -> None:
    assert provider_class("numind") is NuMind
    able = NuMind.capabilities
    assert (able.list_jobs, able.stream, able.cancel, able.push, able.url_input) == (True,) * 3 + (False,) * 2
    assert NuMind.products == ("extraction", "content")
    assert (NuMind.env_key, NuMind.default_base_url) == ("NUMIND_API_KEY", "https://nuextract.ai")


# ----------------------------------------------------------------------------------------------- submits


async def test_a_template_goes_out_as_the_sdk_sends_it() -> None:
    request = await submitted(NuMind(template=TEMPLATE), BY_TEMPLATE)
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert not request.url.query
    manifest, document = parts_of(request)
    assert manifest[:3] == ("request", None, None)
    assert json_of(manifest) == {"schema": TEMPLATE, "instructions": "", "settings": {}}
    assert document == ("document", "document", "application/octet-stream", b"%PDF-1.4 acme")


async def test_a_templates_settings_are_in_the_manifest_and_only_its_timeout_in_the_query() -> None:
    job = NuMind(template=TEMPLATE, instructions="EUR only.", **EVERYTHING, options={"degradedMode": "off"})
    request = await submitted(job, BY_TEMPLATE)
    manifest = json_of(parts_of(request)[0])
    assert dict(request.url.params) == {"timeout": "10m"}
    assert manifest["instructions"] == "EUR only."
    assert manifest["settings"] == {
        "temperature": 0.2,
        "rasterizationDPI": 200,
        "imageWidth": "original",
        "maxOutputTokens": "2048",
        "maxExampleTokenNumber": 12000,
        "maxExampleNumber": "3",
        "minExampleSimilarity": 0,
        "enableThinking": False,
        "thinkingTokenBudget": "8000",
        "loopDetection": True,
        "randomSeed": "99",
        "degradedMode": "off",
    }


async def test_examples_are_attached_in_the_order_of_their_results() -> None:
    examples = [
        (Document.from_bytes(text.encode(), name=f"{text}.txt"), {"total": total})
        for text, total in (("one", 1), ("two", 2))
    ]
    request = await submitted(NuMind(template={"total": "number"}, examples=examples), BY_TEMPLATE)
    manifest, _, *files = parts_of(request)
    assert json_of(manifest)["examples"] == [
        {"result": {"total": 1}},
        {"result": {"total": 2}},
    ]
    assert files == [
        ("exampleFiles", "one.txt", "application/octet-stream", b"one"),
        ("exampleFiles", "two.txt", "application/octet-stream", b"two"),
    ]


async def test_a_text_document_is_sent_as_it_is_with_a_template() -> None:
    request = await submitted(NuMind(template=TEMPLATE), BY_TEMPLATE, TEXT)
    assert parts_of(request)[1].content == TEXT.data


async def test_a_project_takes_the_file_as_octets_and_all_settings_in_the_query() -> None:
    request = await submitted(NuMind(project_id="p-1", **EVERYTHING, options={"new": 1}), TO_PROJECT)
    assert request.content == b"%PDF-1.4 acme"
    assert request.headers["content-type"] == "application/octet-stream"
    assert request.headers["content-length"] == "13"
    assert dict(request.url.params) == {
        "dpi": "200",
        "temperature": "0.2",
        "imageWidth": "original",
        "maxOutputTokens": "2048",
        "maxExampleTokenNumber": "12000",
        "maxExampleNumber": "3",
        "minExampleSimilarity": "0",
        "enableThinking": "false",
        "thinkingTokenBudget": "8000",
        "loopDetection": "true",
        "randomSeed": "99",
        "timeout": "10m",
        "new": "1",
    }


async def test_a_project_takes_the_file_as_multipart_when_told() -> None:
    request = await submitted(NuMind(project_id="p-1", upload="multipart"), TO_PROJECT)
    (part,) = parts_of(request)
    assert part == ("file", "acme.pdf", "application/pdf", b"%PDF-1.4 acme")


async def test_a_project_takes_text_as_json_without_a_resolution() -> None:
    job = NuMind(project_id="p-1", dpi=200, temperature=1)
    request = await submitted(job, f"{TO_PROJECT}/text", TEXT)
    assert json.loads(request.content) == {"text": "Total: 118,50 €"}
    assert dict(request.url.params) == {"temperature": "1"}


async def test_text_that_is_not_utf8_is_refused_before_it_is_sent() -> None:
    service = Service()
    latin = Document.from_bytes("é".encode("latin-1"), name="acme.txt")
    async with http_to(service) as http:
        with pytest.raises(InvalidDocument, match=r"acme\.txt: The text is not UTF-8"):
            await NuMind(project_id="p-1").submit(http, latin)
    assert service.asked == []


async def test_content_takes_the_file_a_project_and_settings() -> None:
    job = NuMind(product="content", project_id="c/1", dpi="automatic", timeout="1h")
    request = await submitted(job, CONTENT)
    (part,) = parts_of(request)
    assert part[:2] == ("file", "acme.pdf")
    expected = {"projectId": "c/1", "rasterizationDPI": "automatic", "timeout": "1h"}
    assert dict(request.url.params) == expected


async def test_content_needs_no_settings_at_all() -> None:
    assert not (await submitted(NuMind(product="content"), CONTENT)).url.query


async def test_a_project_id_stays_one_segment_of_the_path() -> None:
    service = Service()
    async with http_to(service) as http:
        with pytest.raises(NotFound):
            await NuMind(project_id="p/../x").submit(http, PDF)
    assert service.requests[0].url.raw_path == b"/api/structured-extraction/p%2F..%2Fx/jobs"


async def test_a_url_is_refused() -> None:
    async with http_to(Service()) as http:
        with pytest.raises(Unsupported, match="takes no URLs"):
            await NuMind(template=TEMPLATE).submit(http, Document.from_url("https://example.com/a.pdf"))


@pytest.mark.parametrize(
    "body", ["{}", '{"jobId": ""}', '{"jobId": 7}', '{"jobId": ".."}', "[]", '"j-1"', "<html>", ""]
)
async def test_a_submit_whose_answer_names_no_job_is_uncertain(body: str) -> None:
    service = Service({BY_TEMPLATE: httpx.Response(200, text=body)})
    async with http_to(service) as http:
        with pytest.raises(SubmitUncertain):
            await NuMind(template=TEMPLATE).submit(http, PDF)
    assert len(service.asked) == 1


# ---------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, "template, project_id"),
        ({"template": TEMPLATE, "project_id": "p"}, "template, project_id"),
        ({"template": {}}, "template:"),
        ({"template": "total"}, "template:"),
        ({"template": {"a": {1, 2}}}, "plain JSON"),
        ({"template": {"a": float("nan")}}, "plain JSON"),
        ({"template": TEMPLATE, "options": "x"}, "options"),
        ({"template": TEMPLATE, "product": "ocr"}, "product must"),
        ({"template": TEMPLATE, "timeout": "ten minutes"}, "timeout:"),
        ({"template": TEMPLATE, "timeout": 600}, "timeout:"),
        ({"template": TEMPLATE, "upload": "ftp"}, "upload must"),
        ({"template": TEMPLATE, "examples": [("a", {})]}, "examples:"),
        ({"template": TEMPLATE, "examples": [(PDF, "a")]}, "examples:"),
        ({"template": TEMPLATE, "examples": [(Document.from_url("https://e.com/a"), {})]}, "examples:"),
        ({"project_id": ""}, "project_id:"),
        ({"project_id": ".."}, "project_id:"),
        ({"project_id": "p", "instructions": "x"}, "instructions:"),
        ({"project_id": "p", "examples": [(PDF, {})]}, "examples:"),
        ({"product": "content", "template": TEMPLATE}, "template:"),
        ({"product": "content", "instructions": "x"}, "instructions:"),
        ({"product": "content", "max_example_number": 0}, "max_example_number:"),
    ],
)
def test_settings_that_do_not_go_together_are_named(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        NuMind(**settings)


def test_settings_that_a_form_left_empty_are_no_settings() -> None:
    NuMind(product="content", instructions="", examples=[])
    NuMind(project_id="p", instructions="", examples=[])
