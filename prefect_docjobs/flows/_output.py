"""The files of a run: one JSON object per line, complete under their names or not there at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any, Literal, Protocol, TypeVar

import anyio
import anyio.to_thread
from pydantic import BaseModel, ValidationError
from pydantic_core import to_jsonable_python
from typing_extensions import Self

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.blocks.ledger import open_ledger
from prefect_docjobs.errors import (
    ConfigurationError,
    DocJobsError,
    Reason,
    Retry,
    how_to_retry,
    retry_advice,
)
from prefect_docjobs.ledger import entry_for
from prefect_docjobs.models import Batch, Document, JobRef, Outcome, Phase
from prefect_docjobs.models.escapes import escaped
from prefect_docjobs.models.jobs import Frozen
from prefect_docjobs.tasks._run import Log
from prefect_docjobs.tasks.cancel import destination_of

# ----------------------------------------------------------------------------------- what a run has written


class Outputs(Protocol):
    """What summaries and the descriptions of tables say of where everything is. No secret is in any of it."""

    @property
    def heading(self) -> str:
        """What stands over the parts, such as `Files`."""

    @property
    def parts(self) -> Mapping[str, str]:
        """Where each part is, a path or an address, with what is in it."""

    @property
    def where_documents(self) -> str:
        """Where to find all documents, as a sentence in Markdown."""

    @property
    def where_failures(self) -> str:
        """Where to find all documents without a result, likewise."""


# -------------------------------------------------------------------------------------- files of JSON lines

_Model = TypeVar("_Model", bound=BaseModel)


class LineFiles:
    """Several files in one folder; until they are complete they bear the run behind their names.

    Args:
        folder: Where to; made if it is not there.
        names: Of the files.
        run: A name for the partial files that no other run has.
    """

    def __init__(self, folder: Path, names: Sequence[str], run: str) -> None:
        self.folder = folder
        self._names = names
        self._run = run
        self._streams: dict[str, IO[str]] = {}
        self._writing = anyio.Lock()

    def path(self, name: str) -> Path:
        """Where a file is when it is complete."""
        return self.folder / name

    def partial(self, name: str) -> Path:
        """Where a file is until then, and stays if the run is broken off."""
        return self.folder / f"{name}.{self._run}.partial"

    @property
    def paths(self) -> list[str]:
        """Where the files are when they are complete."""
        return [str(self.path(name)) for name in self._names]

    @contextmanager
    def written(self) -> Iterator[Self]:
        """Open the files; name them as complete when the context closes without an exception.

        Raises:
            OSError: The folder or a file cannot be made.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            self._streams = {name: stack.enter_context(_opened(self.partial(name))) for name in self._names}
            yield self
        for name in self._names:
            self.partial(name).replace(self.path(name))

    async def write(self, lines: Iterable[tuple[str, Any]]) -> None:
        """Add lines, each with the name of its file, in a thread; they are there when this returns."""
        async with self._writing:
            await anyio.to_thread.run_sync(self._write, lines)

    def _write(self, lines: Iterable[tuple[str, Any]]) -> None:
        for name, content in lines:
            self._streams[name].write(json_line(content))
        for stream in self._streams.values():
            stream.flush()


def _opened(path: Path) -> IO[str]:
    # Half a surrogate pair, as in a file name that is not UTF-8, becomes its JSON escape.
    return path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n")


def json_line(content: Any) -> str:
    """One line; numbers that JSON does not have, which some answers do, become null."""
    return json.dumps(to_jsonable_python(content, inf_nan_mode="null"), ensure_ascii=False) + "\n"


