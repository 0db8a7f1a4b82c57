"""Connections: one TLS context for all, and answers that come before a large body has left.

A service that refuses an upload by its head (413, 401) answers at once, and stops reading or closes. While
httpx writes it does not read: the write fails or hangs, and the answer is gone.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Iterable
from typing import Any

import anyio
import anyio.lowlevel
import httpcore
import httpx

from prefect_docjobs.http.bodies import PIECE
from prefect_docjobs.http.messages import common_headers
from prefect_docjobs.http.retries import Limits


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
    )
    if uploads and transport is None:
        _read_early_answers(client)
    return client


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

    What comes ends the write with a `WriteError`, after which httpcore reads the answer. A connection that
    was read in this way is not used again: what it holds unread could not be seen.
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
        self._was_read, broken = True, False
        problem: Exception | None = None

        async def listen(scope: anyio.CancelScope) -> None:
            nonlocal broken
            try:
                self._early.append(await self._inner.read(PIECE))
            except Exception:  # noqa: BLE001 (whatever it is, httpcore's own read tells it)
                broken = True
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
        if self._early or broken:
            raise httpcore.WriteError("The service answered before the whole body was sent.")
        if problem:
            raise problem

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
