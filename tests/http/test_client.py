"""The one place that talks HTTP: what is repeated, what is refused, what is never said."""

from __future__ import annotations

import gzip
import os
import pickle
import ssl
import traceback
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request as Received
from starlette.responses import JSONResponse
from starlette.routing import Route
from support.virtual_time import virtual_time

from prefect_docjobs.errors import (
    ConfigurationError,
    DocJobsError,
    ForeignOrigin,
    InvalidDocument,
    NotFound,
    Rejected,
    ServiceError,
    SubmitUncertain,
    Throttled,
    Unauthorized,
    Unavailable,
    Unreadable,
)
from prefect_docjobs.http import (
    Http,
    InsecureTransport,
    Limits,
    Part,
    Request,
    normalize_base_url,
    parse_retry_after,
    shared_ssl_context,
)
from prefect_docjobs.models import Document

KEY = "very-secret-key-123"
SUBMIT = Request("POST", "/submit", json={"a": 1})
GET = Request("GET", "/job")

Handler = Callable[[httpx.Request], httpx.Response]


def client(handler: Handler | httpx.ASGITransport, **options: Any) -> Http:
    answering = handler if isinstance(handler, httpx.ASGITransport) else httpx.MockTransport(handler)
    return Http(
        provider="test",
        base_url="https://service.test",
        headers={"Authorization": KEY},
        secrets=[KEY],
        transport=answering,
        **options,
    )


