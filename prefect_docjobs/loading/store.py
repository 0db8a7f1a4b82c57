"""What a destination can do, and what it knows of earlier loads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Protocol, TypeAlias

from pydantic import ValidationError

from prefect_docjobs.errors import DocJobsError, Reason
from prefect_docjobs.loading.rows import Chunk
from prefect_docjobs.models import JobRef, Outcome, Phase

Clock: TypeAlias = Callable[[], datetime]
"""Gives the time, with a zone."""


def now() -> datetime:
    """The time of this machine's clock, in UTC."""
    return datetime.now(timezone.utc)


class DestinationUnavailable(DocJobsError):
    """The destination cannot be reached, read or written, or others hold it. Nothing is half written."""

    reason = Reason.UNAVAILABLE


@dataclass(frozen=True)
class Loaded:
    """A document that the destination has a row of.

    Attributes:
        document: Its name.
        reason: Why it has no result; None when it is loaded.
        phase: How far it came.
        error: The reason as a sentence.
        ref: Its job, as JSON.
    """

    document: str
    reason: str | None
    phase: str
    error: str | None = None
    ref: str | None = None

    def outcome(self) -> Outcome:
        """The row as the outcome that it was made of, without the result."""
        try:
            ref = JobRef.model_validate_json(self.ref) if self.ref else None
        except ValidationError:  # the table is in other people's hands
            ref = None
        return Outcome(
            document=self.document,
            ref=ref,
            phase=Phase(self.phase),
            reason=Reason(self.reason) if self.reason else None,
            error=self.error,
        )


@dataclass(frozen=True)
class Seen:
    """A file that an earlier load has read.

    Attributes:
        version: What it was then, see `SourceFile`.
        is_loaded: Whether there is a row of the content that it had. It had none if it could not be read.
        reason: Why that content has no result; None when it has one.
    """

    version: str | None
    is_loaded: bool
    reason: str | None = None


class Store(Protocol):
    """Where rows go. Each load of a chunk is there as a whole or not at all.

    All methods raise `DestinationUnavailable` when the destination cannot be used, and `ConfigurationError`
    when another program has made it.
    """

    @property
    def place(self) -> str:
        """Where it is, for people: an absolute path or an address, without user, password and options."""

    def owns(self, source: str) -> bool:
        """Whether a file, by its `SourceFile.source`, is one that rows are kept in, and no document.

        Such a file may be in the folder with the documents. Links and relative paths are followed. The
        address of a folder, such as `SourceFolder.address`, is also taken: of one that is owned no file is a
        document.
        """

    async def prepare(self) -> None:
        """Make what is missing, so that what cannot be written to is known before anything is paid."""

    async def seen(self, job: str, address: str) -> Mapping[str, Seen]:
        """The files that a job has read, by `source_sha256`; their addresses begin with `address`."""

    async def loaded(self, job: str, hashes: Sequence[str]) -> Mapping[str, Loaded]:
        """What there is of these contents for a job, by SHA-256."""

    async def write(self, chunk: Chunk) -> int:
        """Replace all rows of the chunk's documents and files; returns how many values have no column.

        `loaded_at` and `seen_at` are read from the clock when no other load can be between them and the
        commit: who commits later has the later ones, as far as the clocks of the loads' machines agree.
        """
