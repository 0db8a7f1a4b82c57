"""The receiver on a port, for a process of its own."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0
"""In which the head of a request has to arrive, counted from its connection or from the answer before it."""

_CONNECTIONS = 512
_KEEP_ALIVE = 5  # seconds
_HEAD_BYTES = 32 << 10
_SHUTDOWN_SECONDS = 10


class PunctualProtocol(H11Protocol):
    """HTTP/1.1 that closes a connection on which no whole head arrives in time; uvicorn waits for ever."""

    _closing: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_a_head()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self._closing is not None:
            self._closing.cancel()
        super().connection_lost(exc)

    @override
    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing():
            self._expect_a_head()

    def _expect_a_head(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
        self._closing = self.loop.call_later(HEAD_SECONDS, self._close_if_silent)

    def _close_if_silent(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


class Receiver(uvicorn.Server):
    """A server of the receiver, which has its process for itself.

    Args:
        app: From `create_app`.
        host: Address to listen on.
        port: TCP port; 0 takes a free one.
        on_started: Told the port when requests are answered.
    """

    def __init__(
        self, app: Starlette, host: str, port: int, on_started: Callable[[int], None] | None = None
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                http=PunctualProtocol,
                ws="none",
                lifespan="on",
                loop="asyncio",
                log_config=None,
                log_level="warning",
                access_log=False,  # it would have the path tokens
                server_header=False,
                limit_concurrency=_CONNECTIONS,
                timeout_keep_alive=_KEEP_ALIVE,
                timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
                h11_max_incomplete_event_size=_HEAD_BYTES,
            )
        )
        self._on_started = on_started

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What there is now stays. A large push makes so many objects that all others would be looked through,
        # too: 34 of the 84 ms of CPU that one of 1 MiB took.
        gc.collect()
        gc.freeze()
        if self.started and self._on_started is not None:
            self._on_started(self.servers[0].sockets[0].getsockname()[1])
