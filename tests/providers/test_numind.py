"""NuExtract: settings, submits, states and errors, against literals of its documents and SDKs."""

from __future__ import annotations

import json
from email.message import Message
from typing import Any

import httpx
import pytest
from support.numind_service import JOB, KEY, RESULT, STATUS, Service, answer, http_to, job_ref, parts_of

from prefect_docjobs.errors import (
    ConfigurationError,
    InvalidDocument,
    NotFound,
    QuotaExceeded,
    RefMismatch,
    Rejected,
    SubmitUncertain,
    Throttled,
    Unauthorized,
    Unavailable,
    Unreadable,
    Unsupported,
)
from prefect_docjobs.models import Document, JobState, JobStatus, Problem
from prefect_docjobs.providers import provider_class
from prefect_docjobs.providers.numind import NuMind

PDF = Document.from_bytes(b"%PDF-1.4 acme", name="acme.pdf")
TEXT = Document.from_bytes("\ufeffTotal: 118,50 €".encode(), name="acme.txt")
ACCEPTED = httpx.Response(200, json={"jobId": "j-123"})
TEMPLATE = {"total": "number", "supplier": {"name": "verbatim-string"}, "tags": ["string"]}
BY_TEMPLATE = "POST /api/structured-extraction/jobs"
TO_PROJECT = "POST /api/structured-extraction/p-1/jobs"
CONTENT = "POST /api/content-extraction/jobs"
EVERYTHING: dict[str, Any] = {
    "temperature": 0.2,
    "dpi": 200,
    "image_width": "original",
    "max_output_tokens": 2048,
    "max_example_token_number": 12000,
    "max_example_number": 3,
    "min_example_similarity": 0,
    "enable_thinking": False,
    "thinking_token_budget": "8000",
    "loop_detection": True,
    "random_seed": 99,
    "timeout": "10m",
}


async def submitted(job: NuMind, route: str, document: Document = PDF) -> httpx.Request:
    service = Service({route: ACCEPTED})
    async with http_to(service) as http:
        ref = await job.submit(http, document)
    assert ref.job_id == "j-123"
    assert ref.product == job.product
    assert service.asked == [route]
    return service.requests[0]


def json_of(part: Message) -> Any:
    return json.loads(str(part.get_payload()))


# ---------------------------------------------------------------------------------------------- registry


def test_the_registry_knows_it_and_what_it_can_do() -> None:
    assert provider_class("numind") is NuMind
    able = NuMind.capabilities
    assert (able.list_jobs, able.stream, able.cancel, able.push, able.url_input) == (True,) * 3 + (False,) * 2
    assert NuMind.products == ("extraction", "content")
    assert (NuMind.env_key, NuMind.default_base_url) == ("NUMIND_API_KEY", "https://nuextract.ai")


# ----------------------------------------------------------------------------------------------- submits


async def test_a_template_goes_out_as_the_sdk_sends_it() -> None:
    request = await submitted(NuMind(template=TEMPLATE), BY_TEMPLATE)
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert not request.url.query
    manifest, document = parts_of(request)
    assert manifest["content-disposition"] == 'form-data; name="request"'
    assert manifest["content-type"] is None
    assert json_of(manifest) == {"schema": TEMPLATE, "instructions": "", "settings": {}}
    assert document["content-disposition"] == 'form-data; name="document"; filename="document"'
    assert document["content-type"] == "application/octet-stream"
    assert document.get_payload(decode=True) == b"%PDF-1.4 acme"


async def test_a_templates_settings_are_in_the_manifest_and_only_its_timeout_in_the_query() -> None:
    job = NuMind(template=TEMPLATE, instructions="EUR only.", **EVERYTHING, options={"degradedMode": "off"})
    request = await submitted(job, BY_TEMPLATE)
    manifest = json_of(parts_of(request)[0])
    assert dict(request.url.params) == {"timeout": "10m"}
    assert manifest["instructions"] == "EUR only."
    assert manifest["settings"] == {
        "temperature": 0.2,
        "rasterizationDPI": 200,
        "imageWidth": "original",
        "maxOutputTokens": "2048",
        "maxExampleTokenNumber": 12000,
        "maxExampleNumber": "3",
        "minExampleSimilarity": 0,
        "enableThinking": False,
        "thinkingTokenBudget": "8000",
        "loopDetection": True,
        "randomSeed": "99",
        "degradedMode": "off",
    }


