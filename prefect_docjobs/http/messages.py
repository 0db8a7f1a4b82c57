"""What goes out and what comes in: requests with their bodies, answers with their JSON.

A service can act on a request only once it has the whole body. So whether the last piece was handed over to
the transport decides whether a submit was refused or is uncertain, and a body whose document has changed
meanwhile is broken off before that piece. JSON is measured before objects are made of it: a few megabytes of
`[[],[],…]` become hundreds.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from itertools import accumulate
from typing import Any

import httpx
from pydantic_core import from_json

from prefect_docjobs.errors import (
    NotFound,
    Rejected,
    ServiceError,
    Throttled,
    Unauthorized,
    Unavailable,
    Unreadable,
)
from prefect_docjobs.models import Document
from prefect_docjobs.models.documents import CheckedStream, PinnedDocument

MASK = "**********"
PIECE = 1 << 16
LARGE = 1 << 18  # bytes of a body that is sent in pieces
_MOST_VALUES = 1_000_000  # a page of text with a place for each word has about ten thousand
_BYTES_OF_A_VALUE = 8  # at least so many on average, in a real answer with more of them than that
_DEEPEST = 200
_WINDOW = 1 << 20
_NO_BRACKET = bytes(set(range(256)) - set(b"[]{}"))
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_SURROGATES = re.compile("[\ud800-\udfff]")
# Control characters, line separators, and the lone surrogates that stand for undecodable bytes of a path.
_NOT_IN_FILE_NAMES = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_REQUEST_IDS = ("x-request-id", "request-id", "x-amzn-requestid", "x-amz-cf-id", "cf-ray")


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a multipart body: a document, or text without a file name.

    Attributes:
        filename: What the service sees; the document's own name when None.
        media_type: The part's Content-Type; the document's own when None.
    """

    field: str
    content: Document | str
    filename: str | None = None
    media_type: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as a provider describes it. At most one of `parts`, `form`, `json`, `body`, `content`.

    Attributes:
        path: Path on the service's origin, or an absolute URL on the same origin.
        parts: Multipart parts, in order; documents are opened when sent and streamed.
        form: `application/x-www-form-urlencoded` fields.
        json: A JSON body.
        body: A document as the raw body, streamed.
        content: Literal bytes as the body.
        accept: Statuses outside 2xx that are answers, not errors.
        verbatim: The answer is a result: not a byte of it is changed.
        large: The answer may hold a result, among other things, and may be as large as one.
    """

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()
    form: Mapping[str, Any] | None = None
    json: Any = None
    body: Document | None = None
    content: bytes | None = None
    accept: Collection[int] = ()
    verbatim: bool = False
    large: bool = False


# -- bodies


InDoubt = Callable[[bool], None]
"""Called with whether what is being submitted may have been accepted by now."""


class Upload:
    """How far a submit has got.

    Attributes:
        begun: The transport has begun to read the body.
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
        """Note an answer. One to a body that was never read comes from a transport that reads none."""
        if not self.begun and not self.complete:
            self.last_piece()

    async def watched(self, pieces: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """The same pieces, noting when the first one is read."""
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


def tracked(built: httpx.Request, upload: Upload) -> httpx.Request:
    """The request with a body that notes in `upload` when its last piece is handed over."""
    assert isinstance(built.stream, AsyncIterable)  # noqa: S101 (httpx has one for each body)
    size = int(built.headers.get("content-length", LARGE))
    if not size:
        upload.last_piece()  # the head is all there is
    pieces = built.stream if size < LARGE else sliced(built.stream)
    stream = HeldBack(upload.watched(pieces), upload.last_piece if size else lambda: None)
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


# -- answers


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, read to its end.

    Attributes:
        headers: Their names in any case.
        url: Path of the request that it answers, without query.
        received_at: When its last byte arrived (UTC).
        attempts: How many requests it took.
        secrets: What must not be shown of it; none for a result, which is kept as it is.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str = ""
    received_at: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    attempts: int = 1
    secrets: tuple[str, ...] = field(default=(), repr=False, compare=False)

    @property
    def text(self) -> str:
        """The body as text; undecodable bytes are replaced."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON.

        Halves of surrogate pairs, which no database and no file takes, become U+FFFD.

        Reading a large one takes a while; `Provider.read_result` and the like are called in a thread then.

        Raises:
            Unreadable: The body is not JSON, has too many values, or is nested so deep that it could not be
                written down.
        """
        self._check_width(self.body)
        try:
            value = from_json(self.body)  # half the time of the standard library; refuses what nests too deep
        except ValueError:
            return self._cleaned(self._parsed())
        return self._cleaned(value) if self._may_hide_secrets() else value

    def _parsed(self) -> Any:
        """The body by the standard library, which takes more: halves of surrogate pairs, other encodings."""
        try:
            text = self.body.decode(json.detect_encoding(self.body), "surrogatepass")
            plain = text.encode("utf-8", "surrogatepass")
            self._check_width(plain)
            if _is_too_deep(plain):
                raise Unreadable(f"The answer is nested deeper than {_DEEPEST} levels.", status=self.status)
            return json.loads(text)
        except (ValueError, RecursionError):
            kind = self.mask(self.headers.get("content-type", "no content type"))
            raise Unreadable(f"The answer is not JSON ({kind}).", status=self.status) from None

    def _check_width(self, body: bytes) -> None:
        if _is_too_wide(body):
            raise Unreadable(f"The answer has more than {_most_values(body):,} values.", status=self.status)

    def _may_hide_secrets(self) -> bool:
        """Whether escapes may have hidden a secret from the redaction of the bytes."""
        special = any(character in secret for secret in self.secrets for character in '"\\/')
        return bool(self.secrets) and (b"\\u" in self.body or (special and b"\\" in self.body))

    def mask(self, text: str) -> str:
        """`text` without secrets, and without what a header may hold and no file takes."""
        text = _SURROGATES.sub("\ufffd", text)
        for secret in self.secrets:
            text = text.replace(secret, MASK)
        return text

    def _cleaned(self, value: Any) -> Any:
        """What escapes may have hidden from the redaction of the bytes."""
        if isinstance(value, str):
            return self.mask(value)
        if isinstance(value, dict):
            return {self._cleaned(key): self._cleaned(inner) for key, inner in value.items()}
        return [self._cleaned(item) for item in value] if isinstance(value, list) else value

    @property
    def location(self) -> str | None:
        """Where a redirect points, or None."""
        return self.headers.get("location")

    @property
    def request_id(self) -> str | None:
        """The service's or its gateway's id of the request."""
        return next((self.mask(self.headers[name]) for name in _REQUEST_IDS if name in self.headers), None)

    @property
    def retry_after(self) -> float | None:
        """Seconds to wait as the Retry-After header says, given in seconds or as a date.

        A date is held against the answer's own Date header, so that a wrong clock here does no harm.
        """
        now = _date(self.headers.get("date")) or self.received_at
        return parse_retry_after(self.headers.get("retry-after"), now=now)


def parse_retry_after(value: str | None, *, now: datetime) -> float | None:
    """Seconds from a Retry-After header (RFC 9110, section 10.2.3), None when absent or senseless."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        date = _date(value)
        if date is None:
            return None
        seconds = (date - now).total_seconds()
    return None if math.isnan(seconds) else min(max(0.0, seconds), 86_400.0)


def _date(value: str | None) -> datetime | None:
    """An HTTP date, or None."""
    try:
        date = parsedate_to_datetime(value) if value else None
    except (ValueError, TypeError, OverflowError):
        return None
    return date.replace(tzinfo=date.tzinfo or timezone.utc) if date else None


def too_large(limit: int, status: int) -> Unreadable:
    """The error for an answer of more than `limit` bytes."""
    return Unreadable(
        f"The answer is larger than {limit:,} bytes. Raise the limit if that is expected.", status=status
    )


def error_for(answer: Answer, message: str | None = None, **facts: Any) -> ServiceError:
    """The typed error for an answer outside 2xx, by its HTTP status alone."""
    kind = _error_class(answer.status)
    text = message or f"The service answered HTTP {answer.status}."
    facts = {"retry_after": answer.retry_after, "request_id": answer.request_id, **facts}
    return kind(text, status=answer.status, **facts)


def _error_class(status: int) -> type[ServiceError]:
    known = {
        401: Unauthorized,
        403: Unauthorized,
        404: NotFound,
        408: Unavailable,
        429: Throttled,
        499: Unavailable,
    }
    if status in known:
        return known[status]
    if status >= 500:
        return Unavailable
    return Rejected if status >= 400 else Unreadable


def safe_file_name(name: str) -> str:
    """`name` with `_` for each character that cannot travel, so that any file of a disk can be sent."""
    return _NOT_IN_FILE_NAMES.sub("_", name) or "document"


def common_headers() -> dict[str, str]:
    """What each request says of itself."""
    from prefect_docjobs import __version__

    return {"user-agent": f"prefect-docjobs/{__version__}", "accept": "application/json, */*;q=0.1"}


# -- JSON, measured by counting characters: fast, and without memory


def _most_values(body: bytes) -> int:
    """How many values an answer of this size may have."""
    return max(_MOST_VALUES, len(body) // _BYTES_OF_A_VALUE)


def _is_too_wide(body: bytes) -> bool:
    """Whether it has more than `_most_values`."""
    most = _most_values(body)
    if len(body) <= most or _values_in(body) <= most:  # what strings hold counts here, too
        return False
    values = 0
    for piece in _outside_strings(body):
        values += _values_in(piece)
        if values > most:
            return True
    return False


def _is_too_deep(body: bytes) -> bool:
    """Whether something in it is nested deeper than `_DEEPEST` levels."""
    depth = 0
    for piece in _outside_strings(body):
        brackets = piece.translate(None, _NO_BRACKET)
        depths = list(accumulate(map(_STEP.__getitem__, brackets), initial=depth))
        if max(depths) > _DEEPEST:
            return True
        depth = depths[-1]
    return False


def _values_in(text: bytes) -> int:
    """Each value is the first one of its container, or follows a comma."""
    return 1 + text.count(b",") + text.count(b"[") + text.count(b"{")


def _outside_strings(body: bytes) -> Iterator[bytes]:
    """What stands outside strings, window by window: without escapes each quote begins or ends one."""
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in body else body
    inside = 0
    for start in range(0, len(plain), _WINDOW):
        parts = plain[start : start + _WINDOW].split(b'"')
        yield b"".join(parts[inside::2])
        inside ^= (len(parts) - 1) & 1
