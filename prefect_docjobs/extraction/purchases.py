"""Buying: how a document becomes a job, and a job a kept result.

`Purchases` is what a line asks; `Unrecorded` keeps nothing. With a ledger, `Recorded` buys a document once.
"""

from __future__ import annotations

import asyncio
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import anyio
from typing_extensions import Self

from prefect_docjobs.errors import (
    DocJobsError,
    JobTimeout,
    ResultLost,
    SubmitUncertain,
    Unfinished,
    Unreadable,
)
from prefect_docjobs.extraction.budget import Budget
from prefect_docjobs.extraction.finishing import before, bookkeeping, seen_through
from prefect_docjobs.extraction.pages import Pages
from prefect_docjobs.extraction.refusals import Refusals
from prefect_docjobs.http import Answer, Http, InDoubt
from prefect_docjobs.ledger import Record, State
from prefect_docjobs.models import Document, JobRef, JobState, JobStatus, Outcome, Phase, Result, Usage
from prefect_docjobs.providers.base import Provider
from prefect_docjobs.telemetry import Operation
from prefect_docjobs.waiter import Waiter

_log = logging.getLogger(__name__)

OnUncertain = Literal["fail", "resubmit"]
"""What to do when a submit's answer is lost: fail the document, or risk a second bill."""

_PAUSES = (1.0, 4.0)  # seconds between two answers that are not the result
SUBMITS = 8
"""Submits at the same time; each is an open intent, which a crash leaves to be reconciled."""

