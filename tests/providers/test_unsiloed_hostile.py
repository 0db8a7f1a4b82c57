"""Whatever Unsiloed might answer: a value or a typed error, never anything else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.unsiloed import JOB_ID, answer, job, raw_answer, ref

from prefect_docjobs.errors import DocJobsError, ServiceError
from prefect_docjobs.http import Answer
from prefect_docjobs.models import JobStatus, Result
from prefect_docjobs.providers.base import Submitted
from prefect_docjobs.providers.unsiloed import Unsiloed
from prefect_docjobs.providers.unsiloed.fields import read_field

ENVELOPE = ["job_id", "id", "status", "result", "data", "metadata", "page_count", "credit_used", "pdf_hash"]
PRODUCTS = [
    "chunks",
    "segments",
    "markdown",
    "page_number",
    "files",
    "classification",
    "page_results",
    "categories",
]
FIELDS = [
    "value",
    "score",
    "extraction_score",
    "grounding_score",
    "citation",
    "bboxes",
    "bbox",
    "page_no",
    "__value__",
]
ERRORS = ["error", "detail", "message", "code", "details", "retry_after", "loc", "msg", "quota_data"]
KEYS = st.sampled_from([*ENVELOPE, *PRODUCTS, *FIELDS, *ERRORS]) | st.text(max_size=3)
WORDS = st.sampled_from(
    [JOB_ID, "completed", "Failed", "queued", "pii_blocked", "QUOTA_EXCEEDED", "sha256:" + "0" * 64]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | WORDS
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=25,
)
STATUSES = st.sampled_from([200, 202, 204, 301, 400, 401, 402, 404, 408, 413, 422, 429, 500, 503])
BODIES = (
    JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60) | st.text().map(str.encode)
)
JOBS = st.builds(
    lambda product, routes: job(product, routes=routes),
    st.sampled_from(["extract", "parse", "classify", "split"]),
    st.sampled_from(["product", "jobs"]),
)
EXAMPLES = settings(max_examples=200, deadline=None)


@EXAMPLES
@given(JOBS, BODIES)
def test_any_submit_answer_is_a_job_or_a_typed_error(provider: Unsiloed, body: bytes) -> None:
    try:
        submitted = provider._read_submitted(raw_answer(body))
    except DocJobsError:
        return
    assert isinstance(submitted, Submitted)
    assert submitted.job_id.strip()


@EXAMPLES
@given(JOBS, BODIES)
def test_any_status_answer_is_a_status_or_a_typed_error(provider: Unsiloed, body: bytes) -> None:
    seen, asked = raw_answer(body), ref(provider.product)
    try:
        with provider.reading(seen):
            status: Any = provider.read_status(asked, seen)
    except DocJobsError:
        return
    assert isinstance(status, JobStatus)
    assert status.ref == asked


@EXAMPLES
@given(JOBS, BODIES)
def test_any_result_answer_is_a_result_or_a_typed_error(provider: Unsiloed, body: bytes) -> None:
    read_result(provider, raw_answer(body))


@EXAMPLES
@given(JOBS, JSON)
def test_any_result_of_a_finished_job_is_a_result_or_a_typed_error(provider: Unsiloed, inside: Any) -> None:
    outside = {"job_id": JOB_ID, "status": "completed", "result": inside, "data": inside, "chunks": [inside]}
    read_result(provider, answer(outside))


def read_result(provider: Unsiloed, fetched: Answer) -> None:
    asked = ref(provider.product)
    try:
        result = provider.read_result(asked, fetched)
    except DocJobsError:
        return
    assert isinstance(result, Result)
    assert isinstance(result.row(), dict)
    assert isinstance(result.line_items(), list)
    assert json.dumps(result.raw) == json.dumps(fetched.json())


@EXAMPLES
@given(JSON)
def test_any_node_of_an_extraction_is_a_field_with_a_sane_confidence(node: Any) -> None:
    pending = [read_field(node)]
    while pending:
        field = pending.pop()
        assert field.confidence is None or 0 <= field.confidence <= 1
        assert all(location.page >= 1 for location in field.locations)
        pending += [*(field.fields or {}).values(), *(field.items or [])]


@EXAMPLES
@given(STATUSES, BODIES)
def test_any_refusal_is_a_typed_error_that_can_be_told(status: int, body: bytes) -> None:
    error = Unsiloed.read_error(raw_answer(body, status, url=f"/jobs/{JOB_ID}/result"))

    assert isinstance(error, ServiceError)
    assert (error.status, error.provider) == (status, "unsiloed")
    assert str(error).strip()
    assert error.retry_after is None or 0 <= error.retry_after <= 86_400


@pytest.mark.parametrize("opening", ["[", '{"value":', '{"error":', '{"detail":['])
def test_endless_nesting_is_refused_and_not_followed(opening: str) -> None:
    deep = (opening * 20_000).encode()

    assert isinstance(Unsiloed.read_error(raw_answer(deep, 500)), ServiceError)
    with pytest.raises(ServiceError):
        job().read_result(ref(), raw_answer(deep))


def test_nesting_that_json_takes_and_the_model_does_not_is_a_typed_error() -> None:
    deep: Any = "x"
    for _ in range(400):
        deep = {"value": [deep], "score": 1}

    read_result(job(), answer({"job_id": JOB_ID, "status": "completed", "result": {"deep": deep}}))
