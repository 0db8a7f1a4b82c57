"""What one client can take of the receiver: it is refused before its body, and leaves room for others.

All over sockets, with the receiver in a process of its own; clients differ in their loopback address.
"""

from __future__ import annotations

import json
import resource
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import httpx
import pytest
from support import postgres
from support.processes import Usage, until
from support.receiver import PATHS, TOKEN, push, received_pushes, running, signed, success

MIB = 1 << 20
HANGS = 30.0  # seconds
UNSIGNED = "POST /webhooks/mindee/main"
CLAIMED = "X-Signature: " + "0" * 64


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    with running(tmp_path / "ledger.db") as (_, port):
        yield port


def connect(port: int, address: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), HANGS, (address, 0))


def head(request: str, *headers: str) -> bytes:
    return "\r\n".join([f"{request} HTTP/1.1", "Host: a", *headers, "", ""]).encode()


def read_all(connection: socket.socket) -> bytes:
    """Everything until the receiver closes the connection."""
    read = b""
    while piece := connection.recv(MIB):
        read += piece
    return read


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@contextmanager
def client_at(port: int, address: str) -> Iterator[httpx.AsyncClient]:
    transport = httpx.AsyncHTTPTransport(local_address=address)
    yield httpx.AsyncClient(transport=transport, base_url=f"http://127.0.0.1:{port}", timeout=HANGS)


async def pushes(port: int, address: str, job_id: str = "job-1") -> int:
    with client_at(port, address) as client:
        async with client:
            return await push(client, "mindee", success("mindee", job_id))


# ---------------------------------------------------------------------------- refused before the body


@pytest.mark.parametrize(
    ("request_line", "headers", "answer"),
    [
        (UNSIGNED, (), 401),
        (UNSIGNED, ("X-Signature:",), 401),
        (UNSIGNED, (CLAIMED, CLAIMED), 401),
        (UNSIGNED, ("X-Mindee-Hmac-Signature: " + "0" * 64,), 401),
        ("POST /webhooks/mindee-v1/main", (CLAIMED,), 401),
        ("POST /webhooks/mindee/nobody", (CLAIMED,), 401),
        ("POST /webhooks/nobody/main", (CLAIMED,), 401),
        ("POST /webhooks/mindee/main/token", (CLAIMED,), 401),
        ("PUT /webhooks/mindee/main", (CLAIMED,), 405),
        ("POST /elsewhere", (), 404),
        ("POST /healthz", (), 405),
    ],
)
@pytest.mark.parametrize("length", [f"Content-Length: {19 * MIB}", "Transfer-Encoding: chunked"])
def test_what_cannot_be_accepted_is_refused_before_its_body(
    port: int, request_line: str, headers: Sequence[str], answer: int, length: str
) -> None:
    began = time.monotonic()
    with connect(port) as connection:
        connection.sendall(head(request_line, *headers, length))
        said = read_all(connection)
    assert status(said) == answer
    assert b"100 Continue" not in said
    assert time.monotonic() - began < 9.0  # the receiver waits 10 s for a body


@pytest.mark.parametrize("length", [60 * MIB, 20 * MIB + 1])
@pytest.mark.parametrize("headers", [(), (CLAIMED,)])
def test_a_body_above_the_limit_is_refused_by_its_announcement(
    port: int, length: int, headers: Sequence[str]
) -> None:
    with connect(port) as connection:
        connection.sendall(head(UNSIGNED, *headers, f"Content-Length: {length}"))
        assert status(read_all(connection)) in (401, 413)


def test_a_body_of_unknown_length_is_read_up_to_the_limit(port: int) -> None:
    sent = 0
    piece = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    with connect(port) as connection:
        connection.sendall(head(UNSIGNED, CLAIMED, "Transfer-Encoding: chunked"))
        with suppress(ConnectionError):
            while sent < 100 * MIB:
                connection.sendall(piece)
                sent += 65_536
    assert sent < 40 * MIB  # the limit, and what the buffers of both sides take


def test_a_hint_is_small(port: int) -> None:
    path = f"POST /webhooks/unsiloed/main/{TOKEN}"
    with connect(port) as connection:
        connection.sendall(head(path, f"Content-Length: {131_073}"))
        assert status(read_all(connection)) == 413
    with connect(port) as connection:
        connection.sendall(head(path, "Transfer-Encoding: chunked") + b"20001\r\n" + b" " * 131_073 + b"\r\n")
        assert status(read_all(connection)) == 413
    with connect(port) as connection:
        body = json.dumps({"job_id": "job-1", "note": "x" * 120_000}).encode()
        connection.sendall(head(path, f"Content-Length: {len(body)}", "Connection: close") + body)
        assert status(read_all(connection)) == 200


