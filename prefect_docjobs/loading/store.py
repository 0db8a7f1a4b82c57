"""What a destination must be able to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Protocol, TypeAlias

from pydantic import ValidationError

from prefect_docjobs.errors import ConfigurationError, Reason
from prefect_docjobs.loading.rows import Chunk
from prefect_docjobs.loading.tables import KEYS
from prefect_docjobs.models import JobRef, Outcome, Phase

Clock: TypeAlias = Callable[[], datetime]
"""Tells what time it is, with a zone."""


def now() -> datetime:
    """What the clock of this machine says, in UTC."""
    return datetime.now(timezone.utc)


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
        return Outcome(
            document=self.document,
            ref=_ref(self.ref),
            phase=Phase(self.phase),
            reason=Reason(self.reason) if self.reason else None,
            error=self.error,
        )


def _ref(text: str | None) -> JobRef | None:
    """The ref; None where somebody has changed it to something else."""
    try:
        return JobRef.model_validate_json(text) if text else None
    except ValidationError:
        return None


@dataclass(frozen=True)
class Seen:
    """A file that was looked at before.

    Attributes:
        version: What it was then, see `SourceFile`.
        is_loaded: Whether there is a row of the content that it had. It had none if it could not be read.
        reason: Why that content has no result; None when it has one.
    """

    version: str | None
    is_loaded: bool
    reason: str | None = None


class Store(Protocol):
    """Where rows go. Each method is one transaction; two loads at once wait for each other.

    All raise `DestinationUnavailable` when the destination does not let them, and `ConfigurationError` when
    it is none of ours.
    """

    def owns(self, source: str) -> bool:
        """Whether a file, by its `SourceFile.source`, is one that rows are kept in, and no document.

        Such a file may be in the folder with the documents. Links and relative paths are followed. An address
        of a folder, such as `SourceFolder.address`, is asked about likewise: of one that is owned no file is
        a document.
        """

    async def prepare(self) -> None:
        """Make what is missing, so that what cannot be written to is known before anything is paid."""

    async def seen(self, job: str, address: str) -> Mapping[str, Seen]:
        """The files that a job has looked at, by `source_sha256`; their addresses begin with `address`."""

    async def loaded(self, job: str, hashes: Sequence[str]) -> Mapping[str, Loaded]:
        """What there is of these contents for a job, by SHA-256."""

    async def write(self, chunk: Chunk) -> int:
        """Replace all rows of the chunk's documents and files; returns how many values have no column.

        `loaded_at` and `seen_at` are read from the clock when no other load can be between them and the
        commit: who commits later has the later ones, as far as the clocks of the loads' machines agree.
        """


def check_ours(where: str, name: str, columns: Mapping[str, object]) -> None:
    """Raise `ConfigurationError` for a table of the same name that is somebody else's."""
    missing = [column for column in KEYS[name] if column not in columns]
    if missing:
        raise ConfigurationError(
            f"{where} is no table of this flow: it has no {' and '.join(missing)}. Give another schema."
        )
