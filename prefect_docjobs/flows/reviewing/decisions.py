"""What people decided, kept so that nobody is asked twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import anyio.to_thread

from prefect_docjobs.comparison import Doubt
from prefect_docjobs.flows.files import REVIEWS
from prefect_docjobs.flows.lines import json_line, read_lines
from prefect_docjobs.models import Document
from prefect_docjobs.models.escapes import escaped
from prefect_docjobs.models.jobs import Frozen


class Decision(Frozen):
    """What a person decided about one field of one document.

    Attributes:
        document: Name of the document.
        sha256: Of its content: the same content under another name is decided, too.
        field: The field's name.
        value: What the person said; None for a value that the document does not have.
        before: What would have been used without them; None where nothing would.
        why: What was wrong with the field.
        found: What the services had found, as the person saw it.
        source: Always `human`.
        reviewer: Who it was, in their own words.
        at: When the form was submitted (UTC).
    """

    document: str
    sha256: str
    field: str
    value: Any = None
    before: Any = None
    why: str
    found: tuple[str, ...] = ()
    source: Literal["human"] = "human"
    reviewer: str
    at: datetime

    @property
    def is_correction(self) -> bool:
        """Whether it changed anything."""
        return bool(self.value != self.before)


class OpenDocument(Frozen):
    """A document that a person has to look at.

    Attributes:
        name: Of the document.
        sha256: Of its content.
        doubts: The fields in question.
    """

    name: str
    sha256: str
    doubts: tuple[Doubt, ...]

    @classmethod
    def of(cls, document: Document, digest: str, doubts: Iterable[Doubt]) -> OpenDocument:
        """The document; file names that are not UTF-8 are shown with escapes."""
        return cls(name=escaped(document.name), sha256=digest, doubts=tuple(doubts))


class Decisions:
    """All decisions of a folder: those of earlier runs, and those that come.

    Their file is added to and never replaced.

    Args:
        path: Of the file.
        known: What is in it.
    """

    def __init__(self, path: Path, known: Iterable[Decision] = ()) -> None:
        self._path = path
        self._known: dict[str, dict[str, Decision]] = {}
        self._take(known)

    @classmethod
    async def at(cls, folder: Path) -> Decisions:
        """Those in a folder, which need not be there.

        Raises:
            ConfigurationError: The file cannot be read, or a line of it is no decision.
        """
        path = folder / REVIEWS
        return cls(path, await anyio.to_thread.run_sync(read_decisions, path))

    def of(self, sha256: str) -> Mapping[str, Decision]:
        """What was decided about a content, by field."""
        return self._known.get(sha256, {})

    async def add(self, decisions: Sequence[Decision]) -> None:
        """Write decisions down; they are in the file when this returns."""
        await anyio.to_thread.run_sync(self._append, decisions)
        self._take(decisions)

    def _take(self, decisions: Iterable[Decision]) -> None:
        for decision in decisions:
            self._known.setdefault(decision.sha256, {})[decision.field] = decision

    def _append(self, decisions: Sequence[Decision]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8", errors="backslashreplace", newline="\n") as stream:
            stream.writelines(map(json_line, decisions))


def read_decisions(path: Path) -> list[Decision]:
    """The decisions in a file; of a file that is not there, none.

    Raises:
        ConfigurationError: It cannot be read, or a line is no decision.
    """
    return read_lines(path, Decision, "review", "reviews") if path.exists() else []
