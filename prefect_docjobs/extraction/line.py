"""What one document goes through; each step returns an outcome and never raises `DocJobsError`."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timezone

import anyio

from prefect_docjobs.errors import DocJobsError, JobTimeout, SubmitUncertain, Unfinished
from prefect_docjobs.extraction.finishing import GRACE
from prefect_docjobs.extraction.purchases import Purchase, Purchases
from prefect_docjobs.models import Document, JobRef, JobStatus, Outcome, Phase
from prefect_docjobs.telemetry.names import REUSED
from prefect_docjobs.waiter import Waiter

Observe = Callable[[int, Outcome], None]
"""Told of every step of a document: its job is known, its job is done, it has ended."""

_log = logging.getLogger(__name__)
_FETCH_GRACE = (
    30.0 - GRACE
)  # seconds after the call's deadline for all results together, with those of `GRACE`
# Seconds before a job whose result turned out not to be there yet is looked at again; then it is given up.
_UNFINISHED = (0.0, 2.0, 5.0, 10.0, 20.0, 30.0)
FETCHES = 8
"""Results that are fetched at the same time."""


@dataclass(frozen=True)
class Line:
    """The way of documents: submit, wait, fetch.

    Attributes:
        purchases: Submits, and keeps what is fetched.
        waiter: Waits; None where nothing is waited for.
        deadline: Of the whole call, on the loop's clock.
        document_timeout: Seconds for each document, where it is somebody else who is at work on it.
        observe: Told of every step.
    """

    purchases: Purchases
    waiter: Waiter | None = None
    deadline: float | None = None
    document_timeout: float | None = None
    observe: Observe | None = None
    fetches: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(FETCHES))

    # -- one step, or all of them

    async def submit(self, index: int, document: Document) -> Outcome:
        """See to it that there is a job; whoever likes may go on with it."""
        outcome, _ = await self._submit(index, document, hold=False)
        return outcome

    async def wait(self, index: int, ref: JobRef) -> Outcome:
        """Wait for a job that was submitted before."""
        outcome = Outcome(document=ref.document_name, ref=ref, phase=Phase.WAIT)
        started = anyio.current_time()
        outcome, purchase = await self._taken_up(index, outcome, ref, started)
        if outcome.ok:
            outcome, purchase = await self._wait(index, outcome, purchase, started, age_of(ref))
        return outcome

    async def fetch(self, index: int, ref: JobRef) -> Outcome:
        """Fetch the result of a job that has succeeded."""
        outcome = Outcome(document=ref.document_name, ref=ref, phase=Phase.FETCH)
        started = anyio.current_time()
        outcome, purchase = await self._taken_up(index, outcome, ref, started)
        return await self._fetch_when_done(index, outcome, purchase, started) if outcome.ok else outcome

    async def extract(self, index: int, document: Document) -> Outcome:
        """Submit, wait and fetch."""
        provider = self.purchases.provider
        with self.purchases.http.telemetry.document(provider.name, provider.product, document.name) as told:
            outcome = await self._extract(index, document)
            told.ended(outcome)
        return outcome

    async def _extract(self, index: int, document: Document) -> Outcome:
        started = anyio.current_time()
        if self.deadline is not None and started >= self.deadline:
            late = JobTimeout("The time limit passed before the document was submitted.")
            return self._told(index, _failed(Outcome(document=document.name), Phase.SUBMIT, late, started))
        outcome, purchase = await self._submit(index, document, hold=True)
        if purchase is not None:
            age = age_of(purchase.ref) if purchase.reused else 0.0
            outcome, purchase = await self._wait(index, outcome, purchase, started, age)
            if outcome.ok:
                outcome = await self._fetch_when_done(index, outcome, purchase, started)
        return outcome

    async def _fetch_when_done(
        self, index: int, outcome: Outcome, purchase: Purchase, started: float
    ) -> Outcome:
        """Fetch; a job whose end was reported wrongly is waited for again."""
        for pause in (*_UNFINISHED, None):
            try:
                return await self._fetch(index, outcome, purchase, started)
            except Unfinished as running:
                if pause is None or self._until(started) < anyio.current_time() + pause:
                    failed = _failed(outcome, Phase.FETCH, running, started)
                    return await self._given_up(index, failed, purchase)
            await anyio.sleep(pause)
            if self.waiter is not None:
                self.waiter.contradicted()
                age = age_of(purchase.ref)
                outcome, purchase = await self._wait(index, outcome, purchase, started, age, ask=True)
            if not outcome.ok:
                return outcome
        raise AssertionError("not reached")

    # -- the steps

    async def _submit(self, index: int, document: Document, *, hold: bool) -> tuple[Outcome, Purchase | None]:
        outcome, started = Outcome(document=document.name), anyio.current_time()
        try:
            with self.purchases.phase(Phase.SUBMIT) as told, _typed(Phase.SUBMIT, document.name):
                purchase = await self.purchases.submit(
                    document,
                    hold=hold,
                    deadline=math.inf if self.deadline is None else self.deadline,
                    others=self.document_timeout,
                )
                told.job(purchase.ref)
                told.note(REUSED, purchase.reused)
        except DocJobsError as error:
            return self._told(index, _failed(outcome, Phase.SUBMIT, error, started)), None
        known = {"ref": purchase.ref, "reused": purchase.reused, "seconds": _since(started)}
        return self._told(index, outcome.model_copy(update=known)), purchase

    async def _taken_up(
        self, index: int, outcome: Outcome, ref: JobRef, started: float
    ) -> tuple[Outcome, Purchase]:
        to_fetch = outcome.phase is Phase.FETCH
        try:
            with _typed(outcome.phase, outcome.document, ref):
                purchase = await self.purchases.take_up(ref, to_fetch=to_fetch, until=self._until(started))
        except DocJobsError as error:
            return self._told(index, _failed(outcome, outcome.phase, error, started)), Purchase(ref)
        return outcome, purchase

    async def _wait(
        self,
        index: int,
        outcome: Outcome,
        purchase: Purchase,
        started: float,
        age: float,
        *,
        ask: bool = False,
    ) -> tuple[Outcome, Purchase]:
        """Wait for the end; `ask` the service even where the ledger says that the job is done."""
        known = None if ask else purchase.status
        try:
            with _typed(Phase.WAIT, outcome.document, purchase.ref):
                status = known or await self._end_of(purchase.ref, age)
                if known is None:
                    purchase = await self.purchases.done(purchase, status.ref)
        except DocJobsError as error:
            failed = _failed(outcome, Phase.WAIT, error, started)
            return await self._given_up(index, failed, purchase), purchase
        seen = {"phase": Phase.WAIT, "status": status, "ref": status.ref, "seconds": _since(started)}
        return self._told(index, outcome.model_copy(update=seen)), purchase

    async def _end_of(self, ref: JobRef, age: float) -> JobStatus:
        assert self.waiter  # noqa: S101 (wait and extract are only called with one)
        return await self.waiter.done(ref, deadline=self.deadline, age=age)

    async def _fetch(self, index: int, outcome: Outcome, purchase: Purchase, started: float) -> Outcome:
        try:
            with _typed(Phase.FETCH, outcome.document, purchase.ref), self._in_time():
                # Somebody else may be about to fetch it: that is waited for without a slot.
                purchase = await self.purchases.regain(purchase, self._until(started))
                async with self.fetches:
                    with self.purchases.phase(Phase.FETCH, purchase.ref):
                        result, purchase = await self.purchases.fetch(purchase, keep_until=self._keep_until())
        except Unfinished:
            raise
        except DocJobsError as error:
            return await self._given_up(index, _failed(outcome, Phase.FETCH, error, started), purchase)
        ended = {"phase": Phase.DONE, "result": result, "ref": result.ref, "seconds": _since(started)}
        return self._told(index, outcome.model_copy(update=ended))

    # -- limits, and what is told

    def _until(self, started: float) -> float:
        limit = math.inf if self.document_timeout is None else started + self.document_timeout
        return min(limit, math.inf if self.deadline is None else self.deadline)

    def _keep_until(self) -> float:
        """A result that is here is delivered before the call ends, kept or not."""
        return math.inf if self.deadline is None else self.deadline + _FETCH_GRACE / 2

    def _in_time(self) -> AbstractContextManager[object]:
        """What is done is paid for, so all results together may be fetched a little past the deadline."""
        if self.deadline is None:
            return nullcontext()
        return anyio.fail_after(max(0.0, self.deadline + _FETCH_GRACE - anyio.current_time()))

    async def _given_up(self, index: int, failed: Outcome, purchase: Purchase) -> Outcome:
        await self.purchases.failed(purchase, failed)
        return self._told(index, failed)

    def _told(self, index: int, outcome: Outcome) -> Outcome:
        if self.observe:
            try:
                self.observe(index, outcome)
            except Exception:  # a log line must not cost a document
                _log.exception("%s: an observer broke", outcome.document)
        return outcome


@contextmanager
def _typed(phase: Phase, document: str, ref: JobRef | None = None) -> Iterator[None]:
    """Turn what is no typed error into one: a fault of ours is one document's row, not the batch's end."""
    try:
        yield
    except DocJobsError:
        raise
    except TimeoutError:
        raise JobTimeout(f"The {phase} did not end in time. Take the job up again.", ref=ref) from None
    except Exception as bug:
        _log.exception("%s: the %s broke", document, phase)
        what = f"The {phase} broke ({type(bug).__name__})."  # the error's text may hold anything
        if ref is None:
            raise SubmitUncertain(f"{what} The document may have been accepted.") from None
        raise JobTimeout(f"{what} Take the job up again.", ref=ref) from None


def age_of(ref: JobRef) -> float:
    """Seconds since the submit by the wall clock; a clock that runs behind counts as zero."""
    return max(0.0, (datetime.now(timezone.utc) - ref.submitted_at).total_seconds())


def _failed(outcome: Outcome, phase: Phase, error: DocJobsError, started: float) -> Outcome:
    return outcome.failed(phase, error, seconds=_since(started))


def _since(started: float) -> float:
    return round(anyio.current_time() - started, 3)
