"""Mindee V1 on the wire: what is sent, and what each answer means."""

from __future__ import annotations

import base64
import json
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
from prefect_docjobs.providers.mindee_v1 import MindeeV1

ORIGIN = "https://api.mindee.net"
ROOT = "/v1/products/mindee/invoices/v4"
JOB = "072c509b-ea8e-491e-99e0-795c0be8c59c"
DOCUMENT = "bb47bbab-8c97-4e83-a793-e401bdde3685"
KEY = "secret_key"
PDF = Document.from_bytes(b"%PDF-1.4 hello", name="acme-0042.pdf")
URL = Document.from_url("https://mydomain.com/my_file.pdf")
INVOICES = MindeeV1(endpoint="invoices", version="4")


def queued(status: str = "processing", **changes: Any) -> dict[str, Any]:
    """The answer of the queue, as "Asynchronous Prediction" shows it."""
    request = {"error": {}, "resources": ["job"], "status": "success", "status_code": 200, "url": "…"}
    job: dict[str, Any] = {
        "available_at": None,
        "id": JOB,
        "issued_at": "2024-02-23T16:35:50.364723",
        "status": status,
        "error": {},
    }
    return {"api_request": request, "job": {**job, **changes}}


def refused(status_code: int, **error: Any) -> dict[str, Any]:
    request = {"error": error, "resources": [], "status": "failure", "status_code": status_code, "url": "…"}
    return {"api_request": request}


def told(payload: Any, status: int = 200, location: str | None = None) -> Answer:
    """The answer to a status request."""
    headers = {"location": location} if location else {}
    return answer(payload, status, url=f"{ROOT}/documents/queue/{JOB}", **headers)


def reference(**changes: Any) -> JobRef:
    return ref_of(MindeeV1, **{"product": "mindee/invoices/v4", "job_id": JOB, **changes})


def http_to(service: Script) -> Http:
    return client(MindeeV1, service, key=KEY, attempts=1)


async def submitted(provider: MindeeV1, document: Document = PDF) -> httpx.Request:
    service = Script(httpx.Response(202, json=queued("waiting")))
    async with http_to(service) as http:
        ref = await provider.submit(http, document)
    assert (ref.job_id, ref.product) == (JOB, provider.product)
    return service.only


def read(status_answer: Answer, ref: JobRef | None = None) -> JobStatus:
    with MindeeV1.reading(status_answer):
        return INVOICES.read_status(ref or reference(), status_answer)


# ------------------------------------------------------------------------------------------------- settings


def test_the_registry_knows_mindee_v1_with_its_own_names() -> None:
    found = provider_class("mindee_v1")
    assert found is MindeeV1
    assert (found.title, found.default_base_url, found.env_key) == ("Mindee V1", ORIGIN, "MINDEE_API_KEY")


@pytest.mark.parametrize("version", ["4", "v4"])
def test_a_version_with_or_without_v_is_the_same_product(version: str) -> None:
    provider = MindeeV1(endpoint="invoices", version=version)
    assert (provider.product, provider.root) == ("mindee/invoices/v4", ROOT)


def test_names_are_single_segments_of_the_path() -> None:
    assert MindeeV1(account="my org", endpoint="a?b#c", version="1.2").root == (
        "/v1/products/my%20org/a%3Fb%23c/v1.2"
    )


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("account", {"account": ""}),
        ("account", {"account": "mindee/invoices"}),
        ("endpoint", {"endpoint": ".."}),
        ("endpoint", {"endpoint": None}),
        ("version", {"version": ""}),
        ("version", {"version": "latest"}),
        ("version", {"version": "4/../5"}),
        ("send", {"send": "url"}),
        ("include_mvision", {"send": "base64", "include_mvision": True}),
    ],
)
def test_a_setting_that_makes_no_address_is_named(field: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=field):
        MindeeV1(**{"endpoint": "invoices", "version": "4", **settings})


# --------------------------------------------------------------------------------------------------- submit


async def test_a_file_travels_as_multipart() -> None:
    request = await submitted(INVOICES)
    assert (request.method, str(request.url)) == ("POST", f"{ORIGIN}{ROOT}/predict_async")
    assert request.headers["authorization"] == "Token secret_key"
    assert parts_of(request) == [("document", "acme-0042.pdf", "application/pdf", b"%PDF-1.4 hello")]


