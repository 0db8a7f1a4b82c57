"""Server-sent events from an open response, each held to a size."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

import httpx
from httpx_sse import EventSource, ServerSentEvent, SSEError

from prefect_docjobs.errors import Unreadable


async def read_events(response: httpx.Response, limit: int) -> AsyncIterator[ServerSentEvent]:
    """The events of a `text/event-stream` body as they come; one that breaks off is not told.

    Args:
        response: Open, with nothing read from it.
        limit: Bytes that one event may have, with everything before it since the last one.

    Raises:
        Unreadable: It is no event stream, or an event is too large.
    """
    body = _Metered(response, limit)
    # Without its charset: an event stream is UTF-8 (HTML standard, server-sent events).
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    source = EventSource(httpx.Response(response.status_code, headers={"content-type": kind}, stream=body))
    try:
        async with aclosing(source.aiter_sse()) as events:
            async for event in events:
                body.received = 0
                yield event
    except SSEError:
        raise Unreadable(f"The answer is no stream of events ({kind or 'no content type'}).") from None


class _Metered(httpx.AsyncByteStream):
    """The decoded body of `response`, refused once `limit` bytes came without an event among them."""

    def __init__(self, response: httpx.Response, limit: int) -> None:
        self._response = response
        self._limit = limit
        self.received = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._response.aiter_bytes():
            self.received += len(piece)
            if self.received > self._limit:
                raise Unreadable(f"One event is larger than {self._limit:,} bytes.")
            yield piece
