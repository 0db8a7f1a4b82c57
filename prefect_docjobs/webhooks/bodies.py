"""Reading a request's body within bounds: of its size, of the time it takes, and of all bodies together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio
from starlette.requests import ClientDisconnect, Request

from prefect_docjobs.webhooks.outcomes import Declined, Outcome


class Room:
    """How many requests are in progress, and how many bytes of theirs are in memory.

    Args:
        requests: At most so many.
        size: Bytes, at most, of all bodies together.
    """

    def __init__(self, requests: int, size: int) -> None:
        self._most = requests
        self._size = size
        self.requests = 0
        self.used = 0

    @contextmanager
    def entered(self) -> Iterator[Share]:
        """Take part while the context is open. Raises `Declined` (BUSY) where there is no room."""
        if self.requests >= self._most:
            raise Declined(Outcome.BUSY)
        self.requests += 1
        share = Share(self)
        try:
            yield share
        finally:
            self.requests -= 1
            self.used -= share.used

    def take(self, size: int) -> None:
        """Count bytes in; raises `Declined` (BUSY) where there is no room."""
        if self.used + size > self._size:
            raise Declined(Outcome.BUSY)
        self.used += size


class Share:
    """What one request has of the room."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.used = 0

    def take(self, size: int) -> None:
        """Count bytes in; raises `Declined` (BUSY) where there is no room."""
        self._room.take(size)
        self.used += size


async def read_body(request: Request, share: Share, *, most: int, seconds: float) -> bytes:
    """The whole body.

    Args:
        request: Its body was not read yet.
        share: The room that it is counted in.
        most: Bytes after which reading stops; a larger `Content-Length` is not read at all.
        seconds: For all of it.

    Raises:
        Declined: It is too large, too slow, broken off, or there is no room.
    """
    _check_announced(request, most)
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


def _check_announced(request: Request, most: int) -> None:
    announced = request.headers.get("content-length")
    if announced is None:
        return
    if not (announced.isascii() and announced.isdigit()):
        raise Declined(Outcome.MALFORMED)
    if len(announced) > len(str(most)) + 1 or int(announced) > most:
        raise Declined(Outcome.TOO_LARGE)