async def test_base64_travels_as_a_json_object() -> None:
    request = await submitted(MindeeV1(endpoint="invoices", version="4", send="base64"))
    assert request.headers["content-type"] == "application/json"
    (name, content), *more = json.loads(request.content).items()
    assert (name, base64.b64decode(content), more) == ("document", b"%PDF-1.4 hello", [])


@pytest.mark.parametrize("send", ["file", "base64"])
async def test_a_url_travels_as_a_json_object(send: str) -> None:
    request = await submitted(MindeeV1(endpoint="invoices", version="4", send=send), URL)
    assert request.headers["content-type"] == "application/json"
    assert json.loads(request.content) == {"document": "https://mydomain.com/my_file.pdf"}


async def test_flags_travel_in_the_query_and_only_when_true() -> None:
    provider = MindeeV1(
        endpoint="invoices", version="4", full_text_ocr=True, cropper=False, rag=True, options={"more": "yes"}
    )
    for document in (PDF, URL):
        request = await submitted(provider, document)
        assert request.url.query == b"full_text_ocr=true&rag=true&more=yes"


async def test_mvision_is_a_form_field() -> None:
    provider = MindeeV1(endpoint="invoices", version="4", include_mvision=True)
    assert parts_of(await submitted(provider))[0] == ("include_mvision", None, None, b"true")
    by_url = await submitted(provider, URL)
    assert parse_qs(by_url.content.decode()) == {"include_mvision": ["true"], "document": [URL.url]}


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b"{}",
        b'{"job": null}',
        b'{"job": {"id": null}}',
        json.dumps(refused(500, code="failure", message="Inference failed")).encode(),
        json.dumps(refused(429, code="TooManyRequests")).encode(),
    ],
)
async def test_an_unreadable_answer_to_a_submit_is_uncertain(body: bytes) -> None:
    service = Script(httpx.Response(202, content=body))
    async with http_to(service) as http:
        with pytest.raises(SubmitUncertain, match=r"acme-0042\.pdf"):
            await INVOICES.submit(http, PDF)


@pytest.mark.parametrize(
    "document",
    [Document.from_bytes(b"a", name="a.txt"), Document.from_bytes(b"x" * (20 << 20) + b"x", name="a.pdf")],
    ids=["a text", "too large"],
)
async def test_a_document_that_mindee_v1_refuses_is_not_sent(document: Document) -> None:
    service = Script()
    async with http_to(service) as http:
        with pytest.raises(InvalidDocument):
            await INVOICES.submit(http, document)
    assert service.requests == []


# --------------------------------------------------------------------------------------------------- status


async def test_a_redirect_of_the_queue_is_read_and_not_followed() -> None:
    location = f"{ORIGIN}{ROOT}/documents/{DOCUMENT}"
    service = Script(httpx.Response(302, headers={"location": location}))
    async with http_to(service) as http:
        status = await INVOICES.status(http, reference())
    assert service.urls == [f"{ORIGIN}{ROOT}/documents/queue/{JOB}"]
    assert (status.state, status.raw_state, status.ref.document_id) == (JobState.SUCCEEDED, None, DOCUMENT)


def test_a_job_id_cannot_lead_to_another_route() -> None:
    request = INVOICES.status_request(reference(job_id="../x?y"))
    assert request.path == f"{ROOT}/documents/queue/..%2Fx%3Fy"


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("waiting", JobState.QUEUED),
        ("processing", JobState.PROCESSING),
        ("Processing", JobState.PROCESSING),
        ("completed", JobState.PROCESSING),
        ("failed", JobState.FAILED),
        ("paused", JobState.UNKNOWN),
    ],
)
def test_each_state_word_has_one_meaning(word: str, state: JobState) -> None:
    status = read(told(queued(word)))
    assert (status.state, status.raw_state, status.ref.document_id) == (state, word, None)


