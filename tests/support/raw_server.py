"""A server on loopback that answers with bytes as they are written, right or wrong."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

Reply = Callable[[asyncio.StreamWriter], Awaitable[None]]
"""Writes one answer; a connection that it closes takes no further request."""


@dataclass
class RawServer:
    """Answers every request with `reply`; remembers the heads of the requests, and the connections."""

    reply: Reply
    url: str = ""
    heads: list[str] = field(default_factory=list)
    connections: int = 0
    _open: dict[asyncio.Task[None], asyncio.StreamWriter] = field(default_factory=dict)

    @property
    def targets(self) -> list[str]:
        """What each request asked for, as it stood in its first line."""
        return [head.split(" ")[1] for head in self.heads]

    def headers(self, name: str) -> list[str]:
        """The values of a header of the last request."""
        lines = (line.partition(": ") for line in self.heads[-1].split("\r\n")[1:])
        return [value for key, _, value in lines if key.lower() == name]

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task
        self._open[task] = writer
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head.decode("latin-1"))
                await self.reply(writer)
                await writer.drain()
        writer.close()

    async def aclose(self) -> None:
        for task, writer in self._open.items():
            task.cancel()
            writer.close()
        await asyncio.gather(*self._open, return_exceptions=True)


@asynccontextmanager
async def served(reply: Reply) -> AsyncIterator[RawServer]:
    """A running `RawServer` on a free port of the loopback interface."""
    server = RawServer(reply)
    listening = await asyncio.start_server(server.connected, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listening.close()
        await server.aclose()


def sends(*pieces: bytes, close: bool = False, every: float = 0.0) -> Reply:
    """Writes these bytes, with a pause after each piece."""

    async def reply(writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(every)
        if close:
            writer.close()

    return reply


def answers(body: bytes = b"{}", *, status: str = "200 OK", headers: str = "", close: bool = False) -> Reply:
    """Writes a well-formed answer; `headers` are lines that end with CRLF."""
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode("latin-1")
    return sends(head, body, close=close)


def resets(*pieces: bytes) -> Reply:
    """Writes these bytes and breaks the connection off, as a crashed peer does."""

    async def reply(writer: asyncio.StreamWriter) -> None:
        await sends(*pieces)(writer)
        peer: socket.socket = writer.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    return reply


async def silent(writer: asyncio.StreamWriter) -> None:
    """Never answers."""
    await asyncio.Event().wait()
