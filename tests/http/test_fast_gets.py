"""GETs over real connections: both transports give the same answers, and the same errors."""

from __future__ import annotations

import asyncio
import gzip
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.raw_server import RawServer, Reply, answers, resets, sends, served, silent

from prefect_docjobs.errors import (
    DocJobsError,
    ForeignOrigin,
    NotFound,
    Rejected,
    ServiceError,
    Throttled,
    Unavailable,
    Unreadable,
)
from prefect_docjobs.http import Answer, Http, Limits, Request
from prefect_docjobs.http.origin import resolve

KEY = "very-secret-key-123"
TOKEN = "token-abc123"
GET = Request("GET", "/job")
SIGNED = Request("GET", f"/job?token={TOKEN}")
TRANSPORTS = ["fast", "httpx"]
LIMITS = Limits(idle=20.0, total=40.0, connect=10.0, answer_bytes=1_000_000, attempts=1)
HASTY = Limits(idle=0.2, total=0.6, connect=1.0, answer_bytes=1_000_000, attempts=1)


@asynccontextmanager
async def serving(
    reply: Reply, transport: str = "fast", *, limits: Limits = LIMITS, **options: Any
) -> AsyncIterator[tuple[Http, RawServer]]:
    async with served(reply) as server, client(server.url, transport, limits=limits, **options) as http:
        yield http, server


def client(url: str, transport: str = "fast", *, limits: Limits = LIMITS, **options: Any) -> Http:
    known: dict[str, Any] = {"headers": {"Authorization": KEY}, "secrets": [KEY], **options}
    own = httpx.AsyncHTTPTransport() if transport == "httpx" else None
    return Http(provider="test", base_url=url, transport=own, limits=limits, **known)


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + end


# What is right.


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_answer_comes_with_status_headers_and_body(transport: str) -> None:
    reply = answers(b'{"a": 1}', headers="X-Request-Id: r-7\r\nContent-Type: application/json\r\n")
    async with serving(reply, transport) as (http, server):
        answer = await http.get("/job", params={"page": 2}, headers={"X-More": "yes"})

        assert (answer.status, answer.json(), answer.request_id) == (200, {"a": 1}, "r-7")
        assert answer.url == "/job"
        assert server.targets == ["/job?page=2"]
        assert [server.headers(name) for name in ("authorization", "x-more")] == [[KEY], ["yes"]]
        assert server.headers("user-agent")[0].startswith("prefect-docjobs/")


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    "raw",
    [
        chunked(b'{"a"', b": 1}"),
        chunked(b'{"a": 1}', end=b"0\r\nX-Trailer: t\r\n\r\n"),
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s"
        % (len(gzip.compress(b'{"a": 1}')), gzip.compress(b'{"a": 1}')),
        b'HTTP/1.0 200 OK\r\n\r\n{"a": 1}',
        b"HTTP/1.1 100 Continue\r\n\r\n" + chunked(b'{"a": 1}'),
    ],
    ids=["chunked", "trailer", "gzip", "until the end", "after 100"],
)
async def test_every_documented_way_to_send_a_body_is_read(transport: str, raw: bytes) -> None:
    async with serving(sends(raw, close=True), transport) as (http, _):
        assert (await http.poll(GET)).json() == {"a": 1}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("path", ["/jobs/a%2Fb%20c", "/jobs/%C3%A9%3Fx%23y", "/jobs/a+b~c", "/jobs/%2e%2e/x"])
@pytest.mark.parametrize("params", [{}, {"after": "a/b +&"}])
async def test_an_id_that_is_quoted_stays_quoted(transport: str, path: str, params: dict[str, str]) -> None:
    async with serving(answers(), transport) as (http, server):
        await http.get(path, params=params)
        target, _, query = server.targets[0].partition("?")
        assert target == path
        assert httpx.QueryParams(query) == httpx.QueryParams(params)


async def test_many_polls_go_over_one_connection() -> None:
    async with serving(answers()) as (http, server):
        for _ in range(50):
            await http.poll(GET)
        assert (len(server.heads), server.connections) == (50, 1)


async def test_a_kept_connection_that_the_server_closed_is_replaced_without_a_failed_poll() -> None:
    async with serving(answers(close=True)) as (http, server):
        for _ in range(5):
            assert (await http.poll(GET)).attempts == 1
            await asyncio.sleep(0.01)
        assert server.connections == 5


async def test_a_kept_connection_that_breaks_under_the_next_poll_is_replaced() -> None:
    connections: list[asyncio.StreamWriter] = []

    async def once_each(writer: asyncio.StreamWriter) -> None:
        if writer in connections:
            writer.close()  # it took the second request, and gave no answer
            return
        connections.append(writer)
        await answers()(writer)

    async with serving(once_each) as (http, server):
        for _ in range(4):
            assert (await http.poll(GET)).status == 200
        assert len(server.heads) > 4


