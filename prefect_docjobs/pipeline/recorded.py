"""Buying with a ledger: what it says about a document decides what is done, so nothing is bought twice."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import httpx
import tenacity

from prefect_docjobs.errors import (
    DocJobsError,
    JobCancelled,
    JobError,
    JobExpired,
    JobFailed,
    JobLost,
    JobTimeout,
    Reason,
    ResultLost,
    SubmitUncertain,
    Unavailable,
)
from prefect_docjobs.http import Answer, Http
from prefect_docjobs.ledger import (
    ClaimLost,
    Entry,
    LedgerUnavailable,
    Record,
    State,
    Step,
    entry_for,
    next_step,
)
from prefect_docjobs.models import Document, JobRef, Outcome, Usage
from prefect_docjobs.pipeline.bystanders import Bystanders
from prefect_docjobs.pipeline.lost_submits import LostSubmits
from prefect_docjobs.pipeline.purchases import Purchase, Purchases, Terms
from prefect_docjobs.providers.base import Provider

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Ledger

_log = logging.getLogger(__name__)
_SMALL = 1 << 20  # bytes; hashing these takes a millisecond, not worth a trip to a thread
_BUYS = 3  # submits of one document in one call, all but the last surely not accepted
_ERRORS: dict[Reason, type[JobError]] = {
    Reason.FAILED: JobFailed,
    Reason.EXPIRED: JobExpired,
    Reason.LOST_JOB: JobLost,
    Reason.LOST_RESULT: ResultLost,
    Reason.CANCELLED: JobCancelled,
}


@dataclass(frozen=True, slots=True)
class _Bought:
    """An intent of ours that the service accepted as a job."""

    record: Record
    ref: JobRef


@dataclass(frozen=True, slots=True)
class _Unsure:
    """An intent of ours that may or may not have been accepted."""

    record: Record
    why: str


class Recorded(Purchases):
    """With a ledger: an intent is durable before a submit, a job after it, a result before it is read."""

    def __init__(self, provider: Provider, http: Http, terms: Terms, ledger: Ledger) -> None:
        super().__init__(provider, http, terms)
        self._ledger = ledger
        self._bystanders = Bystanders(ledger)
        self._lost = LostSubmits(provider, http, ledger)
        self._known: dict[str, Record] = {}

    async def __aexit__(self, *exc: object) -> None:
        await self._bystanders.aclose()

    # -- a document becomes a job

    async def submit(self, document: Document, *, hold: bool, until: float = math.inf) -> Purchase:
        """See `Purchases.submit`."""
        self.provider.check(document)
        entry = await self._entry(document)
        record, buys_left = None, _BUYS
        while True:
            # An intent is written when its turn has come, so that a crash leaves few of them open.
            async with self.turns:
                settled = await self._settled(document, entry, record, hold=hold)
            if isinstance(settled, Purchase):
                return settled
            if isinstance(settled, _Bought):
                return Purchase(settled.ref, await self._submitted(settled.record, settled.ref))
            if isinstance(settled, _Unsure):
                buys_left -= 1
                record = await self._reconciled(settled, last=not buys_left)
            else:
                await self._bystanders.wait(settled, until)
                record = None

    async def _settled(
        self, document: Document, entry: Entry, record: Record | None, *, hold: bool
    ) -> Purchase | Record | _Bought | _Unsure:
        """A job; or the record of somebody who is at work on it; or what became of an intent."""
        while True:
            record = record or await self._ledger.claim(entry)
            step = self._step(record)
            if step is Step.FAIL:
                raise recorded_failure(record)
            if step is Step.STAND_BY:
                known = None if hold else record.ref
                return Purchase(known, record, reused=True) if known else record
            if step is Step.SUBMIT and record.mine and record.state is State.INTENDED:
                return await self._buy(document, record)
            if (step is Step.USE or record.mine or not hold) and record.ref and step is not Step.SUBMIT:
                return Purchase(record.ref, record, reused=True)
            record = await self._ledger.take_over(record, as_new=step is Step.SUBMIT, entry=entry)
            if record is not None and step is Step.RECONCILE:
                return _Unsure(record, "The submit was under way when its worker ended.")

    def _step(self, record: Record) -> Step:
        terms = self.terms
        return next_step(record, mine=record.mine, reuse_for=terms.reuse_for, on_uncertain=terms.on_uncertain)

    async def _buy(self, document: Document, intent: Record) -> _Bought | _Unsure:
        """Submit once."""
        sent = False

        def note() -> None:
            nonlocal sent
            sent = True

        try:
            ref = await self.send(document, on_sent=note)
            self.check_is_new(ref)
        except SubmitUncertain as lost:
            return _Unsure(intent, str(lost))
        except DocJobsError as error:
            await self._best_effort(self._ledger.failed(intent, error.reason, str(error)))
            raise
        except BaseException:
            if not sent:  # else it stays an open intent, to be reconciled
                await self._best_effort(self._ledger.released(intent))
            raise
        return _Bought(intent, ref)

    async def _submitted(self, intent: Record, ref: JobRef) -> Record:
        """Write down a job that is paid for. The ledger makes a write durable even when we are cancelled."""
        try:
            return await _insist(partial(self._ledger.submitted, intent, ref))
        except DocJobsError as problem:
            told = ref.model_dump_json(exclude_none=True)
            _log.error("%s is submitted, but could not be written down: %s Its ref: %s", ref, problem, told)
            return replace(intent, state=State.SUBMITTED, ref=ref, job_id=ref.job_id)

    async def _reconciled(self, unsure: _Unsure, *, last: bool) -> Record:
        """Find out whether the service accepted an intent; the record says what to do next."""
        candidates = await self._lost.candidates(unsure.record)
        if candidates is not None and not candidates and not last:
            _log.info("%s: the service did not accept it; submitting.", unsure.record.document_name)
            return unsure.record
        named = f" It may be one of the jobs {', '.join(candidates)}." if candidates else ""
        failed = await self._ledger.failed(
            unsure.record, Reason.UNCERTAIN, unsure.why + named, candidates=candidates or ()
        )
        if last or self.terms.on_uncertain == "fail":
            raise recorded_failure(failed)
        return failed

    async def _entry(self, document: Document) -> Entry:
        def made() -> Entry:
            return entry_for(
                self.provider,
                base_url=self.http.base_url,
                tenant=self.http.tenant,
                name=document.name,
                sha256=document.sha256,
                size=document.size,
                url=document.url,
                scope=self.terms.scope,
                flow_run_id=self.terms.flow_run_id,
                task_run_id=self.terms.task_run_id,
                block=self.terms.block,
            )

        return made() if (document.size or 0) <= _SMALL else await anyio.to_thread.run_sync(made)

    # -- a job goes on

    async def look_up(self, refs: Iterable[JobRef]) -> None:
        """See `Purchases.look_up`."""
        job_ids = [ref.job_id for ref in refs]
        found = await self._ledger.find(
            job_ids=job_ids, limit=max(1, 2 * len(job_ids)),
            provider=self.provider.name, base_url=self.http.base_url, tenant=self.http.tenant,
        )  # fmt: skip
        self._known.update((record.job_id, record) for record in found if record.job_id)

    async def take_up(self, ref: JobRef, *, to_fetch: bool, until: float = math.inf) -> Purchase:
        """Go on with a job; to fetch it, nobody else may be about to, for it may be given only once."""
        record = self._known.get(ref.job_id)
        if record is None and to_fetch:
            record = await self._imported(ref)
        while record is not None and record.state is not State.FETCHED and not record.mine:
            taken = await self._ledger.take_over(record, as_new=False)
            if taken is None and not to_fetch:
                break
            if taken is None:
                await self._bystanders.wait(record, until)
                taken = await self._ledger.record(record.id)
            record = taken
        return Purchase(_completed(ref, record), record, reused=record is not None)

    async def _imported(self, ref: JobRef) -> Record:
        """The record of a job that was submitted elsewhere."""
        identity = f"docjobs/1 job\n{ref.provider}\n{ref.base_url}\n{ref.tenant}\n{ref.job_id}"
        entry = Entry(
            key=hashlib.sha256(identity.encode()).hexdigest(),
            provider=ref.provider,
            base_url=ref.base_url,
            tenant=ref.tenant,
            product=ref.product,
            document_name=ref.document_name,
            document_sha256=ref.document_sha256,
            document_size=ref.document_size,
            flow_run_id=self.terms.flow_run_id,
            task_run_id=self.terms.task_run_id,
            block=self.terms.block,
        )
        record = await self._ledger.claim(entry)
        if record.mine and record.state is State.INTENDED:
            record = await self._ledger.submitted(record, ref)
        return record

    async def done(self, purchase: Purchase, ref: JobRef) -> Purchase:
        """See `Purchases.done`. Not being able to write it costs one more look, no more."""
        record = purchase.record
        if record is not None and record.mine:
            record = await self._best_effort(self._ledger.done(record, ref)) or record
        return replace(purchase, ref=ref, record=record)

    async def fetch(self, purchase: Purchase) -> tuple[Answer, Purchase]:
        """See `Purchases.fetch`."""
        record = purchase.record
        if record is not None and record.state is State.FETCHED:
            return _answer(record, await self._ledger.body(record)), purchase
        answer = await self.provider.fetch(self.http, purchase.ref)
        if record is not None:
            record = await self._kept(record, purchase.ref, answer)
        return answer, replace(purchase, record=record)

    async def _kept(self, record: Record, ref: JobRef, answer: Answer) -> Record:
        kind = answer.headers.get("content-type")
        try:
            return await _insist(partial(self._ledger.fetched, record, ref, answer.body, content_type=kind))
        except DocJobsError as problem:
            _log.error("%s: the result could not be kept, it is only in memory: %s", ref, problem)
            return record

    async def billed(self, purchase: Purchase, usage: Usage) -> None:
        """See `Purchases.billed`."""
        told = {name: getattr(usage, name) for name in ("pages", "credits", "quota_remaining")}
        if purchase.record is not None and any(figure is not None for figure in told.values()):
            await self._best_effort(self._ledger.billed(purchase.record, purchase.ref.job_id, **told))

    async def failed(self, purchase: Purchase, outcome: Outcome) -> None:
        """See `Purchases.failed`."""
        record = purchase.record
        if record is None or not record.mine or outcome.reason is None or record.state is State.FETCHED:
            return
        told = outcome.error or "No reason was given."
        await self._best_effort(self._ledger.failed(record, outcome.reason, told, ref=outcome.ref))

    async def _best_effort(self, writing: Awaitable[Record | None]) -> Record | None:
        """A note that may be missing: what it says can be found out again."""
        try:
            return await writing
        except (ClaimLost, LedgerUnavailable) as problem:
            _log.warning("Not written down: %s", problem)
            return None


async def _insist(write: Callable[[], Awaitable[Record]]) -> Record:
    """Write what must not be lost; a database may be away for a moment."""
    retrying = tenacity.AsyncRetrying(
        stop=tenacity.stop_after_attempt(4),
        wait=tenacity.wait_exponential(multiplier=0.25),
        retry=tenacity.retry_if_exception_type(LedgerUnavailable),
        sleep=anyio.sleep,
        reraise=True,
    )
    return await retrying(write)


def recorded_failure(record: Record) -> DocJobsError:
    """The error that a failed record stands for."""
    told = record.error or f"{record.document_name} has no result ({record.reason})."
    if record.reason is Reason.UNCERTAIN:
        return SubmitUncertain(told, provider=record.provider).about(record.document_name)
    if record.reason in _ERRORS:
        return _ERRORS[record.reason](told, ref=record.ref).about(record.document_name)
    if record.ref is not None:
        return JobTimeout(told, ref=record.ref)
    return Unavailable(told, provider=record.provider).about(record.document_name)


def _completed(ref: JobRef, record: Record | None) -> JobRef:
    """`ref` with what the ledger knows beyond it."""
    if record is None or record.ref is None:
        return ref
    known = {name: getattr(record.ref, name) for name in ("result_url", "document_id")}
    return ref.model_copy(update={name: value for name, value in known.items() if value is not None})


def _answer(record: Record, body: bytes) -> Answer:
    """A kept result, as it came."""
    headers = httpx.Headers({"content-type": record.content_type} if record.content_type else {})
    return Answer(status=200, headers=headers, body=body, received_at=record.fetched_at or record.updated_at)
