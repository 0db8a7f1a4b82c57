"""Answers of the result route that are not the result: none is taken for one, and nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from support.patient_time import patient_time
from support.services import invoice, says
from support.shop import Shop, shop

from prefect_docjobs.errors import Reason
from prefect_docjobs.extraction import extract_many, fetch_many, submit_many, wait_many
from prefect_docjobs.ledger import Account, State
from prefect_docjobs.models import JobState, Outcome

ROUTES = {
    "mindee": "/results/",
    "mindee_v1": "/documents/",
    "numind": "structured-extraction/jobs/",
    "unsiloed": "/extract/",
}
BAD: dict[str, Callable[[], httpx.Response]] = {
    "no content": lambda: httpx.Response(204),
    "empty object": lambda: httpx.Response(200, json={}),
    "empty list": lambda: httpx.Response(200, json=[]),
    "null": lambda: httpx.Response(200, json=None),
    "empty body": lambda: httpx.Response(200, headers={"content-type": "application/json"}),
    "truncated": lambda: _json(b'{"inference": {"id": "x", "result": {"fields": {"a'),
    "gateway": lambda: httpx.Response(200, json={"message": "Endpoint request timed out"}),
    "html called json": lambda: _json(b"<html><body>Please log in</body></html>"),
    "a text": lambda: httpx.Response(200, json="ok"),
    "huge number": lambda: _json(b'{"inference": ' + b"9" * 5_000 + b"}"),
}


def _json(body: bytes) -> httpx.Response:
    return httpx.Response(200, content=body, headers={"content-type": "application/json"})


def is_result(service: str, request: httpx.Request) -> bool:
    """Whether it asks for a result; Unsiloed's status route gives it, too."""
    path = request.url.path
    return request.method == "GET" and ROUTES[service] in path and "queue" not in path


def bad_after_the_end(at: Shop, service: str, bad: Callable[[], httpx.Response], times: int) -> list[str]:
    """So many bad answers from the moment at which the job has ended; what was asked for."""
    asked: list[str] = []

    def instead(request: httpx.Request) -> httpx.Response | None:
        jobs = at.backend.all_jobs()
        if not (jobs and is_result(service, request) and jobs[-1].seen_done_at is not None):
            return None
        asked.append(request.url.path)
        return bad() if len(asked) <= times else None

    at.late.instead = instead
    return asked


SERVICES = pytest.mark.parametrize("service", list(ROUTES))


@pytest.mark.parametrize("kind", list(BAD))
@SERVICES
@patient_time
async def test_a_bad_answer_is_asked_for_again(service: str, kind: str, tmp_path: Path) -> None:
    async with shop(service, tmp_path) as at:
        bad_after_the_end(at, service, BAD[kind], 1)
        (outcome,) = await at.extract(invoice(7))
        assert outcome.result is not None, outcome.error
        assert says(outcome.result)[0] == "N-00007"
        assert (await at.the_record()).state is State.FETCHED


@pytest.mark.parametrize("kind", list(BAD))
@SERVICES
@patient_time
async def test_a_result_that_stays_unreadable_is_fetched_by_a_later_run(
    service: str, kind: str, tmp_path: Path
) -> None:
    async with shop(service, tmp_path) as at:
        asked = bad_after_the_end(at, service, BAD[kind], 1000)
        (unread,) = await at.extract(invoice(7))
        assert unread.reason is Reason.UNREADABLE
        assert unread.ref is not None
        assert len(asked) < 6
        record = await at.the_record()
        assert (record.state, record.reason, record.has_body) == (State.DONE, Reason.UNREADABLE, True)
        assert await at.ledger.body(record) == BAD[kind]().content

        at.late.instead = lambda request: None
        (outcome,) = await at.extract(invoice(7))
        assert outcome.result is not None, outcome.error
        assert outcome.reused
        assert says(outcome.result)[0] == "N-00007"
        assert at.submits == 1


@SERVICES
@patient_time
async def test_the_same_by_the_steps_one_by_one(service: str, tmp_path: Path) -> None:
    async with shop(service, tmp_path) as at:
        bad_after_the_end(at, service, BAD["empty object"], 1)
        for ledger in (at.ledger, None):
            submitted = [
                row async for _, row in submit_many(at.provider, at.http, [invoice(7)], ledger=ledger)
            ]
            refs = [row.ref for row in submitted if row.ref is not None]
            waited = [row async for _, row in wait_many(at.provider, at.http, refs, ledger=ledger)]
            done = [row.ref for row in waited if row.ref is not None]
            (fetched,) = [row async for _, row in fetch_many(at.provider, at.http, done, ledger=ledger)]
            assert fetched.result is not None, fetched.error
            assert says(fetched.result)[0] == "N-00007"


@SERVICES
@patient_time
async def test_without_a_ledger_a_bad_answer_is_asked_for_again(service: str, tmp_path: Path) -> None:
    async with shop(service, tmp_path) as at:
        bad_after_the_end(at, service, BAD["truncated"], 1)
        outcomes: list[Outcome] = [
            row async for _, row in extract_many(at.provider, at.http, [invoice(7)], ledger=None)
        ]
        assert outcomes[0].result is not None, outcomes[0].error


