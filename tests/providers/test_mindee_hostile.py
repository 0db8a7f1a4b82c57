"""Mindee V2: whatever arrives gives a value or a typed error."""

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
from prefect_docjobs.providers.mindee import Mindee

MODEL = "3c2b1a00-0000-4000-8000-000000000abc"
JOB = "7b6a0c1e-2f7c-4d4b-9c0e-0d5d3a1f0001"

KEYS = [
    *("inference", "job", "file", "result", "fields", "items", "value", "confidence", "locations", "page"),
    *("polygon", "raw_text", "pages", "content", "words", "crops", "splits", "page_range", "document_type"),
    *("classification", "extraction_response", "status", "id", "alias", "result_url", "error", "detail"),
    *("title", "code", "errors", "pointer", "webhooks", "attempts_count", "page_count", "inference_id"),
]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from([JOB, "Processed", "Failed", "Processing", "High", "https://evil.example/"]),
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
INFERENCES = st.builds(
    lambda product, inner: {"inference": {"job": {"id": JOB}, "result": {product: inner}, "file": inner}},
    st.sampled_from(["fields", "pages", "crops", "splits", "classification", "raw_text"]),
    JSON,
)
JOBS = st.builds(
    lambda status, url, rest: {"job": {"id": JOB, "status": status, "result_url": url, **rest}},
    SCALARS,
    SCALARS,
    st.dictionaries(st.sampled_from(["error", "alias", "webhooks", "completed_at"]), JSON),
)
BODIES = st.one_of(
    st.binary(max_size=60),
    st.text(max_size=60).map(str.encode),
    st.one_of(JSON, INFERENCES, JOBS).map(lambda value: json.dumps(value).encode()),
)


def answered(body: bytes, status: int, location: bytes | None = None) -> Answer:
    headers = httpx.Headers([(b"location", location)] if location else [])
    return Answer(status=status, headers=headers, body=body)


def reference(product: str) -> JobRef:
    return JobRef(
        provider="mindee",
        base_url="https://api-v2.mindee.net",
        tenant="t",
        product=product,
        job_id=JOB,
        document_name="a.pdf",
        submitted_at=datetime(2026, 2, 3, tzinfo=timezone.utc),
    )


@settings(max_examples=200, deadline=None)
@given(BODIES, st.sampled_from(Mindee.products))
def test_any_result_is_a_value_or_a_typed_error(body: bytes, product: str) -> None:
    with suppress(DocJobsError):
        result: Any = Mindee(model_id=MODEL, product=product).read_result(
            reference(product), answered(body, 200)
        )
        assert isinstance(result, Result)
        assert all(isinstance(value, dict) for value in (result.row(), *result.line_items()))


@settings(max_examples=200, deadline=None)
@given(BODIES)
def test_any_answer_to_a_submit_names_a_job_or_is_uncertain(body: bytes) -> None:
    with suppress(SubmitUncertain):
        submitted: Any = Mindee(model_id=MODEL)._read_submitted(answered(body, 202))
        assert isinstance(submitted, Submitted)
        assert submitted.job_id


@settings(max_examples=200, deadline=None)
@given(BODIES, st.sampled_from([200, 302]), st.one_of(st.none(), st.binary(min_size=1, max_size=20)))
def test_any_status_is_about_our_job_or_a_typed_error(body: bytes, code: int, location: bytes | None) -> None:
    answer = answered(body, code, location)
    with suppress(ServiceError), Mindee.reading(answer):
        status: Any = Mindee(model_id=MODEL).read_status(reference("extraction"), answer)
        assert isinstance(status, JobStatus)
        assert status.ref.job_id == JOB


@settings(max_examples=200, deadline=None)
@given(BODIES, st.integers(300, 599))
def test_any_error_answer_is_a_typed_error(body: bytes, code: int) -> None:
    error = Mindee.read_error(answered(body, code))
    assert isinstance(error, ServiceError)
    assert (error.status, error.provider) == (code, "mindee")
    assert str(error).strip()


@settings(max_examples=200, deadline=None)
@given(BODIES)
def test_any_webhook_call_is_a_push_or_refused(body: bytes) -> None:
    with suppress(InvalidPush):
        push: Any = Mindee.read_push(body)
        assert isinstance(push, Push)
        assert push.state.is_terminal
