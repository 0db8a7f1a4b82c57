"""Several services one after the other: each document goes on to the next one until one has a good result.

No document waits for another: it goes on as soon as its own outcome at a service is final.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from typing_extensions import Unpack

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.blocks.ledger import open_ledger
from prefect_docjobs.comparison import Acceptance, Names, check_settings
from prefect_docjobs.errors import RETRY_POLICY, ConfigurationError, DocJobsError, Reason, Retry
from prefect_docjobs.extraction import OnForecast, Terms, fetch_many
from prefect_docjobs.extraction.batch import Extract, completed, extracting
from prefect_docjobs.extraction.budget import Budget
from prefect_docjobs.extraction.options import ExtractOptions, Options
from prefect_docjobs.http import Http
from prefect_docjobs.ledger import Record, Step, entry_for, next_step
from prefect_docjobs.models import Attempt, Batch, Billed, Document, JobRef, JobState, Outcome, Phase
from prefect_docjobs.models.batches import BatchBuilder
from prefect_docjobs.providers import Provider
from prefect_docjobs.providers.base import SMALL
from prefect_docjobs.tasks._run import (
    Job,
    Log,
    Progress,
    RunLog,
    checked_documents,
    cost_line,
    count,
    counting,
    docjobs_task,
    resolve_job,
    run_log,
    sync_form,
)
from prefect_docjobs.waiting import Forecast

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Ledger

FALL_BACK_ON: frozenset[Reason] = frozenset(Reason) - {Reason.BUDGET, Reason.CANCELLED}
"""The reasons after which a document goes on to the next job, by default.

