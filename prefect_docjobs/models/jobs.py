"""Jobs: which one, where, and what it is doing. Plain JSON without a secret."""

from __future__ import annotations

import re
import sys
from datetime import datetime, timezone
from enum import Enum
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

_SURROGATES = re.compile("[\ud800-\udfff]")


class Frozen(BaseModel):
    """A value: compared by content, never changed, refusing what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)


class JobRef(Frozen):
    """Which job, where. Plain JSON without a secret: store it, mail it, take it up elsewhere next week.

    `JobRef.model_validate_json(ref.model_dump_json()) == ref`.

    Attributes:
        provider: Registry name of the service, such as `mindee`.
        base_url: Scheme, host and port of the service.
        tenant: Whose account it is, see the credentials block.
        product: What was asked for, such as `extraction` or `mindee/invoices/v4`.
        job_id: The service's own id.
        document_name: Name of the document.
        document_sha256: Hex digest of its content; None when it was submitted by URL.
        document_size: Bytes, where known.
        submitted_at: When the service accepted it (UTC, by our clock).
        alias: The key that the service echoes in its answers and pushes, where it has such a thing.
        result_url: Where the result is, once known.
        document_id: The service's id of the result document, once known.
    """

    provider: str
    base_url: str
    tenant: str
    product: str
    job_id: str
    document_name: str
    document_sha256: str | None = None
    document_size: int | None = None
    submitted_at: datetime
    alias: str | None = None
    result_url: str | None = None
    document_id: str | None = None

    @field_validator("provider", "base_url", "tenant", "product")
    @classmethod
    def _shared(cls, text: str) -> str:
        """Thousands of refs say the same: one text in memory, and compared in no time."""
        return sys.intern(text)

    @field_validator("submitted_at")
    @classmethod
    def _in_utc(cls, date: datetime) -> datetime:
        return date if date.tzinfo else date.replace(tzinfo=timezone.utc)

    @field_validator("document_name", "alias", "result_url", "document_id")
    @classmethod
    def _writable(cls, text: str | None) -> str | None:
        """A ref is written down before anything else happens, so nothing in it may prevent that."""
        return _SURROGATES.sub("_", text) if text else text

    def __str__(self) -> str:
        return f"{self.provider}/{self.product} job {self.job_id} ({self.document_name})"


class JobState(str, Enum):
    """What a job is doing, in one vocabulary; the service's own word stays beside it in `raw_state`."""

    QUEUED = "queued"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"

    @property
    def is_terminal(self) -> bool:
        """Whether the job will not change any more. UNKNOWN is not terminal."""
        return self in _TERMINAL

    def __str__(self) -> str:
        return self.value


_TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


class Problem(Frozen):
    """What the service said about a failed job."""

    message: str
    code: str | None = None
    details: Any = None

    def __str__(self) -> str:
        text = f"{self.message} ({self.code})" if self.code else self.message
        return f"{text}: {self.details}" if self.details and self.details != self.message else text


class JobStatus(Frozen):
    """One observation of a job.

    Attributes:
        ref: The job; completed with what fetching needs once the service told it.
        state: In our vocabulary.
        raw_state: The service's own word, or None where it gave none.
        error: What the service said, for a failed job.
        expired: The job failed because the service's own time limit ran out.
        took: Seconds from the submit to the end by the service's own clock, where it tells both.
        seen_at: When the answer arrived (UTC).
    """

    ref: JobRef
    state: JobState
    raw_state: str | None = None
    error: Problem | None = None
    expired: bool = False
    took: float | None = None
    seen_at: datetime

    def of(self, ref: JobRef) -> JobStatus:
        """The same observation for `ref`, completed with what fetching needs."""
        if ref == self.ref:
            return self
        known = {"result_url": self.ref.result_url, "document_id": self.ref.document_id}
        return self.model_copy(update={"ref": ref.model_copy(update=known)})
