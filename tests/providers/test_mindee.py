"""Mindee V2 on the wire: what is sent, and what each answer means."""

from __future__ import annotations

import base64
import json
from datetime import timezone
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from support.wire import Script, answer, client, parts_of, ref_of

from prefect_docjobs.errors import (
    ConfigurationError,
    ForeignOrigin,
    InvalidDocument,
    NotFound,
    QuotaExceeded,
    RefMismatch,
    Rejected,
    ResultLost,
    ServiceError,
    SubmitUncertain,
    Throttled,
    Unauthorized,
    Unavailable,
    Unfinished,
    Unreadable,
    Unsupported,
)
from prefect_docjobs.http import Answer, Http
from prefect_docjobs.models import Document, JobRef, JobState, JobStatus, Problem
from prefect_docjobs.providers import provider_class
from prefect_docjobs.providers.mindee import Mindee, WebhookDelivery, read_webhooks

ORIGIN = "https://api-v2.mindee.net"
MODEL = "3c2b1a00-0000-4000-8000-000000000abc"
JOB = "7b6a0c1e-2f7c-4d4b-9c0e-0d5d3a1f0001"
HOOK = "0f0e0d0c-0000-4000-8000-00000000beef"
RESULT_URL = f"{ORIGIN}/v2/products/extraction/results/{JOB}"
KEY = "md_secret_key"
PDF = Document.from_bytes(b"%PDF-1.4 hello", name="acme-0042.pdf")


def job_response(**changes: Any) -> dict[str, Any]:
    job: dict[str, Any] = {
        "id": JOB,
        "model_id": MODEL,
        "filename": "acme-0042.pdf",
        "alias": "order-42",
        "created_at": "2026-02-03T10:15:00.123456",
        "completed_at": None,
        "status": "Processing",
        "polling_url": f"{ORIGIN}/v2/jobs/{JOB}",
        "result_url": None,
        "webhooks": [],
        "error": None,
    }
    return {"job": {**job, **changes}}


def reference(**changes: Any) -> JobRef:
    return ref_of(Mindee, **{"product": "extraction", "job_id": JOB, **changes})


def http_to(service: Script) -> Http:
    return client(Mindee, service, key=KEY, attempts=1)


def accepted(**changes: Any) -> Script:
    return Script(httpx.Response(202, json=job_response(**changes)))


def read(status_answer: Answer, ref: JobRef | None = None) -> JobStatus:
    with Mindee.reading(status_answer):
        return Mindee(model_id=MODEL).read_status(ref or reference(), status_answer)


# ------------------------------------------------------------------------------------------------- settings


def test_the_registry_knows_mindee_with_its_own_names() -> None:
    found = provider_class("mindee")
    assert found is Mindee
    assert (found.title, found.default_base_url, found.env_key) == ("Mindee V2", ORIGIN, "MINDEE_V2_API_KEY")


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("model_id", {"model_id": "invoices"}),
        ("model_id", {"model_id": f" {MODEL}"}),
        ("model_id", {"model_id": None}),
        ("product", {"product": "parse"}),
        ("send", {"send": "url"}),
        ("webhook_ids", {"webhook_ids": HOOK}),
        ("webhook_ids", {"webhook_ids": ["my-hook"]}),
        ("rag", {"product": "ocr", "rag": False}),
        ("data_schema", {"product": "split", "data_schema": []}),
        ("data_schema", {"data_schema": "{not json"}),
        ("data_schema", {"data_schema": {"remove": []}}),
        ("data_schema", {"data_schema": [{1, 2}]}),
        ("options", {"options": {"url": "https://elsewhere.example/a.pdf"}}),
        ("options", {"options": {"model_id": MODEL}}),
    ],
)
def test_a_setting_that_mindee_would_refuse_is_named(field: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=field):
        Mindee(**{"model_id": MODEL, **settings})


@pytest.mark.parametrize("product", Mindee.products)
def test_every_product_has_its_own_path(product: str) -> None:
    request = Mindee(model_id=MODEL, product=product).submit_request(PDF, alias="a")
    assert (request.method, request.path) == ("POST", f"/v2/products/{product}/enqueue")


def test_the_products_are_the_five_documented_ones() -> None:
    assert Mindee.products == ("extraction", "ocr", "crop", "split", "classification")


# --------------------------------------------------------------------------------------------------- submit