class Service:
    """Answers a list of answers, one per request; the last one for ever. An exception is raised."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.times: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.times.append(anyio.current_time())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


OK = httpx.Response(200, json={"ok": True})


# Rule 1: a GET repeats; a submit repeats only when it surely was not accepted.


NOT_ACCEPTED = [
    httpx.Response(429),
    httpx.Response(429, headers={"Retry-After": "3"}),
    httpx.Response(503, headers={"Retry-After": "3"}),
    httpx.ConnectError("refused"),
    httpx.ConnectTimeout("slow"),
    httpx.PoolTimeout("full"),
    httpx.ProxyError("407 Proxy Authentication Required"),
]
UNKNOWN_END = [
    httpx.Response(500),
    httpx.Response(503),
    httpx.Response(503, text="<html>no upstream</html>"),
    httpx.Response(502, text="<html>bad gateway</html>"),
    httpx.Response(504),
    httpx.Response(408),
    httpx.Response(499),
    httpx.Response(302, headers={"Location": "/elsewhere"}),
    httpx.Response(303, headers={"Location": "https://service.test/jobs/1"}),
    httpx.ReadError("reset"),
    httpx.ReadTimeout("slow"),
    httpx.WriteError("broken pipe"),
    httpx.WriteTimeout("slow"),
    httpx.CloseError("close"),
    httpx.RemoteProtocolError("peer closed"),
    httpx.LocalProtocolError("too little data"),
    httpx.DecodingError("bad gzip"),
    ssl.SSLError(1, "decryption failed or bad record mac"),
    ConnectionResetError(104, "reset"),
]
REFUSED = [400, 401, 402, 403, 404, 405, 409, 413, 415, 422, 425]


@pytest.mark.parametrize("failure", NOT_ACCEPTED, ids=repr)
@virtual_time
async def test_a_submit_is_repeated_when_it_was_surely_not_accepted(failure: Any) -> None:
    service = Service(failure, OK)
    async with client(service) as http:
        answer = await http.submit(SUBMIT)

    assert (answer.json(), answer.attempts, len(service.requests)) == ({"ok": True}, 2, 2)


@pytest.mark.parametrize("failure", UNKNOWN_END, ids=repr)
@virtual_time
async def test_a_submit_whose_end_is_unknown_is_never_repeated(failure: Any) -> None:
    service = Service(failure, OK)
    async with client(service) as http:
        with pytest.raises(SubmitUncertain):
            await http.submit(SUBMIT)

    assert len(service.requests) == 1


REDIRECTED = [
    (301, "https://www.service.test/submit?token=abc", "https://www.service.test/submit"),
    (307, "/v2/submit", "https://service.test/v2/submit"),
    (308, "https://user:pw@evil.test/%1B[31m a", "https://evil.test/%1B[31m%20a"),
    (302, "https://eu.service.test/submit", "https://eu.service.test/submit"),
    (303, "https://eu.service.test/submit#x", "https://eu.service.test/submit"),
    (301, None, "https://service.test/submit"),
]


@pytest.mark.parametrize(("status", "location", "named"), REDIRECTED)
@virtual_time
async def test_a_redirected_submit_is_refused_and_says_where_to(
    status: int, location: str | None, named: str
) -> None:
    service = Service(httpx.Response(status, headers={"Location": location} if location else {}), OK)
    marks: list[bool] = []
    async with client(service) as http:
        with pytest.raises(Rejected) as caught:
            await http.submit(SUBMIT, in_doubt=marks.append)

    assert len(service.requests) == 1
    assert f"redirected to {named}. " in str(caught.value)
    assert ("as base_url" in str(caught.value)) is not named.startswith("https://service.test/")
    assert not any(secret in str(caught.value) for secret in ("token", "pw"))
    assert marks == [True, False]


@pytest.mark.parametrize("status", REFUSED)
@virtual_time
async def test_a_refused_submit_is_not_repeated_and_not_uncertain(status: int) -> None:
    service = Service(httpx.Response(status), OK)
    async with client(service) as http:
        with pytest.raises(ServiceError) as caught:
            await http.submit(SUBMIT)

    assert not isinstance(caught.value, SubmitUncertain)
    assert (len(service.requests), caught.value.status) == (1, status)


@pytest.mark.parametrize("failure", [*NOT_ACCEPTED, *UNKNOWN_END], ids=repr)
@virtual_time
async def test_a_get_is_repeated_after_every_failure_that_may_pass(failure: Any) -> None:
    redirect = isinstance(failure, httpx.Response) and failure.is_redirect
    service = Service(failure, OK)
    async with client(service) as http:
        if redirect:
            with pytest.raises(Unreadable):
                await http.send(GET)
        else:
            assert (await http.send(GET)).attempts == 2

    assert len(service.requests) == (1 if redirect else 2)


@pytest.mark.parametrize("status", REFUSED)
@virtual_time
async def test_a_refused_get_is_not_repeated(status: int) -> None:
    service = Service(httpx.Response(status), OK)
    async with client(service) as http:
        with pytest.raises(ServiceError):
            await http.send(GET)
    assert len(service.requests) == 1


@virtual_time
async def test_attempts_end_and_a_poll_has_only_one() -> None:
    service = Service(httpx.Response(502))
    async with client(service, limits=Limits(attempts=3)) as http:
        with pytest.raises(Unavailable) as caught:
            await http.send(GET)
        assert (caught.value.attempts, len(service.requests)) == (3, 3)
        with pytest.raises(Unavailable):
            await http.send(GET, attempts=1)
        assert len(service.requests) == 4


@virtual_time
async def test_a_result_is_paid_for_and_fetched_in_more_attempts() -> None:
    down = [httpx.Response(502)] * (Limits().result_attempts - 1)
    assert len(down) > Limits().attempts
    async with client(Service(*down, OK)) as http:
        assert (await http.get("/result", verbatim=True)).attempts == Limits().result_attempts


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, Unauthorized),
        (403, Unauthorized),
        (404, NotFound),
        (422, Rejected),
        (429, Throttled),
        (500, Unavailable),
    ],
)
@virtual_time
async def test_errors_are_typed_by_remedy(status: int, kind: type[ServiceError]) -> None:
    answer = httpx.Response(status, headers={"X-Request-Id": "r-7"})
    async with client(Service(answer), limits=Limits(attempts=1)) as http:
        with pytest.raises(kind) as caught:
            await http.send(GET)
    error = caught.value
    assert (error.provider, error.status, error.request_id) == ("test", status, "r-7")


# Retry-After and throttling.


@pytest.mark.parametrize("as_date", [False, True])
@virtual_time
async def test_retry_after_is_obeyed_in_seconds_and_as_a_date(as_date: bool) -> None:
    date = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=8), usegmt=True)
    service = Service(httpx.Response(503, headers={"Retry-After": date if as_date else "7"}), OK)
    async with client(service) as http:
        await http.submit(SUBMIT)
    assert 6.0 <= service.times[1] - service.times[0] <= 9.0


@virtual_time
async def test_a_date_in_retry_after_is_held_against_the_services_own_clock() -> None:
    headers = {"Date": "Tue, 03 Feb 2026 10:15:00 GMT", "Retry-After": "Tue, 03 Feb 2026 10:15:07 GMT"}
    service = Service(httpx.Response(503, headers=headers), OK)
    async with client(service) as http:
        await http.submit(SUBMIT)
    assert 7.0 <= service.times[1] - service.times[0] <= 8.0


@virtual_time
async def test_a_service_that_demands_too_long_a_pause_gets_no_second_request() -> None:
    service = Service(httpx.Response(429, headers={"Retry-After": "3600"}), OK)
    async with client(service) as http:
        with pytest.raises(Throttled) as caught:
            await http.submit(SUBMIT)
    assert (len(service.requests), caught.value.retry_after) == (1, 3600.0)


@virtual_time
async def test_one_429_pauses_every_other_request() -> None:
    service = Service(httpx.Response(429, headers={"Retry-After": "5"}), OK)
    async with client(service) as http:
        with pytest.raises(Throttled):
            await http.send(GET, attempts=1)
        await http.send(GET)
    assert service.times[1] - service.times[0] >= 5.0


@virtual_time
async def test_being_throttled_for_minutes_does_not_fail_a_submit() -> None:
    service = Service(*[httpx.Response(429)] * 15, OK)
    async with client(service) as http:
        assert (await http.submit(SUBMIT)).attempts == 16
    assert service.times[-1] > 60


@virtual_time
async def test_being_throttled_has_an_end() -> None:
    async with client(Service(httpx.Response(429)), limits=Limits(throttled=100)) as http:
        with pytest.raises(Throttled):
            await http.submit(SUBMIT)
        assert anyio.current_time() < 250


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, None), ("5", 5.0), ("0.5", 0.5), ("-3", 0.0), ("soon", None), ("nan", None), ("inf", 86_400.0)],
)
def test_retry_after_values(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, now=datetime.now(timezone.utc)) == seconds


# Bounds.


@virtual_time
async def test_no_more_requests_are_in_flight_than_the_gate_allows() -> None:
    busy, most = 0, 0

    async def slow(request: httpx.Request) -> httpx.Response:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await anyio.sleep(1)
        busy -= 1
        return httpx.Response(200)

    http = client(slow, limits=Limits(in_flight=5))  # type: ignore[arg-type]
    async with http, anyio.create_task_group() as tasks:
        for _ in range(40):
            tasks.start_soon(http.send, GET)
    assert most == 5


@virtual_time
async def test_an_answer_over_the_size_limit_is_refused_also_when_it_is_packed() -> None:
    packed = httpx.Response(
        200, content=gzip.compress(b"x" * 5_000_000), headers={"Content-Encoding": "gzip"}
    )
    raw = gzip.compress(b"x" * 5_000_000)

    def bomb(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=_Chunks(raw))

    assert len(packed.content) == 5_000_000
    async with client(bomb, limits=Limits(answer_bytes=1_000_000)) as http:
        with pytest.raises(Unreadable, match="larger"):
            await http.send(GET)
        with pytest.raises(SubmitUncertain, match="larger"):
            await http.submit(SUBMIT)


class _Chunks(httpx.AsyncByteStream):
    def __init__(self, body: bytes) -> None:
        self.body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.body


@virtual_time
async def test_a_request_has_a_time_limit_as_a_whole() -> None:
    async def hang(request: httpx.Request) -> httpx.Response:
        await anyio.sleep(3600)
        return httpx.Response(200)

    async with client(hang, limits=Limits(total=30, attempts=2)) as http:  # type: ignore[arg-type]
        with pytest.raises(Unavailable):
            await http.send(GET)
        with pytest.raises(SubmitUncertain):
            await http.submit(SUBMIT)
        assert 90 <= anyio.current_time() < 95


# Credentials stay at home, redirects are not followed.


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.test/result",
        "http://service.test/result",
        "https://service.test:8443/result",
        "https://service.test@evil.test/",
        "//evil.test/result",
        "https://user:pw@service.test/x",
        "javascript:alert(1)",
        "https://[",
    ],
)
@virtual_time
async def test_a_foreign_origin_is_refused_before_anything_is_sent(url: str) -> None:
    service = Service(OK)
    async with client(service) as http:
        with pytest.raises(ForeignOrigin):
            await http.get(url)
    assert service.requests == []


@pytest.mark.parametrize("url", ["/x?a=1", "https://service.test/x?a=1", "https://SERVICE.test:443/x?a=1"])
@virtual_time
async def test_the_own_origin_is_reached_by_path_and_by_url(url: str) -> None:
    service = Service(OK)
    async with client(service) as http:
        await http.get(url)
    assert service.requests[0].url.path == "/x"
    assert service.requests[0].url.params["a"] == "1"


@virtual_time
async def test_a_redirect_is_an_answer_only_where_it_is_expected() -> None:
    service = Service(httpx.Response(302, headers={"Location": "/result"}))
    async with client(service) as http:
        assert (await http.get("/job", accept=(302,))).location == "/result"
        with pytest.raises(Unreadable):
            await http.get("/job")


# No secret in anything.


TELLTALES = [
    httpx.Response(401, json={"detail": f"Invalid token {KEY}"}),
    httpx.Response(500, text=KEY),
    httpx.ReadError(f"reading {KEY}"),
    httpx.ConnectTimeout("slow"),
]


@pytest.mark.parametrize("failure", TELLTALES, ids=repr)
@pytest.mark.parametrize("paid", [False, True])
@virtual_time
async def test_no_error_holds_the_key(failure: Any, paid: bool) -> None:
    def verbose(answer: Any) -> ServiceError:
        return Rejected(answer.text, status=answer.status, details=answer.text)

    async with client(Service(failure), limits=Limits(attempts=1), read_error=verbose) as http:
        with pytest.raises(DocJobsError) as caught:
            await (http.submit(SUBMIT) if paid else http.send(GET))
        text = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value)) + repr(http)
    assert KEY not in text
    assert KEY.encode() not in pickle.dumps(caught.value)
    assert caught.value.__cause__ is None


@virtual_time
async def test_a_result_is_not_changed_even_where_it_holds_the_key() -> None:
    async with client(Service(httpx.Response(200, text=KEY))) as http:
        assert (await http.get("/x")).text == "**********"
        assert (await http.get("/x", verbatim=True)).text == KEY


@pytest.mark.parametrize("key", ["with blank \n", "käse", " padded"])
def test_a_key_that_no_header_can_carry_is_refused_without_naming_it(key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Http(provider="test", base_url="https://service.test", headers={}, secrets=[key])
    assert key.strip() not in str(caught.value)


# Bodies.


@virtual_time
async def test_a_document_is_sent_whole_again_when_a_submit_is_repeated(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(b"%PDF" * 50_000)
    bodies: list[bytes] = []

    async def service(request: httpx.Request) -> httpx.Response:
        bodies.append(await request.aread())
        return httpx.Response(429 if len(bodies) == 1 else 200)

    document = Document.from_path(path)
    async with client(service) as http:  # type: ignore[arg-type]
        await http.submit(Request("POST", "/raw", body=document))
        assert bodies[0] == bodies[1] == path.read_bytes()
        await http.submit(Request("POST", "/m", parts=(Part("file", document), Part("model", "m-1"))))
    assert path.read_bytes() in bodies[2]
    assert b'name="file"; filename="a.pdf"\r\nContent-Type: application/pdf' in bodies[2]
    assert b'name="model"\r\n\r\nm-1\r\n' in bodies[2]


NAMES = {
    "plain.pdf": "plain.pdf",
    "é 日本 😀.pdf": "é 日本 😀.pdf",
    os.fsdecode(b"caf\xe9.pdf"): "caf_.pdf",
    "a\ud800b.pdf": "a_b.pdf",
    "a\r\nContent-Type: text/html\r\n\r\n.pdf": "a__Content-Type: text/html____.pdf",
    "a\0b\x1b\x7f\x85\u2028.pdf": "a_b____.pdf",
    'a"; name="other.pdf': "a%22; name=%22other.pdf",
    "a\\b.pdf": "a\\b.pdf",
}


@pytest.mark.parametrize(("name", "seen"), NAMES.items(), ids=map(ascii, NAMES))
@virtual_time
async def test_any_file_name_travels_and_none_is_a_header(name: str, seen: str) -> None:
    async def service(request: Received) -> JSONResponse:
        async with request.form() as form:
            ((field, file),) = form.multi_items()
            assert isinstance(file, UploadFile)
            body = (await file.read()).decode()
        return JSONResponse([field, file.filename, file.content_type, sorted(file.headers), body])

    app = Starlette(routes=[Route("/submit", service, methods=["POST"])])
    document = Document.from_bytes(b"%PDF", name=name, media_type="application/pdf")
    async with client(httpx.ASGITransport(app)) as http:
        answer = await http.submit(Request("POST", "/submit", parts=(Part("file", document),)))
    headers = ["content-disposition", "content-type"]
    assert answer.json() == ["file", seen, "application/pdf", headers, "%PDF"]


@virtual_time
async def test_a_document_without_a_name_is_sent_as_a_file_all_the_same() -> None:
    service = Service(OK)
    async with client(service) as http:
        document = Document.from_bytes(b"%PDF", name="")
        await http.submit(Request("POST", "/submit", parts=(Part("file", document),)))
    assert b'name="file"; filename="document"' in service.requests[0].content


@virtual_time
async def test_a_file_that_vanishes_before_the_submit_is_an_invalid_document(tmp_path: Path) -> None:
    async with client(Service(OK)) as http:
        with pytest.raises(InvalidDocument, match="does not exist"):
            await http.submit(Request("POST", "/raw", body=Document.from_path(tmp_path / "gone.pdf")))


# base_url.


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://api.mindee.net/v1", "https://api.mindee.net"),
        ("https://api-v2.mindee.net/v2/", "https://api-v2.mindee.net"),
        ("HTTPS://API.Mindee.net:443", "https://api.mindee.net"),
        ("http://127.0.0.1:4040", "http://127.0.0.1:4040"),
        ("http://[::1]:4040/", "http://[::1]:4040"),
    ],
)
def test_a_base_url_is_scheme_host_and_port(given: str, kept: str) -> None:
    assert normalize_base_url(given) == kept


@pytest.mark.parametrize(
    "given",
    ["", "api.mindee.net", "ftp://x", "https://x/api", "https://x?a=1", "https://u@x", "https://x:99999"],
)
def test_a_base_url_that_is_none_is_refused(given: str) -> None:
    with pytest.raises(ConfigurationError, match="base_url"):
        normalize_base_url(given)


def test_plain_http_off_loopback_warns() -> None:
    with pytest.warns(InsecureTransport):
        normalize_base_url("http://docs.internal")


def test_the_tls_context_is_shared() -> None:
    assert shared_ssl_context() is shared_ssl_context()
