"""Connections: one TLS context for all, and answers that come before a large body has left.

A service that refuses an upload by its head (413, 401) answers at once, and stops reading or closes. While
httpx writes it does not read: the write fails or hangs, and the answer is gone.
"""

from __future__ import annotations

import functools
import re
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.lowlevel
import httpcore
import httpx

from prefect_docjobs.http.messages import PIECE, Request, common_headers

# 101 is none: after it comes no HTTP.
_INTERIM = re.compile(rb"HTTP/\d\.\d 1(?!01)\d\d")
_INTERIM_HEAD = re.compile(_INTERIM.pattern + rb"[ \r\n].*?\n\r?\n", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client allows itself. Times in seconds, sizes in bytes.

    Attributes:
        in_flight: Requests at the same time; httpx slows down badly far above this.
        attempts: Requests per call, the first included; being throttled does not count.
        result_attempts: The same for a result: it is paid for, and sending it again costs nothing.
        backoff: Longest pause before the second request; it doubles for each further one.
        longest_pause: Longest single pause, Retry-After included; a service that demands more gets no retry.
        throttled: How long one call may be throttled (HTTP 429) in all before it gives up.
        connect: To connect.
        idle: Between two pieces of a body, in either direction.
        total: For one request with its whole answer.
        answer_bytes: Largest answer that holds no result.
        result_bytes: Largest result; also of a status answer that may hold one.
    """

    in_flight: int = 20
    attempts: int = 6
    result_attempts: int = 12
    backoff: float = 0.5
    longest_pause: float = 60.0
    throttled: float = 900.0
    connect: float = 10.0
    idle: float = 60.0
    total: float = 300.0
    answer_bytes: int = 8 << 20
    result_bytes: int = 32 << 20

    def largest(self, request: Request) -> int:
        """Bytes of the largest answer to this request."""
        return self.result_bytes if request.verbatim or request.large else self.answer_bytes


@functools.cache
def shared_ssl_context() -> ssl.SSLContext:
    """One TLS context for the process: building one costs about 60 ms, sharing one costs nothing."""
    return httpx.create_ssl_context()


def new_client(
    limits: Limits, transport: httpx.AsyncBaseTransport | None, *, keepalive: float, uploads: bool = False
) -> httpx.AsyncClient:
    """A client for one account.

    Args:
        limits: What it allows itself.
        transport: What to use instead of connections.
        keepalive: Seconds that an idle connection is kept.
        uploads: Read answers that come before a large body has left.
    """
    pool = limits.in_flight * 2
    client = httpx.AsyncClient(
        headers=common_headers(),
        verify=shared_ssl_context(),
        transport=transport,
        timeout=httpx.Timeout(limits.idle, connect=limits.connect),
        limits=httpx.Limits(max_connections=pool, max_keepalive_connections=pool, keepalive_expiry=keepalive),
        follow_redirects=False,
        event_hooks={"response": [_set_location_aside]},
    )
    if uploads and transport is None:
        _read_early_answers(client)
    return client


async def _set_location_aside(response: httpx.Response) -> None:
    """Httpx would raise for an address that makes no sense, although no redirect is followed."""
    if response.has_redirect_location:
        response.extensions["location"] = response.headers.pop("location")


def headers_of(response: httpx.Response) -> httpx.Headers:
    """The headers of an answer of `new_client`, with the address of a redirect as it came."""
    if "location" in response.extensions:
        response.headers["location"] = response.extensions["location"]
    return response.headers


def _read_early_answers(client: httpx.AsyncClient) -> None:
    """Httpx has no setting for it; httpcore, which its connections are made of, has."""
    for part in (client._transport, *client._mounts.values()):  # noqa: SLF001
        if isinstance(part, httpx.AsyncHTTPTransport):
            pool = part._pool  # noqa: SLF001
            pool._network_backend = _Backend(pool._network_backend)  # noqa: SLF001


class _Backend(httpcore.AsyncNetworkBackend):
    def __init__(self, inner: httpcore.AsyncNetworkBackend) -> None:
        self._inner = inner

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(await self._inner.connect_tcp(host, port, timeout, local_address, socket_options))

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(await self._inner.connect_unix_socket(path, timeout, socket_options))

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream):
    """A connection that is read while it is written to.

    What comes ends the write with a `WriteError`, after which httpcore reads the answer. Interim answers
    (1xx) are dropped, as httpcore drops them. A connection that was read in this way is not used again: what
    it holds unread could not be seen.
    """

    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner
        self._early: list[bytes] = []
        self._was_read = False

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._early.pop(0) if self._early else await self._inner.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if len(buffer) < PIECE:
            await self._inner.write(buffer, timeout)
            return
        self._was_read, is_over = True, False
        problem: Exception | None = None

        async def listen(scope: anyio.CancelScope) -> None:
            nonlocal is_over
            try:
                while not is_over:
                    is_over = self._has_ended(await self._inner.read(PIECE))
            except Exception:  # noqa: BLE001 (whatever it is, httpcore's own read tells it)
                is_over = True
            scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen, tasks.cancel_scope)
            await self._let_read()
            try:
                await self._inner.write(buffer, timeout)
            except httpcore.WriteError as failed:
                problem = failed  # reading ends by itself: what came before the reset is not lost
            except Exception as failed:  # noqa: BLE001 (raised below, not as part of a group)
                problem = failed
                tasks.cancel_scope.cancel()
            else:
                tasks.cancel_scope.cancel()
        if is_over:
            raise httpcore.WriteError("The service answered before the whole body was sent.")
        if problem:
            raise problem

    def _has_ended(self, piece: bytes) -> bool:
        """Keep what was read; whether it is the end of the connection, or more than interim answers."""
        heard = b"".join(self._early) + piece
        while head := _INTERIM_HEAD.match(heard):
            heard = heard[head.end() :]
        self._early = [heard] if heard else []
        if not piece:
            self._early.append(piece)
        start = heard[:12] + b"HTTP/1.1 100"[len(heard) :]  # what is missing may still come
        return not piece or len(heard) > PIECE or not _INTERIM.match(start)

    async def _let_read(self) -> None:
        """Have what has come read first: a write on a connection that was reset would discard it."""
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
            if not self._inner.get_extra_info("is_readable"):
                break
        await anyio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(await self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return True if info == "is_readable" and self._was_read else self._inner.get_extra_info(info)
