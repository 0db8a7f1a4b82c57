"""Reading a request's body within bounds: of its size, of the time it takes, and of all bodies together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import anyio
from starlette.requests import ClientDisconnect, Request

from prefect_docjobs.webhooks.outcomes import Declined, Outcome


@dataclass(slots=True)
class Usage:
    """Requests in progress, and the bytes of their bodies that are in memory."""

    requests: int
    size: int


class Room:
    """How much is in progress, of all clients together and of each.

    Args:
        most: At most so much of all.
        most_of_client: At most so much of one client, so that no client takes it all.
    """

    def __init__(self, most: Usage, most_of_client: Usage) -> None:
        self._most = most
        self._most_of_client = most_of_client
        self._used = Usage(0, 0)
        self._clients: dict[str, Usage] = {}

    @contextmanager
    def entered(self, client: str) -> Iterator[Share]:
        """Take part while the context is open. Raises `Declined` (BUSY) where there is no room."""
        mine = self._clients.get(client) or Usage(0, 0)
        if self._used.requests >= self._most.requests or mine.requests >= self._most_of_client.requests:
            raise Declined(Outcome.BUSY)
        self._clients[client] = mine
        share = Share(self, mine)
        self._used.requests += 1
        mine.requests += 1
        try:
            yield share
        finally:
            for usage in (self._used, mine):
                usage.requests -= 1
                usage.size -= share.used
            if not mine.requests:
                del self._clients[client]

    def take(self, client: Usage, size: int) -> None:
        """Count bytes in; raises `Declined` (BUSY) where there is no room."""
        if self._used.size + size > self._most.size or client.size + size > self._most_of_client.size:
            raise Declined(Outcome.BUSY)
        self._used.size += size
        client.size += size


class Share:
    """What one request has of the room."""

    def __init__(self, room: Room, client: Usage) -> None:
        self._room = room
        self._client = client
        self.used = 0

    def take(self, size: int) -> None:
        """Count bytes in; raises `Declined` (BUSY) where there is no room."""
        self._room.take(self._client, size)
        self.used += size


async def read_body(request: Request, share: Share, *, most: int, seconds: float) -> bytes:
    """The whole body.

    Args:
        request: Its body was not read yet.
        share: The room that it is counted in.
        most: Bytes after which reading stops.
        seconds: For all of it.

    Raises:
        Declined: It is too large, too slow, broken off, or there is no room.
    """
    read = bytearray()
    try:
        with anyio.fail_after(seconds):
            async for chunk in request.stream():
                if len(read) + len(chunk) > most:
                    raise Declined(Outcome.TOO_LARGE)
                share.take(len(chunk))
                read += chunk
    except TimeoutError:
        raise Declined(Outcome.TOO_SLOW) from None
    except ClientDisconnect:
        raise Declined(Outcome.DISCONNECTED) from None
    return bytes(read)


def check_announced(request: Request, most: int) -> None:
    """Refuse a body by its `Content-Length`, before any of it is read."""
    announced = request.headers.get("content-length")
    if announced is None:
        return
    if not (announced.isascii() and announced.isdigit()):
        raise Declined(Outcome.MALFORMED)
    if len(announced) > len(str(most)) + 1 or int(announced) > most:
        raise Declined(Outcome.TOO_LARGE)
