"""The receiver on a port, for a process of its own."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import uvicorn
from starlette.applications import Starlette
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol

from prefect_docjobs.webhooks.clients import Network, client_key, is_among, networks_of

HEAD_SECONDS = 10.0
"""In which the head of a request has to arrive, counted from its connection or from the answer before it."""

REQUEST_SECONDS = 60.0
"""After which a request that is still in progress is broken off, such as one whose answer is not read."""

_CONNECTIONS = 512
_CONNECTIONS_OF_CLIENT = 128
_BACKLOG = 128  # connections that are accepted at once, beyond the limit until one is closed for each
_KEEP_ALIVE = 5  # seconds
_HEAD_BYTES = 32 << 10
_SHUTDOWN_SECONDS = 10


class Connections:
    """The open connections, of each client and of all.

    Where there are too many, one of them that has no request in progress gives way to the new one: silent
    connections keep nobody out, whosever they are.

    Args:
        trusted: Proxies, whose connections are of many clients.
    """

    def __init__(self, trusted: Sequence[Network]) -> None:
        self._trusted = trusted
        self._clients: dict[PunctualProtocol, str | None] = {}  # the one that was used least recently first

    def add(self, protocol: PunctualProtocol) -> None:
        """A new connection; it is closed where no other can be."""
        peer = protocol.client[0] if protocol.client else None
        client = None if is_among(peer, self._trusted) else client_key(peer)
        others = list(self._clients)
        of_client = [it for it in others if client is not None and self._clients[it] == client]
        self._clients[protocol] = client
        if len(of_client) >= _CONNECTIONS_OF_CLIENT:
            self._close(next((it for it in of_client if it.is_silent), protocol))
        elif len(others) >= _CONNECTIONS:
            self._close(next((it for it in others if it.is_silent), protocol))

    def used(self, protocol: PunctualProtocol) -> None:
        """A request of this connection has been answered."""
        if protocol in self._clients:
            self._clients[protocol] = self._clients.pop(protocol)

    def drop(self, protocol: PunctualProtocol) -> None:
        """A connection that is closed."""
        self._clients.pop(protocol, None)

    def _close(self, protocol: PunctualProtocol) -> None:
        self.drop(protocol)
        protocol.transport.abort()


class PunctualProtocol(H11Protocol):
    """HTTP/1.1 that closes a connection on which no whole head arrives in time; uvicorn waits for ever.

    Args:
        connections: All of the server's.
        args: As uvicorn gives them.
        options: Likewise.
    """

    _closing: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, connections: Connections, **options: Any) -> None:
        super().__init__(*args, **options)
        self._open_connections = connections

    @property
    def is_silent(self) -> bool:
        """Whether no request is in progress."""
        return self.cycle is None or self.cycle.response_complete

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_a_head()
        self._open_connections.add(self)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self._closing is not None:
            self._closing.cancel()
        self._open_connections.drop(self)
        super().connection_lost(exc)

    @override
    def on_response_complete(self) -> None:
        if self.cycle.more_body:
            self.transport.close()  # the rest of a body that nobody reads is not waited for
        self._open_connections.used(self)
        self._expect_a_head()
        super().on_response_complete()

    def _expect_a_head(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
        self._closing = self.loop.call_later(HEAD_SECONDS, self._close_if_silent)

    def _close_if_silent(self) -> None:
        if self.is_silent:
            self.transport.abort()
        else:
            self._closing = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)


class Receiver(uvicorn.Server):
    """A server of the receiver, which has its process for itself.

    Args:
        app: From `create_app`.
        host: Address to listen on.
        port: TCP port; 0 takes a free one.
        on_started: Told the port when requests are answered.
        trusted_proxies: Addresses and networks of the proxies in front of it, whose `X-Forwarded-For` says
            who the client is. Nobody else's header is believed.

    Raises:
        ConfigurationError: A proxy is no address and no network.
    """

    def __init__(
        self,
        app: Starlette,
        host: str,
        port: int,
        on_started: Callable[[int], None] | None = None,
        *,
        trusted_proxies: Sequence[str] = (),
    ) -> None:
        trusted = networks_of(trusted_proxies)
        protocol: Any = partial(PunctualProtocol, connections=Connections(trusted))
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                http=protocol,
                ws="none",
                lifespan="on",
                loop="asyncio",
                log_config=None,
                log_level="warning",
                access_log=False,  # it would have the path tokens
                server_header=False,
                proxy_headers=bool(trusted),
                forwarded_allow_ips=[str(network) for network in trusted],
                backlog=_BACKLOG,
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