def read_lines(path: Path, model: type[_Model], one: str, all_of_them: str) -> list[_Model]:
    """What is in a file of JSON lines.

    Args:
        path: Of the file.
        model: What each line is.
        one: What errors call it, such as `dead letter`.
        all_of_them: The same of the file's contents.

    Raises:
        ConfigurationError: The file cannot be read, or a line is none of these.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # splitlines() breaks texts at U+2028 too
    except (OSError, UnicodeDecodeError) as problem:
        raise ConfigurationError(f"The {all_of_them} in {path} cannot be read: {problem}.") from None
    numbered = enumerate(lines, 1)
    return [_read(line, model, f"{path}, line {n} is no {one}") for n, line in numbered if line.strip()]


def _read(line: str, model: type[_Model], wrong: str) -> _Model:
    try:
        return model.model_validate_json(line)
    except ValidationError as problem:
        where = ", ".join(".".join(map(str, error["loc"])) or error["msg"] for error in problem.errors())
        raise ConfigurationError(f"{wrong}: {where}.") from None


# ----------------------------------------------------------------------------------------- failed documents


class DeadLetter(Frozen):
    """One document that has no result.

    Attributes:
        version: Of this form; 1.
        document: Name of the document.
        path: The file, absolute; None where it was none.
        url: Its address; None where it has none.
        sha256: Hex digest of its content; None for an address, or where it cannot be read.
        provider: Registry name of the service.
        product: What was asked for.
        base_url: Scheme, host and port of the service.
        tenant: Whose account it is.
        block: Name of the saved job block, such as `mindee-job/invoices`; None where it was not saved.
        job_id: The service's id of the job; None where no job is known.
        ref: The job, as plain JSON; None likewise.
        phase: The phase that failed.
        reason: Why there is no result.
        error: The same as a sentence.
        candidates: Ids of jobs that may be this document's, for an uncertain submit.
        again: What may be done: `submit`, `wait`, `resubmit` (only when told to) or `no`.
        how: The same as a sentence.
        when: When this was written (UTC).
        flow_run_id: The flow run that wrote it.
    """

    version: Literal[1] = 1
    document: str
    path: str | None = None
    url: str | None = None
    sha256: str | None = None
    provider: str | None = None
    product: str | None = None
    base_url: str | None = None
    tenant: str | None = None
    block: str | None = None
    job_id: str | None = None
    ref: JobRef | None = None
    phase: Phase
    reason: Reason
    error: str | None = None
    candidates: tuple[str, ...] = ()
    again: Retry
    how: str
    when: datetime
    flow_run_id: str | None = None

    @classmethod
    def of(cls, outcome: Outcome, **known: object) -> Self:
        """The letter of a failed outcome; `known` are further attributes, which count before the ref's."""
        ref = outcome.ref
        of_ref = (
            {name: getattr(ref, name) for name in ("provider", "product", "base_url", "tenant", "job_id")}
            | {"sha256": ref.document_sha256}
            if ref
            else {}
        )
        told = {
            "document": escaped(outcome.document),
            "ref": ref,
            "phase": outcome.phase,
            "reason": outcome.reason,
            "error": escaped(outcome.error) if outcome.error else None,
            "again": how_to_retry(outcome.reason, has_job=ref is not None),
            "how": retry_advice(Reason(outcome.reason), has_job=ref is not None),
            "when": datetime.now(timezone.utc),
        }
        given = {name: value for name, value in known.items() if value is not None}
        return cls.model_validate({**told, **of_ref, **given})

    def outcome(self) -> Outcome:
        """The row that the letter was written for."""
        return Outcome(
            document=self.document, ref=self.ref, phase=self.phase, reason=self.reason, error=self.error
        )

    def source(self) -> Document | None:
        """The document itself; None for one that was in memory only."""
        if self.path is not None:
            return Document.from_path(self.path, name=self.document)
        return Document.from_url(self.url, name=self.document) if self.url is not None else None


def read_dead_letters(path: Path) -> list[DeadLetter]:
    """The letters of a file, such as the `failures.jsonl` of a run.

    Raises:
        ConfigurationError: It cannot be read, or a line is no dead letter of this version.
    """
    return read_lines(path.expanduser(), DeadLetter, "dead letter of version 1", "dead letters")