async def test_a_file_travels_as_multipart_with_only_what_was_set() -> None:
    service = accepted(alias=None)
    async with http_to(service) as http:
        ref = await Mindee(model_id=MODEL).submit(http, PDF)
    request = service.only
    assert request.url == f"{ORIGIN}/v2/products/extraction/enqueue"
    assert request.headers["authorization"] == KEY
    (model, alias, file) = parts_of(request)
    assert model == ("model_id", None, None, MODEL.encode())
    assert alias[:3] == ("alias", None, None)
    assert alias.content.startswith(b"docjobs-")
    assert file == ("file", "acme-0042.pdf", "application/pdf", b"%PDF-1.4 hello")
    assert (ref.job_id, ref.product, ref.result_url) == (JOB, "extraction", None)
    assert ref.document_sha256 == PDF.sha256
    assert ref.alias == alias.content.decode(), "a failed push names its job by nothing else"


async def test_all_settings_travel_in_the_services_own_words() -> None:
    service = accepted()
    provider = Mindee(
        model_id=MODEL,
        alias="order-42",
        webhook_ids=(HOOK, MODEL),
        filename="renamed.pdf",
        rag=True,
        raw_text=False,
        polygon=True,
        confidence=True,
        text_context="A receipt.",
        data_schema=[{"name": "total", "type": "number"}],
        options={"multipage_context": True, "weight": 2, "gone": None},
    )
    async with http_to(service) as http:
        ref = await provider.submit(http, PDF)
    assert [(part.name, part.content.decode()) for part in parts_of(service.only)] == [
        ("model_id", MODEL),
        ("alias", "order-42"),
        ("webhook_ids", HOOK),
        ("webhook_ids", MODEL),
        ("rag", "true"),
        ("raw_text", "false"),
        ("polygon", "true"),
        ("confidence", "true"),
        ("text_context", "A receipt."),
        ("data_schema", '{"replace":{"fields":[{"name":"total","type":"number"}]}}'),
        ("multipage_context", "true"),
        ("weight", "2"),
        ("file", "%PDF-1.4 hello"),
    ]
    assert parts_of(service.only)[-1].filename == "renamed.pdf"
    assert ref.alias == "order-42"


async def test_a_url_travels_as_a_form_and_is_not_downloaded() -> None:
    service = accepted()
    document = Document.from_url("https://files.example/a b.pdf?sig=1&x=ä")
    provider = Mindee(model_id=MODEL, product="ocr", send="base64", webhook_ids=[HOOK, MODEL])
    async with http_to(service) as http:
        ref = await provider.submit(http, document)
    request = service.only
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    form = parse_qs(request.content.decode(), strict_parsing=True)
    assert form.pop("alias")[0].startswith("docjobs-")
    assert form == {"model_id": [MODEL], "webhook_ids": [HOOK, MODEL], "url": [document.url]}
    assert ref.document_sha256 is None


async def test_a_url_goes_with_a_file_name_only_when_one_is_set() -> None:
    document = Document.from_url("https://files.example/download")
    with_name = Mindee(model_id=MODEL, filename="a.pdf").submit_request(document, alias="k")
    assert with_name.form == {"model_id": MODEL, "alias": "k", "filename": "a.pdf", "url": document.url}


async def test_base64_travels_as_json_with_json_types() -> None:
    service = accepted()
    provider = Mindee(
        model_id=MODEL, send="base64", webhook_ids=[HOOK], rag=True, data_schema={"fields": [{"name": "a"}]}
    )
    async with http_to(service) as http:
        await provider.submit(http, PDF)
    sent = json.loads(service.only.content)
    assert sent.pop("alias").startswith("docjobs-")
    assert base64.b64decode(sent.pop("file_base64")) == b"%PDF-1.4 hello"
    assert sent == {
        "model_id": MODEL,
        "webhook_ids": [HOOK],
        "rag": True,
        "data_schema": '{"replace":{"fields":[{"name":"a"}]}}',
        "filename": "acme-0042.pdf",
    }


@pytest.mark.parametrize(
    "schema",
    [
        {"replace": {"fields": [{"name": "é"}]}},
        {"fields": [{"name": "é"}]},
        [{"name": "é"}],
        '{"replace": {"fields": [{"name": "é"}]}}',
        '[{"name": "\\u00e9"}]',
    ],
)
def test_a_data_schema_may_be_given_in_any_of_its_forms(schema: Any) -> None:
    request = Mindee(model_id=MODEL, data_schema=schema, send="base64").submit_request(PDF, alias="a")
    assert request.json["data_schema"] == '{"replace":{"fields":[{"name":"é"}]}}'


def test_the_job_of_a_submit_is_read_with_the_alias_that_mindee_echoes() -> None:
    submitted = Mindee(model_id=MODEL).read_submit(answer(job_response(), 202))
    assert (submitted.job_id, submitted.alias, submitted.result_url) == (JOB, "order-42", None)