async def test_no_more_connections_are_open_than_the_gate_allows() -> None:
    busy, most = 0, 0

    async def slow(writer: asyncio.StreamWriter) -> None:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0.01)
        busy -= 1
        await answers()(writer)

    async with serving(slow, limits=Limits(in_flight=3)) as (http, server):
        await asyncio.gather(*[http.poll(GET) for _ in range(20)])
        assert most == server.connections == 3


async def test_cookies_are_not_kept() -> None:
    async with serving(answers(headers="Set-Cookie: session=1; Path=/\r\n")) as (http, server):
        await http.poll(GET)
        await http.poll(GET)
        assert server.headers("cookie") == []


async def test_an_origin_where_no_service_listens_is_unavailable() -> None:
    async with served(answers()) as server:
        url = server.url
    for transport in TRANSPORTS:
        async with client(url, transport) as http:
            with pytest.raises(Unavailable, match="No connection"):
                await http.poll(GET)


# What is wrong.


BOMB = gzip.compress(b"\0" * 30_000_000)
OK = b"HTTP/1.1 200 OK\r\n"
BROKEN: dict[str, Reply] = {
    "closes before the answer": sends(close=True),
    "closes in the head": sends(OK + b"Content-Len", close=True),
    "closes in the body": sends(OK + b"Content-Length: 100\r\n\r\n{", close=True),
    "closes in a chunk": sends(chunked(b'{"a": 1}', end=b"ff\r\n{"), close=True),
    "closes before the last chunk": sends(chunked(b'{"a": 1}', end=b""), close=True),
    "resets before the answer": resets(),
    "resets in the head": resets(OK),
    "resets in the body": resets(OK + b"Content-Length: 100\r\n\r\n{"),
    "hangs before the answer": silent,
    "hangs in the body": sends(OK + b"Content-Length: 100\r\n\r\n{", every=5.0),
    "drips": sends(OK + b"Content-Length: 100\r\n\r\n", *[b" "] * 100, every=0.05),
    "is no gzip": answers(b"not packed", headers="Content-Encoding: gzip\r\n"),
    "is no HTTP": sends(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", close=True),
    "has no version": sends(b"HTTP/banana 200 OK\r\n\r\n", close=True),
    "has a length that is none": sends(OK + b"Content-Length: many\r\n\r\n{}", close=True),
    "has two lengths": sends(OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", close=True),
    "has a chunk without length": sends(chunked(end=b"zz\r\n{}\r\n"), close=True),
    "has a header with a zero byte": sends(OK + b"X-A: a\0b\r\nContent-Length: 2\r\n\r\n{}", close=True),
    "has a header without a name": sends(OK + b": x\r\nContent-Length: 2\r\n\r\n{}", close=True),
    "has a header without end": sends(OK + b"X-A: " + b"a" * 300_000, close=True),
}
REFUSED: dict[str, tuple[Reply, type[ServiceError]]] = {
    "a redirect": (answers(b"", status="302 Found", headers="Location: /other\r\n"), Unreadable),
    "a redirect away": (
        answers(b"", status="307 T", headers="Location: https://evil.test/\r\n"),
        Unreadable,
    ),
    "404": (answers(b"<html>", status="404 Not Found"), NotFound),
    "422": (answers(b"{}", status="422 Unprocessable"), Rejected),
    "429": (answers(b"", status="429 Slow Down", headers="Retry-After: 3\r\n"), Throttled),
    "503": (answers(b"<html>", status="503 Sorry"), Unavailable),
    "too much": (answers(b"x" * 1_000_001), Unreadable),
    "too much in chunks": (sends(chunked(*[b"x" * 60_000] * 20)), Unreadable),
    "a bomb": (answers(BOMB, headers="Content-Encoding: gzip\r\n"), Unreadable),
}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("fault", BROKEN)
async def test_an_answer_that_breaks_off_or_breaks_http_may_be_fetched_again(
    transport: str, fault: str
) -> None:
    async with serving(BROKEN[fault], transport, limits=HASTY) as (http, _):
        with pytest.raises(Unavailable) as caught:
            await http.poll(SIGNED)
    check_telltale(caught.value)
    assert (caught.value.provider, caught.value.status) == ("test", None)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("fault", REFUSED)
async def test_a_refusal_is_typed_by_what_to_do(transport: str, fault: str) -> None:
    reply, kind = REFUSED[fault]
    async with serving(reply, transport) as (http, server):
        with pytest.raises(kind) as caught:
            await http.poll(SIGNED)
        assert type(caught.value) is kind
        assert len(server.heads) == 1
    check_telltale(caught.value)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_page_of_html_in_place_of_an_answer_may_pass(transport: str) -> None:
    page = answers(b"<html>login</html>", headers="Content-Type: text/html\r\n")
    async with serving(page, transport) as (http, _):
        with pytest.raises(Unavailable, match="HTML"):
            await http.poll(GET)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_hanging_answer_ends_at_the_time_limits(transport: str) -> None:
    loop = asyncio.get_running_loop()
    for fault, least, most in (("hangs in the body", 0.2, 10.0), ("drips", 0.6, 10.0)):
        async with serving(BROKEN[fault], transport, limits=HASTY) as (http, _):
            started = loop.time()
            with pytest.raises(Unavailable):
                await http.poll(GET)
            assert least * 0.9 <= loop.time() - started <= most


async def test_a_poll_that_is_cancelled_leaves_the_client_usable() -> None:
    replies = iter([silent, answers()])

    async def reply(writer: asyncio.StreamWriter) -> None:
        await next(replies)(writer)

    async with serving(reply, limits=Limits(in_flight=1)) as (http, server):
        poll = asyncio.create_task(http.poll(GET))
        while not server.heads:  # noqa: ASYNC110 (a server on a real connection)
            await asyncio.sleep(0.005)
        poll.cancel()
        with pytest.raises(asyncio.CancelledError):
            await poll
        assert (await http.poll(GET)).status == 200


# What nobody may hear.


def check_telltale(error: DocJobsError) -> None:
    text = "".join(traceback.format_exception(error)) + repr(vars(error))
    assert KEY not in text
    assert TOKEN not in text
    assert error.__cause__ is None


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    "reply",
    [
        answers(f'{{"detail": "bad token {KEY}"}}'.encode(), status="401 No"),
        answers(b"", status=f"500 {KEY}"),
        sends(f"HTTP/1.1 200 OK\r\n{KEY} and no colon\r\n\r\n".encode(), close=True),
        sends(f"{KEY}\r\n\r\n".encode(), close=True),
    ],
    ids=["body", "reason", "header", "first line"],
)
async def test_an_answer_that_holds_the_key_is_not_passed_on(transport: str, reply: Reply) -> None:
    def verbose(answer: Answer) -> ServiceError:
        return Rejected(answer.text, status=answer.status, details=answer.text)

    async with serving(reply, transport, read_error=verbose) as (http, _):
        with pytest.raises(ServiceError) as caught:
            await http.poll(SIGNED)
    check_telltale(caught.value)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_only_a_result_is_left_as_it_came(transport: str) -> None:
    async with serving(answers(KEY.encode()), transport) as (http, _):
        assert (await http.poll(GET)).text == "**********"
        assert (await http.get("/job", verbatim=True)).text == KEY


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("url", ["http://evil.test/x", "//127.0.0.1:1/x", "http://127.0.0.1:1/x", "http://["])
async def test_nothing_is_sent_to_a_foreign_origin(transport: str, url: str) -> None:
    async with serving(answers(), transport) as (http, server):
        with pytest.raises(ForeignOrigin):
            await http.poll(Request("GET", url))
        assert (server.connections, server.heads) == (0, [])


@pytest.mark.parametrize(
    "headers", [{"Authorization": KEY}, {"Api-Key": KEY}], ids=lambda sent: next(iter(sent))
)
async def test_a_netrc_file_adds_no_credentials(
    headers: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with serving(answers(), headers=headers) as (http, server):
        await http.poll(GET)
        assert server.headers("authorization") == [
            value for name, value in headers.items() if name != "Api-Key"
        ]


async def test_a_proxy_of_the_environment_is_used_and_bypassed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    async with served(answers()) as proxy, served(answers()) as service:
        monkeypatch.setenv("http_proxy", proxy.url)
        async with client(service.url) as http:
            await http.poll(GET)
        assert (proxy.targets, service.targets) == ([f"{service.url}/job"], [])

        monkeypatch.setenv("no_proxy", "127.0.0.1")
        async with client(service.url) as http:
            await http.poll(GET)
        assert service.targets == ["/job"]


# Addresses.


SEGMENTS = st.text("/.%~-_aZ09éß+?#@:;= \\2fF", max_size=12) | st.sampled_from(["..", ".", "%2e%2e", "a.b"])


@given(st.lists(SEGMENTS, max_size=5).map(lambda parts: "/" + "/".join(parts)))
def test_a_path_leads_where_a_parser_says_also_on_the_short_way(path: str) -> None:
    base = "https://service.test:8443"
    try:
        target = httpx.URL(base).join(path)
    except httpx.InvalidURL:
        assert resolve(base, path) is None
    else:
        own = (target.host, target.port, target.userinfo) == ("service.test", 8443, b"")
        assert resolve(base, path) == (str(target) if own else None)


def test_an_international_host_is_reached_by_the_name_that_dns_knows() -> None:
    assert resolve("https://bücher.test", "/job") == "https://xn--bcher-kva.test/job"
