"""Every shape in which Unsiloed refuses a request."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from support.unsiloed import JOB_ID, client, job, ref
from support.wire import Script, answer

from prefect_docjobs.errors import (
    NotFound,
    QuotaExceeded,
    Rejected,
    ResultLost,
    ServiceError,
    SubmitUncertain,
    Throttled,
    Unauthorized,
    Unavailable,
    Unreadable,
)
from prefect_docjobs.models import Document
from prefect_docjobs.providers.unsiloed import Unsiloed

PDF = Document.from_bytes(b"%PDF-1.4 acme", name="acme.pdf")
QUOTA = {"current": 1000, "limit": 1000, "remaining": 0}


@pytest.mark.parametrize(
    ("status", "body", "kind", "message", "code", "details"),
    [
        (401, {"detail": "Invalid API key"}, Unauthorized, "Invalid API key", None, None),
        (403, {"detail": "Forbidden"}, Unauthorized, "Forbidden", None, None),
        (404, {"detail": f"Job {JOB_ID} not found"}, NotFound, f"Job {JOB_ID} not found", None, None),
        (404, f"Job {JOB_ID} not found", NotFound, f"Job {JOB_ID} not found", None, None),
        (500, "Internal server error", Unavailable, "Internal server error", None, None),
        (408, {"detail": "Request timeout"}, Unavailable, "Request timeout", None, None),
        (400, {"error": "Unsupported file type: .exe"}, Rejected, "Unsupported file type: .exe", None, None),
        (
            402,
            {"detail": {"message": "Insufficient quota", "status": "QUOTA_EXCEEDED", "quota_data": QUOTA}},
            QuotaExceeded,
            "Insufficient quota",
            "QUOTA_EXCEEDED",
            {"quota_data": QUOTA},
        ),
        (
            402,
            {"message": "Insufficient quota", "status": "QUOTA_EXCEEDED", "quota_data": {"remaining": 0}},
            QuotaExceeded,
            "Insufficient quota",
            "QUOTA_EXCEEDED",
            {"quota_data": {"remaining": 0}},
        ),
        (
            402,
            {"detail": {"quota_data": {"remaining": 0, "message": "Nothing left"}}},
            QuotaExceeded,
            "Nothing left",
            None,
            {"quota_data": {"remaining": 0, "message": "Nothing left"}},
        ),
        (429, "Usage limit exceeded", QuotaExceeded, "Usage limit exceeded", None, None),
        (
            429,
            {"error": {"code": "QUOTA_EXCEEDED", "message": "Spent"}},
            QuotaExceeded,
            "Spent",
            "QUOTA_EXCEEDED",
            None,
        ),
        (429, "Rate limit exceeded", Throttled, "Rate limit exceeded", None, None),
        (
            413,
            {
                "error": "file_too_large",
                "message": "Too large",
                "file_size_bytes": 9,
                "max_file_size_bytes": 8,
            },
            Rejected,
            "Too large",
            "file_too_large",
            {"file_size_bytes": 9, "max_file_size_bytes": 8},
        ),
        (
            503,
            {
                "error": {
                    "code": "service_unavailable",
                    "message": "Queue is full",
                    "details": {"reason": "queue_full"},
                }
            },
            Unavailable,
            "Queue is full",
            "service_unavailable",
            {"reason": "queue_full"},
        ),
        (
            400,
            {
                "detail": "Unsupported file format",
                "error_code": "BAD_FORMAT",
                "timestamp": "2024-01-01T12:00:00Z",
            },
            Rejected,
            "Unsupported file format",
            "BAD_FORMAT",
            {"timestamp": "2024-01-01T12:00:00Z"},
        ),
        (
            422,
            {"detail": [], "error_code": "VALIDATION"},
            Rejected,
            "The service answered HTTP 422 and gave no reason.",
            "VALIDATION",
            {},
        ),
    ],
)
def test_every_documented_refusal_has_its_kind_message_code_and_details(
    status: int, body: Any, kind: type[ServiceError], message: str, code: str | None, details: Any
) -> None:
    error = Unsiloed.read_error(answer(body, status))

    assert type(error) is kind
    assert (error.args[0], error.status, error.code, error.provider) == (message, status, code, "unsiloed")
    assert (error.details or None) == (details or None)


def test_a_validation_error_names_each_field() -> None:
    complaints = [
        {"type": "value_error", "loc": ["body", "pdf_file"], "msg": "File is required", "input": None},
        {"type": "missing", "loc": ["body", "items", 0], "msg": "Field required"},
        "something else",
        {"msg": "no place"},
        7,
    ]

    error = Unsiloed.read_error(answer({"detail": complaints, "error_code": "VALIDATION"}, 422))

    assert isinstance(error, Rejected)
    fields = "body.pdf_file: File is required; body.items.0: Field required"
    assert error.args[0] == f"{fields}; something else; no place; (no message)"
    assert (error.code, error.details) == ("VALIDATION", complaints)


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (b"Insufficient quota: no page credits", QuotaExceeded, "Insufficient quota: no page credits"),
        (b"<html><h1>402</h1></html>", QuotaExceeded, "The service answered HTTP 402 with an HTML page."),
        (b"", QuotaExceeded, "The service answered HTTP 402 with an empty body."),
        (b"\xff\xfe", QuotaExceeded, "\ufffd\ufffd"),
    ],
)
def test_plain_text_is_the_message_and_html_is_not(
    body: bytes, kind: type[ServiceError], message: str
) -> None:
    error = Unsiloed.read_error(answer(body, 402))

    assert (type(error), error.args[0]) == (kind, message)


@pytest.mark.parametrize(
    "body", [None, 7, True, [], {}, {"detail": None}, {"error": {}}, {"detail": {}}, [[]]]
)
@pytest.mark.parametrize(("status", "kind"), [(400, Rejected), (502, Unavailable), (302, Unreadable)])
def test_a_body_that_says_nothing_is_told_by_its_status(
    body: Any, status: int, kind: type[ServiceError]
) -> None:
    error = Unsiloed.read_error(answer(body, status))

    assert (type(error), error.status) == (kind, status)


def test_a_long_message_is_cut_and_stands_on_one_line() -> None:
    message = Unsiloed.read_error(answer({"detail": "line\n" * 1000}, 400)).args[0]

    assert message.startswith("line line")
    assert len(message) == 501


@pytest.mark.parametrize(
    ("body", "headers", "seconds"),
    [
        ({"error": {"message": "full", "details": {"retry_after": 20}}}, {}, 20.0),
        ({"error": "rate_limited", "message": "slow", "retry_after": 7}, {}, 7.0),
        ({"error": {"message": "slow"}, "retry_after": 3}, {}, 3.0),
        ({"error": "rate_limited", "message": "slow", "retry_after": 7}, {"retry-after": "30"}, 7.0),
        ({"detail": "slow"}, {"retry-after": "30"}, 30.0),
        ({"detail": "slow", "retry_after": "soon"}, {"retry-after": "30"}, 30.0),
        ({"detail": "slow", "retry_after": -5}, {}, 0.0),
        ({"detail": "slow", "retry_after": 10**400}, {}, None),
        ({"detail": "slow", "retry_after": True}, {}, None),
        ("Rate limit exceeded", {}, None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_the_time_to_wait_is_read_from_the_body_or_the_header(
    body: Any, headers: dict[str, str], seconds: float | None, status: int
) -> None:
    assert Unsiloed.read_error(answer(body, status, **headers)).retry_after == seconds


def test_a_result_that_is_still_processing_is_asked_for_again() -> None:
    body = {"detail": f"Job {JOB_ID} is still processing"}

    assert type(Unsiloed.read_error(answer(body, 400, url=f"/jobs/{JOB_ID}/result"))) is Unavailable
    assert type(Unsiloed.read_error(answer(body, 400, url="/v2/extract"))) is Rejected


# ---------------------------------------------------------------------------------------- in the client


ACCEPTED = httpx.Response(200, json={"job_id": JOB_ID, "status": "queued"})


@pytest.mark.parametrize("text", ["Usage limit exceeded", '"Usage limit exceeded"'])
async def test_a_spent_billing_cap_is_never_asked_again(text: str) -> None:
    service = Script(httpx.Response(429, text=text), ACCEPTED)
    async with client(service) as http:
        with pytest.raises(QuotaExceeded, match=r"acme\.pdf.*Usage limit exceeded"):
            await job("parse").submit(http, PDF)

    assert len(service.requests) == 1


@pytest.mark.parametrize("status", [429, 503])
async def test_a_full_queue_is_asked_again(status: int) -> None:
    full = httpx.Response(status, json={"error": {"message": "full", "details": {"retry_after": 20}}})
    service = Script(full, ACCEPTED)
    async with client(service) as http:
        assert (await job().submit(http, PDF)).job_id == JOB_ID

    assert len(service.requests) == 2


@pytest.mark.parametrize("status", [408, 500, 502, 504])
async def test_a_submit_whose_end_is_unknown_is_uncertain(status: int) -> None:
    service = Script(httpx.Response(status, text="Internal server error"), ACCEPTED)
    async with client(service) as http:
        with pytest.raises(SubmitUncertain):
            await job().submit(http, PDF)

    assert len(service.requests) == 1


async def test_a_result_that_is_not_there_yet_comes_with_the_next_request() -> None:
    service = Script(
        httpx.Response(400, json={"detail": f"Job {JOB_ID} is still processing"}),
        httpx.Response(200, json={"data": {"supplier": {"value": "ACME", "score": 1}}}),
    )
    provider = job(routes="jobs")
    async with client(service) as http:
        fetched = await provider.fetch(http, ref())

    assert provider.read_result(ref(), fetched).row() == {"supplier": "ACME"}


async def test_a_result_that_was_cleaned_up_is_lost() -> None:
    gone = httpx.Response(404, json={"detail": f"Result for job {JOB_ID} not found"})
    async with client(Script(gone)) as http:
        with pytest.raises(ResultLost, match="not found") as caught:
            await job(routes="jobs").fetch(http, ref())

    assert caught.value.ref == ref()