async def test_examples_are_attached_in_the_order_of_their_results() -> None:
    examples = [
        (Document.from_bytes(text.encode(), name=f"{text}.txt"), {"total": total})
        for text, total in (("one", 1), ("two", 2))
    ]
    request = await submitted(NuMind(template={"total": "number"}, examples=examples), BY_TEMPLATE)
    manifest, _, *files = parts_of(request)
    assert json_of(manifest)["examples"] == [
        {"result": {"total": 1}},
        {"result": {"total": 2}},
    ]
    assert [part["content-disposition"] for part in files] == [
        'form-data; name="exampleFiles"; filename="one.txt"',
        'form-data; name="exampleFiles"; filename="two.txt"',
    ]
    assert [part.get_payload(decode=True) for part in files] == [b"one", b"two"]


async def test_a_text_document_is_sent_as_it_is_with_a_template() -> None:
    request = await submitted(NuMind(template=TEMPLATE), BY_TEMPLATE, TEXT)
    assert parts_of(request)[1].get_payload(decode=True) == TEXT.data


async def test_a_project_takes_the_file_as_octets_and_all_settings_in_the_query() -> None:
    request = await submitted(NuMind(project_id="p-1", **EVERYTHING, options={"new": 1}), TO_PROJECT)
    assert request.content == b"%PDF-1.4 acme"
    assert request.headers["content-type"] == "application/octet-stream"
    assert request.headers["content-length"] == "13"
    assert dict(request.url.params) == {
        "dpi": "200",
        "temperature": "0.2",
        "imageWidth": "original",
        "maxOutputTokens": "2048",
        "maxExampleTokenNumber": "12000",
        "maxExampleNumber": "3",
        "minExampleSimilarity": "0",
        "enableThinking": "false",
        "thinkingTokenBudget": "8000",
        "loopDetection": "true",
        "randomSeed": "99",
        "timeout": "10m",
        "new": "1",
    }


async def test_a_project_takes_the_file_as_multipart_when_told() -> None:
    request = await submitted(NuMind(project_id="p-1", upload="multipart"), TO_PROJECT)
    (part,) = parts_of(request)
    assert part["content-disposition"] == 'form-data; name="file"; filename="acme.pdf"'
    assert part["content-type"] == "application/pdf"
    assert part.get_payload(decode=True) == b"%PDF-1.4 acme"


async def test_a_project_takes_text_as_json_without_a_resolution() -> None:
    job = NuMind(project_id="p-1", dpi=200, temperature=1)
    request = await submitted(job, f"{TO_PROJECT}/text", TEXT)
    assert json.loads(request.content) == {"text": "Total: 118,50 €"}
    assert dict(request.url.params) == {"temperature": "1"}


async def test_text_that_is_not_utf8_is_refused_before_it_is_sent() -> None:
    service = Service()
    latin = Document.from_bytes("é".encode("latin-1"), name="acme.txt")
    async with http_to(service) as http:
        with pytest.raises(InvalidDocument, match=r"acme\.txt: The text is not UTF-8"):
            await NuMind(project_id="p-1").submit(http, latin)
    assert service.asked == []


async def test_content_takes_the_file_a_project_and_settings() -> None:
    job = NuMind(product="content", project_id="c/1", dpi="automatic", timeout="1h")
    request = await submitted(job, CONTENT)
    (part,) = parts_of(request)
    assert part["content-disposition"] == 'form-data; name="file"; filename="acme.pdf"'
    expected = {"projectId": "c/1", "rasterizationDPI": "automatic", "timeout": "1h"}
    assert dict(request.url.params) == expected


async def test_content_needs_no_settings_at_all() -> None:
    assert not (await submitted(NuMind(product="content"), CONTENT)).url.query


async def test_a_project_id_stays_one_segment_of_the_path() -> None:
    service = Service()
    async with http_to(service) as http:
        with pytest.raises(NotFound):
            await NuMind(project_id="p/../x").submit(http, PDF)
    assert service.requests[0].url.raw_path == b"/api/structured-extraction/p%2F..%2Fx/jobs"


async def test_a_url_is_refused() -> None:
    async with http_to(Service()) as http:
        with pytest.raises(Unsupported, match="takes no URLs"):
            await NuMind(template=TEMPLATE).submit(http, Document.from_url("https://example.com/a.pdf"))