async def test_an_alias_of_the_user_is_kept_when_mindee_echoes_none() -> None:
    async with http_to(accepted(alias=None)) as http:
        ref = await Mindee(model_id=MODEL, alias="order-43").submit(http, PDF)
    assert ref.alias == "order-43"


async def test_a_file_name_that_json_cannot_carry_is_made_one_that_it_can() -> None:
    service = accepted()
    document = Document.from_bytes(PDF.read(), name="a\udcff\n.pdf")
    async with http_to(service) as http:
        await Mindee(model_id=MODEL, send="base64").submit(http, document)
    assert json.loads(service.only.content)["filename"] == "a__.pdf"


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"job": {}}', b'{"job": {"id": ""}}', b'{"job": []}'])
async def test_an_unreadable_answer_to_a_submit_is_uncertain(body: bytes) -> None:
    service = Script(httpx.Response(202, content=body))
    async with http_to(service) as http:
        with pytest.raises(SubmitUncertain, match=r"acme-0042\.pdf"):
            await Mindee(model_id=MODEL).submit(http, PDF)


@pytest.mark.parametrize(
    ("document", "error"),
    [
        (Document.from_bytes(b"PK", name="a.zip"), InvalidDocument),
        (Document.from_bytes(b"hello", name="a.txt"), InvalidDocument),
        (Document.from_bytes(b"", name="a.pdf"), InvalidDocument),
        (Document.from_url(f"https://files.example/{'a' * 2048}.pdf"), InvalidDocument),
        (Document.from_url("http://files.example/a.pdf"), InvalidDocument),
    ],
)
async def test_a_document_that_mindee_refuses_is_not_sent(document: Document, error: type[Exception]) -> None:
    service = Script()
    async with http_to(service) as http:
        with pytest.raises(error):
            await Mindee(model_id=MODEL).submit(http, document)
    assert service.requests == []


# --------------------------------------------------------------------------------------------------- status


async def test_a_status_request_asks_not_to_be_redirected() -> None:
    service = Script(httpx.Response(200, json=job_response()))
    async with http_to(service) as http:
        status = await Mindee(model_id=MODEL).status(http, reference())
    request = service.only
    assert (request.method, str(request.url)) == ("GET", f"{ORIGIN}/v2/jobs/{JOB}?redirect=false")
    assert (status.state, status.raw_state, status.seen_at.tzinfo) == (
        JobState.PROCESSING,
        "Processing",
        timezone.utc,
    )


def test_a_job_id_cannot_lead_to_another_route() -> None:
    request = Mindee(model_id=MODEL).status_request(reference(job_id="../search/models?x="))
    assert request.path == "/v2/jobs/..%2Fsearch%2Fmodels%3Fx%3D"


@pytest.mark.parametrize(
    ("word", "url", "state"),
    [
        ("Processing", None, JobState.PROCESSING),
        ("Processed", RESULT_URL, JobState.SUCCEEDED),
        ("processed", RESULT_URL, JobState.SUCCEEDED),
        ("Processed", None, JobState.PROCESSING),
        ("Failed", None, JobState.FAILED),
        ("Waiting", None, JobState.UNKNOWN),
    ],
)
def test_each_state_word_has_one_meaning(word: str, url: str | None, state: JobState) -> None:
    status = read(answer(job_response(status=word, result_url=url)))
    assert (status.state, status.raw_state, status.ref.result_url) == (state, word, url)


def test_a_job_that_names_its_id_in_capitals_is_the_same_job() -> None:
    assert read(answer(job_response(id=JOB.upper()))).state is JobState.PROCESSING


def test_a_known_result_address_is_not_forgotten() -> None:
    assert read(answer(job_response()), reference(result_url=RESULT_URL)).ref.result_url == RESULT_URL


def test_a_failed_job_says_why_with_its_pointers() -> None:
    error = {
        "status": 422,
        "detail": "One or more fields failed validation.",
        "title": "Invalid fields in form",
        "code": "422-001",
        "errors": [{"pointer": "#/model_id", "detail": "model_id must be a valid UUID format"}],
    }
    status = read(answer(job_response(status="Failed", error=error)))
    assert status.error == Problem(
        message="One or more fields failed validation.",
        code="422-001",
        details=[{"pointer": "#/model_id", "detail": "model_id must be a valid UUID format"}],
    )
    assert not status.expired


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (None, None),
        ({}, None),
        ("it broke", Problem(message="it broke")),
        ({"title": "Inference failed", "code": 7}, Problem(message="Inference failed", code="7")),
        ({"detail": 3, "code": True}, Problem(message="The service gave no reason.")),
    ],
)
def test_a_failed_job_with_an_odd_error_is_still_a_failed_job(error: Any, problem: Problem | None) -> None:
    status = read(answer(job_response(status="Failed", error=error)))
    assert (status.state, status.error) == (JobState.FAILED, problem)


