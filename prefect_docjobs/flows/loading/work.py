"""One chunk of files after the other: fetched, extracted from as far as needed, written at once."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
from prefect.utilities.annotations import quote

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.errors import Reason
from prefect_docjobs.extraction import OnUncertain
from prefect_docjobs.extraction.budget import Budget
from prefect_docjobs.flows._output import DeadLetter, LetterWriter
from prefect_docjobs.flows._report import RunReport
from prefect_docjobs.flows._run import RunBar, item_numbers, through_chunks
from prefect_docjobs.flows.loading.failures import Tried, left_letters, letters_of
from prefect_docjobs.loading import (
    Chunk,
    Fetched,
    JobIdentity,
    Loaded,
    Seen,
    SourceFile,
    SourceFolder,
    Store,
    source_sha256,
)
from prefect_docjobs.models import Batch, Document, Outcome, Phase
from prefect_docjobs.tasks import aextract_documents, aretry_failures
from prefect_docjobs.tasks._run import Log
from prefect_docjobs.tasks.redrivable import Again, allowed, what_again

_FETCHED_AT_A_TIME = 8
# Another run has another budget, and perhaps another key or quota.
_OF_A_RUN = (Reason.BUDGET, Reason.UNAUTHORIZED, Reason.QUOTA)
_WHEN_TOLD = (Reason.REJECTED, Reason.CANCELLED)


@dataclass(frozen=True)
class Terms:
    """How documents are extracted from, and which failures are driven again; see `load_documents`."""

    document_timeout: float | None = 3600.0
    timeout: float | None = None
    resubmit: bool = False
    on_uncertain: OnUncertain = "fail"
    budget: Budget | None = None

    def goes_again(self, outcome: Outcome) -> bool:
        """Whether a document that failed before is tried again."""
        if outcome.reason in _OF_A_RUN or (self.resubmit and outcome.reason in _WHEN_TOLD):
            return True
        return allowed(outcome, resubmit=self.resubmit, on_uncertain=self.on_uncertain) is not Again.NO


@dataclass
class Counts:
    """What became of the files of a run.

    Attributes:
        found: Files that match.
        unchanged: Not looked at: they have not changed since they were loaded.
        known: Looked at: their content is loaded already, or that of another file of this run.
        loaded: Loaded by this run.
        failed: Without a result, in this run.
        left: Failed before, and not to be tried again without being told.
    """

    found: int = 0
    unchanged: int = 0
    known: int = 0
    loaded: int = 0
    failed: int = 0
    left: int = 0


@dataclass(frozen=True)
class _Item:
    """A document on its way, with what is known of an earlier try."""

    file: SourceFile
    document: Document
    sha256: str
    before: Outcome | None = None

    @property
    def is_new(self) -> bool:
        """Whether it is extracted from as if for the first time: there is no job of it to go on with."""
        before = self.before
        return before is None or (before.reason in (*_OF_A_RUN, *_WHEN_TOLD) and not _has_job(before))


def _has_job(before: Outcome) -> bool:
    return before.ref is not None and what_again(before) is Again.WAIT


@dataclass
class Load:
    """The work of one run.

    Attributes:
        job: The job block.
        identity: The same, as the rows name it.
        folder: Where the files are.
        store: Where the rows go.
        terms: How documents are extracted from.
        log: Of the flow run.
        writer: Writes the dead letters, which are shown and not kept.
        report: What is shown of the documents.
    """

    job: DocJob
    identity: JobIdentity
    folder: SourceFolder
    store: Store
    terms: Terms
    log: Log
    writer: LetterWriter
    report: RunReport
    counts: Counts = field(default_factory=Counts)
    _claimed: set[str] = field(default_factory=set)
    _left: list[Tried] = field(default_factory=list)
    _started: float = field(default_factory=anyio.current_time)

    def to_look_at(self, files: Sequence[SourceFile], seen: Mapping[str, Seen]) -> list[SourceFile]:
        """The files that are new, have changed, or failed and may be tried again; new ones first."""
        self.counts.found += len(files)
        known = [(file, seen.get(source_sha256(file.source))) for file in files]
        due = [(file, before) for file, before in known if self._is_due(file, before)]
        return [file for file, before in sorted(due, key=lambda one: one[1] is not None)]

    def _is_due(self, file: SourceFile, seen: Seen | None) -> bool:
        if seen is None or seen.version != file.version or not seen.is_loaded:
            return True
        if seen.reason is None:
            self.counts.unchanged += 1
            return False
        before = Outcome(document=file.name, reason=Reason(seen.reason))
        if self.terms.goes_again(before):
            return True
        self._leave(file, before)
        return False

    def _leave(self, file: SourceFile, before: Outcome) -> None:
        self.counts.left += 1
        # The row may be of another file with the same content.
        self._left.append(Tried(file, None, before.model_copy(update={"document": file.name})))

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return anyio.current_time() - self._started

    async def through(self, files: Sequence[SourceFile], chunk_size: int, *, bar: str) -> None:
        """Load the files, a chunk at a time; each is in the destination, or as before, whatever happens.

        Args:
            files: What is to be looked at.
            chunk_size: Files in a chunk.
            bar: Key of the progress artifact.
        """
        await through_chunks(partial(self._chunk, len(files)), files, chunk_size, self.log, bar=bar)
        self.report.add_failures(self.counts.found, left_letters(self._left))

    async def _chunk(self, total: int, bar: RunBar, chunk: tuple[int, Sequence[SourceFile]]) -> None:
        first, files = chunk
        rows = Chunk(self.identity)
        with tempfile.TemporaryDirectory(prefix="docjobs-") as here, bar.follows(first, len(files)):
            tried = await self._tried(files, rows, Path(here), item_numbers(first, len(files), total))
            left_out = await self.store.write(rows)
            letters = await letters_of(tried, self.writer)
        if left_out:
            self.log.warning("%d values have no column of their own: they are in the table fields", left_out)
        self._count(first, tried, letters)

    async def _tried(self, files: Sequence[SourceFile], rows: Chunk, here: Path, numbers: str) -> list[Tried]:
        """Fetch the files and extract as far as needed; all that comes out is in the rows."""
        fetched = await self._fetched(files, here)
        items = await self._items(fetched, rows)
        tried = [self._unreadable(one, rows) for one in fetched if one.document is None]
        for item, outcome in await self._driven(items, numbers):
            sha256 = (outcome.ref and outcome.ref.document_sha256) or item.sha256
            rows.add_document(sha256, item.file, outcome)
            rows.add_file(item.file, sha256)
            tried.append(Tried(item.file, item.document, outcome))
        return tried

    async def _fetched(self, files: Sequence[SourceFile], here: Path) -> list[Fetched]:
        limit = anyio.CapacityLimiter(_FETCHED_AT_A_TIME)
        run = partial(anyio.to_thread.run_sync, limiter=limit)
        return await asyncio.gather(*(run(partial(self.folder.fetch, file, here)) for file in files))

    async def _items(self, fetched: Sequence[Fetched], rows: Chunk) -> list[_Item]:
        """What has to be extracted from; the files of all else are written down."""
        hashes = [one.sha256 for one in fetched if one.sha256 is not None]
        loaded = await self.store.loaded(self.identity.key, hashes)
        items = []
        for one in fetched:
            if one.document is None or one.sha256 is None:
                continue
            if item := self._item(one.file, one.document, one.sha256, loaded.get(one.sha256)):
                items.append(item)
            else:
                rows.add_file(one.file, one.sha256)
        return items

    def _unreadable(self, one: Fetched, rows: Chunk) -> Tried:
        self.log.warning("%s cannot be read: %s", one.file.name, one.error)
        rows.add_file(one.file, None, one.error)
        reason = Reason.INVALID_DOCUMENT
        outcome = Outcome(document=one.file.name, phase=Phase.SUBMIT, reason=reason, error=one.error)
        return Tried(one.file, None, outcome)

    def _item(self, file: SourceFile, document: Document, sha256: str, loaded: Loaded | None) -> _Item | None:
        before = loaded.outcome() if loaded else None
        if sha256 in self._claimed or (before and before.ok):
            self.counts.known += 1
            return None
        self._claimed.add(sha256)
        if before and not self.terms.goes_again(before):
            self._leave(file, before)
            return None
        return _Item(file, document, sha256, before)

    async def _driven(self, items: Sequence[_Item], numbers: str) -> list[tuple[_Item, Outcome]]:
        """The items with what came out."""
        new = [item for item in items if item.is_new]
        again = [item for item in items if not item.is_new]
        outcomes = [*await self._extracted(new, numbers), *await self._redriven(again, numbers)]
        return list(zip([*new, *again], outcomes, strict=True))

    async def _extracted(self, items: Sequence[_Item], numbers: str) -> Iterable[Outcome]:
        if not items:
            return ()
        return await aextract_documents.with_options(task_run_name=f"extract {numbers}")(
            self.job,
            quote([item.document for item in items]),  # Prefect does not look into it
            timeout=self._time_left(),
            document_timeout=self.terms.document_timeout,
            on_uncertain=self.terms.on_uncertain,
            budget=self.terms.budget,
        )

    async def _redriven(self, items: Sequence[_Item], numbers: str) -> Iterable[Outcome]:
        if not items:
            return ()
        return await aretry_failures.with_options(task_run_name=f"redrive among {numbers}")(
            self.job,
            [item.before for item in items if item.before],
            quote([item.document for item in items]),
            resubmit=self.terms.resubmit,
            on_uncertain=self.terms.on_uncertain,
            timeout=self._time_left(),
            document_timeout=self.terms.document_timeout,
            budget=self.terms.budget,
        )

    def _time_left(self) -> float | None:
        limit = self.terms.timeout
        return None if limit is None else max(0.0, limit - self.elapsed)

    def _count(self, first: int, tried: Sequence[Tried], letters: Sequence[DeadLetter]) -> None:
        self.report.add(first, Batch(tuple(one.outcome for one in tried)), letters)
        self.counts.failed += len(letters)
        self.counts.loaded += len(tried) - len(letters)