@pytest.mark.parametrize(
    "body", ["{}", '{"jobId": ""}', '{"jobId": 7}', '{"jobId": ".."}', "[]", '"j-1"', "<html>", ""]
)
async def test_a_submit_whose_answer_names_no_job_is_uncertain(body: str) -> None:
    service = Service({BY_TEMPLATE: httpx.Response(200, text=body)})
    async with http_to(service) as http:
        with pytest.raises(SubmitUncertain):
            await NuMind(template=TEMPLATE).submit(http, PDF)
    assert len(service.asked) == 1


# ---------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, "template, project_id"),
        ({"template": TEMPLATE, "project_id": "p"}, "template, project_id"),
        ({"template": {}}, "template:"),
        ({"template": "total"}, "template:"),
        ({"template": {"a": {1, 2}}}, "plain JSON"),
        ({"template": {"a": float("nan")}}, "plain JSON"),
        ({"template": TEMPLATE, "options": "x"}, "options"),
        ({"template": TEMPLATE, "product": "ocr"}, "product:"),
        ({"template": TEMPLATE, "timeout": "ten minutes"}, "timeout:"),
        ({"template": TEMPLATE, "timeout": 600}, "timeout:"),
        ({"template": TEMPLATE, "upload": "ftp"}, "upload:"),
        ({"template": TEMPLATE, "examples": [("a", {})]}, "examples:"),
        ({"template": TEMPLATE, "examples": [(PDF, "a")]}, "examples:"),
        ({"template": TEMPLATE, "examples": [(Document.from_url("https://e.com/a"), {})]}, "examples:"),
        ({"project_id": ""}, "project_id:"),
        ({"project_id": ".."}, "project_id:"),
        ({"project_id": "p", "instructions": "x"}, "instructions:"),
        ({"project_id": "p", "examples": [(PDF, {})]}, "examples:"),
        ({"product": "content", "template": TEMPLATE}, "template:"),
        ({"product": "content", "instructions": "x"}, "instructions:"),
        ({"product": "content", "max_example_number": 0}, "max_example_number:"),
    ],
)
def test_settings_that_do_not_go_together_are_named(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        NuMind(**settings)


def test_settings_that_a_form_left_empty_are_no_settings() -> None:
    NuMind(product="content", instructions="", examples=[])
    NuMind(project_id="p", instructions="", examples=[])


# ------------------------------------------------------------------------------------------------ states


def seen(changes: dict[str, Any], *, without: str = "") -> JobStatus:
    body = {key: value for key, value in {**STATUS, **changes}.items() if key != without}
    told = answer(json.dumps(body).encode())
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


@pytest.mark.parametrize("message", ["Billing quota exceeded", "Your QUOTA is used up", "See billing"])
def test_403_is_the_quota_where_it_says_so(message: str) -> None:
    error = NuMind.read_error(answer(json.dumps({"code": "Forbidden", "message": message}).encode(), 403))
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
    error = NuMind.read_error(answer(json.dumps({"message": "x" * 10_000}).encode(), 400))
    assert len(str(error)) < 600


# ------------------------------------------------------------------------------------------------- verbs

STATUS_ROUTE = "GET /api/jobs/j-123/status"
JOB_ROUTE = "GET /api/jobs/j-123"
RESULT_ROUTE = "GET /api/structured-extraction/jobs/j-123"


async def looked(service: Service, **job: Any) -> JobStatus:
    async with http_to(service) as http:
        return await NuMind(**(job or {"template": TEMPLATE})).status(http, job_ref(), attempts=1)


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
        with pytest.raises(Unreadable, match="id cannot be part of a path"):
            await NuMind(template=TEMPLATE).status(http, job_ref(job_id=".."))
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


async def test_a_result_that_is_not_ready_is_asked_for_again() -> None:
    early = httpx.Response(400, json={"code": "JobNotCompleted", "message": "Job is not completed"})
    replies = [early, httpx.Response(206, json=RESULT)]
    service = Service({RESULT_ROUTE: lambda request: replies.pop(0)})
    async with http_to(service) as http:
        fetched = await NuMind(template=TEMPLATE).fetch(http, job_ref())
    assert (fetched.status, fetched.attempts) == (206, 2)
    assert service.asked == [RESULT_ROUTE] * 2


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
