"""One document's job as the ledger records it, also where a step cannot be recorded."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from dataclasses import replace
from functools import partial
from typing import Any

import anyio
import httpx

from prefect_docjobs.errors import (
    JOB_ERRORS,
    DocJobsError,
    JobTimeout,
    Reason,
    SubmitUncertain,
    Unavailable,
)
from prefect_docjobs.extraction.call import Call
from prefect_docjobs.extraction.durable import best_effort, retry_write
from prefect_docjobs.extraction.imports import entry_of_job
from prefect_docjobs.http import Answer
from prefect_docjobs.ledger import ClaimLost, JobKnown, LedgerUnavailable, Record, State
from prefect_docjobs.models import JobRef, JobState, JobStatus, Outcome, Usage

_log = logging.getLogger(__name__)

SHORT_WAIT = 2.0
"""Seconds that a document waits for its record to be written; then the write goes on beside it."""

_LARGEST_FIGURE = 2**31 - 1


class JobRecord:
    """The record of one document, while a call works on it.

    Attributes:
        record: As it was seen last; None where the ledger knows nothing.
        reused: The job was submitted before, by this call or another.
    """

    def __init__(self, call: Call, ref: JobRef | None = None) -> None:
        self.record: Record | None = None
        self.reused = False
        self._call = call
        self._ref = ref
        self._recording: asyncio.Task[Record | None] | None = None  # of the job, while the database is away

    @property
    def has_job(self) -> bool:
        """Whether there is a job."""
        return self._ref is not None

    @property
    def ref(self) -> JobRef:
        """The job, as complete as it was seen."""
        assert self._ref is not None  # noqa: S101 (nobody asks before there is one)
        return self._ref

    @property
    def is_billed(self) -> bool:
        """Whether it was known before what the job cost."""
        return self.record is not None and not (self.record.pages is None and self.record.credits is None)

    @property
    def end(self) -> JobStatus | None:
        """That the job has succeeded, where the ledger knows: the service may not know it any more."""
        record = self.record
        if record is None or record.state not in (State.DONE, State.FETCHED):
            return None
        seen_at = record.done_at or record.fetched_at or record.updated_at
        return JobStatus(ref=self.ref, state=JobState.SUCCEEDED, seen_at=seen_at)

    # -- a job is there

    def found(self, record: Record, ref: JobRef) -> None:
        """The ledger knows the document's job."""
        self._ref, self.reused = ref, True
        self._see(record)

    async def submitted(self, intent: Record, ref: JobRef) -> None:
        """Record a job that is paid for; while the database is away, its document goes on.

        Raises:
            JobKnown: The job is another document's. The intent stays as it is.
        """
        call = self._call

        async def record() -> Record | None:
            try:
                recorded = await retry_write(partial(call.ledger.submitted, intent, ref), until=call.deadline)
            except JobKnown:
                raise
            except (Exception, asyncio.CancelledError) as problem:  # whatever it is, the job is paid for
                as_json = ref.model_dump_json(exclude_none=True)
                _log.error(
                    "%s is submitted, but could not be recorded: %s Its ref: %s", ref, problem, as_json
                )
                if isinstance(problem, asyncio.CancelledError):
                    raise
                return None
            call.held.pop(intent.id, None)
            call.held[recorded.id] = recorded
            return recorded

        self._recording = asyncio.create_task(record(), name="docjobs-submitted")
        call.write_late(self._recording)
        self._see(replace(intent, state=State.SUBMITTED, ref=ref, job_id=ref.job_id))
        await asyncio.wait([self._recording], timeout=SHORT_WAIT)
        self.latest()
        self._ref = ref

    async def take_up(self, ref: JobRef, *, to_fetch: bool, until: float = math.inf) -> None:
        """Go on with a job that was submitted before; to fetch it, nobody else may be about to."""
        ledger = self._call.ledger
        record = self._call.known.get(ref.job_id)
        if record is None and to_fetch:
            record = await self._imported(ref)
        while record is not None and record.state is not State.FETCHED and not record.mine:
            take_over = partial(ledger.take_over, record, token=secrets.token_hex(8))
            taken = await retry_write(take_over, until=min(until, anyio.current_time() + ledger.wait))
            if taken is None and not to_fetch:
                break
            if taken is None:
                await self._call.owners.wait(record, until)
                taken = await ledger.record(record.id)
            record = taken
        self._ref, self.reused = completed_ref(ref, record), record is not None
        if record is not None:
            self._see(record)

    async def _imported(self, ref: JobRef) -> Record:
        """The record of a job that was submitted without this ledger."""
        ledger, terms = self._call.ledger, self._call.terms
        run = {"flow_run_id": terms.flow_run_id, "task_run_id": terms.task_run_id, "block": terms.block}
        record = await ledger.claim(entry_of_job(ref, **run))
        if not (record.mine and record.state is State.INTENDED):
            return record
        try:
            return await ledger.submitted(record, ref)
        except BaseException:
            await self.put_down(record)
            raise

    # -- the job goes on

    async def done(self, ref: JobRef) -> None:
        """The job has succeeded. Where that cannot be recorded, it costs one more status check."""
        self._call.pushes.ended(ref)
        self._ref, record = ref, self.latest()
        if record is not None and record.mine:
            self._see(await best_effort(self._done(record, ref)) or record)

    async def _done(self, record: Record, ref: JobRef) -> Record:
        try:
            return await self._call.ledger.done(record, ref)
        except ClaimLost:
            now = await self._call.ledger.resume(record)
            if now is None:
                raise
            return now  # still mine: a push has brought the result

    async def hold(self, until: float) -> None:
        """See to it that nobody else is about to fetch the result.

        Raises:
            JobTimeout: Another worker is, and `until` has passed.
        """
        ledger, record = self._call.ledger, self.latest()
        if record is None or record.state is State.FETCHED or (record.mine and ledger.holds(record)):
            return
        try:
            now = await ledger.resume(record) if record.mine else None
            if now is not None:
                self._see(now)
                return
            self._call.known[self.ref.job_id] = await ledger.record(record.id) or record
            reused = self.reused
            await self.take_up(self.ref, to_fetch=True, until=until)
            self.reused = reused
        except LedgerUnavailable as problem:
            _log.warning("%s: %s", self.ref, problem)

    async def kept(self) -> Answer | None:
        """The result's bytes, where they are kept. Raises `LedgerUnavailable` where they cannot be read."""
        record = self.record
        if record is None or not record.has_body:
            return None
        body = await self._call.ledger.body(record)
        headers = httpx.Headers({"content-type": record.content_type} if record.content_type else {})
        received_at = record.fetched_at or record.updated_at
        return Answer(status=200, headers=headers, body=body, received_at=received_at)

    async def kept_by_another(self) -> Answer | None:
        """The bytes that another worker kept since the record was read."""
        before = self.record
        now = await self._call.ledger.record(before.id) if before else None
        if before is None or now is None or not now.has_body or before.has_body:
            return None
        self.record = replace(now, mine=now.claim == before.claim)
        return await self.kept()

    async def keep(self, answer: Answer, *, until: float) -> None:
        """Make the result's bytes durable; from `until` on the result goes on without that."""
        call, record = self._call, self.latest()
        if record is None or not record.mine:
            return
        kind = answer.headers.get("content-type")
        keep = partial(call.ledger.kept, record, self.ref, answer.body, content_type=kind)
        began = anyio.current_time()
        try:
            # One wait for an outage, not one for each result.
            waited_for = min(began, call.away_since) + call.ledger.wait
            kept = await retry_write(keep, until=min(waited_for, until))
        except Exception as problem:
            call.away_since = min(began, call.away_since)
            _log.error("%s: the result could not be kept, it is only in memory: %s", self.ref, problem)
            return
        call.away_since = math.inf
        self._see(kept)

    # -- the end

    async def fetched(self, usage: Usage) -> None:
        """The kept bytes were read as the result."""
        record = self.record
        if record is None or not record.mine or record.state is State.FETCHED:
            return
        ended = None
        if record.has_body:
            figures = _figures(usage, self.ref)
            ended = await best_effort(self._call.ledger.fetched(record, self.ref, **figures))
        await self.put_down(record, ended)

    async def failed(self, outcome: Outcome) -> None:
        """There is no result."""
        record, reason = self.latest(), outcome.reason
        if record is None or not record.mine or reason is None or record.state is State.FETCHED:
            return
        ledger, message = self._call.ledger, outcome.error or "No reason was given."
        if reason is Reason.UNREADABLE:
            ended = await best_effort(ledger.set_aside(record, message))
        else:
            ref = None if reason is Reason.UNCERTAIN else outcome.ref  # it is another document's
            ended = await best_effort(ledger.failed(record, reason, message, ref=ref))
        await self.put_down(record, ended)

    async def put_down(self, record: Record, ended: Record | None = None) -> None:
        """This call is done with the record: unless it has ended, others need not wait for our lease."""
        self._call.held.pop(record.id, None)
        self.record = ended or record
        if ended is None:
            await self._call.release(record)

    async def release(self) -> None:
        """Leave the job to whoever goes on with it, before the call ends."""
        record = self.latest()
        if record is not None and record.mine and record.id in self._call.held:
            await self.put_down(record)

    # -- what is known

    def _see(self, record: Record) -> None:
        self.record = record
        if record.mine:
            self._call.held[record.id] = record

    def latest(self) -> Record | None:
        """The record as it was written last. Raises `JobKnown` where the job is another document's."""
        recording = self._recording
        if recording is not None and recording.done():
            self._recording = None
            written = None if recording.cancelled() else recording.result()
            self.record = written or self.record
        return self.record


