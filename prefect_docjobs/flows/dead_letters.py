"""Dead letters: for each document without a result a line with what a person needs to decide about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

import anyio.to_thread
from typing_extensions import Self

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.blocks.buying import open_ledger
from prefect_docjobs.errors import DocJobsError, Reason
from prefect_docjobs.flows.lines import read_lines
from prefect_docjobs.ledger import entry_for
from prefect_docjobs.models import Batch, Document, JobRef, Outcome, Phase
from prefect_docjobs.models.escapes import escaped
from prefect_docjobs.models.jobs import Frozen
from prefect_docjobs.tasks._run import Log
from prefect_docjobs.tasks.cancel import destination_of
from prefect_docjobs.tasks.redrivable import Again, how_again, what_again


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
    again: Again
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
            "again": what_again(outcome),
            "how": how_again(outcome),
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
