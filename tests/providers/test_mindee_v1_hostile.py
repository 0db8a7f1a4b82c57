"""Mindee V1: whatever arrives gives a value or a typed error."""

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

from prefect_docjobs.models import JobState
from prefect_docjobs.providers.mindee_v1 import MindeeV1

JOB = "aa11bb22-0000-4000-8000-000000000001"
INVOICES = MindeeV1(endpoint="invoices", version="4")
REF = ref_of(MindeeV1, product="mindee/invoices/v4", job_id=JOB)

KEYS = [
    *("api_request", "error", "status_code", "code", "message", "details", "job", "id", "status"),
    *("document", "inference", "prediction", "pages", "extras", "full_text_ocr", "content", "orientation"),
    *("value", "values", "confidence", "page_id", "polygon", "n_pages", "is_rotation_applied"),
]
WORDS = [JOB, "waiting", "processing", "completed", "failed"]
SCALARS = scalars(*WORDS)
JSON = json_values(KEYS, WORDS)
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
BODIES = bodies(JSON | ENVELOPES | REFUSALS)
QUEUE = "/v1/products/mindee/invoices/v4/documents/queue/j"


@EXAMPLES
@given(BODIES)
def test_any_document_is_a_value_or_a_typed_error(body: bytes) -> None:
    check_result(INVOICES, REF, answer(body))


@EXAMPLES
@given(BODIES)
def test_any_answer_to_a_submit_names_a_job_or_is_uncertain(body: bytes) -> None:
    check_submit(INVOICES, answer(body, 202))


@EXAMPLES
@given(BODIES, st.sampled_from([200, 302]), st.none() | st.binary(min_size=1, max_size=30))
def test_any_success_has_a_document_to_fetch(body: bytes, code: int, location: bytes | None) -> None:
    status = check_status(INVOICES, REF, redirect(body, code, location, QUEUE))
    assert status is None or status.state is not JobState.SUCCEEDED or status.ref.document_id


@EXAMPLES
@given(BODIES, st.integers(300, 599))
def test_any_error_answer_is_a_typed_error(body: bytes, code: int) -> None:
    check_error(MindeeV1, answer(body, code))


@EXAMPLES
@given(BODIES)
def test_any_webhook_call_is_a_push_or_refused(body: bytes) -> None:
    check_push(MindeeV1, body)
