"""What goes out and what comes in: requests and answers as plain values, and the error for an answer."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

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
from prefect_docjobs.http.json_bounds import DEEPEST, is_too_deep, is_too_wide, most_values
from prefect_docjobs.models import Document

MASK = "**********"
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


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, read to its end.

    Attributes:
        headers: Their names in any case.
        url: Path of the request that it answers, without query.
        received_at: When its last byte arrived (UTC).
        attempts: How many requests it took.
        secrets: What must not be told of it; none for a result, which is kept as it is.
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
            if is_too_deep(plain):
                raise Unreadable(f"The answer is nested deeper than {DEEPEST} levels.", status=self.status)
            return json.loads(text)
        except (ValueError, RecursionError):
            kind = self.mask(self.headers.get("content-type", "no content type"))
            raise Unreadable(f"The answer is not JSON ({kind}).", status=self.status) from None

    def _check_width(self, body: bytes) -> None:
        if is_too_wide(body):
            raise Unreadable(f"The answer has more than {most_values(body):,} values.", status=self.status)

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