def test_a_completed_job_that_brings_its_document_has_succeeded() -> None:
    status = read(told({**queued("completed"), "document": {"id": DOCUMENT}}))
    assert (status.state, status.raw_state, status.ref.document_id) == (
        JobState.SUCCEEDED,
        "completed",
        DOCUMENT,
    )


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (
            {"code": "ServerError", "message": "It broke", "details": "An error occurred"},
            Problem(message="It broke", code="ServerError", details="An error occurred"),
        ),
        (
            {"details": {"document": ["bad"]}},
            Problem(message="The service gave no reason.", details={"document": ["bad"]}),
        ),
        ({"details": "bad"}, Problem(message="bad", details="bad")),
        ({"code": "X"}, Problem(message="X", code="X")),
        ("odd", Problem(message="odd")),
        ({}, None),
        (None, None),
    ],
)
def test_a_failed_job_says_why(error: Any, problem: Problem | None) -> None:
    status = read(told(queued("failed", error=error)))
    assert (status.state, status.raw_state, status.error) == (JobState.FAILED, "failed", problem)


@pytest.mark.parametrize(
    "location",
    [
        f"{ORIGIN}{ROOT}/documents/{DOCUMENT}",
        f"{ORIGIN}:443{ROOT}/documents/{DOCUMENT}?a=b",
        f"https://API.mindee.net/v1/products/mindee/invoices/4/documents/{DOCUMENT}",
        f"{ROOT}/documents/{DOCUMENT}",
        f"../{DOCUMENT}",
    ],
)
def test_a_location_may_be_absolute_or_relative(location: str) -> None:
    assert read(told(b"", 302, location)).ref.document_id == DOCUMENT


def test_an_escaped_document_id_is_escaped_once() -> None:
    ref = read(told(b"", 302, f"{ROOT}/documents/a%2Fb")).ref
    assert ref.document_id == "a/b"
    assert INVOICES.result_request(ref).path == f"{ROOT}/documents/a%2Fb"


@pytest.mark.parametrize(
    "location",
    [
        f"https://evil.example{ROOT}/documents/{DOCUMENT}",
        f"http://api.mindee.net{ROOT}/documents/{DOCUMENT}",
        f"https://api.mindee.net:8443{ROOT}/documents/{DOCUMENT}",
        f"//evil.example/documents/{DOCUMENT}",
        f"https://user@api.mindee.net{ROOT}/documents/{DOCUMENT}",
    ],
)
def test_a_foreign_location_is_refused(location: str) -> None:
    with pytest.raises(ForeignOrigin):
        read(told(b"", 302, location))


@pytest.mark.parametrize(
    "location",
    [
        None,
        "/",
        "/login",
        f"{ROOT}/documents/",
        f"{ROOT}/documents/queue/{JOB}",
        "x",
        "https://[",
        "https://a:b/",
    ],
)
def test_a_location_that_is_no_document_is_unreadable(location: str | None) -> None:
    with pytest.raises(Unreadable):
        read(told(b"", 302, location))


@pytest.mark.parametrize(
    "status_answer",
    [
        told(queued(id="another")),
        told({**queued("completed", id="another"), "document": {"id": DOCUMENT}}),
        told(queued(id="another"), 302, f"{ROOT}/documents/{DOCUMENT}"),
    ],
)
def test_the_status_of_another_job_is_refused(status_answer: Answer) -> None:
    with pytest.raises(Unreadable, match="another job"):
        read(status_answer)


@pytest.mark.parametrize(
    "payload",
    [b"<html>", [], {}, {"job": None}, {"job": {"id": JOB}}, {"job": {"id": 7, "status": "waiting"}}],
)
def test_a_status_without_what_is_documented_is_unreadable(payload: Any) -> None:
    with pytest.raises(Unreadable):
        read(told(payload))


def test_a_refusal_inside_http_200_is_a_refusal() -> None:
    with pytest.raises(NotFound, match="No such job") as caught:
        read(told(refused(404, code="NotFound", message="No such job")))
    assert (caught.value.status, caught.value.provider) == (404, "mindee_v1")


# ---------------------------------------------------------------------------------------------------- fetch


