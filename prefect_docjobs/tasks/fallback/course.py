"""One call: which document goes to which job."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.blocks.buying import the_ledger
from prefect_docjobs.comparison import Acceptance, Names
from prefect_docjobs.errors import ConfigurationError, DocJobsError, Reason
from prefect_docjobs.ledger import Step, entry_for, next_step
from prefect_docjobs.models import Batch, Document, Outcome
from prefect_docjobs.models.batches import BatchBuilder
from prefect_docjobs.tasks.fallback.attempts import Attempt, FallbackBatch, billed
from prefect_docjobs.tasks.fallback.late import LateJobs
from prefect_docjobs.tasks.journal import Log
from prefect_docjobs.tasks.many import aextract_documents
from prefect_docjobs.tasks.names import count

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Ledger


@dataclass(frozen=True)
class Stage:
    """A job, and what it is called in a trail."""

    label: str
    job: DocJob


def labelled(jobs: Sequence[DocJob]) -> list[Stage]:
    """The jobs by their names; raises `ConfigurationError` where there is none."""
    if not jobs:
        raise ConfigurationError("Give one job at least.")
    stages: list[Stage] = []
    for job in jobs:
        provider = job.provider()
        label = job.saved_name or f"{provider.name}/{provider.product}"
        twins = sum(stage.label.partition(" (")[0] == label for stage in stages)
        stages.append(Stage(f"{label} ({twins + 1})" if twins else label, job))
    return stages


@dataclass
class _Way:
    """One document on its way.

    Attributes:
        left: The jobs that it may still go to, by their numbers.
        tried: Those that it went to.
        best: Where its best outcome is: the batch, and the position in it.
        doubts: About that one's result; None where it has none.
    """

    left: list[int]
    tried: list[Attempt] = field(default_factory=list)
    best: tuple[Batch, int] | None = None
    doubts: int | None = None

    def note(self, attempt: Attempt, batch: Batch, position: int) -> None:
        """Note an attempt; its outcome is the best if there is no result with fewer doubts."""
        self.tried.append(attempt)
        doubts = len(attempt.doubts) if attempt.reason is None else None
        if self.doubts is None or (doubts is not None and doubts < self.doubts):
            self.best, self.doubts = (batch, position), doubts


@dataclass
class Course:
    """One call.

    Attributes:
        stages: The jobs, the preferred one first.
        documents: What to extract from.
        accept: When a result is good enough.
        names: What the services call the fields that `accept` names.
        fall_back_on: The reasons after which a document goes on.
        reuse_days: Days during which a result is used again; None for ever.
        timeout: Seconds from the making of this object; None for no limit.
        log: For what goes on, and why.
        options: Of `extract_documents`, for every job.
    """

    stages: Sequence[Stage]
    documents: Sequence[Document]
    accept: Acceptance
    names: Names | None
    fall_back_on: frozenset[Reason]
    reuse_days: float | None
    timeout: float | None
    log: Log
    options: Mapping[str, Any]
    started: float = field(default_factory=anyio.current_time)

    async def run(self) -> FallbackBatch:
        """Send every document from job to job until it has a good result, or there is no job or time left."""
        ways = await self._ways()
        on_the_way = list(range(len(ways)))
        while on_the_way:
            on_the_way = await self._round(ways, on_the_way)
            if self._seconds_left == 0.0:
                break
        return _collected(ways)

    async def _round(self, ways: Sequence[_Way], on_the_way: Sequence[int]) -> list[int]:
        """Send documents to the next job of each; returns those that go on."""
        visitors: dict[int, list[int]] = defaultdict(list)
        for index in on_the_way:
            visitors[ways[index].left.pop(0)].append(index)
        going = [
            await self._visit(self.stages[number], ways, visitors[number]) for number in sorted(visitors)
        ]
        return sorted(index for indices in going for index in indices)

    @property
    def _seconds_left(self) -> float | None:
        if self.timeout is None:
            return None
        return max(0.0, self.timeout - (anyio.current_time() - self.started))

    async def _visit(self, stage: Stage, ways: Sequence[_Way], indices: Sequence[int]) -> list[int]:
        """Send documents to one job; returns those that go on."""
        documents = [self.documents[index] for index in indices]
        batch = await aextract_documents.fn(stage.job, documents, timeout=self._seconds_left, **self.options)
        cancelled: Collection[str] = ()
        if Reason.TIMEOUT in self.fall_back_on and self._seconds_left != 0.0:
            leaving = {position for position, index in enumerate(indices) if ways[index].left}
            batch, cancelled = await LateJobs(stage.job, self.log).given_up(batch, leaving)
        going: dict[int, str] = {}
        for position, index in enumerate(indices):
            attempt = self._attempt(stage, batch[position], cancelled)
            ways[index].note(attempt, batch, position)
            if ways[index].left and self._goes_on(attempt):
                going[index] = str(attempt.reason or "not good enough")
        self._tell(stage, going)
        return list(going)

    def _attempt(self, stage: Stage, outcome: Outcome, cancelled: Collection[str]) -> Attempt:
        doubts = self.accept.doubts_of(outcome.result, names=self.names) if outcome.result else ()
        return Attempt(
            job=stage.label,
            reason=outcome.reason,
            error=outcome.error,
            doubts=tuple(doubts),
            billed=billed(outcome, cancelled),
            ref=outcome.ref,
            seconds=outcome.seconds,
        )

    def _goes_on(self, attempt: Attempt) -> bool:
        return bool(attempt.doubts) if attempt.reason is None else attempt.reason in self.fall_back_on

    def _tell(self, stage: Stage, going: Mapping[int, str]) -> None:
        if going:
            reasons = ", ".join(f"{number:,} {why}" for why, number in Counter(going.values()).most_common())
            self.log.warning(
                "%s of %s: %s to the next job",
                count(len(going), "document"),
                stage.label,
                f"{reasons}; going on",
            )

    async def _ways(self) -> list[_Way]:
        """For each document the jobs in order; one that has it already comes before those that do not."""
        order = list(range(len(self.stages)))
        if len(order) == 1:
            return [_Way([0]) for _ in self.documents]
        async with the_ledger() as ledger:
            if ledger is None:
                return [_Way(list(order)) for _ in self.documents]
            digests = await anyio.to_thread.run_sync(_digests, self.documents)
            holdings = [await self._bought(ledger, stage.job, digests) for stage in self.stages]
        return [_Way(_owned_first(order, digest, holdings)) for digest in digests]

    async def _bought(self, ledger: Ledger, job: DocJob, digests: Sequence[str | None]) -> set[str]:
        """The contents for which the job has a result, or is at work."""
        provider, account = job.provider(), job.credentials
        known = {"base_url": account.base_url, "tenant": account.tenant_id, "name": "", "size": None}
        keys = {
            entry_for(provider, sha256=digest, **known).key: digest  # type: ignore[arg-type]
            for digest in filter(None, digests)
        }
        found = await ledger.find(keys=list(keys), limit=max(1, len(keys)))
        reuse_for = None if self.reuse_days is None else self.reuse_days * 86_400.0
        steps = {
            record.key: next_step(record, mine=False, reuse_for=reuse_for, on_uncertain="fail")
            for record in found
        }
        return {keys[key] for key, step in steps.items() if step in _BOUGHT}


_BOUGHT = (Step.USE, Step.WAIT, Step.FETCH, Step.STAND_BY)


def _owned_first(order: Sequence[int], digest: str | None, holdings: Sequence[Collection[str]]) -> list[int]:
    if digest is None:
        return list(order)
    return sorted(order, key=lambda number: digest not in holdings[number])


def _digests(documents: Sequence[Document]) -> list[str | None]:
    return [_digest(document) for document in documents]


def _digest(document: Document) -> str | None:
    try:
        return document.sha256
    except DocJobsError:  # which its row will tell
        return None


def _collected(ways: Sequence[_Way]) -> FallbackBatch:
    builder = BatchBuilder()
    for index, way in enumerate(ways):
        if way.best is not None:
            batch, position = way.best
            builder.add(index, batch[position])
    return FallbackBatch(builder.build(len(ways)), tuple(tuple(way.tried) for way in ways))
