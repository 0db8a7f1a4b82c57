"""A document becomes a job: it is submitted where the ledger knows none, with its intent committed before."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import anyio
import anyio.to_thread

from prefect_docjobs.errors import DocJobsError, JobTimeout, Reason, SubmitUncertain, Unavailable
from prefect_docjobs.extraction.call import Call
from prefect_docjobs.extraction.durable import GRACE, best_effort, retry_write, shield_with_grace
from prefect_docjobs.extraction.pages import Pages
from prefect_docjobs.extraction.record import SHORT_WAIT, JobRecord, recorded_failure
from prefect_docjobs.ledger import (
    AccountPaused,
    ClaimLost,
    Entry,
    JobKnown,
    LedgerUnavailable,
    Record,
    State,
    Step,
    entry_for,
)
from prefect_docjobs.models import Document, JobRef
from prefect_docjobs.providers.base import SMALL

_log = logging.getLogger(__name__)
_SUBMITS = 3  # of one document in one call, all but the last surely not accepted
_LEDGER_AWAY = 0.5  # seconds between two tries
_RACE_LOST = 0.02  # seconds before a record that another worker has changed is read again


async def find_or_submit(call: Call, document: Document, job: JobRecord, *, hold: bool) -> None:
    """See to it that `job` is the document's: it is submitted unless the ledger knows a job for it.

    Args:
        call: The account and the terms.
        document: What is submitted.
        job: Has the ref and the record afterwards.
        hold: Nobody else may go on with the job, for the caller does.

    Raises:
        SubmitUncertain: It may or may not have been accepted.
        JobError: It was submitted before, and has no result.
        DocJobsError: See `Provider.submit`.
    """
    if call.deadline <= anyio.current_time():
        raise JobTimeout("The time limit passed before the document was submitted.")
    call.provider.check(document)
    submission = Submission(call, document, await entry_of(call, document), job)
    record: Record | None = None
    submits_left, away_until, owner_until = _SUBMITS, math.inf, math.inf
    try:
        while True:
            try:
                record = record or await submission.read_record()
                step = call.next_step(record)
                if record is not None and step is Step.STAND_BY and (hold or record.ref is None):
                    owner_until = min(owner_until, call.limit())
                    await call.owners.wait(record, owner_until)
                    record = None
                    continue
                found = await submission.advance(record, step, hold=hold)
            except LedgerUnavailable:
                now = anyio.current_time()
                away_until = min(away_until, now + call.ledger.wait)
                if now >= min(away_until, call.deadline):
                    raise
                await anyio.sleep(_LEDGER_AWAY)  # without a slot
                record = None
                continue
            if found is True:
                return
            record, away_until = None, math.inf
            if found is False:
                await anyio.sleep(_RACE_LOST)
                continue
            submits_left -= 1
            record = await submission.reconcile(found, last=not submits_left)
            if record is not None and record.state is State.FAILED:
                submits_left, submission.lost = 1, record
    except Exception as error:  # noqa: BLE001 (it becomes the document's row)
        raise _submit_error(error, submission) from None
    finally:
        submission.close()


async def entry_of(call: Call, document: Document) -> Entry:
    """What the ledger records of a document; a large one is hashed in a thread."""
    provider, http, terms = call.provider, call.http, call.terms

    def entry() -> Entry:
        return entry_for(
            provider,
            base_url=http.base_url,
            tenant=http.tenant,
            name=document.name,
            sha256=document.sha256,
            size=document.size,
            url=document.url,
            scope=terms.scope,
            flow_run_id=terms.flow_run_id,
            task_run_id=terms.task_run_id,
            block=terms.block,
        )

    return entry() if (document.size or 0) <= SMALL else await anyio.to_thread.run_sync(entry)


@dataclass(frozen=True, slots=True)
class Uncertain:
    """An intent of ours that may have been accepted.

    Attributes:
        record: The intent.
        why: The reason, for people.
        jobs: Ids of jobs that may be its, where they are known already.
        just_sent: By this call.
    """

    record: Record
    why: str
    jobs: tuple[str, ...] = ()
    just_sent: bool = True


class Submission:
    """The attempts to submit one document.

    A slot and a rate turn come first, then the intent, then the request: a worker that is killed while it
    waits leaves nothing behind. While a refused request waits to be sent again, the record says that nothing
    was accepted.

    Args:
        call: Whose document it is.
        document: What is submitted.
        entry: Its key and what the ledger records of it.
        job: Has the job afterwards.

    Attributes:
        record: The intent of the attempt under way, or what the last attempt left.
        lost: The record of an attempt of this call whose answer was lost.
        may_be_accepted: Whether the service may have the whole document.
    """

    def __init__(self, call: Call, document: Document, entry: Entry, job: JobRecord) -> None:
        self._call = call
        self._document = document
        self._entry = entry
        self._job = job
        self._tokens: set[str] = set()
        self._refused = False
        self._writing: asyncio.Task[Record | None] | None = None
        self._in_doubt: Pages | None = None
        self.record: Record | None = None
        self.lost: Record | None = None
        self.may_be_accepted = False

    async def read_record(self) -> Record | None:
        """What the ledger knows of the document; mine where it is a claim of ours whose answer was lost."""
        ledger = self._call.ledger
        record = await ledger.by_key(self._entry.key)
        if record is None or record.mine or record.claim not in self._tokens:
            return record
        return (await ledger.resume(record) or record) if record.state is State.INTENDED else record

    async def advance(self, record: Record | None, step: Step, *, hold: bool) -> Uncertain | bool:
        """Take one step: whether there is a job now, or an intent that may have been accepted."""
        if record is None or step is Step.SUBMIT:
            await self._call.check_pause()
            return await self._submit(record)
        if step is Step.FAIL:
            raise recorded_failure(record)
        if record.ref is not None and (step is Step.USE or not hold):
            self._job.found(record, record.ref)
            return True
        taken = await self._call.ledger.take_over(record)
        if taken is None:
            return False  # another worker was faster
        if step is Step.RECONCILE or taken.ref is None:
            return Uncertain(taken, "The submit was under way when its worker ended.", just_sent=False)
        self._job.found(taken, taken.ref)
        return True

    async def _submit(self, record: Record | None) -> Uncertain | bool:
        """Submit in the place of `record`; False where another worker was faster."""
        try:
            return await shield_with_grace(
                self._submit_in_slot(record),
                deadline=self._call.deadline,
                may_stop=lambda: not self.may_be_accepted,
            )
        except ClaimLost:
            await self.withdraw()
            return False
        except SubmitUncertain as lost:
            if self.record is None:
                raise
            return Uncertain(self.record, str(lost))
        except TimeoutError:
            if not await self.withdraw():
                raise
            raise JobTimeout("The time limit passed before the document was submitted.") from None
        except DocJobsError:
            await self.withdraw()
            raise
        except BaseException:
            if not await self.withdraw() and self.record is not None:
                await self._job.put_down(self.record)
            raise

    async def _submit_in_slot(self, record: Record | None) -> Uncertain | bool:
        async with self._call.submit_slots:
            ref = await self._send(record)
        intent = self.record
        assert intent is not None  # noqa: S101 (an attempt succeeded)
        try:
            await self._job.submitted(intent, ref)
        except JobKnown as wrong:
            return Uncertain(intent, str(wrong), (ref.job_id,))
        return True

    async def reconcile(self, uncertain: Uncertain, *, last: bool) -> Record | None:
        """Find out whether the service accepted an intent; the record says what to do next."""
        call, intent = self._call, uncertain.record
        call.held[intent.id] = intent
        try:
            candidates: tuple[str, ...] | None = uncertain.jobs
            if not candidates:
                with anyio.fail_after(max(0.0, call.deadline + GRACE - anyio.current_time())):
                    candidates = await call.lost_submits.candidates(intent, just_sent=uncertain.just_sent)
            if candidates is not None and not candidates and not last:
                _log.info("%s: the service did not accept it; submitting.", intent.document_name)
                self._give_back()
                return intent
            named = f" It may be one of the jobs {', '.join(candidates)}." if candidates else ""
            message = uncertain.why + named
            failing = partial(
                call.ledger.failed, intent, Reason.UNCERTAIN, message, candidates=candidates or ()
            )
            failed = await retry_write(failing, until=anyio.current_time() + call.ledger.wait)
        except ClaimLost:
            return None  # another worker finds out
        except (LedgerUnavailable, TimeoutError) as problem:
            await self._job.put_down(intent)  # a later run finds out
            why = problem or "The time limit passed before the service could be asked."
            raise SubmitUncertain(f"{uncertain.why} {why}", provider=call.provider.name) from None
        if last or call.terms.on_uncertain == "fail":
            raise recorded_failure(failed)
        return failed

    # -- one submit, in several attempts

    async def _send(self, record: Record | None) -> JobRef:
        """Submit in the place of `record`: an intent of ours, one that is bought again, or None.

        What may have been accepted stays spent, until it turns out that it was not.

        Raises:
            AccountPaused, ClaimLost, LedgerUnavailable, OverBudget: Nothing was sent.
            SubmitUncertain: Sent, and the answer lost.
            DocJobsError: See `Provider.submit`.
        """
        call, budget = self._call, self._call.terms.budget
        self.record, self._refused, self.may_be_accepted = record, False, False
        call.refusals.check(self._document)
        pages = await budget.take(self._document) if budget else Pages()
        submit = call.provider.submit(
            call.http,
            self._document,
            sha256=self._entry.document_sha256,
            in_doubt=self._last_piece,
            context=self._attempt,
        )
        try:
            return await call.refusals.counted(submit)
        except SubmitUncertain:
            self._in_doubt = pages
            raise
        except BaseException as ended:
            if budget and (isinstance(ended, DocJobsError) or not self.may_be_accepted):
                budget.give_back(pages)
            raise

    def _give_back(self) -> None:
        """An uncertain submit turned out to cost nothing."""
        if self._in_doubt is not None and self._call.terms.budget is not None:
            self._call.terms.budget.give_back(self._in_doubt)
        self._in_doubt = None

    async def withdraw(self) -> bool:
        """Delete the intent, unless it may have been accepted; returns whether nothing was."""
        if self.may_be_accepted:
            return False
        record = self.record
        if record is not None and record.mine and record.state is State.INTENDED and self._writing is None:
            await self._write(partial(self._call.ledger.delete_intent, record))
        return True

    def close(self) -> None:
        """Leave to the call what is still to be written."""
        if self._writing is not None:
            self._call.write_late(self._writing)

    @asynccontextmanager
    async def _attempt(self) -> AsyncGenerator[None]:
        """One request: its intent before it, and what is known after it."""
        ledger = self._call.ledger
        self.may_be_accepted = False
        await self._call.check_pause(fresh=True)
        intent = self.record = await self._claimed()
        self._refused = False
        try:
            async with ledger.pauses.followed():
                yield
        except (SubmitUncertain, ClaimLost):
            raise
        except AccountPaused:
            await self.withdraw()
            raise
        except DocJobsError as error:
            self.may_be_accepted = False
            reason, message = error.reason, str(error)
            if self.lost is not None:  # this call has sent it before
                reason, message = Reason.UNCERTAIN, self.lost.error or message
            self.record = await self._write(partial(ledger.failed, intent, reason, message)) or intent
            self._refused = True
            raise

    def _last_piece(self, in_doubt: bool) -> None:
        """The last piece is about to be sent (True), or was surely refused (False).

        Raises:
            ClaimLost: Another worker may have taken the record over.
            AccountPaused: Nothing more may be submitted to the account.
        """
        if in_doubt:
            if self.record is None or not self._call.ledger.holds(self.record):
                raise ClaimLost(f"{self._document.name}: the lease ran out before it was sent.")
            self._call.check_seen_pause()
        self.may_be_accepted = in_doubt

    async def _claimed(self) -> Record:
        """The intent, committed."""
        if self._writing is not None:  # of the attempt before
            await asyncio.wait([self._writing])
            self.record, self._writing = self._writing.result() or self.record, None
        ledger, before, token = self._call.ledger, self.record, secrets.token_hex(8)
        self._tokens.add(token)
        if before is None:
            intent: Record | None = await ledger.claim(self._entry, token=token)
        elif before.mine and before.state is State.INTENDED:
            intent = await ledger.resume(before)
        elif self._refused:
            intent = await ledger.take_over(before, token=token)
        else:
            intent = await ledger.renew(before, self._entry, token=token)
        if intent is None or not intent.mine or intent.state is not State.INTENDED:
            raise ClaimLost(f"{self._document.name}: another worker was faster.")
        return intent

    async def _write(self, write: Callable[[], Awaitable[Record | None]]) -> Record | None:
        """Write within `SHORT_WAIT`; None where it goes on in the background."""
        until = anyio.current_time() + self._call.ledger.wait
        writing = asyncio.create_task(best_effort(retry_write(write, until=until)), name="docjobs-intents")
        self._writing = writing
        with anyio.CancelScope(shield=True):
            await asyncio.wait([writing], timeout=SHORT_WAIT)
        if not writing.done():
            return None
        self._writing = None
        return writing.result()


def _submit_error(error: Exception, submission: Submission) -> DocJobsError:
    """What a submit ended with, as the document's row says it."""
    if isinstance(error, (SubmitUncertain, JobTimeout)):
        return error
    if submission.lost is not None:  # this call has sent it before
        return recorded_failure(submission.lost)
    if isinstance(error, DocJobsError):
        return error
    _log.error("The submit broke", exc_info=error)
    what = f"The submit broke ({type(error).__name__})."
    if submission.may_be_accepted:
        return SubmitUncertain(f"{what} The document may have been accepted.")
    return Unavailable(f"{what} Nothing was sent.")