def recorded_failure(record: Record) -> DocJobsError:
    """The error that a failed record stands for."""
    message = record.error or f"{record.document_name} has no result ({record.reason})."
    if record.reason is Reason.UNCERTAIN:
        return SubmitUncertain(message, provider=record.provider).about(record.document_name)
    job_error = JOB_ERRORS.get(record.reason) if record.reason is not None else None
    if job_error is not None:
        return job_error(message, ref=record.ref).about(record.document_name)
    if record.ref is not None:
        return JobTimeout(message, ref=record.ref)
    return Unavailable(message, provider=record.provider).about(record.document_name)


def completed_ref(ref: JobRef, record: Record | None) -> JobRef:
    """`ref` with what the ledger knows beyond it."""
    if record is None or record.ref is None:
        return ref
    known = {name: getattr(record.ref, name) for name in ("result_url", "document_id")}
    return ref.model_copy(update={name: value for name, value in known.items() if value is not None})


def _figures(usage: Usage, ref: JobRef) -> dict[str, Any]:
    """What a job cost, as far as a database takes it."""
    figures = {name: getattr(usage, name) for name in ("pages", "credits", "quota_remaining")}
    odd = [name for name, value in figures.items() if value is not None and not abs(value) <= _LARGEST_FIGURE]
    if odd:
        _log.warning("%s: the service gives impossible figures, left out: %s.", ref, ", ".join(odd))
    return {name: None if name in odd else value for name, value in figures.items()}
