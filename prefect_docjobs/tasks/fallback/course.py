"""One call: each document goes its own way from job to job."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from prefect_docjobs.blocks.buying import terms_of, the_ledger
from prefect_docjobs.comparison import Acceptance, Names
from prefect_docjobs.errors import DocJobsError, Reason
from prefect_docjobs.extraction import OnForecast, OnUncertain
from prefect_docjobs.extraction.batch import completed
from prefect_docjobs.extraction.budget import Budget
from prefect_docjobs.ledger import Step, next_step
from prefect_docjobs.models import Document, Outcome
from prefect_docjobs.models.batches import BatchBuilder
from prefect_docjobs.providers.base import SMALL
from prefect_docjobs.tasks.costs import cost_line
from prefect_docjobs.tasks.fallback.attempts import Attempt, FallbackBatch, billed
from prefect_docjobs.tasks.fallback.service import Service, Stage
from prefect_docjobs.tasks.journal import Journal, Log, Progress
from prefect_docjobs.tasks.names import count
from prefect_docjobs.waiter import Forecast

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Ledger


@dataclass
class _Way:
    """One document on its way.

    Attributes:
        left: The jobs that it may still go to, by their numbers.
        tried: Those that it went to.
        best: Where its best outcome is: the number of the job, and the position among its outcomes.
        doubts: About that one's result; None where it has none.
    """

    left: list[int]
    tried: list[Attempt] = field(default_factory=list)
    best: tuple[int, int] = (0, 0)
    doubts: int | None = None

    def end(self, document: Document) -> Outcome:
        """How it ended, without the result."""
        reason = self.tried[-1].reason if self.doubts is None else None
        return Outcome(document=document.name, reason=reason)

    def note(self, attempt: Attempt, place: tuple[int, int]) -> None:
        """Note an attempt; its outcome is the best if there is no result with fewer doubts."""
        self.tried.append(attempt)
        doubts = len(attempt.doubts) if attempt.reason is None else None
        if self.doubts is None or (doubts is not None and doubts < self.doubts):
            self.best, self.doubts = place, doubts


@dataclass
class Course:
    """One call.

    Attributes:
        stages: The jobs, the preferred one first.
        documents: What to extract from.
        accept: When a result is good enough.
        names: What the services call the fields that `accept` names.
        fall_back_on: The reasons after which a document goes on.
        timeout: Seconds from the making of this object; None for no limit.
        document_timeout: Seconds for each job; None for no limit.
        on_uncertain: What to do first when a submit's answer is lost.
        reuse_days: Days during which a result is used again; None for ever.
        concurrency: Documents under way at the same time, at most.
        budget: What all jobs together may buy; None for no limit.
        log: For what goes on, and why.
    """

    stages: Sequence[Stage]
    documents: Sequence[Document]
    accept: Acceptance
    names: Names | None
    fall_back_on: frozenset[Reason]
    timeout: float | None
    document_timeout: float | None
    on_uncertain: OnUncertain
    reuse_days: float | None
    concurrency: int
    budget: Budget | None
    log: Log
    started: float = field(default_factory=anyio.current_time)
    _ledger: Ledger | None = None
    _services: list[Service] = field(default_factory=list)
    _forecasts: dict[int, Forecast] = field(default_factory=dict)

    async def run(self) -> FallbackBatch:
        """Send every document from job to job until it has a good result, or there is no job or time left."""
        ways: dict[int, _Way] = {}
        total = len(self.documents)
        what = f"{count(total, 'document')} through {', then '.join(stage.label for stage in self.stages)}"
        self.log.info("Extracting %s", what)
        journal, progress = Journal(self.log), Progress(total, what)
        async with AsyncExitStack() as stack:
            self._ledger = await stack.enter_async_context(the_ledger())
            for number, stage in enumerate(self.stages):
                foresee = partial(self._foresee, number, journal, progress)
                self._services.append(await stack.enter_async_context(self._opened(stage, foresee)))
            await stack.enter_async_context(progress.shown(self.log))
            ended = await stack.enter_async_context(
                aclosing(completed(self._through, self.documents, limit=self.concurrency))
            )
            async for index, way in ended:
                ways[index] = way
                journal.ended(way.end(self.documents[index]), total)
                progress.advance()
        return self._collected([ways[index] for index in range(total)], journal)

    def _opened(self, stage: Stage, foresee: OnForecast) -> AbstractAsyncContextManager[Service]:
        return Service.opened(
            stage,
            terms_of(stage.job, self.on_uncertain, self.reuse_days, self.budget),
            self._ledger,
            self.log,
            deadline=math.inf if self.timeout is None else self.started + self.timeout,
            document_timeout=self.document_timeout,
            on_forecast=foresee,
        )

    def _foresee(self, number: int, journal: Journal, progress: Progress, forecast: Forecast) -> None:
        """Say when the jobs of all services will be done: with the last of them."""
        self._forecasts[number] = forecast
        at_work = [each for service, each in self._forecasts.items() if self._services[service].under_way]
        last = max(at_work, key=lambda each: each.nearly_sure or 0.0, default=forecast)
        journal.foresee(last)
        progress.foresee(last)

    @property
    def _is_over(self) -> bool:
        return self.timeout is not None and anyio.current_time() >= self.started + self.timeout

    async def _through(self, index: int, document: Document) -> _Way:
        """Send a document from job to job."""
        way = _Way(await self._order(document))
        while way.left:
            number = way.left.pop(0)
            service = self._services[number]
            attempt, position = await self._visit(service, index, document, is_last=not way.left)
            way.note(attempt, (number, position))
            if self._is_over or not way.left or not self._goes_on(attempt):
                break
            service.goes_on(str(attempt.reason or "not good enough"))
        return way

    async def _visit(
        self, service: Service, index: int, document: Document, *, is_last: bool
    ) -> tuple[Attempt, int]:
        """Send a document to one job; its outcome is kept at the position that is returned."""
        outcome, is_cancelled = await service.extracted(index, document), False
        is_late = outcome.reason is Reason.TIMEOUT and Reason.TIMEOUT in self.fall_back_on
        if is_late and not is_last and not self._is_over:
            outcome, is_cancelled = await service.late.given_up(outcome)
        doubts = self.accept.doubts_of(outcome.result, names=self.names) if outcome.result else ()
        attempt = Attempt(
            job=service.label,
            reason=outcome.reason,
            error=outcome.error,
            doubts=tuple(doubts),
            billed=billed(outcome, is_cancelled=is_cancelled),
            ref=outcome.ref,
            seconds=outcome.seconds,
        )
        return attempt, service.add(outcome)

    def _goes_on(self, attempt: Attempt) -> bool:
        return bool(attempt.doubts) if attempt.reason is None else attempt.reason in self.fall_back_on

    async def _order(self, document: Document) -> list[int]:
        """The numbers of the jobs in order; those that have the document already come first."""
        order = list(range(len(self._services)))
        if len(order) == 1 or self._ledger is None:
            return order
        try:
            digest = await _digest(document)
            owned = await self._owners(self._ledger, digest) if digest else set()
        except DocJobsError:  # which its row will tell
            return order
        return sorted(order, key=lambda number: number not in owned)

    async def _owners(self, ledger: Ledger, digest: str) -> set[int]:
        """The jobs that have a result for a content, or are at work on it."""
        keys = {number: service.key(digest) for number, service in enumerate(self._services)}
        reuse_for = None if self.reuse_days is None else self.reuse_days * 86_400.0
        owned = {
            record.key
            for record in await ledger.find(keys=set(keys.values()), limit=len(keys))
            if next_step(record, mine=False, reuse_for=reuse_for, on_uncertain="fail") in _BOUGHT
        }
        return {number for number, key in keys.items() if key in owned}

    def _collected(self, ways: Sequence[_Way], journal: Journal) -> FallbackBatch:
        batches = [service.outcomes.build() for service in self._services]
        price = self.budget.price_per_page if self.budget else None
        for service, batch in zip(self._services, batches, strict=True):
            if len(batch):
                self.log.info("%s: %s", service.label, cost_line(batch, price_per_page=price))
        builder = BatchBuilder()
        for index, way in enumerate(ways):
            number, position = way.best
            builder.add(index, batches[number][position])
        batch = builder.build(len(ways))
        journal.close(batch)
        return FallbackBatch(batch, tuple(tuple(way.tried) for way in ways))


_BOUGHT = (Step.USE, Step.WAIT, Step.FETCH, Step.STAND_BY)


async def _digest(document: Document) -> str | None:
    if (document.size or 0) <= SMALL:
        return document.sha256
    return await anyio.to_thread.run_sync(lambda: document.sha256)