Not after `budget`, which holds for all services, nor after `cancelled`, which somebody wanted.
"""

_LOG_WITHIN = 1.0  # seconds; documents that go on are logged together
_CANCEL_WITHIN = 10.0  # seconds for a service to cancel a job
_LATE_REQUEST = 1.0  # seconds past the deadline of the call, so that one request may get through
_LATE_FETCH = 30.0  # the same for a result, which is paid for
_RECORD_WITHIN = 5.0  # seconds to give a record back


@docjobs_task("extract-with-fallback", counting("extract", "documents", "document"))
async def aextract_with_fallback(
    jobs: Sequence[Job],
    documents: Iterable[Document],
    *,
    accept: Acceptance | None = None,
    names: Names | None = None,
    fall_back_on: Collection[Reason] = FALL_BACK_ON,
    **options: Unpack[ExtractOptions],
) -> Batch:
    """Extract from documents through the first job; those that have no good result there go on to the next.

    Each document goes on as soon as its outcome at a job is final, whatever the others are at. What the
    ledger knows is not submitted again. A document whose result, or running job, is there at a later job only
    begins with that one. A job that took too long is cancelled where the service can, before its document
    goes on; where it cannot, it goes on and is billed, and so may a submit whose answer was lost: `tried`
    says so for each document.

    Args:
        jobs: Job blocks or names of saved ones, the preferred one first.
        documents: What to extract from.
        accept: When a result is good enough. One that is not goes on, too, and is paid for twice; where no
            result is good enough, the one with the fewest doubts is kept. None: every result is.
        names: What the services call the fields that `accept` names.
        fall_back_on: The reasons after which a document goes on.
        **options: See `Options`; `budget` and `max_submits` are for all services together.

    Returns:
        One outcome for each document, in the order in which they were given. Its `tried` are the jobs that
        were tried, in order; the outcome is that of one of them.

    Raises:
        ConfigurationError: There is no job, one of them, a document or an option is no such thing. Nothing
            was sent.
    """
    check_settings(names, None)
    chosen, log = Options.of(options), run_log()
    stages = labelled([await resolve_job(job) for job in jobs])
    fallback = _Fallback(chosen, accept or Acceptance(), names, frozenset(fall_back_on), log)
    return await fallback.run(stages, checked_documents(documents))


extract_with_fallback = sync_form(aextract_with_fallback)


def labelled(jobs: Sequence[DocJob]) -> list[tuple[str, DocJob]]:
    """The jobs with what they are called in `tried`."""
    if not jobs:
        raise ConfigurationError("Give one job at least.")
    labelled: list[tuple[str, DocJob]] = []
    for job in jobs:
        provider = job.provider()
        label = job.saved_name or f"{provider.name}/{provider.product}"
        same = sum(other.partition(" (")[0] == label for other, _ in labelled)
        labelled.append((f"{label} ({same + 1})" if same else label, job))
    return labelled


@dataclass
class _Route:
    """The way of one document.

    Attributes:
        left: The jobs that it may still go to, by their numbers.
        tried: Those that it went to.
        best: Where its best outcome is: the number of the job, and the position among its outcomes.
        doubts: How many there are about that one's result; None where it has none.
    """

    left: list[int]
    tried: list[Attempt] = field(default_factory=list)
    best: tuple[int, int] = (0, 0)
    doubts: int | None = None

    def add(self, attempt: Attempt, place: tuple[int, int]) -> None:
        """Its outcome is the best unless there is a result with as few doubts already."""
        self.tried.append(attempt)
        doubts = len(attempt.doubts) if attempt.reason is None else None
        if self.doubts is None or (doubts is not None and doubts < self.doubts):
            self.best, self.doubts = place, doubts


@dataclass
class _Fallback:
    """One call.

    Attributes:
        options: Of the call.
        accept: When a result is good enough.
        names: What the services call the fields that `accept` names.
        fall_back_on: The reasons after which a document goes on.
        log: Of the run.
    """

    options: Options
    accept: Acceptance
    names: Names | None
    fall_back_on: frozenset[Reason]
    log: Log
    services: list[_Service] = field(default_factory=list)
    deadline: float = field(init=False)
    _ledger: Ledger = field(init=False)
    _forecasts: dict[int, Forecast] = field(default_factory=dict)

    def __post_init__(self) -> None:
        timeout = self.options.timeout
        self.deadline = math.inf if timeout is None else anyio.current_time() + timeout

    async def run(self, stages: Sequence[tuple[str, DocJob]], documents: Sequence[Document]) -> Batch:
        """Send every document from job to job until it has a good result, or there is no job or time left."""
        routes: dict[int, _Route] = {}
        total, budget = len(documents), self.options.spending()
        what = f"{count(total, 'document')} through {', then '.join(label for label, _ in stages)}"
        self.log.info("Extracting %s", what)
        lines, progress = RunLog(self.log), Progress(total, what)
        async with AsyncExitStack() as stack:
            self._ledger = await stack.enter_async_context(open_ledger())
            for number, (label, job) in enumerate(stages):
                service = _Service(label, job.provider(), self)
                terms = replace(job.terms(self.options), budget=budget)
                on_forecast = partial(self._on_forecast, number, lines, progress)
                await stack.enter_async_context(service.opened(job, terms, self._ledger, on_forecast))
                self.services.append(service)
            await stack.enter_async_context(progress.shown(self.log))
            ended = await stack.enter_async_context(
                aclosing(completed(self._send, documents, limit=self.options.concurrency))
            )
            async for index, route in ended:
                routes[index] = route
                reason = route.tried[-1].reason if route.doubts is None else None
                lines.ended(Outcome(document=documents[index].name, reason=reason), total)
                progress.advance()
        return self._collected([routes[index] for index in range(total)], budget, lines)

    def _on_forecast(self, number: int, lines: RunLog, progress: Progress, forecast: Forecast) -> None:
        """The jobs of all services are done with the last of them."""
        self._forecasts[number] = forecast
        at_work = [each for service, each in self._forecasts.items() if self.services[service].under_way]
        last = max(at_work, key=lambda each: each.nearly_sure or 0.0, default=forecast)
        lines.on_forecast(last)
        progress.on_forecast(last)

    @property
    def _is_over(self) -> bool:
        return anyio.current_time() >= self.deadline

    async def _send(self, index: int, document: Document) -> _Route:
        """Send a document from job to job."""
        route = _Route(await self._order(document))
        while route.left:
            number = route.left.pop(0)
            service = self.services[number]
            attempt, position = await self._try(service, index, document, is_last=not route.left)
            route.add(attempt, (number, position))
            goes_on = attempt.doubts if attempt.reason is None else attempt.reason in self.fall_back_on
            if self._is_over or not route.left or not goes_on:
                break
            service.goes_on(str(attempt.reason or "not good enough"))
        return route

    async def _try(
        self, service: _Service, index: int, document: Document, *, is_last: bool
    ) -> tuple[Attempt, int]:
        """Send a document to one job; its outcome is kept at the position that is returned."""
        outcome, is_cancelled = await service.extract(index, document), False
        is_late = outcome.reason is Reason.TIMEOUT and Reason.TIMEOUT in self.fall_back_on
        if is_late and not is_last and not self._is_over:
            outcome, is_cancelled = await service.give_up(outcome)
        doubts = self.accept.doubts_of(outcome.result, names=self.names) if outcome.result else ()
        attempt = Attempt(
            job=service.label,
            reason=outcome.reason,
            error=outcome.error,
            doubts=tuple(f"{doubt.field}: {doubt.why.replace('_', ' ')}" for doubt in doubts),
            billed=billed(outcome, is_cancelled=is_cancelled),
            ref=outcome.ref,
            seconds=outcome.seconds,
        )
        return attempt, service.add(outcome)

    async def _order(self, document: Document) -> list[int]:
        """The numbers of the jobs in order; those that have the document already come first."""
        order = list(range(len(self.services)))
        if len(order) == 1:
            return order
        try:
            small = (document.size or 0) <= SMALL
            sha256 = document.sha256 if small else await anyio.to_thread.run_sync(lambda: document.sha256)
            owners = await self._owners(sha256) if sha256 else set()
        except DocJobsError:  # which its row will say
            return order
        return sorted(order, key=lambda number: number not in owners)

    async def _owners(self, sha256: str) -> set[int]:
        """The jobs that have a result for a content, or are at work on it."""
        keys = {number: service.key(sha256) for number, service in enumerate(self.services)}
        owned = {
            record.key
            for record in await self._ledger.find(keys=set(keys.values()), limit=len(keys))
            if next_step(record, mine=False, reuse_for=self.options.reuse_for, on_uncertain="fail")
            in (Step.USE, Step.WAIT, Step.FETCH, Step.STAND_BY)
        }
        return {number for number, key in keys.items() if key in owned}

    def _collected(self, routes: Sequence[_Route], budget: Budget | None, lines: RunLog) -> Batch:
        batches = [service.outcomes.build() for service in self.services]
        price = budget.price_per_page if budget else None
        for service, batch in zip(self.services, batches, strict=True):
            if len(batch):
                self.log.info("%s: %s", service.label, cost_line(batch, price_per_page=price))
        builder = BatchBuilder()
        for index, route in enumerate(routes):
            number, position = route.best
            outcome = batches[number][position]
            builder.add(index, outcome.model_copy(update={"tried": tuple(route.tried)}))
        batch = builder.build(len(routes))
        lines.close(batch)
        return batch


@dataclass
class _Service:
    """One job of a call, which takes documents as they come."""

    label: str
    provider: Provider
    call: _Fallback
    outcomes: BatchBuilder = field(default_factory=BatchBuilder)
    under_way: int = 0
    _ended: int = 0
    _going: Counter[str] = field(default_factory=Counter)
    _flush_at: asyncio.TimerHandle | None = None
    _http: Http = field(init=False)
    _ledger: Ledger = field(init=False)
    _extract: Extract = field(init=False)
    _account: Mapping[str, str] = field(init=False)

    @asynccontextmanager
    async def opened(
        self, job: DocJob, terms: Terms, ledger: Ledger, on_forecast: OnForecast
    ) -> AsyncIterator[None]:
        """Ready while the context is open."""
        account = job.credentials
        self._ledger = ledger
        self._account = {"base_url": account.base_url, "tenant": account.tenant_id}
        async with (
            account.get_client() as self._http,
            RunLog(self.call.log, with_refs=ledger.in_memory) as lines,
            extracting(
                self.provider,
                self._http,
                deadline=self.call.deadline,
                document_timeout=self.call.options.document_timeout,
                terms=terms,
                ledger=ledger,
                observe=lines.observe,
                on_forecast=on_forecast,
            ) as self._extract,
        ):
            try:
                yield
            finally:
                self._flush()

    def key(self, sha256: str) -> str:
        """Under which the ledger knows a content that was submitted through this job."""
        return entry_for(self.provider, name="", sha256=sha256, size=None, **self._account).key

    async def extract(self, index: int, document: Document) -> Outcome:
        """What comes out of a document."""
        self.under_way += 1
        try:
            return await self._extract(index, document)
        finally:
            self.under_way -= 1

    def add(self, outcome: Outcome) -> int:
        """Keep an outcome; returns its position."""
        self.outcomes.add(self._ended, outcome)
        self._ended += 1
        return self._ended - 1

    def goes_on(self, why: str) -> None:
        """Log that a document goes on to the next job."""
        self._going[why] += 1
        if self._flush_at is None:
            self._flush_at = asyncio.get_running_loop().call_later(_LOG_WITHIN, self._flush)

    def _flush(self) -> None:
        if self._flush_at is not None:
            self._flush_at.cancel()
        going, self._going, self._flush_at = self._going, Counter(), None
        if going:
            reasons = ", ".join(f"{number:,} {why}" for why, number in going.most_common())
            some = count(going.total(), "document")
            self.call.log.warning("%s of %s: %s; going on to the next job", some, self.label, reasons)

    async def give_up(self, late: Outcome) -> tuple[Outcome, bool]:
        """Cancel a job where the service can; if it ended meanwhile its result is fetched, not bought again.

        A job that another run or document is waiting for is left alone.

        Returns:
            The outcome, perhaps with the result; and whether the job was cancelled.
        """
        if late.ref is None or not self.provider.capabilities.cancel:
            return late, False
        state, log = None, self.call.log
        left = max(0.0, self.call.deadline - anyio.current_time())
        with anyio.move_on_after(min(_CANCEL_WITHIN, left + _LATE_REQUEST)) as limit:
            try:
                state = await self._cancelled(late, late.ref)
            except DocJobsError as problem:
                log.warning("%s cannot be cancelled, and is billed: %s", late.ref, problem)
        if limit.cancelled_caught:
            log.warning("%s could not be cancelled in time, and may be billed.", late.ref)
        if state is JobState.SUCCEEDED:
            left = max(0.0, self.call.deadline - anyio.current_time())
            with anyio.move_on_after(left + _LATE_FETCH):
                return await self._fetched(late, late.ref), False
        return late, state is JobState.CANCELLED

    async def _cancelled(self, late: Outcome, ref: JobRef) -> JobState | None:
        """What the job is after the cancel; None where another worker waits for it."""
        held: list[Record] = []
        state: JobState | None = None
        try:
            found = await self._ledger.find(
                job_ids=[ref.job_id], provider=ref.provider, base_url=ref.base_url, tenant=ref.tenant
            )
            for record in found:
                taken = await self._ledger.take_over(record)
                if taken is None:
                    self.call.log.info("%s is not cancelled: another worker waits for it.", ref)
                    return None
                held.append(taken)
            await self.provider.cancel(self._http, ref)
            state = (await self.provider.status(self._http, ref)).state
        finally:
            if held:
                with anyio.move_on_after(_RECORD_WITHIN, shield=True):
                    await self._record(held, state, late)
        return state

    async def _record(self, held: Sequence[Record], state: JobState | None, late: Outcome) -> None:
        """Record what became of the job: nobody waits again for one that is cancelled."""
        try:
            for record in held:
                if state is JobState.CANCELLED:
                    message = "The job took too long, and was cancelled; another service was asked."
                    await self._ledger.failed(record, Reason.CANCELLED, message)
                elif state is not None and state.is_terminal:
                    await self._ledger.release_lease(record)
                else:
                    message = late.error or "The job took too long."
                    await self._ledger.failed(record, Reason.TIMEOUT, message)
        except DocJobsError as problem:
            self.call.log.warning("What became of %s cannot be recorded: %s", late.ref, problem)

    async def _fetched(self, late: Outcome, ref: JobRef) -> Outcome:
        known = {"document": late.document, "reused": late.reused, "seconds": late.seconds}
        fetched = fetch_many(self.provider, self._http, [ref], ledger=self._ledger)
        async with aclosing(fetched):
            async for _, outcome in fetched:
                return outcome.model_copy(update=known)
        return late


def billed(outcome: Outcome, *, is_cancelled: bool = False) -> Billed:
    """Whether an outcome costs money.

    Args:
        outcome: Of one document at one job.
        is_cancelled: Its job was cancelled because it took too long.
    """
    if outcome.reason is None:
        return "yes"
    if outcome.reason is Reason.TIMEOUT:
        if outcome.ref is None:
            return "no"  # it was never submitted
        return "maybe" if is_cancelled else "yes"
    policy = RETRY_POLICY[outcome.reason]
    was_accepted = outcome.ref is not None and outcome.phase in (Phase.WAIT, Phase.FETCH)
    if was_accepted and policy.retry is Retry.SUBMIT:
        return "yes"  # a later request about the job was refused
    return policy.billed