@pytest.mark.parametrize("service", ["mindee", "mindee_v1", "unsiloed"])
@patient_time
async def test_the_result_of_another_job_is_not_taken(service: str, tmp_path: Path) -> None:
    async with shop(service, tmp_path) as at:
        (other,) = await at.extract(invoice(1))
        assert other.result is not None
        foreign = other.result.raw
        bad_after_the_end(at, service, lambda: httpx.Response(200, json=foreign), 1000)
        (outcome,) = await at.extract(invoice(2))
        assert outcome.result is None
        assert outcome.reason in {Reason.UNREADABLE, Reason.TIMEOUT}
        at.late.instead = lambda request: None
        (again,) = await at.extract(invoice(2))
        assert again.result is not None, again.error
        assert says(again.result)[0] == "N-00002"
        assert at.submits == 2


@pytest.mark.parametrize("pages", [10**20, 10**400, -1, 1e308, True, "many"])
@patient_time
async def test_an_impossible_count_costs_no_result(pages: object, tmp_path: Path) -> None:
    async with shop("mindee", tmp_path) as at:

        def instead(request: httpx.Request) -> httpx.Response | None:
            if not is_result("mindee", request):
                return None
            return _json(
                json.dumps({"inference": {"file": {"page_count": pages}, "result": {"fields": {}}}}).encode()
            )

        at.late.instead = instead
        (outcome,) = await at.extract(invoice(1))
        assert outcome.ok, outcome.error
        assert (await at.the_record()).state is State.FETCHED


# -- what is kept, and cannot be read any more


@pytest.mark.parametrize("once", [False, True])
@patient_time
async def test_a_kept_result_that_is_damaged_is_fetched_again_where_the_service_has_it(
    once: bool, tmp_path: Path
) -> None:
    async with shop("mindee", tmp_path, single_use_results=once) as at:
        await at.extract(invoice(7))
        await at.execute("UPDATE docjobs_jobs SET body = x'00'")
        (outcome,) = await at.extract(invoice(7))
        assert outcome.reason is (Reason.UNREADABLE if once else None)
        assert not once or "cannot be read" in (outcome.error or "")
        assert at.submits == 1


# -- a job that still runs


def running(service: str) -> httpx.Response:
    """What the service's result route says of a job that has not ended."""
    if service == "numind":
        return httpx.Response(400, json={"code": "JobNotCompleted", "message": "Job is not completed"})
    return httpx.Response(200, json={"status": "Processing"})


@pytest.mark.parametrize("service", ["numind", "unsiloed"])
@patient_time
async def test_a_job_that_still_runs_is_waited_for_again(service: str, tmp_path: Path) -> None:
    async with shop(service, tmp_path) as at:
        bad_after_the_end(at, service, lambda: running(service), 3)
        (outcome,) = await at.extract(invoice(7))
        assert outcome.result is not None, outcome.error
        assert (await at.the_record()).state is State.FETCHED


@pytest.mark.parametrize("service", ["numind", "unsiloed"])
@patient_time
async def test_a_job_that_never_seems_to_end_keeps_its_ref(service: str, tmp_path: Path) -> None:
    async with shop(service, tmp_path) as at:
        bad_after_the_end(at, service, lambda: running(service), 100_000)
        (outcome,) = await at.extract(invoice(7), document_timeout=600.0)
        assert (outcome.reason, outcome.ref is not None) == (Reason.TIMEOUT, True)
        at.late.instead = lambda request: None
        (again,) = await at.extract(invoice(7))
        assert again.result is not None, again.error
        assert at.submits == 1


@patient_time
async def test_a_list_that_reports_ends_too_early_loses_no_result(tmp_path: Path) -> None:
    async with shop("numind", tmp_path, duration={"law": "fixed", "seconds": 60.0}) as at:

        def instead(request: httpx.Request) -> httpx.Response | None:
            if request.url.path != "/api/jobs":
                return None
            ended = {"status": "completed", "completedAt": "2026-11-30T10:00:00Z"}
            rows = [{"id": job.id, **ended} for job in at.backend.all_jobs()]
            return httpx.Response(200, json={"items": rows, "totalCount": len(rows)})

        at.late.instead = instead
        outcomes = await at.extract(*(invoice(number) for number in range(12)))
        assert [outcome.error for outcome in outcomes if not outcome.ok] == []
        assert {says(outcome.result)[0] for outcome in outcomes if outcome.result} == {
            f"N-{number:05}" for number in range(12)
        }
        assert at.submits == 12


# -- the same by a push


@pytest.mark.parametrize("kind", ["empty object", "gateway", "truncated", "html called json", "a text"])
@patient_time
async def test_a_pushed_body_that_is_no_result_is_not_taken_for_one(kind: str, tmp_path: Path) -> None:
    async with shop("mindee", tmp_path) as at:
        (submitted,) = [
            row async for _, row in submit_many(at.provider, at.http, [invoice(7)], ledger=at.ledger)
        ]
        assert submitted.ref is not None
        kept = await at.ledger.inbox.keep(
            Account("mindee", at.http.base_url, at.http.tenant),
            job_id=submitted.ref.job_id,
            alias=None,
            state=JobState.SUCCEEDED,
            raw_state="Processed",
            error=None,
            digest="d" * 64,
            body=BAD[kind]().content,
            keep_for=86_400.0,
        )
        assert kept.record is not None
        (outcome,) = await at.extract(invoice(7))
        assert outcome.result is not None, outcome.error
        assert says(outcome.result)[0] == "N-00007"
        assert ((await at.the_record()).state, at.submits) == (State.FETCHED, 1)
