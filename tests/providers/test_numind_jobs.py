"""NuExtract: states, errors and verbs, against literals of its documents and SDKs."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.numind_service import JOB, KEY, RESULT, STATUS, Service, http_to, job_ref
from support.wire import answer

from prefect_docjobs.errors import (
    DocJobsError,
    NotFound,
    QuotaExceeded,
    RefMismatch,
    Rejected,
    Throttled,
    Unauthorized,
    Unavailable,
    Unfinished,
    Unreadable,
)
from prefect_docjobs.models import Document, JobState, JobStatus, Problem
from prefect_docjobs.providers.numind import NuMind
from prefect_docjobs.testing.hostile import EXAMPLES, json_values

PDF = Document.from_bytes(b"%PDF-1.4 acme", name="acme.pdf")
TEMPLATE = {"total": "number"}
BY_TEMPLATE = "POST /api/structured-extraction/jobs"


# ------------------------------------------------------------------------------------------------ states


def seen(changes: dict[str, Any], *, without: str = "") -> JobStatus:
    body = {key: value for key, value in {**STATUS, **changes}.items() if key != without}
    told = answer(body)
    with NuMind.reading(told):
        return NuMind(template=TEMPLATE).read_status(job_ref(), told)


@pytest.mark.parametrize(
    ("word", "ended", "running"),
    [
        ("completed", JobState.SUCCEEDED, JobState.UNKNOWN),
        ("Completed", JobState.SUCCEEDED, JobState.UNKNOWN),
        ("failed", JobState.FAILED, JobState.UNKNOWN),
        ("running", JobState.FAILED, JobState.PROCESSING),
        ("timeout", JobState.FAILED, JobState.UNKNOWN),
        ("cancelled", JobState.CANCELLED, JobState.UNKNOWN),
        ("canceled", JobState.CANCELLED, JobState.UNKNOWN),
        ("UserCancelled", JobState.CANCELLED, JobState.UNKNOWN),
        ("anything else", JobState.FAILED, JobState.UNKNOWN),
    ],
)
def test_completed_at_decides_whether_a_word_ends_the_job(
    word: str, ended: JobState, running: JobState
) -> None:
    status = seen({"status": word})
    assert (status.state, status.raw_state) == (ended, word)
    assert seen({"status": word, "completedAt": None}).state is running
    assert seen({"status": word}, without="completedAt").state is running


@pytest.mark.parametrize("word", ["timeout", "TimedOut", "timed out", "TIMED_OUT", "JobTimeout"])
def test_a_job_that_ran_out_of_time_is_expired(word: str) -> None:
    assert seen({"status": word}).expired
    assert not seen({"status": word, "completedAt": None}).expired


def test_a_failed_job_tells_its_error_where_the_answer_has_it() -> None:
    told = seen({"status": "failed", "errorMessage": "Unreadable file", "errorCode": "BadFile"})
    assert told.error == Problem(message="Unreadable file", code="BadFile")
    assert not told.expired
    assert seen({"status": "failed", "errorCode": "JobTimeout"}).expired
    assert seen({"status": "failed", "errorMessage": 7, "errorCode": 413}).error == Problem(
        message="7", code="413"
    )
    assert seen({"status": "failed"}).error is None
    assert seen({"errorMessage": "a leftover"}).error is None


def test_the_status_of_another_job_is_refused() -> None:
    with pytest.raises(Unreadable, match="another job"):
        seen({"id": "j-124"})


@pytest.mark.parametrize("without", ["id", "status"])
def test_a_status_without_what_it_must_say_is_refused(without: str) -> None:
    with pytest.raises(Unreadable):
        seen({}, without=without)


# ------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Rejected),
        (401, Unauthorized),
        (404, NotFound),
        (413, Rejected),
        (429, Throttled),
        (500, Unavailable),
        (502, Unavailable),
        (503, Unavailable),
    ],
)
def test_an_error_is_typed_and_says_what_the_service_says(status: int, kind: type[Exception]) -> None:
    error = NuMind.read_error(answer(b'{"code": "BadSchema", "message": "No such type."}', status))
    assert type(error) is kind
    assert (error.status, error.code, error.provider) == (status, "BadSchema", "numind")
    assert "No such type." in str(error)


def test_a_code_may_be_a_number() -> None:
    error = NuMind.read_error(answer(b'{"code":413,"message":"Request Entity Too Large"}', 413))
    assert error.code == "413"


def test_what_else_an_error_says_is_kept() -> None:
    body = b'{"code": "C", "message": "M", "errors": [{"path": "a"}]}'
    assert NuMind.read_error(answer(body, 400)).details == {"errors": [{"path": "a"}]}


def test_a_plain_text_error_is_its_own_message() -> None:
    body = b"Invalid value for: query parameter skip"
    error = NuMind.read_error(answer(body, 400, content_type="text/plain; charset=UTF-8"))
    assert type(error) is Rejected
    assert str(error).startswith("Invalid value for: query parameter skip")


def test_an_html_page_is_not_quoted() -> None:
    error = NuMind.read_error(answer(b"<html>Bad gateway</html>", 502, content_type="text/html"))
    assert "HTTP 502" in str(error)
    assert "<html>" not in str(error)


def test_an_answer_without_a_message_is_told_by_its_status() -> None:
    assert "HTTP 502 and gave no reason" in str(NuMind.read_error(answer({"code": "C"}, 502)))


@pytest.mark.parametrize("message", ["Billing quota exceeded", "Your QUOTA is used up", "See billing"])
def test_403_is_the_quota_where_it_says_so(message: str) -> None:
    error = NuMind.read_error(answer({"code": "Forbidden", "message": message}, 403))
    assert type(error) is QuotaExceeded
    assert message in str(error)
    assert error.status == 403


def test_403_is_the_quota_where_its_code_says_so() -> None:
    assert type(NuMind.read_error(answer(b'{"code":"BillingQuotaExceeded"}', 403))) is QuotaExceeded


@pytest.mark.parametrize("body", [b"", b"{}", b'{"code":"Forbidden","message":"Not yours"}', b"<html>"])
def test_any_other_403_names_both_meanings(body: bytes) -> None:
    error = NuMind.read_error(answer(body, 403))
    assert type(error) is Unauthorized
    assert "no permission for this, or the billing quota is exceeded" in str(error)
    assert ("Not yours" in str(error)) == (b"Not yours" in body)


def test_a_retry_after_is_kept() -> None:
    assert NuMind.read_error(answer(b"", 429, retry_after="7")).retry_after == 7


def test_a_long_message_is_cut() -> None:
    error = NuMind.read_error(answer({"message": "x" * 10_000}, 400))
    assert len(str(error)) < 600


# ------------------------------------------------------------------------------------------------- verbs

STATUS_ROUTE = "GET /api/jobs/j-123/status"
JOB_ROUTE = "GET /api/jobs/j-123"
RESULT_ROUTE = "GET /api/structured-extraction/jobs/j-123"


async def looked(service: Service, **job: Any) -> JobStatus:
    async with http_to(service) as http:
        return await NuMind(**(job or {"template": TEMPLATE})).status(http, job_ref(), once=True)


@pytest.mark.parametrize("changes", [{}, {"status": "running", "completedAt": None}, {"status": "cancelled"}])
async def test_a_look_costs_one_request(changes: dict[str, Any]) -> None:
    service = Service({STATUS_ROUTE: httpx.Response(200, json={**STATUS, **changes})})
    await looked(service)
    assert service.asked == [STATUS_ROUTE]


async def test_a_failed_jobs_reason_is_read_from_the_job() -> None:
    failed = {**STATUS, "status": "failed"}
    told = {**JOB, "status": "failed", "outputData": None, "errorMessage": "Bad file", "errorCode": "E1"}
    service = Service(
        {STATUS_ROUTE: httpx.Response(200, json=failed), JOB_ROUTE: httpx.Response(200, json=told)}
    )
    status = await looked(service)
    assert status.error == Problem(message="Bad file", code="E1")
    assert status.raw_state == "failed"
    assert service.asked == [STATUS_ROUTE, JOB_ROUTE]


@pytest.mark.parametrize("status", [403, 404, 429, 500, 503])
async def test_a_reason_that_cannot_be_had_does_not_change_the_observation(status: int) -> None:
    failed = httpx.Response(200, json={**STATUS, "status": "failed"})
    service = Service({STATUS_ROUTE: failed, JOB_ROUTE: httpx.Response(status)})
    seen = await looked(service)
    assert (seen.state, seen.error) == (JobState.FAILED, None)


async def test_a_service_without_the_status_route_is_asked_for_the_job() -> None:
    service = Service({JOB_ROUTE: httpx.Response(200, json=JOB)})
    assert (await looked(service)).state is JobState.SUCCEEDED
    assert service.asked == [STATUS_ROUTE, JOB_ROUTE]


@pytest.mark.parametrize(
    "reply", [httpx.Response(404), httpx.Response(405), httpx.Response(200, text="<html>app</html>")]
)
async def test_a_job_that_neither_route_knows_is_not_found(reply: httpx.Response) -> None:
    with pytest.raises(NotFound, match="no such thing"):
        await looked(Service({JOB_ROUTE: reply}))


async def test_a_job_is_not_called_lost_while_the_other_route_is_out_of_order() -> None:
    with pytest.raises(Unavailable):
        await looked(Service({JOB_ROUTE: httpx.Response(503)}))


async def test_a_job_id_stays_one_segment_of_the_path() -> None:
    service = Service()
    async with http_to(service) as http:
        with pytest.raises(NotFound):
            await NuMind(template=TEMPLATE).cancel(http, job_ref(job_id="a/../b?c"))
        for verb in ("status", "fetch", "cancel"):
            with pytest.raises(Unreadable, match="id cannot be part of a path"):
                await getattr(NuMind(template=TEMPLATE), verb)(http, job_ref(job_id=".."))
        with pytest.raises(Unreadable, match="id cannot be part of a path"):
            await anext(aiter(NuMind(template=TEMPLATE).stream(http, job_ref(job_id=".."))))
    assert [request.url.raw_path for request in service.requests] == [b"/api/jobs/a%2F..%2Fb%3Fc/cancel"]


async def test_cancel_may_be_repeated() -> None:
    replies = [httpx.Response(503), httpx.Response(200)]
    service = Service({"POST /api/jobs/j-123/cancel": lambda request: replies.pop(0)})
    async with http_to(service) as http:
        await NuMind(template=TEMPLATE).cancel(http, job_ref())
    assert service.asked == ["POST /api/jobs/j-123/cancel"] * 2
    assert service.requests[0].content == b""


async def test_another_products_ref_is_refused() -> None:
    service = Service()
    async with http_to(service) as http:
        for verb in ("status", "fetch", "cancel"):
            with pytest.raises(RefMismatch):
                await getattr(NuMind(product="content"), verb)(http, job_ref())
    assert service.asked == []


async def test_a_result_that_is_not_ready_is_told_from_one_that_is_lost() -> None:
    early = httpx.Response(400, json={"code": "JobNotCompleted", "message": "Job is not completed"})
    service = Service({RESULT_ROUTE: early})
    async with http_to(service) as http:
        with pytest.raises(Unfinished):
            await NuMind(template=TEMPLATE).fetch(http, job_ref())
    assert service.asked == [RESULT_ROUTE]


async def test_each_product_has_its_own_result_route() -> None:
    route = "GET /api/content-extraction/jobs/j-123"
    service = Service({route: httpx.Response(200, json={**RESULT, "result": "# Acme"})})
    async with http_to(service) as http:
        await NuMind(product="content").fetch(http, job_ref(product="content"))
    assert service.asked == [route]


async def test_a_result_is_fetched_byte_for_byte_even_where_it_holds_the_key() -> None:
    body = json.dumps({**RESULT, "result": {"total": KEY}}).encode()
    for routes in (
        {RESULT_ROUTE: httpx.Response(200, content=body)},
        {JOB_ROUTE: httpx.Response(200, json={**JOB, "outputData": body.decode()})},
    ):
        async with http_to(Service(routes)) as http:
            job = NuMind(template=TEMPLATE)
            result = job.read_result(job_ref(), await job.fetch(http, job_ref()))
        assert result.fields["total"].value == KEY


async def test_errors_do_not_quote_the_key() -> None:
    echo = httpx.Response(400, json={"code": "C", "message": f"Bearer {KEY}?"})
    async with http_to(Service({BY_TEMPLATE: echo})) as http:
        with pytest.raises(Rejected) as caught:
            await NuMind(template=TEMPLATE).submit(http, PDF)
    assert KEY not in str(caught.value)
    assert KEY not in repr(NuMind(template=TEMPLATE))


@EXAMPLES
@given(st.dictionaries(st.sampled_from(sorted(STATUS)), json_values(), max_size=4))
def test_only_this_jobs_own_completed_is_success(changes: dict[str, Any]) -> None:
    job = {**STATUS, **changes}
    with suppress(DocJobsError), NuMind.reading(answer(job)):
        status = NuMind(template={"total": "number"}).read_status(job_ref(), answer(job))
        assert job["id"] == job_ref().job_id
        assert (status.state is JobState.SUCCEEDED) == (
            job["status"].strip().lower() == "completed" and bool(job["completedAt"])
        )