async def test_a_document_is_fetched_by_the_id_that_the_redirect_gave() -> None:
    service = Script(
        httpx.Response(302, headers={"location": f"{ROOT}/documents/{DOCUMENT}"}),
        httpx.Response(200, content=b'{"secret_key": 1}'),
    )
    async with http_to(service) as http:
        fetched = await INVOICES.fetch(http, reference())
    assert service.urls[1] == f"{ORIGIN}{ROOT}/documents/{DOCUMENT}"
    assert fetched.body == b'{"secret_key": 1}', "a result is kept byte for byte"


async def test_a_known_document_costs_no_status_request() -> None:
    service = Script(httpx.Response(200, json={}))
    async with http_to(service) as http:
        await INVOICES.fetch(http, reference(document_id=DOCUMENT))
    assert len(service.requests) == 1


async def test_a_job_without_a_document_cannot_be_fetched() -> None:
    service = Script(httpx.Response(200, json=queued()))
    async with http_to(service) as http:
        with pytest.raises(Unfinished, match="no result yet"):
            await INVOICES.fetch(http, reference())


async def test_a_document_that_is_gone_is_lost() -> None:
    service = Script(httpx.Response(404, json=refused(404, code="NotFound", message="Gone")))
    async with http_to(service) as http:
        with pytest.raises(ResultLost, match="Gone"):
            await INVOICES.fetch(http, reference(document_id=DOCUMENT))


async def test_a_job_cannot_be_cancelled() -> None:
    async with http_to(Script()) as http:
        with pytest.raises(Unsupported):
            await INVOICES.cancel(http, reference())


# --------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("status", "error", "kind", "said"),
    [
        (
            400,
            {"code": "SomeCode", "message": "Some scary message here"},
            Rejected,
            "Some scary message here [",
        ),
        (400, {"details": {"document": ["error message"]}}, Rejected, "{'document': ['error message']}"),
        (
            401,
            {
                "code": "Unauthorized",
                "details": "Invalid token provided",
                "message": "Authorization required",
            },
            Unauthorized,
            "Authorization required: Invalid token provided",
        ),
        (
            403,
            {"code": "Forbidden", "message": "This product does not support asynchronous mode"},
            Unauthorized,
            "does not support asynchronous mode",
        ),
        (403, {"code": "PlanLimitReached", "message": "Limit reached"}, QuotaExceeded, "Limit reached"),
        (404, {"code": "NotFound"}, NotFound, "NotFound"),
        (
            429,
            {"code": "TooManyRequests", "details": "Too Many Requests.", "message": "Too many requests"},
            Throttled,
            "Too many requests: Too Many Requests.",
        ),
        (500, {"code": "failure", "message": "Inference failed"}, Unavailable, "Inference failed"),
    ],
)
def test_every_documented_error_is_typed_and_told(
    status: int, error: dict[str, Any], kind: type[ServiceError], said: str
) -> None:
    found = MindeeV1.read_error(told(refused(status, **error), status))
    assert type(found) is kind
    assert (found.status, found.code, found.details) == (status, error.get("code"), error.get("details"))
    assert said in str(found)


def test_the_http_status_counts_for_more_than_what_the_body_says() -> None:
    body = refused(400, details={"document": ["error message"]})
    body["api_request"]["status"] = "success"
    body["api_request"]["status_code"] = 201
    assert type(MindeeV1.read_error(told(body, 400))) is Rejected


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<!DOCTYPE html><html><h1>An error occurred.</h1></html>", "HTTP 503 with an HTML page"),
        (b"", "HTTP 503 with an empty body"),
        (b"no healthy upstream", "no healthy upstream"),
        (b'{"details": "error message"}', "error message"),
        (b'{"details": {"document": ["error message"]}}', "error message"),
        (b'{"api_request": {"error": "odd"}}', "odd"),
        (b'{"api_request": {"error": {}}}', "HTTP 503 and gave no reason"),
        (b'{"api_request": []}', "HTTP 503"),
        (b'"text"', "text"),
        (b"null", "HTTP 503"),
        (b"\xff", "HTTP 503"),
    ],
)
def test_an_error_of_any_shape_is_told(body: bytes, said: str) -> None:
    error = MindeeV1.read_error(told(body, 503))
    assert isinstance(error, Unavailable)
    assert said in str(error)
