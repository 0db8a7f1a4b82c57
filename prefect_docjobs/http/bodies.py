"""Bodies of requests: how they are encoded, and that their last piece leaves only when it may.

A service can act on a request only once it has the whole body. So whether the last piece was handed over to
the transport decides between a submit that was refused and one whose end is uncertain, and a body whose
document changed meanwhile is broken off before it.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import ExitStack
from typing import Any

import httpx

from prefect_docjobs.http.messages import Part, Request, safe_file_name
from prefect_docjobs.models import Document
from prefect_docjobs.models.documents import CheckedStream, PinnedDocument

PIECE = 1 << 16
LARGE = 1 << 18  # bytes of a body that is sent in pieces

InDoubt = Callable[[bool], None]
"""Called with whether what is being submitted may have been accepted by now."""


class Sent:
    """How far a submit has got.

    Attributes:
        begun: The transport has asked for the body.
        complete: Its last piece was handed over to the transport.
    """

    def __init__(self, in_doubt: InDoubt | None = None) -> None:
        self.begun = self.complete = False
        self._in_doubt = in_doubt

    def last_piece(self) -> None:
        """Note that the last piece is about to be handed over; from here on it may be accepted."""
        if self._in_doubt:
            self._in_doubt(True)
        self.complete = True

    def answered(self) -> None:
        """Note an answer. One to a body that was never asked for comes from a transport that needs none."""
        if not self.begun and not self.complete:
            self.last_piece()

    async def watched(self, pieces: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """The same pieces, noting when the first one is asked for."""
        self.begun = True
        async for piece in pieces:
            yield piece


class HeldBack(httpx.AsyncByteStream):
    """A body whose last piece is yielded only after `before_last`, which may raise instead."""

    def __init__(self, pieces: AsyncIterable[bytes], before_last: Callable[[], None]) -> None:
        self._pieces = pieces
        self._before_last = before_last

    async def __aiter__(self) -> AsyncIterator[bytes]:
        last = b""
        async for piece in self._pieces:
            if last:
                yield last
            last = piece
        self._before_last()
        yield last


async def sliced(pieces: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in pieces of at most `PIECE`, so that the last one is not the whole body."""
    async for piece in pieces:
        for start in range(0, len(piece), PIECE):
            yield piece[start : start + PIECE]


async def held_back(built: httpx.Request, documents: list[CheckedStream]) -> httpx.Request:
    """The request with a body that checks its documents before its last piece; a small one is read now.

    Raises:
        InvalidDocument: A document of a small body is not what it was.
    """

    def check() -> None:
        for document in documents:
            document.check()

    assert isinstance(built.stream, AsyncIterable)  # noqa: S101 (httpx has one for each body)
    if documents:
        built.stream = HeldBack(built.stream, check)
    if int(built.headers.get("content-length", LARGE)) < LARGE:
        await built.aread()  # one write instead of one for each piece of each part
    return built


def noted(built: httpx.Request, sent: Sent) -> httpx.Request:
    """The request with a body that notes in `sent` when its last piece is handed over."""
    assert isinstance(built.stream, AsyncIterable)  # noqa: S101 (httpx has one for each body)
    size = int(built.headers.get("content-length", LARGE))
    if not size:
        sent.last_piece()  # the head is all there is
    pieces = built.stream if size < LARGE else sliced(built.stream)
    stream = HeldBack(sent.watched(pieces), sent.last_piece if size else lambda: None)
    return httpx.Request(
        built.method, built.url, headers=built.headers, stream=stream, extensions=built.extensions
    )


def encoded(
    request: Request, opened: ExitStack
) -> tuple[dict[str, str], dict[str, Any], list[CheckedStream]]:
    """Headers, the body as httpx takes it, and its documents, which stay open until `opened` is closed."""
    headers = dict(request.headers)
    if request.parts:
        files = [_multipart(part, opened) for part in request.parts]
        documents = [file[1] for _, file in files if isinstance(file[1], CheckedStream)]
        return headers, {"files": files}, documents
    if request.form is not None:
        return headers, {"data": request.form}, []
    if request.json is not None:
        return headers, {"json": request.json}, []
    if request.body is not None:
        stream = _opened_in(request.body, opened)
        headers["content-length"] = str(stream.seek(0, 2))
        return headers, {"content": _pieces(stream)}, [stream]
    return headers, {} if request.content is None else {"content": request.content}, []


def _multipart(part: Part, opened: ExitStack) -> tuple[str, tuple[Any, ...]]:
    """A part as httpx takes it; its document stays open until `opened` is closed.

    Quotes and backslashes are left to httpx, which escapes them as the HTML standard says (`%22`).
    """
    if isinstance(part.content, str):
        name = safe_file_name(part.filename) if part.filename else None
        return part.field, (name, part.content, *([part.media_type] if part.media_type else []))
    document = part.content
    name = safe_file_name(part.filename or document.name)
    stream = _opened_in(document, opened)
    return part.field, (name, stream, part.media_type or document.media_type)


def _opened_in(document: Document, opened: ExitStack) -> CheckedStream:
    """The document's bytes as a stream that lives as long as `opened`."""
    if not isinstance(document, PinnedDocument):
        document = document.pinned(hashed=False)
    return opened.enter_context(document.checked())


async def _pieces(stream: CheckedStream) -> AsyncIterator[bytes]:
    """A stream as a raw body, piece by piece."""
    while piece := stream.read(PIECE):
        yield piece
