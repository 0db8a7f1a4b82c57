"""Webhook calls of both Mindee APIs: signatures and payloads.

The signature vector is the published one: secret and signature of `v1/async/get_completed_empty.readme` in
Mindee's official test data (mindee/client-lib-test-data), over the one-line body of the `.json` beside it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import httpx
import pytest
from support.wire import answer, ref_of

from prefect_docjobs.errors import InvalidPush
from prefect_docjobs.models import JobState, Problem
from prefect_docjobs.providers.base import Provider
from prefect_docjobs.providers.mindee import Mindee
from prefect_docjobs.providers.mindee_v1 import MindeeV1

SECRET = "ogNjY44MhvKPGTtVsI8zG82JqWQa68woYQH"
SIGNATURE = "5ed1673e34421217a5dbfcad905ee62261a3dd66c442f3edd19302072bbf70d0"
LISTS = ("given_names", "surnames")
FEATURES = (
    *("document_type", "document_number", "surnames", "given_names", "sex", "birth_date", "birth_place"),
    *("nationality", "personal_number", "country_of_issue", "state_of_issue", "issue_date", "expiry_date"),
    *("address", "mrz_line1", "mrz_line2", "mrz_line3"),
)
PUBLISHED = json.dumps(
    {
        "document": {
            "id": "33460257-611d-4099-8e36-858817b4ebec",
            "inference": {
                "extras": {},
                "finished_at": "2024-03-19T15:57:53.544000",
                "is_rotation_applied": None,
                "pages": [
                    {"id": number, "prediction": {}, "extras": {}, "orientation": {"value": None}}
                    for number in range(10)
                ],
                "prediction": {name: [] if name in LISTS else {"value": None} for name in sorted(FEATURES)},
                "processing_time": 0.671,
                "product": {
                    "features": list(FEATURES),
                    "name": "mindee/international_id",
                    "type": "standard",
                    "version": "2.0",
                },
                "started_at": "2024-03-19T15:57:52.630745",
            },
            "n_pages": 10,
            "name": "blank.pdf",
        },
        "job": {
            "available_at": "2024-03-19T15:57:53.556360",
            "error": {},
            "id": "5651b928-35f2-4244-9a35-a5bec14ce3ec",
            "issued_at": "2024-03-19T15:57:52.630745",
            "status": "completed",
        },
    }
).encode()

MODEL = "3c2b1a00-0000-4000-8000-000000000abc"
JOB = "7b6a0c1e-2f7c-4d4b-9c0e-0d5d3a1f0001"
APIS = pytest.mark.parametrize(
    ("api", "header"), [(Mindee, "X-Signature"), (MindeeV1, "X-Mindee-Hmac-Signature")]
)

# ----------------------------------------------------------------------------------------------- signatures


@APIS
def test_the_published_signature_is_accepted(api: type[Provider], header: str) -> None:
    api.verify_push({header: SIGNATURE}, PUBLISHED, [SECRET])


@APIS
def test_a_header_is_found_in_any_case(api: type[Provider], header: str) -> None:
    api.verify_push({header.lower(): SIGNATURE}, PUBLISHED, [SECRET])
    api.verify_push(httpx.Headers({header.upper(): SIGNATURE}), PUBLISHED, [SECRET])


@APIS
def test_any_of_several_secrets_fits_while_they_are_rotated(api: type[Provider], header: str) -> None:
    api.verify_push({header: SIGNATURE}, PUBLISHED, ["the-next-secret", SECRET])


@APIS
@pytest.mark.parametrize(
    "changed",
    [
        PUBLISHED + b"\n",
        PUBLISHED.replace(b"blank", b"blink"),
        json.dumps(json.loads(PUBLISHED), indent=1).encode(),
        b"",
    ],
    ids=["newline", "one letter", "indented", "empty"],
)
def test_the_raw_body_is_what_is_signed(api: type[Provider], header: str, changed: bytes) -> None:
    with pytest.raises(InvalidPush):
        api.verify_push({header: SIGNATURE}, changed, [SECRET])


@APIS
@pytest.mark.parametrize("signature", ["", "0" * 64, SIGNATURE[:-1], SIGNATURE.upper(), "é"])
def test_a_wrong_signature_is_refused(api: type[Provider], header: str, signature: str) -> None:
    with pytest.raises(InvalidPush) as caught:
        api.verify_push({header: signature}, PUBLISHED, [SECRET])
    assert SECRET not in str(caught.value)


@APIS
def test_a_call_without_signature_or_secret_is_refused(api: type[Provider], header: str) -> None:
    with pytest.raises(InvalidPush, match="no signature"):
        api.verify_push({}, PUBLISHED, [SECRET])
    with pytest.raises(InvalidPush, match="secret"):
        api.verify_push({header: SIGNATURE}, PUBLISHED, [])


def test_the_signature_of_one_api_is_not_looked_for_in_the_others_header() -> None:
    with pytest.raises(InvalidPush):
        Mindee.verify_push({"X-Mindee-Hmac-Signature": SIGNATURE}, PUBLISHED, [SECRET])
    with pytest.raises(InvalidPush):
        MindeeV1.verify_push({"X-Signature": SIGNATURE}, PUBLISHED, [SECRET])


@APIS
def test_an_empty_secret_signs_nothing(api: type[Provider], header: str) -> None:
    forged = hmac.new(b"", PUBLISHED, hashlib.sha256).hexdigest()
    with pytest.raises(InvalidPush):
        api.verify_push({header: forged}, PUBLISHED, [""])


# ------------------------------------------------------------------------------------------ Mindee V2 calls


def inference() -> dict[str, Any]:
    result = {"fields": {"total": {"value": 1.5, "confidence": "High", "locations": []}}}
    file = {"name": "a.pdf", "alias": "order-42", "page_count": 1, "mime_type": "application/pdf"}
    return {
        "inference": {"id": MODEL, "job": {"id": JOB}, "model": {"id": MODEL}, "file": file, "result": result}
    }


def failure(**changes: Any) -> bytes:
    error = {
        "status": 500,
        "title": "Inference failed",
        "detail": "Made-up.",
        "code": "500-012",
        "errors": [],
    }
    flat = {
        "inference_id": MODEL,
        "model_id": MODEL,
        "file_name": "broken.pdf",
        "file_alias": "order-43",
        "error": error,
        "created_at": "2026-02-03T10:15:02.000000Z",
    }
    return json.dumps({**flat, **changes}).encode()


def test_a_v2_success_names_its_job_and_its_alias() -> None:
    push = Mindee.read_push(json.dumps(inference()).encode())
    assert (push.state, push.job_id, push.alias, push.error) == (JobState.SUCCEEDED, JOB, "order-42", None)


def test_a_v2_success_is_a_whole_result() -> None:
    body = json.dumps(inference()).encode()
    ref = ref_of(Mindee, product="extraction", job_id=JOB)
    result = Mindee(model_id=MODEL).read_result(ref, answer(body))
    assert result.row() == {"total": 1.5}
    assert result.raw == Mindee.read_push(body).payload


def test_a_v2_failure_names_its_alias_and_no_job() -> None:
    push = Mindee.read_push(failure())
    assert (push.state, push.job_id, push.alias) == (JobState.FAILED, None, "order-43")
    assert push.error == Problem(message="Made-up.", code="500-012")


@pytest.mark.parametrize("alias", [None, "", 7])
def test_a_v2_failure_without_an_alias_is_a_failure_all_the_same(alias: Any) -> None:
    push = Mindee.read_push(failure(file_alias=alias))
    assert (push.state, push.alias, push.payload["inference_id"]) == (JobState.FAILED, None, MODEL)


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff", b"[]", b"{}", b"[" * 100_000, b'{"inference": null}', PUBLISHED, failure(error=None)],
)
def test_a_call_that_is_not_mindee_v2s_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidPush):
        Mindee.read_push(body)


# ------------------------------------------------------------------------------------------ Mindee V1 calls


def test_a_v1_success_names_its_job() -> None:
    push = MindeeV1.read_push(PUBLISHED)
    assert (push.state, push.raw_state, push.job_id, push.alias, push.error) == (
        JobState.SUCCEEDED,
        "completed",
        "5651b928-35f2-4244-9a35-a5bec14ce3ec",
        None,
        None,
    )


def test_a_v1_success_is_a_whole_result() -> None:
    provider = MindeeV1(endpoint="international_id", version="2")
    ref = ref_of(MindeeV1, product=provider.product, job_id="5651b928-35f2-4244-9a35-a5bec14ce3ec")
    result = provider.read_result(ref, answer(PUBLISHED))
    assert (result.usage.pages, len(result.pages), result.fields["given_names"].value) == (10, 10, [])


def test_a_v1_failure_says_why() -> None:
    error = {"code": "ServerError", "details": "An error occurred", "message": "An error occurred"}
    job = {"id": JOB, "status": "failed", "error": error, "issued_at": "x", "available_at": "y"}
    push = MindeeV1.read_push(json.dumps({"job": job}).encode())
    assert (push.state, push.job_id, push.raw_state) == (JobState.FAILED, JOB, "failed")
    assert push.error == Problem(message="An error occurred", code="ServerError", details="An error occurred")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"job": null}',
        b'{"job": {"id": "", "status": "failed"}}',
        b'{"job": {"id": "a", "status": null}}',
        b'{"job": {"id": "a", "status": "processing"}}',
        b'{"job": {"id": "a", "status": "completed"}}',
        b'{"job": {"id": "a", "status": "completed"}, "document": []}',
        json.dumps(inference()).encode(),
    ],
)
def test_a_call_that_is_not_mindee_v1s_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidPush):
        MindeeV1.read_push(body)