def test_a_redirect_with_a_job_in_its_body_is_read_from_the_body() -> None:
    body = job_response(status="Processed", result_url=RESULT_URL)
    status = read(answer(body, 302, location="https://elsewhere.example/"))
    assert (status.state, status.raw_state, status.ref.result_url) == (
        JobState.SUCCEEDED,
        "Processed",
        RESULT_URL,
    )


@pytest.mark.parametrize("body", [b"", b"<html>Found</html>", b"[]", b'{"inference": {}}', b'{"job": null}'])
def test_a_redirect_with_an_unreadable_body_is_read_from_its_location(body: bytes) -> None:
    status = read(answer(body, 302, location=RESULT_URL))
    assert (status.state, status.raw_state, status.ref.result_url) == (JobState.SUCCEEDED, None, RESULT_URL)


def test_a_redirect_fills_in_the_address_that_its_body_lacks() -> None:
    status = read(answer(job_response(status="Processed"), 302, location=RESULT_URL))
    assert (status.state, status.ref.result_url) == (JobState.SUCCEEDED, RESULT_URL)


def test_a_redirect_to_nowhere_is_unreadable() -> None:
    with pytest.raises(Unreadable):
        read(answer(b"", 302))


@pytest.mark.parametrize("status", [200, 302])
def test_the_status_of_another_job_is_refused(status: int) -> None:
    other = job_response(id=MODEL, status="Processed", result_url=RESULT_URL)
    with pytest.raises(Unreadable, match="another job"):
        read(answer(other, status, location=RESULT_URL))


@pytest.mark.parametrize(
    "payload",
    [
        b"<html>",
        [],
        {},
        {"job": None},
        {"job": {"id": JOB}},
        {"job": {"id": JOB, "status": None}},
        {"job": {"id": 7, "status": "Processed"}},
        {"job": {"id": JOB, "status": "Processed", "result_url": 7}},
    ],
)
def test_a_status_without_what_the_schema_requires_is_unreadable(payload: Any) -> None:
    with pytest.raises(Unreadable):
        read(answer(payload))


# ----------------------------------------------------------------------------------------- webhooks of a job


def test_the_webhook_calls_of_a_job_are_read_with_the_schemas_defaults() -> None:
    error = {"status": 500, "title": "t", "detail": "No answer.", "code": "x", "errors": []}
    told = [
        {
            "id": HOOK,
            "created_at": "2026-02-03T10:15:06",
            "status": "Failed",
            "error": error,
            "attempts_count": 3,
        },
        {"id": MODEL},
    ]
    assert read_webhooks(job_response(webhooks=told)) == (
        WebhookDelivery(HOOK, "Failed", 3, "2026-02-03T10:15:06", Problem(message="No answer.", code="x")),
        WebhookDelivery(MODEL, "Processing", 0, None, None),
    )


@pytest.mark.parametrize("told", [None, []])
def test_a_job_without_webhook_calls_has_none(told: Any) -> None:
    assert read_webhooks(job_response(webhooks=told)) == ()


async def test_webhook_calls_can_be_asked_for() -> None:
    service = Script(httpx.Response(200, json=job_response(webhooks=[{"id": HOOK, "status": "Processed"}])))
    async with http_to(service) as http:
        found = await Mindee(model_id=MODEL).webhook_deliveries(http, reference())
    assert found == (WebhookDelivery(HOOK, "Processed"),)


async def test_the_webhook_calls_of_another_job_are_refused() -> None:
    service = Script(httpx.Response(200, json=job_response(id=MODEL)))
    async with http_to(service) as http:
        with pytest.raises(Unreadable, match="another job"):
            await Mindee(model_id=MODEL).webhook_deliveries(http, reference())


# ---------------------------------------------------------------------------------------------------- fetch


async def test_a_result_is_fetched_from_the_address_that_the_job_gave() -> None:
    url = f"{ORIGIN}/v2/inferences/{JOB}"
    service = Script(
        httpx.Response(200, json=job_response(status="Processed", result_url=url)),
        httpx.Response(200, content=b'{"inference": {}, "key": "md_secret_key"}'),
    )
    async with http_to(service) as http:
        fetched = await Mindee(model_id=MODEL).fetch(http, reference())
    assert service.urls == [f"{ORIGIN}/v2/jobs/{JOB}?redirect=false", url]
    assert fetched.body == b'{"inference": {}, "key": "md_secret_key"}', "a result is kept byte for byte"


