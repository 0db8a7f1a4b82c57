"""The documents of a run, from what services found to what is written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import anyio.to_thread
from prefect import State
from prefect.artifacts import acreate_table_artifact
from prefect.states import Completed, Failed

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.comparison import (
    Acceptance,
    Comparators,
    Consensus,
    Doubt,
    Names,
    VotingRule,
    consensus_of,
)
from prefect_docjobs.flows.artifacts import artifact_key, not_fatal
from prefect_docjobs.flows.dead_letters import LetterWriter
from prefect_docjobs.flows.files import FAILURES, FIELDS, RESULTS, ROWS
from prefect_docjobs.flows.lines import LineFiles
from prefect_docjobs.flows.panel import by_document
from prefect_docjobs.flows.report import TABLE_ROWS
from prefect_docjobs.flows.reviewing.decisions import Decisions, OpenDocument
from prefect_docjobs.flows.reviewing.forms import forms_of, queue_rows
from prefect_docjobs.flows.reviewing.reviewed import ReviewedDocument
from prefect_docjobs.flows.reviewing.waiting import Waiting
from prefect_docjobs.models import Batch, BatchBuilder, Document, Outcome
from prefect_docjobs.tasks._run import Log, count

FILES = (RESULTS, ROWS, FIELDS, FAILURES)


@dataclass(frozen=True)
class Examination:
    """What makes a person look at a document.

    Attributes:
        names: What the services call the fields; None for all, by their own names.
        comparators: When two values are the same.
        rule: When services agree.
        accept: When what they agree on is good enough.
    """

    names: Names | None
    comparators: Comparators
    rule: VotingRule
    accept: Acceptance

    def consensus(self, outcomes: Mapping[str, Outcome]) -> Consensus:
        """What the services that delivered a document agree on."""
        results = {label: outcome.result for label, outcome in outcomes.items() if outcome.result}
        return consensus_of(results, names=self.names, comparators=self.comparators, rule=self.rule)

    def doubts(self, outcomes: Mapping[str, Outcome]) -> list[Doubt]:
        """What a person has to look at; nothing where no service delivered."""
        if all(outcome.result is None for outcome in outcomes.values()):
            return []
        return self.accept.doubts(self.consensus(outcomes))


@dataclass
class ReviewQueue:
    """The documents of one run; of many, most results wait on the disk.

    Attributes:
        examination: What makes a person look at a document.
        decisions: What people said, in this run and before.
        files: Where results go.
        log: Of the run.
        documents: All of them.
        answers: What each service delivered so far, by its label.
        started: When the run started first, before any suspension.
    """

    examination: Examination
    decisions: Decisions
    files: LineFiles
    log: Log
    documents: Sequence[Document]
    answers: Mapping[str, BatchBuilder]
    started: datetime
    waiting_for: dict[int, OpenDocument] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)
    delivered: int = 0
    failed: int = 0
    reviewed: int = 0
    confirmed: int = 0
    corrected: int = 0

    async def take(self, first: int, documents: Sequence[Document], batches: Mapping[str, Batch]) -> None:
        """Look at a chunk that all services have answered."""
        answered = zip(documents, by_document(batches), strict=True)
        for number, (document, outcomes) in enumerate(answered, first):
            for label, outcome in outcomes.items():
                self.answers[label].add(number, outcome)
            digest = _digest(outcomes)
            known = self.decisions.of(digest)
            # In a thread: long tables take seconds, in which jobs would not be looked at.
            doubts = await anyio.to_thread.run_sync(self.examination.doubts, outcomes)
            undecided = [doubt for doubt in doubts if doubt.field not in known]
            if undecided:
                self.waiting_for[number] = OpenDocument.of(document, digest, undecided)
            elif any(known[doubt.field].at >= self.started for doubt in doubts):
                self.answered.add(digest)

    async def ask(self, waiting: Waiting, per_form: int) -> None:
        """Ask people about all documents in doubt, form by form, and write down what they say.

        Args:
            waiting: How the run waits.
            per_form: Documents that a form has, at most.
        """
        in_order = [self.waiting_for[number] for number in sorted(self.waiting_for)]
        # The same content is asked about once.
        waits = list({each.sha256: each for each in in_order}.values())
        if not waits:
            return
        self.log.info("%s for a person to look at", count(len(waits), "document"))
        await self._publish(waits)
        # A run that was suspended begins from the top, and finds its first forms among the decisions.
        behind = math.ceil(len(self.answered) / per_form)
        for form in forms_of(waits, per_form, behind=behind):
            await self.decisions.add(await waiting.answered(form))

    async def write(self, jobs: Mapping[str, DocJob], flow_run_id: str) -> None:
        """Write the files.

        Args:
            jobs: The jobs by their labels; a document that none delivered is a dead letter of the first.
            flow_run_id: The run.
        """
        label, job = next(iter(jobs.items()))
        batches = {name: builder.build(len(self.documents)) for name, builder in self.answers.items()}
        failed: list[tuple[Document, Outcome]] = []
        with self.files.written():
            for document, outcomes in zip(self.documents, by_document(batches), strict=True):
                if any(outcome.result for outcome in outcomes.values()):
                    await self._write(outcomes)
                else:
                    failed.append((document, outcomes[label]))
            await self._write_failed(failed, LetterWriter(job, flow_run_id, self.log))

    def state(self, nothing: str, *, reviews: str) -> State[dict[str, Any]]:
        """How the run ends: failed when no document was delivered.

        Args:
            nothing: The message of a run without documents.
            reviews: Path of the file with all decisions.
        """
        totals = {
            "documents": self.delivered + self.failed,
            "delivered": self.delivered,
            "failed": self.failed,
            "reviewed": self.reviewed,
            "confirmed": self.confirmed,
            "corrected": self.corrected,
            "files": [*self.files.paths, reviews],
        }
        if not totals["documents"]:
            return Completed(message=nothing, data=totals)
        if not self.delivered:
            return Failed(message=f"None of {count(self.failed, 'document')} was delivered.")
        told = f"{self.delivered:,} of {count(self.delivered + self.failed, 'document')} delivered"
        looked = f"{self.reviewed:,} looked at by people, {count(self.corrected, 'field')} corrected"
        return Completed(message=f"{told}; {looked}. Results are in {self.files.folder}", data=totals)

    async def _publish(self, waits: Sequence[OpenDocument]) -> None:
        """Show what people have to look at."""
        rows = queue_rows(waits)
        more = f" The first {TABLE_ROWS} are shown." if len(rows) > TABLE_ROWS else ""
        told = f"{count(len(rows), 'field')} of {count(len(waits), 'document')} to look at.{more}"
        how = "Open the run and choose Resume."
        making = acreate_table_artifact(
            table=rows[:TABLE_ROWS], key=artifact_key("reviews"), description=f"{told} {how}"
        )
        await not_fatal(making, "review queue", self.log)

    async def _write(self, outcomes: Mapping[str, Outcome]) -> None:
        consensus = await anyio.to_thread.run_sync(self.examination.consensus, outcomes)
        decisions = self.decisions.of(_digest(outcomes))
        is_renamed = self.examination.names is not None
        reviewed = ReviewedDocument(outcomes, consensus, decisions, is_renamed=is_renamed)
        self._count(reviewed)
        lines = [(RESULTS, reviewed.outcome()), (ROWS, reviewed.row())]
        await self.files.write([*lines, *((FIELDS, field) for field in reviewed.provenance())])

    async def _write_failed(self, failed: Sequence[tuple[Document, Outcome]], writer: LetterWriter) -> None:
        batch = Batch(tuple(outcome for _, outcome in failed))
        letters = await writer.letters([document for document, _ in failed], batch)
        self.failed += len(failed)
        await self.files.write([(ROWS, row) for row in batch.rows()])
        await self.files.write([(FAILURES, letter) for letter in letters])

    def _count(self, document: ReviewedDocument) -> None:
        corrections = sum(decision.is_correction for decision in document.decisions.values())
        self.delivered += 1
        self.reviewed += bool(document.decisions)
        self.corrected += corrections
        self.confirmed += len(document.decisions) - corrections


def _digest(outcomes: Mapping[str, Outcome]) -> str:
    """The content's, as it was submitted; the files of a folder always have one."""
    digests = (outcome.ref.document_sha256 for outcome in outcomes.values() if outcome.ref)
    return next(filter(None, digests), "")
