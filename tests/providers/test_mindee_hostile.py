"""Mindee V2: whatever arrives gives a value or a typed error."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from support.hostile import (
    EXAMPLES,
    bodies,
    check_error,
    check_push,
    check_result,
    check_status,
    check_submit,
    json_values,
    redirect,
    scalars,
)
from support.wire import answer, ref_of

from prefect_docjobs.models import JobRef
from prefect_docjobs.providers.mindee import Mindee

MODEL = "3c2b1a00-0000-4000-8000-000000000abc"
JOB = "7b6a0c1e-2f7c-4d4b-9c0e-0d5d3a1f0001"

KEYS = [
    *("inference", "job", "file", "result", "fields", "items", "value", "confidence", "locations", "page"),
    *("polygon", "raw_text", "pages", "content", "words", "crops", "splits", "page_range", "document_type"),
    *("classification", "extraction_response", "status", "id", "alias", "result_url", "error", "detail"),
    *("title", "code", "errors", "pointer", "webhooks", "attempts_count", "page_count", "inference_id"),
]
WORDS = [JOB, "Processed", "Failed", "Processing", "High", "https://evil.example/"]
SCALARS = scalars(*WORDS)
JSON = json_values(KEYS, WORDS)
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
BODIES = bodies(JSON | INFERENCES | JOBS)
PROVIDER = Mindee(model_id=MODEL)


def reference(product: str = "extraction") -> JobRef:
    return ref_of(Mindee, product=product, job_id=JOB)


@EXAMPLES
@given(BODIES, st.sampled_from(Mindee.products))
def test_any_result_is_a_value_or_a_typed_error(body: bytes, product: str) -> None:
    check_result(Mindee(model_id=MODEL, product=product), reference(product), answer(body))


@EXAMPLES
@given(BODIES)
def test_any_answer_to_a_submit_names_a_job_or_is_uncertain(body: bytes) -> None:
    check_submit(PROVIDER, answer(body, 202))


@EXAMPLES
@given(BODIES, st.sampled_from([200, 302]), st.none() | st.binary(min_size=1, max_size=20))
def test_any_status_is_about_our_job_or_a_typed_error(body: bytes, code: int, location: bytes | None) -> None:
    check_status(PROVIDER, reference(), redirect(body, code, location))


@EXAMPLES
@given(BODIES, st.integers(300, 599))
def test_any_error_answer_is_a_typed_error(body: bytes, code: int) -> None:
    check_error(Mindee, answer(body, code))


@EXAMPLES
@given(BODIES)
def test_any_webhook_call_is_a_push_or_refused(body: bytes) -> None:
    check_push(Mindee, body)
