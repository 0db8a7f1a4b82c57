"""Submits over real connections: which end proves that nothing was accepted, and which proves nothing."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.certificates import forget, self_signed, trust
from support.peers import PIECE, Act, Peer, read, serving

from prefect_docjobs.errors import (
    DocJobsError,
    Rejected,
    ServiceError,
    SubmitUncertain,
    Throttled,
    Unauthorized,
    Unavailable,
)
from prefect_docjobs.http import Http, Limits, Part, Request, shared_ssl_context
from prefect_docjobs.models import Document
from prefect_docjobs.providers.mindee import Mindee
from prefect_docjobs.providers.unsiloed import Unsiloed

KEY = "very-secret-key-123"
LIMITS = Limits(attempts=2, backoff=0.01, idle=20.0, total=60.0, connect=10.0)
HASTY = Limits(attempts=2, backoff=0.01, idle=0.5, total=60.0, connect=10.0)
SMALL, LARGE = 1_000, 16 << 20  # the latter is more than a connection holds unread


def reset(writer: asyncio.StreamWriter) -> None:
    peer: socket.socket = writer.get_extra_info("socket")
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def answer(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def after(most: int | None, *, raw: bytes = b"", then: str = "close") -> Act:
    """Read so much of the body, write these bytes, and close, reset, hang, or spoil TLS."""

    async def act(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if most != -1:
            await read(peer, reader, most)
        writer.write(raw)
        await writer.drain()
        if then == "reset":
            reset(writer)
        elif then == "hang":
            await asyncio.Event().wait()
        elif then == "spoil":
            os.write(writer.get_extra_info("socket").fileno(), b"\x17\x03\x03\x00\x20" + b"damaged!" * 4)
            await asyncio.Event().wait()
        else:
            writer.close()
            await writer.wait_closed()

    return act


async def submitted(http: Http, size: int, way: str = "parts") -> tuple[DocJobsError | None, list[bool]]:
    """Submit a document of this size; the error, and what was said of whether it may be accepted."""
    document, said = Document.from_bytes(b"x" * size, name="acme.pdf"), list[bool]()
    request = {
        "parts": Request("POST", "/submit", parts=(Part("model", "m"), Part("file", document))),
        "raw": Request("POST", "/submit", body=document),
        "json": Request("POST", "/submit", json={"file": "x" * size}),
    }[way]
    try:
        await http.submit(request, in_doubt=said.append)
    except DocJobsError as error:
        check_telltale(error)
        return error, said
    return None, said


def check_telltale(error: DocJobsError) -> None:
    text = "".join(traceback.format_exception(error)) + repr(vars(error))
    assert KEY not in text
    assert error.__cause__ is None


def client(url: str, limits: Limits = LIMITS, **options: Any) -> Http:
    known: dict[str, Any] = {"headers": {"Authorization": KEY}, "secrets": [KEY], **options}
    return Http(provider="test", base_url=url, limits=limits, **known)


@pytest.fixture(params=["http", "https"])
def context(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ssl.SSLContext | None]:
    if request.param == "http":
        yield None
        return
    made, file = self_signed(tmp_path)
    trust(file, monkeypatch)
    yield made
    forget()


# The whole body was sent: only an answer that refuses proves anything.


UNCERTAIN: dict[str, bytes | str] = {
    "closes": "close",
    "resets": "reset",
    "hangs": "hang",
    "is no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "breaks off in the head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "breaks off in the body": b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"job"',
    "408": answer("408 Request Timeout"),
    "499": answer("499 Client Closed Request"),
    "500": answer("500 Oh"),
    "502": answer("502 Bad Gateway", b"<html>"),
    "504": answer("504 Gateway Timeout"),
    "503": answer("503 Unavailable"),
    "503 of a gateway": answer("503 Unavailable", b"<html>no upstream</html>"),
    "503 with a senseless Retry-After": answer("503 Unavailable", b"", "Retry-After: soon"),
    "302 elsewhere": answer("302 Found", b"", "Location: /jobs/7"),
    "303 elsewhere": answer("303 See Other", b"", "Location: /jobs/7"),
    "302 nowhere": answer("302 Found"),
    "302 to no address": answer("302 Found", b"", "Location: http://host:port/submit"),
    "300": answer("300 Multiple Choices"),
}


@pytest.mark.parametrize("end", UNCERTAIN)
@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
async def test_an_end_after_the_whole_body_that_proves_nothing_is_uncertain_and_sent_once(
    context: ssl.SSLContext | None, end: str, size: int
) -> None:
    how = UNCERTAIN[end]
    act = after(None, then=how) if isinstance(how, str) else after(None, raw=how)
    async with serving(act, context) as peer, client(peer.url, HASTY if how == "hang" else LIMITS) as http:
        error, said = await submitted(http, size)
        assert (type(error), said) == (SubmitUncertain, [True])
        assert (peer.connections, peer.whole) == (1, 1)


@pytest.mark.parametrize("way", ["parts", "raw", "json"])
async def test_tls_that_breaks_after_the_whole_body_is_uncertain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    served, file = self_signed(tmp_path)
    trust(file, monkeypatch)
    async with serving(after(None, then="spoil"), served) as peer, client(peer.url) as http:
        error, said = await submitted(http, SMALL, way)
        assert (type(error), said, peer.whole) == (SubmitUncertain, [True], 1)
    forget()


REFUSED: dict[str, tuple[bytes, type[ServiceError], bool]] = {
    "400": (answer("400 Bad"), Rejected, False),
    "401": (answer("401 No"), Unauthorized, False),
    "401 cut off": (b"HTTP/1.1 401 No\r\nContent-Length: 99\r\n\r\n{", Unauthorized, False),
    "422": (answer("422 No"), Rejected, False),
    "429": (answer("429 Slow"), Throttled, True),
    "503 with Retry-After": (answer("503 No", b"<html>", "Retry-After: 0"), Unavailable, True),
    "301": (answer("301 Moved", b"", "Location: https://new.test/submit"), Rejected, False),
    "307": (answer("307 Moved", b"", "Location: /other"), Rejected, False),
    "308": (answer("308 Moved", b"", "Location: /other"), Rejected, False),
    "302 to the same path": (answer("302 Found", b"", "Location: https://new.test/submit"), Rejected, False),
    "303 to the same path": (
        answer("303 Other", b"", "Location: https://new.test/submit?a"),
        Rejected,
        False,
    ),
}


@pytest.mark.parametrize("end", REFUSED)
async def test_an_answer_that_refuses_is_typed_and_not_uncertain(
    context: ssl.SSLContext | None, end: str
) -> None:
    raw, kind, repeated = REFUSED[end]
    limits = Limits(attempts=2, backoff=0.01, throttled=-1.0)
    async with serving(after(None, raw=raw), context) as peer, client(peer.url, limits) as http:
        error, said = await submitted(http, SMALL)
        assert isinstance(error, kind)
        again = 2 if repeated and kind is not Throttled else 1
        assert (said, peer.whole) == ([True, False] * again, again)


BUSY: dict[str, tuple[Any, bytes, bool]] = {
    "mindee": (Mindee, b'{"status":503,"title":"Busy","detail":"Later","code":"503-001"}', True),
    "mindee, gateway": (Mindee, b'{"status":503,"error":"Service Unavailable","path":"/x"}', False),
    "unsiloed": (
        Unsiloed,
        b'{"error":{"code":"BUSY","message":"m","details":{"reason":"queue_full"}}}',
        True,
    ),
    "unsiloed, detail": (Unsiloed, b'{"detail":"Service temporarily unavailable"}', True),
    "unsiloed, gateway": (Unsiloed, b'{"message":"Service Unavailable"}', False),
    "unsiloed, text": (Unsiloed, b"no healthy upstream", False),
}


@pytest.mark.parametrize("case", BUSY)
async def test_a_503_is_a_refusal_when_the_service_itself_gives_it(case: str) -> None:
    service, body, refused = BUSY[case]
    act = after(None, raw=answer("503 Unavailable", body))
    async with serving(act) as peer, client(peer.url, read_error=service.read_error) as http:
        error, said = await submitted(http, SMALL)
        assert type(error) is (Unavailable if refused else SubmitUncertain)
        assert said == ([True, False] * 2 if refused else [True])


# The body was not sent completely: nothing can have been accepted.


@pytest.mark.parametrize("way", ["parts", "raw", "json"])
@pytest.mark.parametrize("end", ["close", "reset", "hang"])
@pytest.mark.parametrize("most", [-1, 0, 100_000], ids=["at once", "after the head", "in the body"])
async def test_a_connection_that_ends_before_the_whole_body_is_sent_refuses_it(
    context: ssl.SSLContext | None, most: int, end: str, way: str
) -> None:
    async with serving(after(most, then=end), context) as peer, client(peer.url, HASTY) as http:
        error, said = await submitted(http, LARGE, way)
        assert (type(error), any(said)) == (Unavailable, False)
        assert (peer.connections, peer.whole) == (2, 0)


@pytest.mark.parametrize("way", ["parts", "raw", "json"])
@pytest.mark.parametrize("then", ["close", "hang"])
@pytest.mark.parametrize(("status", "kind"), [(401, Unauthorized), (413, Rejected)])
async def test_an_answer_that_comes_before_the_whole_body_is_read(
    context: ssl.SSLContext | None, status: int, kind: type[ServiceError], then: str, way: str
) -> None:
    act = after(100_000, raw=answer(f"{status} No", b'{"detail": "no"}'), then=then)
    async with serving(act, context) as peer, client(peer.url) as http:
        error, said = await submitted(http, LARGE, way)
        assert isinstance(error, kind)
        assert (error.status, any(said), peer.connections) == (status, False, 1)


@pytest.mark.parametrize("status", ["408 Late", "500 Oh", "502 Bad", "503 No"])
async def test_whatever_is_answered_before_the_whole_body_accepts_nothing(status: str) -> None:
    act = after(100_000, raw=answer(status), then="hang")
    async with serving(act) as peer, client(peer.url) as http:
        error, said = await submitted(http, LARGE)
        assert (type(error), any(said), peer.connections) == (Unavailable, False, 2)


async def test_a_job_that_is_named_before_the_whole_body_is_sent_is_uncertain() -> None:
    act = after(100_000, raw=answer("202 Accepted", b'{"id": "1"}'), then="hang")
    async with serving(act) as peer, client(peer.url) as http:
        error, _ = await submitted(http, LARGE)
        assert (type(error), peer.connections) == (SubmitUncertain, 1)


async def test_a_large_submit_after_another_takes_a_connection_without_leftovers(
    context: ssl.SSLContext | None,
) -> None:
    async def act(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read(peer, reader)
            writer.write(answer("200 OK", b'{"id": "%d"}' % peer.whole) + answer("200 OK", b'{"id": "old"}'))

    async with serving(act, context) as peer, client(peer.url) as http:
        for number in (1, 2, 3):
            document = Document.from_bytes(b"x" * LARGE, name="acme.pdf")
            got = await http.submit(Request("POST", "/submit", body=document))
            assert got.json() == {"id": str(number)}


INTERIM = {
    "100": [b"HTTP/1.1 100 Continue\r\n\r\n"],
    "102": [b"HTTP/1.1 102 Processing\r\n\r\n"],
    "103": [b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nLink: </b>\r\n\r\n"],
    "many": [b"HTTP/1.1 102 Processing\r\n\r\n"] * 20,
    "several at once": [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"],
    "in pieces": [
        b"HT",
        b"TP/1.1 1",
        b"0",
        b"3 Early Hints\r\nLin",
        b"k: </a>\r\n",
        b"\r",
        b"\nHTTP/1.1 1",
        b"00 \r\n\r\n",
    ],
}


@pytest.mark.parametrize("final", [b"200 OK", b"413 Large"])
@pytest.mark.parametrize("case", INTERIM)
async def test_an_interim_answer_does_not_end_an_upload(
    context: ssl.SSLContext | None, case: str, final: bytes
) -> None:
    is_refused = final != b"200 OK"

    async def act(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length:")[2].split()[0])
        for piece in INTERIM[case]:
            writer.write(piece)
            await writer.drain()
            await reader.readexactly(PIECE)
            size -= PIECE
        if not is_refused:
            await reader.readexactly(size)
            peer.whole += 1
        writer.write(answer(final.decode(), b"{}"))
        await asyncio.Event().wait()

    async with serving(act, context) as peer, client(peer.url, HASTY) as http:
        error, said = await submitted(http, LARGE)
        kind = Rejected if is_refused else type(None)
        assert (type(error), any(said)) == (kind, not is_refused)
        assert (peer.connections, peer.whole) == (1, int(not is_refused))


@pytest.mark.parametrize("then", ["close", "reset"])
async def test_a_connection_that_ends_after_an_interim_answer_refuses_the_upload(then: str) -> None:
    act = after(100_000, raw=b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 1", then=then)
    async with serving(act) as peer, client(peer.url) as http:
        error, said = await submitted(http, LARGE)
        assert (type(error), any(said), peer.connections) == (Unavailable, False, 2)


NO_ADDRESS = ["http://[::1", "http://host:port/x", "mailto:x", "http://", "//", "http://a:1, http://b:2", ""]


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("status", [301, 307, 308])
@pytest.mark.parametrize("place", NO_ADDRESS)
async def test_a_redirect_to_no_address_is_refused_as_any_other(place: str, status: int, size: int) -> None:
    raw = answer(f"{status} Moved", b"", f"Location: {place}")
    act = after(None, raw=raw) if size == SMALL else after(100_000, raw=raw, then="hang")
    async with serving(act) as peer, client(peer.url) as http:
        error, said = await submitted(http, size)
        assert isinstance(error, Rejected)
        assert (error.status, said, peer.connections) == (
            status,
            [True, False] if size == SMALL else [False],
            1,
        )
        assert "base_url" not in str(error)


async def test_a_redirect_names_a_base_url_only_where_it_is_another() -> None:
    same = after(None, raw=answer("308 Moved", b"", "Location: /other"))
    other = after(None, raw=answer("308 Moved", b"", "Location: https://new.test/other"))
    for act, names_it in ((same, False), (other, True)):
        async with serving(act) as peer, client(peer.url) as http:
            error, _ = await submitted(http, SMALL)
            assert isinstance(error, Rejected)
            assert "/other." in str(error)
            assert ("give https://new.test as base_url" in str(error)) is names_it
            assert ("base_url" in str(error)) is names_it


# There was no connection.


async def test_a_port_without_a_service() -> None:
    async with serving(after(None)) as peer:
        url = peer.url
    async with client(url) as http:
        error, said = await submitted(http, SMALL)
        assert (type(error), any(said)) == (Unavailable, False)


async def test_a_host_that_does_not_exist() -> None:
    async with client("https://nobody.invalid") as http:
        error, said = await submitted(http, SMALL)
        assert (type(error), any(said)) == (Unavailable, False)


@pytest.mark.parametrize("how", ["is plain HTTP", "is not trusted", "resets", "hangs"])
async def test_a_handshake_that_fails(tmp_path: Path, how: str) -> None:
    served, _ = self_signed(tmp_path)
    forget()
    act = {"resets": after(-1, then="reset"), "hangs": after(-1, then="hang")}.get(how, after(-1))
    limits = Limits(attempts=2, backoff=0.01, connect=0.5)
    async with (
        serving(act, served if how == "is not trusted" else None) as peer,
        client(peer.url.replace("http:", "https:"), limits) as http,
    ):
        error, said = await submitted(http, SMALL)
        assert (type(error), any(said)) == (Unavailable, False)
        assert "No connection" in str(error)


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("407", answer("407 Proxy Authentication Required", b"", "Proxy-Authenticate: Basic")),
        ("502", answer("502 Bad Gateway", b"<html>")),
        ("503", answer("503 Service Unavailable")),
        ("closes", b""),
        ("is no HTTP", b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    ],
)
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
async def test_a_proxy_that_refuses_to_connect(
    monkeypatch: pytest.MonkeyPatch, variable: str, name: str, raw: bytes
) -> None:
    async def act(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"CONNECT service.test:443 ")
        assert KEY.encode() not in head
        peer.whole += 1
        writer.write(raw)
        await writer.drain()
        writer.close()

    async with serving(act) as proxy:
        without_proxies(monkeypatch)
        monkeypatch.setenv(variable, proxy.url)
        async with client("https://service.test") as http:
            error, said = await submitted(http, SMALL)
        assert (type(error), any(said), proxy.whole) == (Unavailable, False, 2)
        assert name not in {"407", "502", "503"} or name in str(error)


@pytest.mark.parametrize(("raw", "kind"), [(b"", SubmitUncertain), (answer("413 Large"), Rejected)])
async def test_a_tunnel_through_a_proxy_is_judged_as_a_connection_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: bytes, kind: type[DocJobsError]
) -> None:
    served, file = self_signed(tmp_path)
    trust(file, monkeypatch)

    async def tunnel(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        port = int(head.split(b" ")[1].rpartition(b":")[2])
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            with suppress(OSError):
                while piece := await source.read(PIECE):
                    target.write(piece)
                    await target.drain()
            target.close()

        copies = [copy(reader, inner_writer), copy(inner_reader, writer)]
        try:
            await asyncio.gather(*copies)
        finally:
            inner_writer.transport.abort()

    early = bool(raw)
    async with (
        serving(
            after(100_000 if early else None, raw=raw, then="hang" if early else "close"), served
        ) as peer,
        serving(tunnel) as proxy,
    ):
        without_proxies(monkeypatch)
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        async with client(peer.url) as http:
            error, said = await submitted(http, LARGE)
        assert (type(error), any(said), proxy.connections) == (kind, not early, 1)
    forget()


async def test_a_proxy_for_plain_http_that_refuses_is_no_acceptance(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(after(None, raw=answer("407 Proxy Authentication Required"))) as proxy:
        without_proxies(monkeypatch)
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        with pytest.warns(UserWarning, match="plain http"):
            http = client("http://service.test")
        async with http:
            error, said = await submitted(http, SMALL)
        assert (type(error), said) == (Rejected, [True, False])


def without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


# Reads, and callers who go away.


async def test_tls_that_breaks_under_a_read_may_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        peer.whole += 1
        os.write(writer.get_extra_info("socket").fileno(), b"\x17\x03\x03\x00\x20" + b"damaged!" * 4)
        await asyncio.Event().wait()

    served, file = self_signed(tmp_path)
    trust(file, monkeypatch)
    for way in (None, httpx.AsyncHTTPTransport(verify=shared_ssl_context())):
        for verbatim in (False, True):
            async with (
                serving(act, served) as peer,
                client(peer.url, Limits(attempts=2, result_attempts=2, backoff=0.01), transport=way) as http,
            ):
                with pytest.raises(Unavailable):
                    await http.send(Request("GET", "/job", verbatim=verbatim))
                assert peer.whole >= 2  # aiohttp repeats a GET once by itself
    forget()


async def test_a_submit_that_is_cancelled_before_its_last_piece_was_never_in_doubt() -> None:
    reached = asyncio.Event()

    async def act(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read(peer, reader, 100_000)
        reached.set()
        await asyncio.Event().wait()

    said: list[bool] = []
    async with serving(act) as peer, client(peer.url) as http:
        document = Document.from_bytes(b"x" * LARGE, name="acme.pdf")
        request = Request("POST", "/submit", body=document)
        sending = asyncio.create_task(http.submit(request, in_doubt=said.append))
        await reached.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
    assert (said, peer.whole) == ([], 0)


async def test_what_the_callback_raises_keeps_the_last_piece_back() -> None:
    def no(in_doubt: bool) -> None:
        if in_doubt:
            raise Rejected("the claim was lost")

    for size in (SMALL, LARGE):
        async with serving(after(None, then="hang")) as peer, client(peer.url) as http:
            document = Document.from_bytes(b"x" * size, name="acme.pdf")
            with pytest.raises(Rejected, match="claim"):
                await http.submit(Request("POST", "/submit", body=document), in_doubt=no)
            assert peer.whole == 0