@dataclass(frozen=True)
class LetterWriter:
    """Writes the dead letters of one run.

    Attributes:
        job: The job block.
        flow_run_id: The run.
        log: For what cannot be found out.
    """

    job: DocJob
    flow_run_id: str | None
    log: Log

    async def letters(self, documents: Sequence[Document | None], batch: Batch) -> list[DeadLetter]:
        """A letter for each failed outcome of a batch, in its order.

        Args:
            documents: Those of the batch, in the same order; None where one is not known.
            batch: The outcomes.
        """
        failed = [(document, row) for document, row in zip(documents, batch.heads, strict=True) if not row.ok]
        digests = await anyio.to_thread.run_sync(_digests, failed)
        uncertain = [
            digest for digest, (_, row) in zip(digests, failed, strict=True) if row.reason is Reason.UNCERTAIN
        ]
        candidates = await self._candidates({digest for digest in uncertain if digest})
        return [
            self._letter(document, row, digest, candidates.get(digest or "", ()))
            for digest, (document, row) in zip(digests, failed, strict=True)
        ]

    def _letter(
        self, document: Document | None, row: Outcome, digest: str | None, candidates: tuple[str, ...]
    ) -> DeadLetter:
        path = document.path if document else None
        return DeadLetter.of(
            row,
            path=_writable(path) if path else None,
            url=document.url if document else None,
            sha256=digest,
            **destination_of(self.job),
            block=self.job.saved_name,
            candidates=candidates if row.reason is Reason.UNCERTAIN else (),
            flow_run_id=self.flow_run_id,
        )

    async def _candidates(self, digests: set[str]) -> dict[str, tuple[str, ...]]:
        """What the ledger knows of uncertain submits, by content."""
        if not digests:
            return {}
        keys = [self._key(digest) for digest in digests]
        try:
            async with open_ledger() as ledger:
                found = await ledger.find(keys=keys)
        except DocJobsError as problem:
            self.log.warning("The candidates of uncertain submits are not known: %s", problem)
            return {}
        return {record.document_sha256: record.candidates for record in found if record.document_sha256}

    def _key(self, digest: str) -> str:
        account = self.job.credentials
        return entry_for(
            self.job.provider(),
            base_url=account.base_url,
            tenant=account.tenant_id,
            name="",
            sha256=digest,
            size=None,
        ).key


def _writable(path: Path) -> str | None:
    """The absolute path; None for one that is not UTF-8, which JSON cannot hold."""
    text = str(path.absolute())
    return text if escaped(text) == text else None


def _digests(failed: Sequence[tuple[Document | None, Outcome]]) -> list[str | None]:
    return [_digest(document, row) for document, row in failed]


def _digest(document: Document | None, row: Outcome) -> str | None:
    """The content's, as it was submitted; else as it is now, where it can be read."""
    if row.ref is not None and row.ref.document_sha256:
        return row.ref.document_sha256
    try:
        return document.sha256 if document else None
    except DocJobsError:
        return None


# -------------------------------------------------------------------------------------------------- results

RESULTS = "results.jsonl"
FAILURES = "failures.jsonl"
ROWS = "rows.jsonl"
NAMES = (RESULTS, FAILURES, ROWS)
COMPARISON = "comparison.jsonl"
CONFLICTS = "conflicts.jsonl"
FIELDS = "fields.jsonl"
REVIEWS = "reviews.jsonl"
_OURS = (*NAMES, COMPARISON, CONFLICTS, FIELDS, REVIEWS)


def is_ours(path: Path) -> bool:
    """Whether a file is one that a flow writes, so that it is never taken for a document."""
    return path.name.startswith(_OURS)


class ResultFiles(LineFiles):
    """The files that a run writes, batch by batch, in the order in which batches end.

    `results.jsonl` has a whole `Outcome` for each delivered document, `failures.jsonl` a `DeadLetter` for
    each failed one, `rows.jsonl` a flat row for each document (`Outcome.row`).

    Args:
        folder: Where to; made if it is not there.
        run: A name for the partial files that no other run has.
    """

    def __init__(self, folder: Path, run: str) -> None:
        super().__init__(folder, NAMES, run)

    @property
    def heading(self) -> str:
        """See `Outputs`, as for those that follow."""
        return "Files"

    @property
    def parts(self) -> Mapping[str, str]:
        """The files with what is in them."""
        return {
            str(self.path(RESULTS)): "a whole result per line",
            str(self.path(FAILURES)): "a dead letter per line: a failed document, why, and what may be done",
            str(self.path(ROWS)): "a flat row for each document",
        }

    @property
    def where_documents(self) -> str:
        """The files with rows and results."""
        return f"`{self.path(ROWS)}` has them all, `{self.path(RESULTS)}` the whole results."

    @property
    def where_failures(self) -> str:
        """The file to retry."""
        return f"`{self.path(FAILURES)}` has them all: the `failures` of retry-run."

    async def append(self, batch: Batch, letters: Sequence[DeadLetter] | None = None) -> None:
        """Write the outcomes of a batch, in a thread; they are in the files when this returns.

        Args:
            batch: The outcomes.
            letters: Of those that failed; by default with what the outcomes themselves know.
        """
        if letters is None:
            letters = [DeadLetter.of(outcome) for outcome in batch.failures]
        await self.write(_lines(batch, letters))


def _lines(batch: Batch, letters: Sequence[DeadLetter]) -> Iterator[tuple[str, Any]]:
    for outcome in batch:  # once: a large batch is on the disk
        yield ROWS, outcome.row()
        if outcome.ok:
            yield RESULTS, outcome
    for letter in letters:
        yield FAILURES, letter
