"""A server on loopback that does with each connection what a test says, and keeps what came whole."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

PIECE = 1 << 16


@dataclass
class Peer:
    """What a server does with each connection.

    Attributes:
        whole: How many requests came complete.
        bodies: Of those.
    """

    act: Act
    url: str = ""
    connections: int = 0
    whole: int = 0
    bodies: list[bytes] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task
        self.tasks.add(task)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self.act(self, reader, writer)
        writer.transport.abort()


Act = Callable[[Peer, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(act: Act, context: ssl.SSLContext | None = None) -> AsyncIterator[Peer]:
    """A running `Peer` on a free port of the loopback interface, over TLS where there is a context."""
    peer = Peer(act)
    server = await asyncio.start_server(peer.connected, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    peer.url = f"{'https' if context else 'http'}://127.0.0.1:{port}"
    try:
        yield peer
    finally:
        server.close()
        for task in peer.tasks:
            task.cancel()
        await asyncio.gather(*peer.tasks, return_exceptions=True)


async def read(peer: Peer, reader: asyncio.StreamReader, most: int | None = None) -> None:
    """Read a request, or its head and at most so many bytes of its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:")
    wanted = length if most is None else min(most, length)
    body = await reader.readexactly(wanted)
    if wanted == length:
        peer.whole += 1
        peer.bodies.append(body)
