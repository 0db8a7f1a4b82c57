"""Looking at Unsiloed's jobs: where they are asked for, and what each answer means."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from support.unsiloed import JOB_ID, client, job, ref
from support.wire import NOW, Script, answer

from prefect_docjobs.errors import Unreadable, Unsupported
from prefect_docjobs.models import JobState, JobStatus, Problem


def status_of(body: Any, product: str = "extract", **settings: Any) -> JobStatus:
    provider = job(product, **settings)
    seen = answer(body)
    with provider.reading(seen):
        return provider.read_status(ref(product), seen)


@pytest.mark.parametrize(
    ("product", "routes", "status_path", "result_path"),
    [
        ("extract", "product", f"/extract/{JOB_ID}", f"/extract/{JOB_ID}"),
        ("parse", "product", f"/parse/{JOB_ID}", f"/parse/{JOB_ID}"),
        ("classify", "product", f"/classify/{JOB_ID}", f"/classify/{JOB_ID}"),
        ("split", "product", f"/splitter/{JOB_ID}", f"/splitter/{JOB_ID}"),
        ("extract", "jobs", f"/jobs/{JOB_ID}", f"/jobs/{JOB_ID}/result"),
        ("parse", "jobs", f"/jobs/{JOB_ID}", f"/jobs/{JOB_ID}/result"),
        ("classify", "jobs", f"/jobs/{JOB_ID}", f"/jobs/{JOB_ID}/result"),
        ("split", "jobs", f"/jobs/{JOB_ID}", f"/jobs/{JOB_ID}/result"),
    ],
)
async def test_status_and_result_are_asked_at_the_routes_that_were_chosen(
    product: str, routes: str, status_path: str, result_path: str
) -> None:
    provider = job(product, routes=routes)
    service = Script(*[httpx.Response(200, json={"status": "processing"})] * 2)
    async with client(service) as http:
        await provider.status(http, ref(product))
        await provider.fetch(http, ref(product))

    asked = [(request.method, request.url.path) for request in service.requests]
    assert asked == [("GET", status_path), ("GET", result_path)]
    assert provider.result_request(ref(product)).verbatim


@pytest.mark.parametrize("job_id", ["..", "."])
async def test_a_job_id_that_is_a_path_is_never_asked_for(job_id: str) -> None:
    async with client(Script()) as http:
        for verb in (job().status, job().fetch):
            with pytest.raises(Unreadable, match="cannot be part of a path"):
                await verb(http, ref(job_id=job_id))


def test_a_job_id_stays_one_segment_of_the_path() -> None:
    assert job().status_request(ref(job_id="a/../b?c#d")).path == "/extract/a%2F..%2Fb%3Fc%23d"


STATES = {
    JobState.QUEUED: ["queued", "Queued", "Starting", "AwaitingUpload"],
    JobState.PROCESSING: ["PROCESSING", "processing", "Processing"],
    JobState.SUCCEEDED: ["COMPLETED", "completed", "Succeeded", "review"],
    JobState.FAILED: ["FAILED", "failed", "Failed", "error", "pii_blocked"],
    JobState.CANCELLED: ["Cancelled", "cancelled", "CANCELLED"],
    JobState.UNKNOWN: ["Archived", "paused"],
}


@pytest.mark.parametrize(
    ("state", "word"), [(state, word) for state, words in STATES.items() for word in words]
)
def test_every_state_word_in_every_case_has_its_meaning(state: JobState, word: str) -> None:
    status = status_of({"job_id": JOB_ID, "status": word})

    assert (status.state, status.raw_state, status.seen_at) == (state, word, NOW)


def test_the_generic_routes_own_example_is_read() -> None:
    body = {
        "id": JOB_ID,
        "status": "queued",
        "type": "extraction",
        "created_at": "2024-01-15T10:30:00.000Z",
        "updated_at": "2024-01-15T10:30:00.000Z",
        "pdf_name": "financial_report.pdf",
        "pdf_hash": "sha256:abc123...",
        "user_id": "user_123",
    }

    assert status_of(body, routes="jobs").state is JobState.QUEUED


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"error": "Invalid PDF format"}, Problem(message="Invalid PDF format")),
        ({"error": None, "message": "corrupted"}, Problem(message="corrupted")),
        ({"message": "corrupted"}, Problem(message="corrupted")),
        ({"error": {"message": "bad", "code": "E7"}}, Problem(message="bad", code="E7")),
        (
            {"error": {"message": "bad", "details": {"page": 3}}},
            Problem(message="bad", details={"page": 3}),
        ),
        ({"error": ["bad page"]}, Problem(message="bad page", details=["bad page"])),
        ({"error": ""}, Problem(message="The service gave no reason.")),
        ({"error": 7, "message": []}, Problem(message="The service gave no reason.")),
        ({}, Problem(message="The service gave no reason.")),
    ],
)
def test_a_failed_job_says_why_in_error_or_in_message(body: dict[str, Any], problem: Problem) -> None:
    assert status_of({"job_id": JOB_ID, "status": "Failed", **body}, "parse").error == problem


def test_a_job_that_did_not_fail_has_no_error() -> None:
    assert (
        status_of({"job_id": JOB_ID, "status": "queued", "message": "PDF processing started"}).error is None
    )


@pytest.mark.parametrize(
    ("routes", "body"),
    [
        ("product", {"job_id": "other"}),
        ("product", {"job_id": 7}),
        ("jobs", {"id": "other"}),
        ("jobs", {"job_id": "other", "id": JOB_ID}),
        ("jobs", {"job_id": None, "id": "other"}),
    ],
)
def test_a_status_of_another_job_is_refused(routes: str, body: dict[str, Any]) -> None:
    with pytest.raises(Unreadable, match="another job"):
        status_of({"status": "completed", **body}, routes=routes)


def test_the_internal_record_id_of_a_parse_job_is_not_taken_for_its_job_id() -> None:
    assert status_of({"id": "record-1", "status": "Processing"}, "parse").state is JobState.PROCESSING


@pytest.mark.parametrize("given", ["sha256:" + "cd" * 32, "CD" * 32])
def test_a_status_of_another_document_is_refused(given: str) -> None:
    with pytest.raises(Unreadable, match="another document"):
        status_of({"id": JOB_ID, "status": "COMPLETED", "pdf_hash": given}, routes="jobs")


@pytest.mark.parametrize(
    "given", ["sha256:" + "ab" * 32, "SHA256:" + "AB" * 32, "sha256:abc123...", "md5:1", None, 7]
)
def test_our_own_hash_and_what_is_no_whole_hash_pass(given: object) -> None:
    body = {"id": JOB_ID, "status": "COMPLETED", "pdf_hash": given}

    assert status_of(body, routes="jobs").state is JobState.SUCCEEDED


def test_a_document_submitted_by_url_has_no_hash_to_compare() -> None:
    provider, seen = job(routes="jobs"), answer({"id": JOB_ID, "status": "queued", "pdf_hash": "cd" * 32})

    assert provider.read_status(ref(document_sha256=None), seen).state is JobState.QUEUED


@pytest.mark.parametrize("body", [{}, [], "queued", None, {"status": None}, {"status": 7}, {"status": " "}])
def test_a_status_without_a_state_word_is_unreadable(body: Any) -> None:
    with pytest.raises(Unreadable) as caught:
        status_of(body)

    assert caught.value.provider == "unsiloed"


# --------------------------------------------------------------------------------- what it does not offer


async def test_what_the_service_does_not_document_is_unsupported() -> None:
    provider = job()
    async with client(Script()) as http:
        with pytest.raises(Unsupported):
            await provider.cancel(http, ref())
        with pytest.raises(Unsupported):
            await provider.list_jobs(http)
        with pytest.raises(Unsupported):
            provider.stream(http, ref())
    with pytest.raises(Unsupported):
        provider.verify_push({}, b"{}", ["secret"])
    with pytest.raises(Unsupported):
        provider.read_push(b"{}")