def test_a_wrong_path_token_is_refused_before_the_body(port: int) -> None:
    with connect(port) as connection:
        connection.sendall(head("POST /webhooks/unsiloed/main/" + "x" * 40, "Content-Length: 1000"))
        assert status(read_all(connection)) == 401


# ------------------------------------------------------------------------------- one client and others


def stalled(
    stack: ExitStack, port: int, number: int, address: str = "127.0.0.1", *more: str
) -> list[socket.socket]:
    """Posts that may be the service's, whose body does not come."""
    connections = [stack.enter_context(connect(port, address)) for _ in range(number)]
    for connection in connections:
        connection.sendall(head(UNSIGNED, CLAIMED, "Content-Length: 1000000", *more) + b"{")
    return connections


async def test_stalled_posts_of_one_client_leave_others_served(port: int) -> None:
    with ExitStack() as stack:
        for connection in stalled(stack, port, 100)[64:]:
            assert status(read_all(connection)) == 503  # at once: the others are still waited for
        for number in range(20):
            assert await pushes(port, "127.0.0.2", f"job-{number}") == 200
        assert await pushes(port, "127.0.0.1") == 503


@pytest.mark.parametrize(
    "begun",
    [b"", b"POST /webh", head(UNSIGNED)[:-2], b"\r\n"],
    ids=["silent", "half a line", "half a head", "blank lines"],
)
async def test_silent_connections_of_one_client_keep_nobody_out(port: int, begun: bytes) -> None:
    with ExitStack() as stack:
        for _ in range(600):
            connection = stack.enter_context(connect(port))
            connection.sendall(begun)
        assert await pushes(port, "127.0.0.2") == 200
        assert await pushes(port, "127.0.0.1") == 200


async def test_silent_connections_of_many_clients_keep_nobody_out(port: int) -> None:
    with ExitStack() as stack:
        for number in range(800):
            stack.enter_context(connect(port, f"127.0.1.{number // 50}"))
        assert await pushes(port, "127.0.0.2") == 200


async def test_idle_connections_give_way_before_those_in_use(port: int) -> None:
    """A post that is under way is not broken off for new connections of its client."""
    body = success("mindee", "under-way")
    headers = [f"{name}: {value}" for name, value in signed("mindee", body).items()]
    with ExitStack() as stack:
        under_way = stack.enter_context(connect(port))
        under_way.sendall(
            head(UNSIGNED, *headers, f"Content-Length: {len(body)}", "Connection: close") + body[:5]
        )
        for _ in range(200):
            idle = stack.enter_context(connect(port))
            idle.sendall(head("GET /healthz"))
            assert status(idle.recv(1000)) == 200
        under_way.sendall(body[5:])
        assert status(read_all(under_way)) == 200


def test_answers_that_are_not_read_keep_nobody_out(tmp_path: Path) -> None:
    with running(tmp_path / "ledger.db") as (process, port), ExitStack() as stack:
        for _ in range(600):  # each with requests that fill the buffers of both sides, and nothing is read
            connection = stack.enter_context(connect(port))
            connection.setblocking(False)
            with suppress(BlockingIOError):
                connection.send(head("GET /metrics") * 50)
        with connect(port, "127.0.0.2") as other:
            other.sendall(head("GET /healthz", "Connection: close"))
            assert status(read_all(other)) == 200
        assert process.poll() is None


async def test_memory_is_bounded_by_client(tmp_path: Path) -> None:
    """Bodies that stop before their end: 8 of 18 MiB for each of 4 clients would be 576 MiB."""
    with running(tmp_path / "ledger.db") as (process, port), ExitStack() as stack:
        before = Usage.of(process.pid).memory
        for number in range(32):
            connection = stack.enter_context(connect(port, f"127.0.2.{number % 4}"))
            connection.sendall(head(UNSIGNED, CLAIMED, f"Content-Length: {19 * MIB}"))
            try:
                connection.sendall(b"x" * (18 * MIB))
            except OSError:
                continue  # refused: its share is used up
        used = Usage.of(process.pid).memory - before
        assert used < 250 * MIB, f"{used:,} bytes"  # 80 MiB of bodies, and copies of what is being read


# ------------------------------------------------------------------------------------- behind a proxy


async def post_as(port: int, address: str, job_id: str = "job-1") -> int:
    body = success("mindee", job_id)
    headers = {**signed("mindee", body), "X-Forwarded-For": address}
    with client_at(port, "127.0.0.1") as client:
        async with client:
            return (await client.post(PATHS["mindee"], content=body, headers=headers)).status_code


