"""Whatever Unsiloed might answer: a value or a typed error, never anything else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.hostile import (
    EXAMPLES,
    bodies,
    check_error,
    check_result,
    check_status,
    check_submit,
    json_values,
)
from support.unsiloed import JOB_ID, job, ref
from support.wire import answer

from prefect_docjobs.errors import Rejected, ServiceError
from prefect_docjobs.providers.unsiloed import Unsiloed
from prefect_docjobs.providers.unsiloed.results import read_field

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
KEYS = [*ENVELOPE, *PRODUCTS, *FIELDS, *ERRORS]
WORDS = [JOB_ID, "completed", "Failed", "queued", "pii_blocked", "QUOTA_EXCEEDED", "sha256:" + "0" * 64]
JSON = json_values(KEYS, WORDS)
BODIES = bodies(JSON)
STATUSES = st.sampled_from([200, 202, 204, 301, 400, 401, 402, 404, 408, 413, 422, 429, 500, 503])
JOBS = st.builds(
    lambda product, routes: job(product, routes=routes),
    st.sampled_from(["extract", "parse", "classify", "split"]),
    st.sampled_from(["product", "jobs"]),
)


@EXAMPLES
@given(JOBS, BODIES)
def test_any_submit_answer_is_a_job_or_a_typed_error(provider: Unsiloed, body: bytes) -> None:
    check_submit(provider, answer(body), Rejected)


@EXAMPLES
@given(JOBS, BODIES)
def test_any_status_answer_is_a_status_or_a_typed_error(provider: Unsiloed, body: bytes) -> None:
    check_status(provider, ref(provider.product), answer(body))


@EXAMPLES
@given(JOBS, BODIES)
def test_any_result_answer_is_a_result_or_a_typed_error(provider: Unsiloed, body: bytes) -> None:
    check_result(provider, ref(provider.product), answer(body))


@EXAMPLES
@given(JOBS, JSON)
def test_any_result_of_a_finished_job_is_a_result_or_a_typed_error(provider: Unsiloed, inside: Any) -> None:
    outside = {"job_id": JOB_ID, "status": "completed", "result": inside, "data": inside, "chunks": [inside]}
    check_result(provider, ref(provider.product), answer(outside))


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
    check_error(Unsiloed, answer(body, status, url=f"/jobs/{JOB_ID}/result"))


@pytest.mark.parametrize("opening", ["[", '{"value":', '{"error":', '{"detail":['])
def test_endless_nesting_is_refused_and_not_followed(opening: str) -> None:
    deep = (opening * 20_000).encode()

    assert isinstance(Unsiloed.read_error(answer(deep, 500)), ServiceError)
    with pytest.raises(ServiceError):
        job().read_result(ref(), answer(deep))


def test_nesting_that_json_takes_and_the_model_does_not_is_a_typed_error() -> None:
    deep: Any = "x"
    for _ in range(400):
        deep = {"value": [deep], "score": 1}

    finished = answer({"job_id": JOB_ID, "status": "completed", "result": {"deep": deep}})
    check_result(job(), ref(), finished)
