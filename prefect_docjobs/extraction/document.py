"""The way of one document: submit, wait, fetch."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext, suppress
from datetime import datetime, timezone
from typing import Any

import anyio

from prefect_docjobs.errors import (
    DocJobsError,
    JobTimeout,
    ResultLost,
    SubmitUncertain,
    Unfinished,
    Unreadable,
)
from prefect_docjobs.extraction.call import Call
from prefect_docjobs.extraction.durable import GRACE, shield_with_grace
from prefect_docjobs.extraction.record import JobRecord
from prefect_docjobs.extraction.submit import find_or_submit
from prefect_docjobs.http import Answer
from prefect_docjobs.ledger import LedgerUnavailable
from prefect_docjobs.models import Document, JobRef, JobStatus, Outcome, Phase, Result
from prefect_docjobs.telemetry import REUSED, Operation

_log = logging.getLogger(__name__)
_LATE_FETCHES = 30.0 - GRACE  # seconds after the call's deadline for all results together
_BAD_ANSWER = (1.0, 4.0)  # seconds between two answers that are not the result
_UNFINISHED = (0.0, 2.0, 5.0, 10.0, 20.0, 30.0)  # seconds before a job that still runs is waited for again


class DocumentRun:
    """One document of a call. A step that fails raises a `DocJobsError`, and `outcome` has its reason.

    Args:
        call: What the document shares with the others.
        name: Of the document.
        index: Its number, for the call's observer.

    Attributes:
        outcome: How far it came.
        job: Its job, and what the ledger knows of it.
    """

    def __init__(self, call: Call, name: str, index: int = 0) -> None:
        self.outcome = Outcome(document=name)
        self.job = JobRecord(call)
        self._call = call
        self._index = index
        self._started = anyio.current_time()

    async def extract(self, document: Document) -> Outcome:
        """Submit, wait and fetch; unlike the single steps it raises no `DocJobsError`."""
        provider = self._call.provider
        with self._call.http.telemetry.document(provider.name, provider.product, document.name) as span:
            with suppress(DocJobsError):
                await self.submit(document)
                await self.wait()
                await self.fetch()
            span.ended(self.outcome)
            self._call.http.telemetry.document_done(provider.name, provider.product, self.outcome)
        return self.outcome

    async def submit(self, document: Document, *, hold: bool = True) -> JobRef:
        """See to it that there is a job for the document; see `find_or_submit`."""
        async with self._phase(Phase.SUBMIT):
            with self._span(Phase.SUBMIT) as span:
                await find_or_submit(self._call, document, self.job, hold=hold)
                span.job(self.job.ref)
                span.note(REUSED, self.job.reused)
        self._succeeded(ref=self.job.ref, reused=self.job.reused)
        return self.job.ref

    async def resume(self, ref: JobRef, phase: Phase) -> None:
        """Go on with a job that was submitted before, to wait for it or to fetch it."""
        self.job = JobRecord(self._call, ref)
        self.outcome = self.outcome.model_copy(update={"ref": ref, "phase": phase})
        async with self._phase(phase):
            until = self._call.limit(self._started)
            await self.job.take_up(ref, to_fetch=phase is Phase.FETCH, until=until)

    async def wait(self, *, ask_service: bool = False) -> JobStatus:
        """Wait until the job has succeeded.

        Args:
            ask_service: Also where the ledger says that the job is done.

        Raises:
            JobError: It ended otherwise, or the time limit passed; see `Waiter.done`.
        """
        job, waiter = self.job, self._call.waiter
        assert waiter is not None  # noqa: S101 (a call that waits has one)
        async with self._phase(Phase.WAIT):
            status = None if ask_service else job.end
            if status is None:
                age = age_of(job.ref) if job.reused or ask_service else 0.0
                status = await waiter.done(job.ref, deadline=self._call.deadline, age=age)
                await job.done(status.ref)
        self._succeeded(phase=Phase.WAIT, status=status, ref=status.ref)
        return status

    async def fetch(self) -> Result:
        """Fetch the result. A job that still runs, although it was reported as done, is waited for again.

        Raises:
            Unreadable: No answer was the result.
            JobError: The job failed, or its result is lost.
        """
        for pause in (*_UNFINISHED, None):
            try:
                return await self.fetch_once()
            except Unfinished as running:
                if pause is None or self._call.limit(self._started) < anyio.current_time() + pause:
                    await self._failed(Phase.FETCH, running)
                    raise
            await anyio.sleep(pause)
            if self._call.waiter is not None:
                self._call.waiter.pending.is_unfinished(self.job.ref)
                await self.wait(ask_service=True)
        raise AssertionError("not reached")

    async def fetch_once(self) -> Result:
        """Fetch the result; raises `Unfinished` where the job still runs."""
        async with self._phase(Phase.FETCH):
            with self._late_fetches():
                # Another worker may be about to fetch it: that is waited for without a slot.
                await self.job.hold(self._call.limit(self._started))
                async with self._call.fetch_slots:
                    with self._span(Phase.FETCH):
                        result = await self._result()
        self._succeeded(phase=Phase.DONE, result=result, ref=result.ref)
        return result

    # -- the result

    async def _result(self) -> Result:
        """The result. Its bytes are kept before they are read; a bad answer is asked for again."""
        unread: Unreadable | None = None
        try:
            kept = await self._kept()
            if kept is not None:
                return await self._read(kept)
        except (Unreadable, Unfinished) as problem:
            _log.warning("%s: %s Asking the service.", self.job.ref, problem)
            unread = problem if isinstance(problem, Unreadable) else None
        for pause in (*_BAD_ANSWER, None):
            try:
                return await self._read(await shield_with_grace(self._fetch_and_keep()))
            except ResultLost:
                if unread is None:
                    raise
                raise unread from None  # its bytes are kept, and may be read one day
            except Unreadable as problem:
                unread = problem
                if pause is None:
                    raise
            _log.warning("%s: %s Fetching again.", self.job.ref, unread)
            await anyio.sleep(pause)
        raise AssertionError("not reached")

    async def _kept(self) -> Answer | None:
        """What is kept of the result, or what a push brought."""
        try:
            kept = await self.job.kept()
            if kept is not None:
                return kept
            pushed = await self._call.pushes.result(self.job.ref)
        except LedgerUnavailable as problem:  # damaged, or its store is gone: the service may have it
            raise Unreadable(str(problem), provider=self._call.provider.name) from None
        if pushed is not None:
            await self._keep(pushed)
        return pushed

    async def _fetch_and_keep(self) -> Answer:
        self.job.latest()
        try:
            answer = await self._call.provider.fetch(self._call.http, self.job.ref)
        except ResultLost:
            kept = await self.job.kept_by_another()
            if kept is None:
                raise
            return kept
        await self._keep(answer)
        return answer

    async def _keep(self, answer: Answer) -> None:
        # A result that is here is delivered before the call ends, kept or not.
        await self.job.keep(answer, until=self._call.deadline + _LATE_FETCHES / 2)

    async def _read(self, answer: Answer) -> Result:
        result = await self._call.provider.aread_result(self.job.ref, answer)
        if not self.job.is_billed:
            try:
                self._call.http.telemetry.billed(self.job.ref, result.usage)
            except Exception:
                _log.exception("Telemetry broke")
        await self.job.fetched(result.usage)
        return result

    def _late_fetches(self) -> AbstractContextManager[object]:
        """What is done is paid for, so all results together may be fetched a little past the deadline."""
        if self._call.deadline == math.inf:
            return nullcontext()
        return anyio.fail_after(max(0.0, self._call.deadline + _LATE_FETCHES - anyio.current_time()))

    # -- how a step ends

    @asynccontextmanager
    async def _phase(self, phase: Phase) -> AsyncGenerator[None]:
        """Type every error, and record it: a fault of ours is one document's row, not the batch's end."""
        try:
            yield
        except Unfinished:
            raise
        except DocJobsError as error:
            await self._failed(phase, error)
            raise
        except TimeoutError:
            ref = self.job.ref if self.job.has_job else None
            late = JobTimeout(f"The {phase} did not end in time. Take the job up again.", ref=ref)
            await self._failed(phase, late)
            raise late from None
        except Exception as bug:
            _log.exception("%s: the %s broke", self.outcome.document, phase)
            broken = self._broken(phase, bug)
            await self._failed(phase, broken)
            raise broken from None

    def _broken(self, phase: Phase, bug: Exception) -> DocJobsError:
        what = f"The {phase} broke ({type(bug).__name__})."  # the error's text may hold anything
        if self.job.has_job:
            return JobTimeout(f"{what} Take the job up again.", ref=self.job.ref)
        return SubmitUncertain(f"{what} The document may have been accepted.")

    async def _failed(self, phase: Phase, error: DocJobsError) -> None:
        self.outcome = self.outcome.failed(phase, error, seconds=self._seconds())
        if phase is not Phase.SUBMIT:
            await self.job.failed(self.outcome)
        self._observe()

    def _succeeded(self, **changes: Any) -> None:
        self.outcome = self.outcome.model_copy(update={**changes, "seconds": self._seconds()})
        self._observe()

    def _observe(self) -> None:
        if self._call.observe is not None:
            try:
                self._call.observe(self._index, self.outcome)
            except Exception:  # a log line must not cost a document
                _log.exception("%s: an observer broke", self.outcome.document)

    def _span(self, phase: Phase) -> Operation:
        provider, job = self._call.provider, self.job
        ref = job.ref if job.has_job else None
        return self._call.http.telemetry.phase(phase, provider.name, provider.product, ref)

    def _seconds(self) -> float:
        return round(anyio.current_time() - self._started, 3)


def age_of(ref: JobRef) -> float:
    """Seconds since the submit by the wall clock; a clock that runs behind counts as zero."""
    return max(0.0, (datetime.now(timezone.utc) - ref.submitted_at).total_seconds())