async def test_behind_a_trusted_proxy_the_forwarded_address_is_the_client(tmp_path: Path) -> None:
    with running(tmp_path / "ledger.db", "10.0.0.0/8", "127.0.0.1") as (_, port), ExitStack() as stack:
        for connection in stalled(stack, port, 70, "127.0.0.1", "X-Forwarded-For: 6.6.6.6, 203.0.113.1")[64:]:
            assert status(read_all(connection)) == 503
        assert await post_as(port, "203.0.113.2") == 200
        assert await post_as(port, "203.0.113.2, 203.0.113.1") == 503  # the last one is what the proxy saw
        assert await post_as(port, "203.0.113.2, 10.1.2.3") == 200
        for _ in range(300):  # all of them the proxy's: of no client
            stack.enter_context(connect(port))
        assert await post_as(port, "203.0.113.2", "job-2") == 200


async def test_nobody_else_chooses_its_address(port: int) -> None:
    with ExitStack() as stack:
        for number in range(64):
            stalled(stack, port, 1, "127.0.0.1", f"X-Forwarded-For: 203.0.113.{number}")
        for _ in range(100):
            if await post_as(port, "203.0.113.99") == 503:  # the stalled ones have begun
                break
        else:
            pytest.fail("each header made a client of its own")
        assert await pushes(port, "127.0.0.2") == 200


async def test_addresses_of_one_ipv6_network_are_one_client(tmp_path: Path) -> None:
    with running(tmp_path / "ledger.db", "127.0.0.1") as (_, port), ExitStack() as stack:
        for number in range(64):
            stalled(stack, port, 1, "127.0.0.1", f"X-Forwarded-For: 2001:db8:0:1::{number:x}")
        assert await post_as(port, "2001:db8:0:2::1") == 200
        for _ in range(100):
            if await post_as(port, "2001:db8:0:1:ffff::1", "job-2") == 503:
                break
        else:
            pytest.fail("each address was a client of its own")


# ---------------------------------------------------------------------------------------- a full disk


def limit_files(process: subprocess.Popen[str], size: int) -> None:
    """No file of the process may grow beyond `size` from now on: to it, the disk is full."""
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


async def test_a_full_disk_makes_it_unready_until_a_push_can_be_kept(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    big = success("mindee", "big", note=json.dumps(list(range(300_000))))
    with running(path) as (process, port), client_at(port, "127.0.0.1") as client:
        async with client:
            assert await push(client, "mindee", success("mindee", "small")) == 200
            assert (await client.get("/readyz")).status_code == 200
            limit_files(process, 200_000)
            assert await push(client, "mindee", big) == 503
            assert (await client.get("/readyz")).status_code == 503
            assert (await client.get("/healthz")).status_code == 200
            limit_files(process, resource.RLIM_INFINITY)
            assert await push(client, "mindee", big) == 200
            assert (await client.get("/readyz")).status_code == 200
    assert [it.job_id for it in await received_pushes(path)] == ["small", "big"]


async def test_it_is_ready_again_without_a_push(tmp_path: Path) -> None:
    with running(tmp_path / "ledger.db") as (process, port), client_at(port, "127.0.0.1") as client:
        async with client:
            assert (await client.get("/readyz")).status_code == 200
            limit_files(process, 100)
            assert await push(client, "mindee", success("mindee", "small")) == 503
            assert (await client.get("/readyz")).status_code == 503
            limit_files(process, resource.RLIM_INFINITY)
            await until(partial(_is_ready, client), within=HANGS)  # an answer holds for a second


@pytest.mark.xdist_group("postgres")
async def test_a_database_that_is_away_makes_it_unready_until_it_is_back() -> None:
    async def administrate(statement: str) -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(statement)
        await connection.close()

    with postgres.server_for_tests() as url:
        await administrate("CREATE DATABASE pushes")
        with running(f"{url.rpartition('/')[0]}/pushes") as (_, port), client_at(port, "127.0.0.1") as client:
            async with client:
                assert await push(client, "mindee", success("mindee", "job-1")) == 200
                assert await _is_ready(client)
                await administrate("ALTER DATABASE pushes ALLOW_CONNECTIONS false")
                await administrate(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'pushes'"
                )
                assert await push(client, "mindee", success("mindee", "job-2")) == 503
                assert not await _is_ready(client)
                await administrate("ALTER DATABASE pushes ALLOW_CONNECTIONS true")
                await until(partial(_is_ready, client), within=HANGS)
                assert await push(client, "mindee", success("mindee", "job-2")) == 200


async def _is_ready(client: httpx.AsyncClient) -> bool:
    return (await client.get("/readyz")).status_code == 200