MONTH = 30 * 86_400.0


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms documents are bought.

    Attributes:
        on_uncertain: What to do when a submit's answer is lost.
        reuse_for: Seconds after a submit during which its result is used again for the same content; None for
            ever, 0 never. Work in flight is always taken up, and what the same flow run has bought.
        flow_run_id: The flow run that buys, where there is one.
        task_run_id: The task run likewise.
        scope: Names the call: documents given by URL are the same within one call only.
        block: Name of the saved job block, by which another process can find the account.
        budget: What all submits may cost; None for no limit.
        resubmit: Buy again what was paid for before this call and has no result.
    """

    on_uncertain: OnUncertain = "fail"
    reuse_for: float | None = MONTH
    flow_run_id: str | None = None
    task_run_id: str | None = None
    scope: str = ""
    block: str | None = None
    budget: Budget | None = None
    resubmit: bool = False


@dataclass(frozen=True, slots=True)
class Purchase:
    """A job that exists, and what is written down about it.

    Attributes:
        ref: The job.
        record: The ledger's record, as it was last seen; None where nothing is recorded.
        reused: The document was bought before, by this call or another.
    """

    ref: JobRef
    record: Record | None = None
    reused: bool = False

    @property
    def status(self) -> JobStatus | None:
        """That the job has succeeded, where the ledger knows: the service may not know it any more."""
        if self.record is None or self.record.state not in (State.DONE, State.FETCHED):
            return None
        seen_at = self.record.done_at or self.record.fetched_at or self.record.updated_at
        return JobStatus(ref=self.ref, state=JobState.SUCCEEDED, seen_at=seen_at)

    @property
    def is_billed(self) -> bool:
        """Whether it was known before what the job cost."""
        record = self.record
        return record is not None and not (record.pages is None and record.credits is None)


class Purchases(ABC):
    """Submits, and keeps what is fetched. Use it as an async context manager."""

    def __init__(self, provider: Provider, http: Http, terms: Terms) -> None:
        self.provider = provider
        self.http = http
        self.terms = terms
        self.turns = asyncio.Semaphore(SUBMITS)
        self._documents: dict[str, str | None] = {}
        self._in_doubt: dict[int, Pages] = {}
        self._refusals = Refusals()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    def told_to(self, waiter: Waiter) -> AbstractAsyncContextManager[None]:  # noqa: ARG002
        """Tell `waiter` what services say of jobs by themselves, while the context is open."""
        return nullcontext()

    @abstractmethod
    async def submit(
        self, document: Document, *, hold: bool, deadline: float = math.inf, others: float | None = None
    ) -> Purchase:
        """See to it that there is a job for a document.

        Args:
            document: What to submit, unless that has been done already.
            hold: The caller goes on with it, so nobody else may.
            deadline: When, on the loop's clock, nothing more is submitted or waited for.
            others: Seconds to wait for somebody else who is at work on the same document; None for no limit.

        Raises:
            SubmitUncertain: It may or may not have been accepted.
            JobError: It was bought before, and has no result.
            DocJobsError: See `Provider.submit`.
        """

    async def look_up(self, refs: Iterable[JobRef]) -> None:  # noqa: B027 (there is nothing to read)
        """Read what is written about these jobs, all at once."""

    async def take_up(self, ref: JobRef, *, to_fetch: bool, until: float = math.inf) -> Purchase:  # noqa: ARG002
        """Go on with a job that was submitted before; `until` as for `submit`."""
        return Purchase(ref)

    async def done(self, purchase: Purchase, ref: JobRef) -> Purchase:
        """Note that the job has succeeded, and what fetching needs."""
        return replace(purchase, ref=ref)

    async def regain(self, purchase: Purchase, until: float) -> Purchase:  # noqa: ARG002
        """See to it that nobody else is about to fetch a result; may wait, so call it without a slot.

        Raises:
            JobTimeout: Somebody else is, and took too long.
        """
        return purchase

    async def fetch(self, purchase: Purchase, *, keep_until: float = math.inf) -> tuple[Result, Purchase]:
        """The result. Its bytes are kept before they are read, where there is a ledger.

        An answer that is not this job's result is asked for again a few times, which costs nothing.

        Args:
            purchase: The job.
            keep_until: When, on the loop's clock, a result that cannot be kept is delivered all the same.

        Raises:
            Unfinished: The job still runs.
            Unreadable: No answer was the result.
            JobError: The job failed, or its result is lost.
        """
        unread: Unreadable | None = None
        try:
            kept, purchase = await self._kept_answer(purchase, keep_until)
            if kept is not None:
                return await self._read(purchase, kept)
        except (Unreadable, Unfinished) as problem:
            _log.warning("%s: %s Asking the service.", purchase.ref, problem)
            unread = problem if isinstance(problem, Unreadable) else None
        for pause in (*_PAUSES, None):
            try:
                answer, purchase = await self._asked(purchase, keep_until)
                return await self._read(purchase, answer)
            except ResultLost:
                if unread is None:
                    raise
                raise unread from None  # its bytes are kept, and may be read one day
            except Unreadable as problem:
                unread = problem
                if pause is None:
                    raise
            _log.warning("%s: %s Fetching again.", purchase.ref, unread)
            await anyio.sleep(pause)
        raise AssertionError("not reached")

    async def _read(self, purchase: Purchase, answer: Answer) -> tuple[Result, Purchase]:
        result = await self.provider.aread_result(purchase.ref, answer)
        with bookkeeping():
            if not purchase.is_billed:
                self.http.telemetry.billed(purchase.ref, result.usage)
        return result, await self._is_read(purchase, result.usage)

    async def _kept_answer(
        self,
        purchase: Purchase,
        keep_until: float,  # noqa: ARG002
    ) -> tuple[Answer | None, Purchase]:
        """What is kept of the result, if anything is. Raises `Unreadable` where it cannot be had."""
        return None, purchase

    async def _asked(self, purchase: Purchase, keep_until: float) -> tuple[Answer, Purchase]:  # noqa: ARG002
        """The service's answer, kept."""
        return await self.provider.fetch(self.http, purchase.ref), purchase

    async def _is_read(self, purchase: Purchase, usage: Usage) -> Purchase:  # noqa: ARG002
        """Note that the kept bytes are the result."""
        return purchase

    async def failed(self, purchase: Purchase, outcome: Outcome) -> None:  # noqa: B027 (nowhere to write)
        """Note that there is no result."""

    async def let_go(self, purchase: Purchase) -> None:  # noqa: B027 (nothing is held)
        """Leave a job to whoever likes to go on with it, before the context is closed."""

    async def send(self, document: Document, **options: Any) -> JobRef:
        """Submit, within the budget. What may have been accepted stays spent, until `not_accepted`.

        Args:
            document: What to submit.
            options: Of `Provider.submit`.
        """
        self._refusals.check(document)
        budget = self.terms.budget
        pages = await budget.take(document) if budget else Pages()
        may_be_accepted = False

        def note(in_doubt: bool) -> None:
            nonlocal may_be_accepted
            given(in_doubt)
            may_be_accepted = in_doubt

        given = options.pop("in_doubt", lambda _: None)
        try:
            submitting = self.provider.submit(self.http, document, in_doubt=note, **options)
            return await self._refusals.counted(submitting)
        except SubmitUncertain:
            self._in_doubt[id(document)] = pages
            raise
        except BaseException as ended:
            if budget and (isinstance(ended, DocJobsError) or not may_be_accepted):
                budget.give_back(pages)
            raise

    def not_accepted(self, document: Document) -> None:
        """Note that a submit which had been uncertain costs nothing after all."""
        pages = self._in_doubt.pop(id(document), None)
        if pages is not None and self.terms.budget is not None:
            self.terms.budget.give_back(pages)

    def phase(self, phase: Phase, ref: JobRef | None = None) -> Operation:
        """A phase of a document, to be told while the context is open."""
        return self.http.telemetry.phase(phase, self.provider.name, self.provider.product, ref)

    def check_is_new(self, ref: JobRef, document: Document) -> None:
        """Raise `SubmitUncertain` when the service gives one job to two documents."""
        content = ref.document_sha256 or document.url
        if self._documents.setdefault(ref.job_id, content) != content:
            raise SubmitUncertain(f"The service answered with the job of another document, {ref.job_id}.")


class Unrecorded(Purchases):
    """Without a ledger: nothing is remembered, and what a crash interrupts is lost."""

    async def submit(
        self,
        document: Document,
        *,
        hold: bool,  # noqa: ARG002
        deadline: float = math.inf,
        others: float | None = None,  # noqa: ARG002
    ) -> Purchase:
        """See `Purchases.submit`."""
        sent = False

        def note(in_doubt: bool) -> None:
            nonlocal sent
            sent = in_doubt

        try:
            ref = await before(deadline, self._submit(document, note), may_stop=lambda: not sent)
        except TimeoutError:
            raise JobTimeout("The time limit passed before the document was submitted.") from None
        self.check_is_new(ref, document)
        return Purchase(ref)

    async def _submit(self, document: Document, note: InDoubt) -> JobRef:
        async with self.turns:
            try:
                return await seen_through(self.send(document, in_doubt=note))
            except SubmitUncertain as lost:
                if self.terms.on_uncertain != "resubmit":
                    raise
                try:
                    return await self.send(document, in_doubt=note)
                except SubmitUncertain:
                    raise
                except DocJobsError:
                    raise lost from None
