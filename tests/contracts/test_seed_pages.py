"""The examples of the services' own pages, read by our providers.

The pages: Mindee V1 "Asynchronous Prediction", numind JobsApi.md, Unsiloed "Get Job Status". Their examples
are here as they stand there; for a page's ``{ .. }`` another example of the same page is put in.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import datetime, timezone
from typing import Any

import httpx
import pytest
from support.numind_service import Service, events, http_to
from support.numind_service import job_ref as numind_ref
from support.unsiloed import client as unsiloed_client
from support.unsiloed import ref as unsiloed_ref

from prefect_docjobs.errors import InvalidPush, NotFound, QuotaExceeded, Rejected, Unauthorized
from prefect_docjobs.http import Answer
from prefect_docjobs.models import Document, JobRef, JobState, JobStatus
from prefect_docjobs.providers.mindee_v1 import MindeeV1
from prefect_docjobs.providers.numind import NuMind
from prefect_docjobs.providers.unsiloed import Unsiloed

NOW = datetime(2024, 2, 23, 16, 35, 55, tzinfo=timezone.utc)


def answer(payload: Any, status: int = 200, **headers: str) -> Answer:
    return Answer(status, httpx.Headers(headers), json.dumps(payload).encode(), received_at=NOW)


# ------------------------------------------------------------------- Mindee V1, "Asynchronous Prediction"

JOB_ID = "072c509b-ea8e-491e-99e0-795c0be8c59c"
DOCUMENT_ID = "bb47bbab-8c97-4e83-a793-e401bdde3685"
API_REQUEST = {
    "error": {},
    "resources": ["job"],
    "status": "success",
    "status_code": 202,
    "url": "https://api.mindee.net/v1/products/<account>/<name>/<version>/predict_async",
}
SUBMITTED = {
    "api_request": API_REQUEST,
    "job": {
        "available_at": None,
        "id": "072c509b-ea8e-491e-99e0-795c0be8c59c",
        "issued_at": "2024-02-23T16:35:50.364723",
        "status": "waiting",
        "error": {},
    },
}
PROCESSING = {
    "api_request": API_REQUEST,
    "job": {
        "available_at": None,
        "id": "072c509b-ea8e-491e-99e0-795c0be8c59c",
        "issued_at": "2024-02-23T16:35:50.364723",
        "status": "processing",
        "error": {},
    },
}
PREDICTION = {"total_amount": {"value": 16.50}, "taxes": [{"value": 2.75, "rate": 20}]}
COMPLETED = {
    "document": {
        "id": "bb47bbab-8c97-4e83-a793-e401bdde3685",
        "inference": {
            "extras": {},
            "finished_at": "2024-02-23T16:35:54.909000",
            "is_rotation_applied": None,
            "prediction": PREDICTION,
            "pages": [
                {"id": 0, "orientation": {"value": None}, "extras": {}, "prediction": PREDICTION},
                {"id": 1, "orientation": {"value": None}, "extras": {}, "prediction": PREDICTION},
            ],
            "processing_time": 2.623,
            "product": {},
            "started_at": "2024-02-23T16:35:50.364723",
        },
        "n_pages": 2,
        "name": "myfile.pdf",
    },
    "job": {
        "available_at": "2024-02-23T16:35:54.931372",
        "id": "072c509b-ea8e-491e-99e0-795c0be8c59c",
        "issued_at": "2024-02-23T16:35:50.364723",
        "status": "completed",
        "error": {},
    },
}
FAILED = {
    "job": {
        "available_at": "2024-02-23T16:35:54.931372",
        "error": {
            "code": "ServerError",
            "details": "An error occurred",
            "message": "An error occurred",
        },
        "id": "072c509b-ea8e-491e-99e0-795c0be8c59c",
        "issued_at": "2024-02-23T16:35:50.364723",
        "status": "failed",
    }
}
INVOICES = MindeeV1(account="mindee", endpoint="invoices", version="4")
ROOT = "/v1/products/mindee/invoices/v4"


def mindee_ref(**changes: Any) -> JobRef:
    facts: dict[str, Any] = {
        "provider": "mindee_v1",
        "base_url": "https://api.mindee.net",
        "tenant": "acme",
        "product": INVOICES.product,
        "job_id": JOB_ID,
        "document_name": "myfile.pdf",
        "submitted_at": NOW,
    }
    return JobRef(**{**facts, **changes})


def test_mindee_v1_submit_names_its_job() -> None:
    assert INVOICES.read_submit(answer(SUBMITTED, 202)).job_id == JOB_ID


@pytest.mark.parametrize(("page", "state"), [(SUBMITTED, JobState.QUEUED), (PROCESSING, JobState.PROCESSING)])
def test_mindee_v1_waiting_and_processing_are_told_apart(page: dict[str, Any], state: JobState) -> None:
    status = INVOICES.read_status(mindee_ref(), answer(page))
    assert (status.state, status.raw_state, status.error) == (state, page["job"]["status"], None)


def test_mindee_v1_redirect_leads_to_the_document() -> None:
    location = f"https://api.mindee.net{ROOT}/documents/{DOCUMENT_ID}"
    status = INVOICES.read_status(mindee_ref(), answer({}, 302, location=location))
    assert (status.state, status.ref.document_id) == (JobState.SUCCEEDED, DOCUMENT_ID)
    assert INVOICES.result_request(status.ref).path == f"{ROOT}/documents/{DOCUMENT_ID}"


def test_mindee_v1_failed_job_gives_its_error() -> None:
    status = INVOICES.read_status(mindee_ref(), answer(FAILED))
    assert status.state is JobState.FAILED
    assert status.error is not None
    assert (status.error.code, status.error.message) == ("ServerError", "An error occurred")


def test_mindee_v1_document_is_read_with_its_prediction_and_pages() -> None:
    result = INVOICES.read_result(mindee_ref(document_id=DOCUMENT_ID), answer(COMPLETED))
    assert result.fields["total_amount"].value == 16.50
    assert [tax.value for tax in result.fields["taxes"].items or ()] == [2.75]
    assert [(page.number, page.orientation, page.rotation_applied) for page in result.pages] == [
        (1, None, None),
        (2, None, None),
    ]
    assert (result.usage.pages, result.raw) == (2, COMPLETED)


def test_mindee_v1_completed_push_holds_the_result() -> None:
    push = MindeeV1.read_push(json.dumps(COMPLETED).encode())
    assert (push.state, push.job_id) == (JobState.SUCCEEDED, JOB_ID)
    result = INVOICES.read_result(mindee_ref(), answer(push.payload))
    assert result.fields["total_amount"].value == 16.50


def test_mindee_v1_failed_push_gives_its_error() -> None:
    push = MindeeV1.read_push(json.dumps(FAILED).encode())
    assert (push.state, push.job_id) == (JobState.FAILED, JOB_ID)
    assert push.error is not None
    assert push.error.code == "ServerError"


def test_mindee_v1_push_is_signed_in_the_pages_header() -> None:
    body = json.dumps(COMPLETED).encode()
    signature = hmac.new(b"my_secret_key", body, hashlib.sha256).hexdigest()
    headers = {"X-Mindee-Hmac-Signature": signature}
    MindeeV1.verify_push(headers, body, ["my_secret_key"])
    with pytest.raises(InvalidPush):
        MindeeV1.verify_push(headers, body + b" ", ["my_secret_key"])


def test_mindee_v1_requests_are_the_pages() -> None:
    submit = INVOICES.submit_request(Document.from_url("https://mydomain.com/my_file.pdf"), alias="k")
    assert (submit.method, submit.path) == ("POST", f"{ROOT}/predict_async")
    assert submit.json == {"document": "https://mydomain.com/my_file.pdf"}
    look = INVOICES.status_request(mindee_ref())
    assert (look.method, look.path) == ("GET", f"{ROOT}/documents/queue/{JOB_ID}")
    assert MindeeV1.auth_headers("my-api-key-here") == {"Authorization": "Token my-api-key-here"}


# ------------------------------------------------------------------------------------- numind JobsApi.md

NUMIND = NuMind(template={"total": "number"})
JOB = {
    "id": "j-123",
    "jobType": "structured-extraction",
    "status": "completed",
    "ownerUser": "u-1",
    "inputData": "{}",
    "outputData": '{"result":{"total":118.5},"rawModelOutput":"{}","outputTokens":7,"inputTokens":90,'
    '"totalTokens":97,"logprobs":-0.2}',
    "startedAt": "2026-02-03T10:15:00Z",
    "completedAt": "2026-02-03T10:15:09Z",
    "createdAt": "2026-02-03T10:14:59Z",
    "updatedAt": "2026-02-03T10:15:09Z",
}
"""The page has no example of a job; this is one with every property that its models list."""


async def numind_stream(reply: httpx.Response) -> list[JobStatus]:
    service = Service({"GET /api/jobs/j-123/stream": reply})
    async with http_to(service) as http:
        return [status async for status in NUMIND.stream(http, numind_ref())]


async def test_numind_jobs_are_listed_with_the_pages_parameters() -> None:
    listed = {"totalCount": 57, "skip": 56, "perPage": 56, "items": [JOB]}
    service = Service({"GET /api/jobs": httpx.Response(200, json=listed)})
    async with http_to(service) as http:
        page = await NUMIND.list_jobs(http, skip=56, limit=56)
    assert dict(service.requests[0].url.params) == {"skip": "56", "perPage": "56"}
    assert (page.total, page.rows["j-123"].state) == (57, JobState.SUCCEEDED)


@pytest.mark.parametrize(("limit", "per_page"), [(0, "1"), (1000, "100")])
async def test_numind_pages_keep_to_the_documented_sizes(limit: int, per_page: str) -> None:
    service = Service({"GET /api/jobs": httpx.Response(200, json={"totalCount": 0, "items": []})})
    async with http_to(service) as http:
        await NUMIND.list_jobs(http, limit=limit)
    assert service.requests[0].url.params["perPage"] == per_page


@pytest.mark.parametrize("name", ["skip", "perPage"])
async def test_numind_refused_parameter_is_named(name: str) -> None:
    text = f"Invalid value for: query parameter {name}"
    service = Service({"GET /api/jobs": httpx.Response(400, text=text)})
    async with http_to(service) as http:
        with pytest.raises(Rejected, match=text):
            await NUMIND.list_jobs(http)


async def test_numind_status_has_a_route_of_its_own() -> None:
    status_only = {name: value for name, value in JOB.items() if name not in {"inputData", "outputData"}}
    service = Service({"GET /api/jobs/j-123/status": httpx.Response(200, json=status_only)})
    async with http_to(service) as http:
        status = await NUMIND.status(http, numind_ref())
    assert (status.state, status.raw_state) == (JobState.SUCCEEDED, "completed")
    assert service.asked == ["GET /api/jobs/j-123/status"]


async def test_numind_job_holds_what_its_endpoint_would_have_returned() -> None:
    service = Service({"GET /api/jobs/j-123": httpx.Response(200, json=JOB)})
    async with http_to(service) as http:
        fetched = await NUMIND.fetch(http, numind_ref())
    assert NUMIND.read_result(numind_ref(), fetched).fields["total"].value == 118.5


async def test_numind_stream_pings_and_ends_with_the_whole_job() -> None:
    (status,) = await numind_stream(events(("ping", ""), ("result", json.dumps(JOB))))
    assert (status.state, status.raw_state) == (JobState.SUCCEEDED, "completed")


async def test_numind_result_event_of_a_failed_job_is_a_failure() -> None:
    failed = {**JOB, "status": "failed", "errorMessage": "It broke.", "errorCode": "E7"}
    failed.pop("outputData")
    (status,) = await numind_stream(events(("result", json.dumps(failed))))
    assert status.state is JobState.FAILED
    assert status.error is not None
    assert (status.error.message, status.error.code) == ("It broke.", "E7")


async def test_numind_stream_that_times_out_ends_as_expired() -> None:
    error = {"code": "JobTimeout", "message": "The job did not complete within its timeout."}
    (status,) = await numind_stream(events(("ping", ""), ("error", json.dumps(error))))
    assert (status.state, status.expired) == (JobState.FAILED, True)


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (404, "A job with the specified ID does not exist.", NotFound),
        (403, "The user does not have permission to access this job.", Unauthorized),
        (403, "The user's billing quota is exceeded.", QuotaExceeded),
    ],
)
async def test_numind_error_responses_are_told_apart(
    code: int, message: str, expected: type[Exception]
) -> None:
    refusal = httpx.Response(code, json={"code": "string", "message": message})
    service = Service({"GET /api/jobs/j-123/status": refusal})
    async with http_to(service) as http:
        with pytest.raises(expected):
            await NUMIND.status(http, numind_ref())


# -------------------------------------------------------------------------- Unsiloed, "Get Job Status"

UNSILOED_JOB = {
    "id": "b2094b38-e432-44b6-a5d0-67bed07d5de1",
    "status": "queued",
    "type": "extraction",
    "created_at": "2024-01-15T10:30:00.000Z",
    "updated_at": "2024-01-15T10:30:00.000Z",
    "pdf_name": "financial_report.pdf",
    "pdf_hash": "sha256:abc123...",
    "user_id": "user_123",
}
GENERIC = Unsiloed(schema_data={"type": "object", "properties": {}}, routes="jobs")


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("queued", JobState.QUEUED),
        ("PROCESSING", JobState.PROCESSING),
        ("COMPLETED", JobState.SUCCEEDED),
        ("FAILED", JobState.FAILED),
    ],
)
def test_unsiloed_states_are_read_in_the_pages_own_case(word: str, state: JobState) -> None:
    status = GENERIC.read_status(unsiloed_ref(), answer({**UNSILOED_JOB, "status": word}))
    assert (status.state, status.raw_state) == (state, word)


def test_unsiloed_failed_job_gives_its_error_field() -> None:
    failed = {**UNSILOED_JOB, "status": "FAILED", "error": "The PDF is encrypted."}
    status = GENERIC.read_status(unsiloed_ref(), answer(failed))
    assert status.error is not None
    assert status.error.message == "The PDF is encrypted."


async def test_unsiloed_job_is_looked_at_and_fetched_on_the_pages_routes() -> None:
    seen: list[httpx.Request] = []
    replies = iter([{**UNSILOED_JOB, "status": "COMPLETED"}, {"data": {}, "processing_time": 4.2}])

    def service(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=next(replies))

    async with unsiloed_client(service) as http:
        status = await GENERIC.status(http, unsiloed_ref())
        await GENERIC.fetch(http, status.ref)
    job = "/jobs/b2094b38-e432-44b6-a5d0-67bed07d5de1"
    assert [(request.method, request.url.path) for request in seen] == [
        ("GET", job),
        ("GET", f"{job}/result"),
    ]
    assert all("X-API-Key" in request.headers for request in seen)
