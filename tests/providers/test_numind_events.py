"""NuExtract: the stream of events and the list of jobs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import datetime, timezone
from typing import Any

import httpx
import pytest
from support.numind_service import JOB, STATUS, Service, events, http_to, job_ref

from prefect_docjobs.errors import (
    NotFound,
    QuotaExceeded,
    RefMismatch,
    Rejected,
    Unavailable,
    Unreadable,
)
from prefect_docjobs.models import JobState, JobStatus, Problem
from prefect_docjobs.providers.base import JobPage, JobRow
from prefect_docjobs.providers.numind import NuMind

JOBS = NuMind(template={"total": "number"})
STREAM = "GET /api/jobs/j-123/stream"
STREAM_TYPE = {"content-type": "text/event-stream"}
PING = ("ping", "")
DONE = ("result", json.dumps(JOB))


class Pieces(httpx.AsyncByteStream):
    """A body that comes in the given pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


async def streamed(reply: httpx.Response, **limits: Any) -> list[JobStatus]:
    service = Service({STREAM: reply})
    async with http_to(service, **limits) as http:
        told = [status async for status in JOBS.stream(http, job_ref())]
    assert service.asked == [STREAM]
    assert "text/event-stream" in service.requests[0].headers["accept"]
    return told


# ---------------------------------------------------------------------------------------------- streams


async def test_the_result_event_is_the_jobs_end_and_pings_are_nothing() -> None:
    (status,) = await streamed(events(PING, PING, DONE, ("result", "never read")))
    assert (status.ref, status.state, status.raw_state) == (job_ref(), JobState.SUCCEEDED, "completed")


async def test_a_failed_job_comes_as_a_result_with_its_error() -> None:
    failed = {**JOB, "status": "failed", "outputData": None, "errorMessage": "Bad", "errorCode": "E"}
    (status,) = await streamed(events(("result", json.dumps(failed))))
    assert (status.state, status.error) == (JobState.FAILED, Problem(message="Bad", code="E"))


async def test_a_bare_error_as_result_is_a_failed_job_too() -> None:
    (status,) = await streamed(events(("result", '{"code":413,"message":"Request Entity Too Large"}')))
    assert status.state is JobState.FAILED
    assert status.error == Problem(message="Request Entity Too Large", code="413")
    assert not status.expired


async def test_the_services_own_time_limit_ends_the_job() -> None:
    (status,) = await streamed(events(PING, ("error", '{"code":"JobTimeout","message":"Out of time"}')))
    assert (status.state, status.raw_state, status.expired) == (JobState.FAILED, "JobTimeout", True)
    assert status.error == Problem(message="Out of time", code="JobTimeout")


@pytest.mark.parametrize("data", ['{"code":"InternalError","message":"Oh no"}', "Oh no", '"Oh no"'])
async def test_an_error_of_the_service_is_not_an_end_of_the_job(data: str) -> None:
    with pytest.raises(Unavailable, match="Oh no"):
        await streamed(events(("error", data)))


async def test_a_job_that_still_runs_is_told_and_listened_to() -> None:
    running = json.dumps({**JOB, "status": "running", "completedAt": None, "outputData": None})
    states = [status.state for status in await streamed(events(("result", running), DONE))]
    assert states == [JobState.PROCESSING, JobState.SUCCEEDED]


