"""A job inside the simulator: its source, its planned fate, and what was seen of it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

Channel = Literal["poll", "list", "stream", "push"]
"""How somebody learned of a job's state."""


class Phase(Enum):
    """Where a job stands, in the simulator's own words; each service translates them into its own."""

    QUEUED = "queued"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended."""
        return self in _TERMINAL


_TERMINAL = frozenset({Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED})


@dataclass(frozen=True, slots=True)
class Source:
    """The document of one submit: its bytes, or a URL that is never downloaded.

    Attributes:
        name: File name as the service would show it.
        data: The bytes; None for a URL that the simulator's table of documents does not hold.
        url: The URL; None for a document that came with the request.
        sha256: SHA-256 (hex) of the bytes; None without bytes.
    """

    name: str
    data: bytes | None
    url: str | None
    sha256: str | None

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> Source:
        """A document that came with the request."""
        return cls(name, data, None, hashlib.sha256(data).hexdigest())

    @classmethod
    def from_url(cls, url: str, name: str | None = None) -> Source:
        """A document that the request only pointed to; its name is the end of the URL's path."""
        tail = url.split("?", 1)[0].split("#", 1)[0].rstrip("/").rsplit("/", 1)[-1]
        return cls(name or tail, None, url, None)

    def holding(self, data: bytes) -> Source:
        """The same source with these bytes."""
        return Source(self.name, data, self.url, self.sha256 or hashlib.sha256(data).hexdigest())

    @property
    def content(self) -> str:
        """What the document is counted by: its URL if it came as one, else the SHA-256 of its bytes."""
        return self.url or self.sha256 or ""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job fails.

    Attributes:
        reason: ``chance`` (the setting ``failed_share``), ``unreadable`` (the document itself) or
            ``unknown_url`` (a URL that the table of documents does not hold).
        detail: A sentence for people.
    """

    reason: Literal["chance", "unreadable", "unknown_url"]
    detail: str


@dataclass(frozen=True, slots=True)
class Push:
    """One webhook of a job as it went, for services that show it.

    Attributes:
        id: The webhook's id.
        called_at: When it was first called, on the simulator's clock.
        attempts: Calls made.
        status_code: The receiver's last answer; None when it could not be reached.
    """

    id: str
    called_at: float
    attempts: int
    status_code: int | None

    @property
    def delivered(self) -> bool:
        """Whether the receiver took it, that is, answered 2xx."""
        return self.status_code is not None and 200 <= self.status_code < 300


@dataclass(slots=True)
class Job:
    """One submitted document and its planned fate. All times are seconds on the simulator's clock.

    Attributes:
        id: A random UUID4, as text.
        result_id: Another random UUID4, for services whose result has an id of its own.
        service: Name of the service, such as ``mindee``.
        product: The service's product or route family, such as ``extraction``.
        source: The document.
        options: What the service keeps of the request, in the service's own form.
        index: How often this content was submitted to this product before (0 for the first time).
        created_at: When it was submitted.
        starts_at: When it leaves the queue.
        ends_at: When it ends; infinite for a stuck job.
        failure: Why it will fail, None when it will succeed.
        cancelled_at: When it was cancelled.
        polls: Status requests for this job alone.
        observations: Times that it was seen in a list or on a stream.
        fetches: Times that its result was given out.
        seen_done_at: When its end was first told to somebody.
        seen_done_by: By which way.
        pushes: Webhooks called for it, in order.
    """

    id: str
    result_id: str
    service: str
    product: str
    source: Source
    options: Mapping[str, Any]
    index: int
    created_at: float
    starts_at: float
    ends_at: float
    failure: Failure | None
    cancelled_at: float | None = None
    polls: int = 0
    observations: int = 0
    fetches: int = 0
    seen_done_at: float | None = None
    seen_done_by: Channel | None = None
    pushes: list[Push] = field(default_factory=list)

    def phase(self, now: float) -> Phase:
        """Where the job stands at a time; asking does not count as being seen."""
        if self.cancelled_at is not None and self.cancelled_at <= now:
            return Phase.CANCELLED
        if now < self.starts_at:
            return Phase.QUEUED
        if now < self.ends_at:
            return Phase.PROCESSING
        return Phase.FAILED if self.failure else Phase.SUCCEEDED

    def ended_at(self, now: float) -> float | None:
        """When the job ended, None while it has not."""
        if not self.phase(now).is_terminal:
            return None
        return self.ends_at if self.cancelled_at is None else self.cancelled_at

    def started_at(self, now: float) -> float | None:
        """When processing began, None while it has not."""
        return self.starts_at if self.starts_at <= now else None

    @property
    def is_stuck(self) -> bool:
        """Whether the job would stay in processing for ever."""
        return math.isinf(self.ends_at)

    @property
    def detection_latency(self) -> float | None:
        """Seconds from the job's end until somebody was first told; None while nobody was."""
        if self.seen_done_at is None:
            return None
        end = self.ends_at if self.cancelled_at is None else self.cancelled_at
        return self.seen_done_at - end
