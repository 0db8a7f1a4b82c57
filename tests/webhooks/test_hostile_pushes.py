"""More than 10,000 hostile requests: none is accepted, none breaks the receiver, and memory stays flat."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import random
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from support.receiver import PATHS, in_process, on_a_port, push, received_pushes, signed, success

from prefect_docjobs.webhooks import ReceiverLimits, server

IN_PROCESS = 10_000
OVER_TCP = 300
LIMITS = ReceiverLimits(body_bytes=64 << 10, body_seconds=0.5, memory_bytes=512 << 10, requests=16)
REFUSALS = {400, 401, 404, 405, 408, 413, 503}


@dataclass
class Attack:
    """One request that must not be accepted."""

    path: str
    body: bytes | list[bytes]
    headers: list[tuple[str, str]] = field(default_factory=list)
    method: str = "POST"


class Attacker:
    """Makes attacks; the same seed makes the same ones."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.kinds: tuple[Callable[[], Attack], ...] = (
            self.forged,
            self.signed_by_another,
            self.truncated,
            self.changed,
            self.other_encoding,
            self.nested,
            self.huge,
            self.chunked,
            self.doubled,
            self.odd_headers,
            self.odd_path,
            self.wrong_method,
            self.token_guess,
            self.noise,
        )

    def next(self) -> Attack:
        return self._random.choice(self.kinds)()

    def _provider(self) -> str:
        return self._random.choice(["mindee", "mindee_v1"])

    def _good(self, provider: str) -> bytes:
        return success(provider, f"job-{self._random.randrange(50)}", note="x" * self._random.randrange(500))

    def _with(self, provider: str, body: bytes, headers: dict[str, str]) -> Attack:
        return Attack(PATHS[provider], body, list(headers.items()))

    def forged(self) -> Attack:
        provider = self._provider()
        header = "X-Signature" if provider == "mindee" else "X-Mindee-Hmac-Signature"
        guess = self._random.choice(
            ["", "0" * 64, "é", "a" * 5000, "null", f"{self._random.getrandbits(256):064x}"]
        )
        return self._with(provider, self._good(provider), {header: guess})

    def signed_by_another(self) -> Attack:
        provider = self._provider()
        body = self._good(provider)
        return self._with(provider, body, signed(provider, body, f"guess-{self._random.random()}"))

    def truncated(self) -> Attack:
        provider = self._provider()
        body = self._good(provider)
        return self._with(provider, body[: self._random.randrange(len(body))], signed(provider, body))

    def changed(self) -> Attack:
        provider = self._provider()
        body = bytearray(self._good(provider))
        headers = signed(provider, bytes(body))
        body[self._random.randrange(len(body))] ^= 1 << self._random.randrange(8)
        return self._with(provider, bytes(body), headers)

    def other_encoding(self) -> Attack:
        """Signed well: the secret is known, and still it is not UTF-8 JSON."""
        provider = self._provider()
        encoding = self._random.choice(["utf-16", "utf-16-le", "utf-32", "utf-32-be", "utf-7", "cp037"])
        body = self._good(provider).decode().replace("x", "ÿ+").encode(encoding, "replace")
        if encoding == "utf-7":
            body = b"\xff" + body
        return self._with(provider, body, signed(provider, body))

    def nested(self) -> Attack:
        """Signed well, and deeper than anything may be."""
        provider = self._provider()
        deep = self._random.choice([b"[", b'{"inference":', b'{"job":{"id":"x"},"document":', b'{"a":[{'])
        body = deep * (60_000 // len(deep))
        return self._with(provider, body, signed(provider, body))

    def huge(self) -> Attack:
        provider = self._provider()
        body = b"x" * (LIMITS.body_bytes + 1)
        return self._with(provider, body, signed(provider, body))

    def chunked(self) -> Attack:
        provider = self._provider()
        pieces = [b"{" * self._random.randrange(1, 9000)] * self._random.randrange(1, 12)
        return Attack(PATHS[provider], pieces, [("X-Signature", "0" * 64)])

    def doubled(self) -> Attack:
        provider = self._provider()
        body = self._good(provider)
        headers = [*signed(provider, body).items(), *signed(provider, body, "guess").items()]
        self._random.shuffle(headers)
        return Attack(PATHS[provider], body, headers)

    def odd_headers(self) -> Attack:
        provider = self._provider()
        names = ["Content-Type", "Content-Encoding", "X-Forwarded-For", "Authorization", "X-Signature"]
        values = ["gzip", "a" * 2000, "multipart/form-data; boundary=", "Basic e30=", "", "\x7f", "text/html"]
        chosen = [
            (self._random.choice(names), self._random.choice(values))
            for _ in range(self._random.randrange(40))
        ]
        return Attack(PATHS[provider], self._good(provider), chosen)

    def odd_path(self) -> Attack:
        body = self._good("mindee")
        path = self._random.choice(
            [
                "/webhooks",
                "/webhooks/",
                "/webhooks/mindee",
                "/webhooks/mindee/",
                "/webhooks/mindee/..",
                "/webhooks/mindee/main/",
                "/webhooks/mindee/%2e%2e/main",
                "/webhooks/mindee/main%00",
                "/webhooks/MINDEE/main",
                "/webhooks/mindee_v1/" + "a" * 3000,
                "/webhooks/numind/main",
                f"/webhooks/unsiloed/main/{self._random.random()}",
                "/metrics",
                "/",
                "//webhooks/mindee/main",
            ]
        )
        return Attack(path, body, list(signed("mindee", body, "guess").items()))

    def wrong_method(self) -> Attack:
        body = self._good("mindee")
        method = self._random.choice(["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
        return Attack(PATHS["mindee"], body, list(signed("mindee", body).items()), method)

    def token_guess(self) -> Attack:
        path = PATHS["unsiloed"]
        cut = self._random.randrange(len(path) - 30, len(path))
        return Attack(path[:cut], b'{"job_id": "job-1"}')

    def noise(self) -> Attack:
        body = self._random.randbytes(self._random.randrange(3000))
        text = base64.b64encode(self._random.randbytes(30)).decode()
        return Attack(self._random.choice(list(PATHS.values())[:2]), body, [("X-Signature", text)])


async def _send(client: httpx.AsyncClient, attack: Attack) -> int:
    async def pieces(body: list[bytes]) -> AsyncIterator[bytes]:
        for piece in body:
            yield piece

    content = pieces(attack.body) if isinstance(attack.body, list) else attack.body
    headers = [(name.encode(), value.encode("utf-8")) for name, value in attack.headers]
    return (await client.request(attack.method, attack.path, content=content, headers=headers)).status_code


async def test_ten_thousand_hostile_requests_change_nothing_and_leave_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    attacker = Attacker(seed=5)
    seen: Counter[int] = Counter()

    async with in_process(path, limits=LIMITS) as client:

        async def attack(number: int) -> None:
            for _ in range(number // 20):
                await asyncio.gather(*[_count(attacker.next()) for _ in range(20)])

        async def _count(it: Attack) -> None:
            seen[await _send(client, it)] += 1

        await attack(1000)  # what is made once is there by now
        gc.collect()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        await attack(IN_PROCESS - 1000)
        gc.collect()
        after, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert await push(client, "mindee", success("mindee", "good")) == 200

    assert sum(seen.values()) == IN_PROCESS
    assert set(seen) <= REFUSALS, seen
    assert {400, 401, 404, 405, 413} <= set(seen)
    assert after - before < 1 << 20, f"{after - before:,} bytes are left"
    assert peak - before < 16 << 20, f"{peak - before:,} bytes at most"
    assert [it.job_id for it in await received_pushes(path)] == ["good"]


async def test_hundreds_of_them_over_tcp_too(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    attacker = Attacker(seed=6)
    answers: Counter[int] = Counter()
    async with on_a_port(path, limits=LIMITS) as client:
        for _ in range(OVER_TCP):
            with suppress(
                httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError, httpx.LocalProtocolError
            ):
                answers[await _send(client, attacker.next())] += 1
        assert await push(client, "mindee", success("mindee", "good")) == 200
    assert set(answers) <= REFUSALS, answers
    assert sum(answers.values()) > OVER_TCP // 2
    assert [it.job_id for it in await received_pushes(path)] == ["good"]


HEAD = b"POST /webhooks/mindee/main HTTP/1.1\r\nHost: a\r\n"
CLAIMED = HEAD + b"X-Signature: " + b"0" * 64 + b"\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
BROKEN = [
    b"\x00" * 4000,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS where none is spoken
    b"POST /webhooks/mindee/main HTTP/9.9\r\n\r\n",
    b"POST /webhooks/mindee/main HTTP/1.1\r\n\r\n",  # no Host
    HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    HEAD + b"Content-Length: -1\r\n\r\n",
    HEAD + b"Content-Length: 5\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    HEAD + CHUNKED + b"\r\nzz\r\n",
    HEAD + CHUNKED + b"\r\nffffffffffffffff\r\n",
    HEAD + b"X: " + b"a" * 70_000,
    b"POST /" + b"a" * 70_000,
    HEAD + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    HEAD + b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]


@pytest.mark.parametrize("request_bytes", BROKEN, ids=lambda it: repr(it[:40]))
async def test_what_is_no_http_is_refused_and_closed(tmp_path: Path, request_bytes: bytes) -> None:
    async with on_a_port(tmp_path / "ledger.db", limits=LIMITS) as client:
        answer = await _raw(client, request_bytes)
        assert answer == b"" or int(answer.split(b" ")[1]) in REFUSALS | {100}, answer
        assert (await client.get("/healthz")).status_code == 200


async def _raw(client: httpx.AsyncClient, sent: bytes) -> bytes:
    """All that is answered until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
    writer.write(sent)
    writer.write_eof()
    try:
        return await asyncio.wait_for(reader.read(), 5.0)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"POST /webh",
        HEAD,
        CLAIMED + b"Content-Length: 99\r\n\r\n{",
        CLAIMED + CHUNKED + b"\r\n",
    ],
    ids=["nothing", "half a line", "half a head", "half a body", "no chunk"],
)
async def test_who_sends_too_slowly_is_hung_up_on(
    tmp_path: Path, begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty at a time hold nobody up."""
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.5)
    limits = ReceiverLimits(body_seconds=0.5)
    async with on_a_port(tmp_path / "ledger.db", limits=limits) as client:
        slow = [await asyncio.open_connection("127.0.0.1", client.base_url.port) for _ in range(50)]
        for _, writer in slow:
            writer.write(begun)
        assert await push(client, "mindee", success("mindee", "meanwhile")) == 200
        ends = await asyncio.gather(*(asyncio.wait_for(reader.read(), 10.0) for reader, _ in slow))
        for _, writer in slow:
            writer.close()
    assert {end.split(b"\r\n")[0] for end in ends} <= {b"", b"HTTP/1.1 408 Request Timeout"}


async def test_a_request_that_does_not_end_is_broken_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it waits for: here for a body for which there is more time than for the request."""
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.2)
    async with on_a_port(tmp_path / "ledger.db", limits=ReceiverLimits(body_seconds=600.0)) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        writer.write(CLAIMED + b"Content-Length: 99\r\n\r\n{")
        with suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 10.0) == b""
        writer.close()


async def test_a_connection_that_is_used_is_not_hung_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.5)
    async with on_a_port(tmp_path / "ledger.db") as client:
        began = asyncio.get_running_loop().time()
        number = 0
        while asyncio.get_running_loop().time() - began < 1.0:
            assert await push(client, "mindee", success("mindee", f"job-{number}")) == 200
            number += 1
        assert number > 3


def test_the_attacks_are_hostile_and_of_many_kinds() -> None:
    """The generator is worth its name: all kinds come up, and what is signed well is no JSON of a service."""
    attacker = Attacker(seed=5)
    kinds = {attack.__name__ for attack in attacker.kinds}
    assert len(kinds) == 14
    bodies = {
        json.dumps([it.path, str(it.body), it.headers]) for it in (attacker.next() for _ in range(1000))
    }
    assert len(bodies) > 700