@pytest.mark.parametrize("told", [(), (PING,), (PING, ("news", "{}"), ("message", "{}"))])
async def test_a_stream_that_ends_without_a_result_is_unavailable(told: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(Unavailable, match="ended without a result"):
        await streamed(events(*told))


async def test_a_result_that_breaks_off_is_not_told() -> None:
    body = f"event: result\ndata: {json.dumps(JOB)}\n"
    with pytest.raises(Unavailable, match="ended without a result"):
        await streamed(httpx.Response(200, headers=STREAM_TYPE, text=body))


@pytest.mark.parametrize("data", ["", "{", "[]", "{}", json.dumps({**JOB, "id": "j-9"}), '{"status":1}'])
async def test_a_result_event_that_is_not_this_jobs_is_refused(data: str) -> None:
    with pytest.raises(Unreadable):
        await streamed(events(("result", data)))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
async def test_lines_may_end_in_any_way_and_pieces_may_break_anywhere(end: str) -> None:
    job = json.dumps({**JOB, "ownerUser": "Zo\u00eb\u2028"}, ensure_ascii=False)
    body = end.join(["\ufeff: hello", "event: ping", "data:", "", "event: result", f"data: {job}", "", ""])
    octets = body.encode()
    pieces = [octets[at : at + 1] for at in range(len(octets))]
    (status,) = await streamed(httpx.Response(200, headers=STREAM_TYPE, stream=Pieces(*pieces)))
    assert status.state is JobState.SUCCEEDED


@pytest.mark.parametrize("kind", ["text/event-stream; charset=utf-7", "Text/Event-Stream"])
async def test_the_streams_type_may_be_written_in_any_way(kind: str) -> None:
    reply = httpx.Response(200, headers={"content-type": kind}, content=events(DONE).content)
    assert len(await streamed(reply)) == 1


@pytest.mark.parametrize("kind", ["text/html", "application/json", None])
async def test_what_is_no_stream_is_refused(kind: str | None) -> None:
    headers = {"content-type": kind} if kind else {}
    with pytest.raises(Unreadable, match="no stream of events"):
        await streamed(httpx.Response(200, headers=headers, content=b"{}"))


@pytest.mark.parametrize("line", [b"data: " + b"x" * 50, b"data: x\n", b": comment\n"])
async def test_an_event_without_an_end_is_broken_off(line: bytes) -> None:
    endless = httpx.Response(200, headers=STREAM_TYPE, stream=Pieces(*[line] * 500))
    with pytest.raises(Unreadable, match="larger than 1,000 bytes"):
        await streamed(endless, answer_bytes=1000)


async def test_many_small_events_are_not_one_large_event() -> None:
    pings = [b"event: ping\ndata:\n\n"] * 500
    reply = httpx.Response(200, headers=STREAM_TYPE, stream=Pieces(*pings, events(DONE).content))
    assert len(await streamed(reply, answer_bytes=1000)) == 1


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, {"code": "NotFound", "message": "No job"}, NotFound),
        (403, {"code": "Forbidden", "message": "The billing quota is exceeded"}, QuotaExceeded),
        (503, {}, Unavailable),
    ],
)
async def test_a_refused_stream_is_typed(status: int, body: dict[str, str], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        await streamed(httpx.Response(status, json=body))


async def test_another_services_ref_is_refused() -> None:
    async with http_to(Service()) as http:
        with pytest.raises(RefMismatch):
            await anext(aiter(JOBS.stream(http, job_ref(provider="mindee"))))


# ------------------------------------------------------------------------- the stream as a source of reasons


async def failed_status(stream: httpx.Response) -> JobStatus:
    failed = httpx.Response(200, json={**STATUS, "status": "failed"})
    service = Service({"GET /api/jobs/j-123/status": failed, STREAM: stream})
    async with http_to(service) as http:
        status = await JOBS.status(http, job_ref())
    assert service.asked == ["GET /api/jobs/j-123/status", "GET /api/jobs/j-123", STREAM]
    return status


async def test_a_reason_is_read_from_the_stream_where_the_jobs_own_route_is_gone() -> None:
    failed = {**JOB, "status": "failed", "outputData": None, "errorMessage": "Bad", "errorCode": "E"}
    status = await failed_status(events(("result", json.dumps(failed))))
    assert status.error == Problem(message="Bad", code="E")


async def test_a_time_limit_is_read_from_the_stream_too() -> None:
    assert (await failed_status(events(("error", '{"code":"JobTimeout","message":"m"}')))).expired


@pytest.mark.parametrize("told", [(), (PING, DONE), (DONE,), (("error", "{}"),), (("result", "{"),)])
async def test_a_stream_without_a_reason_changes_nothing(told: tuple[tuple[str, str], ...]) -> None:
    status = await failed_status(events(*told))
    assert (status.state, status.error, status.expired) == (JobState.FAILED, None, False)


# ------------------------------------------------------------------------------------------------- lists


async def listed(
    reply: httpx.Response, job: NuMind = JOBS, *, skip: int = 0, limit: int = 100
) -> tuple[JobPage, dict[str, str]]:
    service = Service({"GET /api/jobs": reply})
    async with http_to(service) as http:
        found = await job.list_jobs(http, skip=skip, limit=limit)
    return found, dict(service.requests[0].url.params)


def page_of(*rows: Any) -> httpx.Response:
    return httpx.Response(200, json={"totalCount": 40, "skip": 0, "perPage": 30, "items": list(rows)})


async def test_one_request_tells_many_jobs() -> None:
    failed = {**JOB, "id": "j-2", "status": "failed", "errorMessage": "Bad", "createdAt": "2026-02-03T11:00"}
    page, params = await listed(page_of(JOB, failed))
    assert page.rows == {
        "j-123": JobRow(
            JobState.SUCCEEDED,
            "completed",
            took=10.0,
            created_at=datetime(2026, 2, 3, 10, 14, 59, tzinfo=timezone.utc),
        ),
        "j-2": JobRow(
            JobState.FAILED,
            "failed",
            Problem(message="Bad"),
            created_at=datetime(2026, 2, 3, 11, tzinfo=timezone.utc),
        ),
    }
    assert page.total == 40
    assert params == {"skip": "0", "perPage": "100"}


@pytest.mark.parametrize(("limit", "sent"), [(1, "1"), (100, "100"), (101, "100"), (0, "1")])
async def test_a_page_is_never_larger_than_documented(limit: int, sent: str) -> None:
    _, params = await listed(page_of(), limit=limit, skip=60)
    assert params == {"skip": "60", "perPage": sent}


async def test_an_organizations_jobs_are_asked_for_by_name() -> None:
    _, params = await listed(page_of(), NuMind(product="content", organization="o-1"))
    assert params["organization"] == "o-1"


@pytest.mark.parametrize("odd", [None, 7, "x", [], {}, {"id": "a"}, {"id": 1, "status": "x"}, {"id": " "}])
async def test_a_row_that_is_no_job_does_not_hide_the_others(odd: object) -> None:
    page, _ = await listed(page_of(odd, JOB))
    assert list(page.rows) == ["j-123"]


@pytest.mark.parametrize(
    "date", [None, "yesterday", "", 7, {}, "99999-01-01T00:00:00Z", "0001-01-01T00:00+23:00"]
)
async def test_a_row_with_an_odd_date_is_kept_without_it(date: object) -> None:
    page, _ = await listed(page_of({**JOB, "createdAt": date}))
    assert page.rows["j-123"].created_at is None


@pytest.mark.parametrize("body", [[], {}, {"items": None}, {"items": {"a": 1}}, "x"])
async def test_what_is_no_page_is_refused(body: object) -> None:
    with pytest.raises(Unreadable):
        await listed(httpx.Response(200, json=body))


async def test_a_bad_page_is_refused_in_the_services_own_words() -> None:
    text = "Invalid value for: query parameter skip"
    with pytest.raises(Rejected, match=text):
        await listed(httpx.Response(400, headers={"content-type": "text/plain"}, text=text))
