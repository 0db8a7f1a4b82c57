"""The flow that extracts, asks people about what is in doubt, and writes what they say."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, cast

import anyio.to_thread
from prefect import State, flow, get_client, runtime
from prefect.artifacts import acreate_table_artifact
from prefect.context import FlowRunContext
from prefect.flow_runs import apause_flow_run, asuspend_flow_run
from prefect.states import Completed, Failed
from pydantic import Field

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.comparison import (
    Acceptance,
    ComparatorName,
    Comparators,
    Consensus,
    Doubt,
    Names,
    VotingRule,
    check_settings,
    consensus_of,
)
from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.extraction import OnUncertain
from prefect_docjobs.extraction.options import REUSE_DAYS
from prefect_docjobs.flows._output import FAILURES, FIELDS, RESULTS, REVIEWS, ROWS, LetterWriter, LineFiles
from prefect_docjobs.flows._report import TABLE_ROWS, artifact_key, not_fatal
from prefect_docjobs.flows._review import (
    Decision,
    Decisions,
    OpenDocument,
    ReviewedDocument,
    ReviewForm,
    forms_of,
    queue_rows,
)
from prefect_docjobs.flows._run import (
    Amount,
    AtLeastOne,
    Days,
    JobParameter,
    Panel,
    Seconds,
    budget_of_run,
    by_document,
    list_documents_once,
    output_folder,
)
from prefect_docjobs.models import Batch, BatchBuilder, Document, Outcome
from prefect_docjobs.tasks import cancel_remote_jobs
from prefect_docjobs.tasks._run import Log, count, run_log
from prefect_docjobs.tasks.suspend import obstacle_to_suspending

# ------------------------------------------------------------------------------------- waiting for a person

WaitMode: TypeAlias = Literal["auto", "suspend", "pause"]
"""Whether a run gives its process up while people work, keeps it, or the first where that is possible."""

_LONGEST = 30 * 86_400  # seconds that a process waits where no limit is given
_LOOK_EVERY = 5  # seconds


def can_suspend(mode: WaitMode, jobs: Sequence[DocJob]) -> bool:
    """Whether the run that is going on gives its process up while it waits.

    Raises:
        ConfigurationError: It has to, and cannot.
    """
    if mode == "pause":
        return False
    obstacle = next((found for job in jobs if (found := obstacle_to_suspending(job))), None)
    if obstacle and mode == "suspend":
        raise ConfigurationError(f"This run cannot be suspended: {obstacle}, or use wait='pause'.")
    return obstacle is None


@dataclass(frozen=True)
class Waiting:
    """How one run waits.

    Attributes:
        suspends: Whether it gives its process up.
        timeout: Seconds for each form, then the run fails; None for no limit.
        log: Of the run.
    """

    suspends: bool
    timeout: float | None
    log: Log

    async def answered(self, form: ReviewForm) -> list[Decision]:
        """What a person decides; returns at once when the form has been answered before, by the same run.

        A run that was resumed without an answer asks again.
        """
        key, found = await self._stored(form)
        while found is None:
            self.log.info("%s Waiting for a person: resume this run.", form.description)
            await self._wait(form, key)
            key, found = await self._stored(form)
        return found

    async def _wait(self, form: ReviewForm, key: str) -> None:
        limit = None if self.timeout is None else max(1, round(self.timeout))
        if self.suspends:
            await asuspend_flow_run(wait_for_input=form.model, timeout=limit, key=key)
        else:
            await apause_flow_run(
                wait_for_input=form.model, timeout=limit or _LONGEST, poll_interval=_LOOK_EVERY, key=key
            )

    async def _stored(self, form: ReviewForm) -> tuple[str, list[Decision] | None]:
        """The key to wait under next, and the answer where there is one.

        Prefect keeps an answer with the run, and lets a run wait once under a key. So each time that the form
        is shown has a number.
        """
        context = FlowRunContext.get()
        if context is None or context.flow_run is None:
            raise ConfigurationError("People can be waited for in a flow run only.")
        prefix = f"{'suspended' if self.suspends else 'paused'}-{form.key}"
        async with get_client() as client:
            inputs = await client.filter_flow_run_input(
                context.flow_run.id, key_prefix=prefix, limit=200, exclude_keys=set()
            )
        for given in inputs:
            if given.key.endswith("-response"):
                return given.key, form.decisions(_decoded(given.value), _when(given.created))
        shown = sum(given.key.endswith("-schema") for given in inputs)
        return f"{form.key}-{shown + 1}", None


def _decoded(value: str) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(value)
    return decoded


def _when(created: datetime | None) -> datetime:
    return (created or datetime.now(timezone.utc)).astimezone(timezone.utc)


# ----------------------------------------------------------------------------------- the documents of a run

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


# ------------------------------------------------------------------------------------------------- the flow

Share = Annotated[float, Field(ge=0, le=1)]


def _run_name() -> str:
    given = runtime.flow_run.parameters
    return f"review {Path(given['folder']).name or given['folder']}"


@flow(
    name="review-documents",
    flow_run_name=_run_name,
    on_cancellation=[cancel_remote_jobs],
    on_crashed=[cancel_remote_jobs],
)
async def review_documents(
    folder: str,
    jobs: Annotated[Sequence[JobParameter], Field(min_length=1)],
    *,
    required: list[str] | None = None,
    min_confidence: Share | None = 0.8,
    only: list[str] | None = None,
    fields: dict[str, list[str]] | None = None,
    comparators: dict[str, ComparatorName] | None = None,
    quorum: AtLeastOne = 1,
    documents_per_form: AtLeastOne = 10,
    wait: WaitMode = "auto",
    review_timeout: Seconds | None = None,
    pattern: str = "*",
    recursive: bool = False,
    output: str = "docjobs-reviewed",
    chunk_size: AtLeastOne = 100,
    timeout: Seconds | None = None,
    document_timeout: Seconds | None = 3600,
    max_documents: AtLeastOne | None = None,
    on_uncertain: OnUncertain = "fail",
    reuse_days: Days | None = REUSE_DAYS,
    budget: Amount | None = None,
    price_per_page: Amount | None = None,
) -> dict[str, Any]:
    """Extract from the documents of a folder, and have people look at what is missing, unsure or disputed.

    With several jobs the value that most services found counts, and a tie is disputed. The run waits with a
    form for each few documents: open it in the UI and press Resume. What people said is written down at once
    and never asked again, also not by a later run with the same output folder; nothing is bought twice.

    Args:
        folder: The folder with the documents.
        jobs: Names of saved job blocks, such as mindee-job/invoices: one, or several that vote.
        required: Fields that every document has to have, but no columns.
        min_confidence: Values that are less sure are looked at, 0 to 1. Empty: none is for this reason.
        only: Look at these fields (and the required ones) only, columns as line_items[].amount. Empty: all.
        fields: What is extracted, and what the services call it, such as {"total": ["total_amount"]}. Empty:
            all, by their own names.
        comparators: When two values are the same, by field: auto, exact, text, identifier, number, amount,
            date or date_month_first. Empty: auto.
        quorum: Services that have to have found a value, or it is disputed.
        documents_per_form: Documents that a person sees at a time.
        wait: Give up the process while people work (suspend), keep it (pause), or the first where the run
            can be suspended: in a deployment, with a ledger and saved jobs (auto).
        review_timeout: Seconds for each form; then the run fails, and a new one goes on with what was
            answered. Empty: no limit, or 30 days where the process is kept.
        pattern: Which files, such as *.pdf. Hidden files are left out.
        recursive: Take the files of sub-folders too.
        output: Folder for results.jsonl, rows.jsonl, fields.jsonl (where each value comes from),
            failures.jsonl and reviews.jsonl. All but the last replace those of an earlier run; {date} becomes
            the date on which the run is scheduled, or resumed (UTC).
        chunk_size: Documents per task run and service; four chunks go on at a time.
        timeout: Seconds for the extraction; then nothing more is submitted or waited for. Empty: no limit.
        document_timeout: Seconds for each document at each service. Empty: no limit.
        max_documents: Take so many documents at most, in the order of their names. Empty: all.
        on_uncertain: When a submit's answer is lost: fail the document, or resubmit it at the risk of a
            second bill.
        reuse_days: Days for which a content that was bought is not bought again; 0 never. Empty: for ever.
        budget: Pages that may be bought from all services together, or with a price what they may cost; the
            documents that do not fit are failures at that service. Empty: no limit.
        price_per_page: What a page costs, in any currency.

    Returns:
        The totals (documents, delivered, failed, reviewed documents, confirmed and corrected fields), and
        the paths of the files.

    Raises:
        InvalidDocument: The folder is not there or cannot be listed.
        ConfigurationError: One of the jobs or settings is no such thing, or the run cannot be suspended
            although it has to be.
    """
    log = run_log()
    check_settings(fields, comparators)  # before anything is bought
    _check_required(required or ())
    panel = await Panel.of(jobs, timeout=timeout)
    waiting = Waiting(can_suspend(wait, list(panel.jobs.values())), review_timeout, log)
    listed = await list_documents_once(folder, pattern, recursive=recursive, at_most=max_documents)
    documents = [Document.from_path(path, name=name) for name, path in listed]
    log.info("Found %s in %s", count(len(documents), "document"), folder)
    this = runtime.flow_run
    folder_out = output_folder(output, this.scheduled_start_time)
    queue = ReviewQueue(
        examination=Examination(
            names=fields,
            comparators=comparators or {},
            rule=VotingRule(quorum=quorum),
            accept=Acceptance(
                required=tuple(required or ()), min_confidence=min_confidence, of=tuple(only or ())
            ),
        ),
        decisions=await Decisions.at(folder_out),
        files=LineFiles(folder_out, FILES, str(this.id)[:8]),
        log=log,
        documents=documents,
        answers={label: BatchBuilder() for label in panel.jobs},
        started=_first_start(),
    )
    await panel.ask(
        documents,
        chunk_size,
        queue.take,
        document_timeout=document_timeout,
        on_uncertain=on_uncertain,
        reuse_days=reuse_days,
        budget=await budget_of_run(budget, price_per_page, documents),
    )
    await queue.ask(waiting, documents_per_form)
    await queue.write(panel.jobs, str(this.id))
    # Prefect takes the run's state from here and hands the caller the state's data.
    state = queue.state(f"No file in {folder} matches {pattern}.", reviews=str(folder_out / REVIEWS))
    return cast("dict[str, Any]", state)


def _first_start() -> datetime:
    """When this run began, before it was suspended or retried."""
    context = FlowRunContext.get()
    known = context.flow_run.start_time if context and context.flow_run else None
    return known or datetime.now(timezone.utc)


def _check_required(required: Sequence[str]) -> None:
    for name in required:
        if "[" in name:
            raise ConfigurationError(f"{name!r} is a column: a form can ask for single values only.")