async def test_a_known_address_costs_no_status_request() -> None:
    service = Script(httpx.Response(200, json={}))
    async with http_to(service) as http:
        await Mindee(model_id=MODEL).fetch(http, reference(result_url=RESULT_URL))
    assert service.urls == [RESULT_URL]


async def test_a_result_on_a_foreign_origin_is_never_asked_for() -> None:
    service = Script(
        httpx.Response(200, json=job_response(status="Processed", result_url="https://evil.example/r"))
    )
    async with http_to(service) as http:
        with pytest.raises(ForeignOrigin):
            await Mindee(model_id=MODEL).fetch(http, reference())
    assert len(service.requests) == 1


async def test_a_job_without_a_result_cannot_be_fetched() -> None:
    service = Script(httpx.Response(200, json=job_response()))
    async with http_to(service) as http:
        with pytest.raises(Unfinished, match="no result yet"):
            await Mindee(model_id=MODEL).fetch(http, reference())


async def test_a_deleted_result_is_lost() -> None:
    service = Script(
        httpx.Response(404, json={"status": 404, "title": "t", "detail": "Gone.", "code": "404-1"})
    )
    async with http_to(service) as http:
        with pytest.raises(ResultLost, match="Gone"):
            await Mindee(model_id=MODEL).fetch(http, reference(result_url=RESULT_URL))


async def test_a_ref_of_another_product_is_refused() -> None:
    service = Script()
    async with http_to(service) as http:
        with pytest.raises(RefMismatch, match="product"):
            await Mindee(model_id=MODEL, product="ocr").status(http, reference())
    assert service.requests == []


async def test_a_job_cannot_be_cancelled() -> None:
    async with http_to(Script()) as http:
        with pytest.raises(Unsupported):
            await Mindee(model_id=MODEL).cancel(http, reference())


# --------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Rejected),
        (401, Unauthorized),
        (402, QuotaExceeded),
        (403, Unauthorized),
        (404, NotFound),
        (422, Rejected),
        (429, Throttled),
        (500, Unavailable),
        (502, Unavailable),
        (503, Unavailable),
    ],
)
def test_the_http_status_decides_the_kind_of_an_error(status: int, kind: type[ServiceError]) -> None:
    body = {"status": 200, "title": "T", "detail": "Made up.", "code": "xxx-001", "errors": []}
    error = Mindee.read_error(answer(body, status, **{"x-request-id": "r-1", "retry-after": "7"}))
    assert type(error) is kind
    assert (error.status, error.code, error.provider, error.request_id) == (
        status,
        "xxx-001",
        "mindee",
        "r-1",
    )
    assert str(error).startswith("Made up.")
    assert error.retry_after == (None if status == 402 else 7.0)


def test_an_error_names_the_fields_at_fault() -> None:
    items = [
        {"pointer": "#/model_id", "detail": "'model_id' must be a valid UUID format"},
        {"pointer": None, "detail": "Give a file."},
        "odd",
    ]
    body = {
        "status": 422,
        "title": "Invalid",
        "detail": "Validation failed.",
        "code": "422-001",
        "errors": items,
    }
    error = Mindee.read_error(answer(body, 422))
    assert "Validation failed. #/model_id: 'model_id' must be a valid UUID format; Give a file." in str(error)
    assert error.details == items


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html><h1>Bad gateway</h1></html>", "HTTP 502 with an HTML page"),
        (b"", "HTTP 502 with an empty body"),
        (b"upstream\n  timed out", "upstream timed out"),
        (b'"just a text"', "just a text"),
        (b"[1, 2]", "[1, 2]"),
        (b"null", "HTTP 502 and gave no reason"),
        (b"{}", "HTTP 502 and gave no reason"),
        (b'{"detail": ["a"], "title": "Titled"}', "Titled"),
        (b"\xff\xfe", "HTTP 502"),
    ],
)
def test_an_error_of_any_shape_is_told(body: bytes, said: str) -> None:
    error = Mindee.read_error(answer(body, 502))
    assert isinstance(error, Unavailable)
    assert said in str(error)


def test_an_endless_message_is_cut() -> None:
    error = Mindee.read_error(answer({"detail": "x" * 100_000}, 500))
    assert len(str(error)) < 2_100
