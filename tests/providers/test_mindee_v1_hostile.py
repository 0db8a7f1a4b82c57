"""Mindee V1: whatever arrives gives a value or a typed error."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_docjobs.errors import DocJobsError, InvalidPush, ServiceError, SubmitUncertain
from prefect_docjobs.http import Answer
from prefect_docjobs.models import JobRef, JobStatus, Result
from prefect_docjobs.providers.base import Push, Submitted
from prefect_docjobs.providers.mindee_v1 import MindeeV1

JOB = "aa11bb22-0000-4000-8000-000000000001"
INVOICES = MindeeV1(endpoint="invoices", version="4")
REF = JobRef(
    provider="mindee_v1",
    base_url="https://api.mindee.net",
    tenant="t",
    product="mindee/invoices/v4",
    job_id=JOB,
    document_name="a.pdf",
    submitted_at=datetime(2026, 2, 3, tzinfo=timezone.utc),
)

KEYS = [
    *("api_request", "error", "status_code", "code", "message", "details", "job", "id", "status"),
    *("document", "inference", "prediction", "pages", "extras", "full_text_ocr", "content", "orientation"),
    *("value", "values", "confidence", "page_id", "polygon", "n_pages", "is_rotation_applied"),
]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from([JOB, "waiting", "processing", "completed", "failed"]),
    st.text(max_size=8),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(KEYS), st.text(max_size=4)), inner, max_size=6),
    ),
    max_leaves=30,
)
ENVELOPES = st.builds(
    lambda word, error, prediction, pages: {
        "job": {"id": JOB, "status": word, "error": error},
        "document": {"id": "d", "n_pages": pages, "inference": {"prediction": prediction, "pages": pages}},
    },
    SCALARS,
    JSON,
    st.dictionaries(st.text(max_size=4), JSON, max_size=4),
    JSON,
)
REFUSALS = st.builds(
    lambda code, error: {"api_request": {"status_code": code, "error": error}}, SCALARS, JSON
)
BODIES = st.one_of(
    st.binary(max_size=60),
    st.text(max_size=60).map(str.encode),
    st.one_of(JSON, ENVELOPES, REFUSALS).map(lambda value: json.dumps(value).encode()),
)


def answered(body: bytes, status: int, location: bytes | None = None) -> Answer:
    headers = httpx.Headers([(b"location", location)] if location else [])
    return Answer(status=status, headers=headers, body=body, url="/v1/products/m/i/v4/documents/queue/j")


@settings(max_examples=200, deadline=None)
@given(BODIES)
def test_any_document_is_a_value_or_a_typed_error(body: bytes) -> None:
    with suppress(DocJobsError):
        result: Any = INVOICES.read_result(REF, answered(body, 200))
        assert isinstance(result, Result)
        assert all(isinstance(value, dict) for value in (result.row(), *result.line_items()))


@settings(max_examples=200, deadline=None)
@given(BODIES)
def test_any_answer_to_a_submit_names_a_job_or_is_uncertain(body: bytes) -> None:
    with suppress(SubmitUncertain):
        submitted: Any = INVOICES._read_submitted(answered(body, 202))
        assert isinstance(submitted, Submitted)
        assert submitted.job_id


@settings(max_examples=200, deadline=None)
@given(BODIES, st.sampled_from([200, 302]), st.one_of(st.none(), st.binary(min_size=1, max_size=30)))
def test_any_status_is_about_our_job_or_a_typed_error(body: bytes, code: int, location: bytes | None) -> None:
    answer = answered(body, code, location)
    with suppress(ServiceError), MindeeV1.reading(answer):
        status: Any = INVOICES.read_status(REF, answer)
        assert isinstance(status, JobStatus)
        assert status.ref.job_id == JOB
        assert status.state.value != "succeeded" or status.ref.document_id


@settings(max_examples=200, deadline=None)
@given(BODIES, st.integers(300, 599))
def test_any_error_answer_is_a_typed_error(body: bytes, code: int) -> None:
    error = MindeeV1.read_error(answered(body, code))
    assert isinstance(error, ServiceError)
    assert (error.status, error.provider) == (code, "mindee_v1")
    assert str(error).strip()


@settings(max_examples=200, deadline=None)
@given(BODIES)
def test_any_webhook_call_is_a_push_or_refused(body: bytes) -> None:
    with suppress(InvalidPush):
        push: Any = MindeeV1.read_push(body)
        assert isinstance(push, Push)
        assert push.state.is_terminal
