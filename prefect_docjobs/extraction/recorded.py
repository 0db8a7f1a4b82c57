"""Buying with a ledger: what it says about a document decides what is done, so nothing is bought twice."""

from __future__ import annotations

import asyncio
import logging
import math
import time
import uuid
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from prefect_docjobs.cancellation import cancelled
from prefect_docjobs.errors import (
    DocJobsError,
    JobTimeout,
    Reason,
    ResultLost,
    SubmitUncertain,
    Unavailable,
    Unreadable,
)
from prefect_docjobs.extraction.arrivals import Arrivals
from prefect_docjobs.extraction.bystanders import Bystanders
from prefect_docjobs.extraction.finishing import GRACE, before, retry_write, seen_through
from prefect_docjobs.extraction.imports import entry_of_job
from prefect_docjobs.extraction.intents import Intents, best_effort, new_token
from prefect_docjobs.extraction.known import completed, kept_answer, recorded_failure
from prefect_docjobs.extraction.lost_submits import LostSubmits
from prefect_docjobs.extraction.purchases import Purchase, Purchases, Terms
from prefect_docjobs.http import Answer, Http
from prefect_docjobs.ledger import (
    ClaimLost,
    Entry,
    JobKnown,
    LedgerUnavailable,
    Record,
    State,
    Step,
    entry_for,
    next_step,
)
from prefect_docjobs.models import Document, JobRef, Outcome, Usage
from prefect_docjobs.providers.base import SMALL, Provider
from prefect_docjobs.waiter import Waiter

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Ledger
_log = logging.getLogger(__name__)
_MOST = 2**31 - 1  # of a figure
_MOMENT = 0.02  # seconds before a record that somebody else has changed is read again
_SOON = 2.0  # seconds that a document waits for its job to be written down
_AWAY = 0.5  # seconds between two tries of a database that is away
_BUYS = 3  # submits of one document in one call, all but the last surely not accepted


@dataclass(frozen=True, slots=True)
class _Unsure:
    """An intent of ours that may or may not have been accepted; `jobs` may be its, where they are known."""

    record: Record
    why: str
    jobs: tuple[str, ...] = ()
    just_sent: bool = True


class Recorded(Purchases):
    """With a ledger: an intent is durable before a submit, a job after it, a result before it is read."""

    def __init__(self, provider: Provider, http: Http, terms: Terms, ledger: Ledger) -> None:
        super().__init__(provider, http, terms if terms.scope else replace(terms, scope=uuid.uuid4().hex))
        from prefect_docjobs.ledger import Account

        self._ledger = ledger
        self._account = Account(provider.name, http.base_url, http.tenant)
        self._bystanders = Bystanders(ledger)
        self._arrivals = Arrivals(provider, http, ledger)
        self._lost = LostSubmits(provider, http, ledger)
        self._known: dict[str, Record] = {}
        self._began = time.monotonic()
        self._in_hand: dict[int, Record] = {}
        self._pending: set[asyncio.Task[Record | None]] = set()  # of intents, the same
        self._away_since = math.inf
        self._late: dict[int, asyncio.Task[Record | None]] = {}  # writes that a database which is away delays

    async def __aexit__(self, *exc: object) -> None:
        """Let go of what is still open, so that others need not wait until the ledger is closed."""
        is_cancelled = bool(exc) and isinstance(exc[1], asyncio.CancelledError)
        with anyio.CancelScope(shield=True):
            await self._bystanders.aclose()
            if late := {*self._late.values(), *self._pending}:
                await asyncio.wait(late, timeout=GRACE if is_cancelled else self._ledger.wait)
                await cancelled(*late)
            await asyncio.gather(*map(self._let_go, self._in_hand.values()))

    async def let_go(self, purchase: Purchase) -> None:
        """See `Purchases.let_go`."""
        self._known.pop(purchase.ref.job_id, None)
        record = purchase.record
        if record is not None and record.mine and record.id in self._in_hand:
            del self._in_hand[record.id]
            await self._let_go(record)

    async def _let_go(self, record: Record) -> None:
        if self._ledger.holds(record):
            await best_effort(self._ledger.let_go(record))

    def told_to(self, waiter: Waiter) -> AbstractAsyncContextManager[None]:
        """See `Purchases.told_to`."""
        return self._arrivals.told_to(waiter)

    # -- a document becomes a job

    async def submit(
        self, document: Document, *, hold: bool, deadline: float = math.inf, others: float | None = None
    ) -> Purchase:
        """See `Purchases.submit`."""
        self.provider.check(document)
        intents = Intents(self._ledger, await self._entry(document), self._account)
        try:
            return await self._bring_about(document, intents, hold=hold, deadline=deadline, others=others)
        finally:
            if intents.writing is not None:
                self._pending.add(intents.writing)
                intents.writing.add_done_callback(self._pending.discard)

    async def _bring_about(
        self, document: Document, intents: Intents, *, hold: bool, deadline: float, others: float | None
    ) -> Purchase:
        buys_left, give_up_at = _BUYS, math.inf
        record, until = None, math.inf
        while True:
            try:
                record = record or await intents.look_up()
                if record is not None and self._step(record) is Step.STAND_BY and until == math.inf:
                    until = min(deadline, math.inf if others is None else anyio.current_time() + others)
                job = await self._advanced(
                    document, intents, record, hold=hold, until=until, deadline=deadline
                )
            except LedgerUnavailable:
                now = anyio.current_time()
                give_up_at = min(give_up_at, now + self._ledger.wait)
                if now >= min(give_up_at, deadline):
                    raise
                await anyio.sleep(_AWAY)  # without a slot
                record = None
                continue
            except Exception as error:  # noqa: BLE001 (it becomes the document's row)
                raise _of_the_submit(error, intents, document) from None
            if isinstance(job, Purchase):
                return self._held(job)
            record, unsure, give_up_at = None, job, math.inf
            if unsure is None:
                await anyio.sleep(_MOMENT)
            else:
                self._in_hand[unsure.record.id] = unsure.record
                buys_left -= 1
                record = await self._reconciled(unsure, last=not buys_left, deadline=deadline)
                if record is unsure.record:
                    self.not_accepted(document)
                if record is not None and record.state is State.FAILED:
                    buys_left, intents.lost = 1, record

    async def _advanced(
        self,
        document: Document,
        intents: Intents,
        record: Record | None,
        *,
        hold: bool,
        until: float,
        deadline: float,
    ) -> Purchase | _Unsure | None:
        """A job; or what became of an intent; or None when the record has to be read again."""
        step = Step.SUBMIT if record is None else self._step(record)
        if record is None or step is Step.SUBMIT:
            await intents.check_pause()
            return await self._buy(document, intents, record, deadline)
        if step is Step.FAIL:
            raise recorded_failure(record)
        if record.ref is not None and (step is Step.USE or not hold):
            return Purchase(record.ref, record, reused=True)
        if step is Step.STAND_BY:
            await self._bystanders.wait(record, until)
            return None
        taken = await self._ledger.take_over(record, as_new=False)
        if taken is None:
            return None  # somebody else was faster
        if step is Step.RECONCILE or taken.ref is None:
            return _Unsure(taken, "The submit was under way when its worker ended.", just_sent=False)
        return Purchase(taken.ref, taken, reused=True)

    def _step(self, record: Record) -> Step:
        terms, mine = self.terms, record.mine
        # A retry or a replay of a flow run goes on with what the run has bought, whatever `reuse_for` says.
        replays = terms.flow_run_id is not None and record.flow_run_id == terms.flow_run_id
        # What was intended since this call began has been bought again already.
        is_earlier = record.age > time.monotonic() - self._began
        reuse_for = None if replays or not is_earlier else terms.reuse_for
        step = next_step(record, mine=mine, reuse_for=reuse_for, on_uncertain=terms.on_uncertain)
        again = terms.resubmit and is_earlier and record.reason is not Reason.UNCERTAIN
        return Step.SUBMIT if step is Step.FAIL and again else step

    async def _buy(
        self, document: Document, intents: Intents, record: Record | None, deadline: float
    ) -> Purchase | _Unsure | None:
        """Submit in the place of `record`; None when somebody else was faster."""
        intents.begin(record)

        def may_stop() -> bool:
            return not intents.may_be_accepted

        try:
            buying = before(deadline, self._bought(document, intents, deadline), may_stop=may_stop)
            return await seen_through(buying, matters=lambda: intents.may_be_accepted)
        except ClaimLost:
            await intents.withdraw()
            return None
        except SubmitUncertain as lost:
            if intents.record is None:
                raise
            return _Unsure(intents.record, str(lost))
        except TimeoutError:
            if not await self._withdrawn(intents):
                raise
            raise JobTimeout("The time limit passed before the document was submitted.") from None
        except DocJobsError:
            await self._withdrawn(intents)
            raise
        except BaseException:
            if not await self._withdrawn(intents) and intents.record is not None:
                await self._put_down(intents.record, None)
            raise

    async def _withdrawn(self, intents: Intents) -> bool:
        """Withdraw an intent, unless it may have been accepted: then it stays open, to be reconciled."""
        if not intents.may_be_accepted:
            await intents.withdraw()
        return not intents.may_be_accepted

    async def _bought(self, document: Document, intents: Intents, deadline: float) -> Purchase | _Unsure:
        async with self.turns:
            ref = await self.send(
                document,
                sha256=intents.sha256,
                in_doubt=intents.note,
                attempt=intents.attempt,
            )
        intent = intents.record
        assert intent is not None  # noqa: S101 (an attempt succeeded)
        try:
            self.check_is_new(ref, document)
            return Purchase(ref, await self._submitted(intent, ref, deadline))
        except (SubmitUncertain, JobKnown) as wrong:
            self._late.pop(intent.id, None)
            return _Unsure(intent, str(wrong), (ref.job_id,))

    async def _submitted(self, intent: Record, ref: JobRef, until: float) -> Record:
        """Write down a job that is paid for; while the database is away, its document goes on."""
        writing = asyncio.create_task(self._written(intent, ref, until), name="docjobs-submitted")
        self._late[intent.id] = writing
        self._in_hand[intent.id] = intent
        await asyncio.wait([writing], timeout=_SOON)
        if writing.done() and not writing.cancelled():
            writing.result()  # raises `JobKnown`
        return self._now(replace(intent, state=State.SUBMITTED, ref=ref, job_id=ref.job_id))

    async def _written(self, intent: Record, ref: JobRef, until: float) -> Record | None:
        try:
            return await retry_write(partial(self._ledger.submitted, intent, ref), until=until)
        except JobKnown:
            raise
        except (Exception, asyncio.CancelledError) as problem:  # whatever it is, the job is paid for
            told = ref.model_dump_json(exclude_none=True)
            _log.error("%s is submitted, but could not be written down: %s Its ref: %s", ref, problem, told)
            if isinstance(problem, asyncio.CancelledError):
                raise
            return None

    def _now(self, record: Record) -> Record:
        """`record` as it was written last."""
        writing = self._late.get(record.id)
        if writing is None:
            latest = self._in_hand.get(record.id, record)
            return latest if latest.claim == record.claim else record
        if not writing.done():
            return record
        del self._late[record.id]
        written = (None if writing.cancelled() else writing.result()) or record
        if written.id in self._in_hand:
            self._in_hand[written.id] = written
        return written

    async def _reconciled(self, unsure: _Unsure, *, last: bool, deadline: float) -> Record | None:
        """Find out whether the service accepted an intent; the record says what to do next."""
        try:
            candidates: Sequence[str] | None = unsure.jobs
            if not candidates:
                with anyio.fail_after(max(0.0, deadline + GRACE - anyio.current_time())):
                    candidates = await self._lost.candidates(unsure.record, just_sent=unsure.just_sent)
            if candidates is not None and not candidates and not last:
                _log.info("%s: the service did not accept it; submitting.", unsure.record.document_name)
                return unsure.record
            named = f" It may be one of the jobs {', '.join(candidates)}." if candidates else ""
            told = unsure.why + named
            failing = partial(
                self._ledger.failed, unsure.record, Reason.UNCERTAIN, told, candidates=candidates or ()
            )
            failed = await retry_write(failing, until=anyio.current_time() + self._ledger.wait)
        except ClaimLost:
            return None  # somebody else finds out
        except (LedgerUnavailable, TimeoutError) as problem:
            await self._put_down(unsure.record, None)  # a later run finds out
            why = f"{unsure.why} {problem or 'The time limit passed before the service could be asked.'}"
            raise SubmitUncertain(why, provider=self.provider.name) from None
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

        return made() if (document.size or 0) <= SMALL else await anyio.to_thread.run_sync(made)

    # -- a job goes on

    async def look_up(self, refs: Iterable[JobRef]) -> None:
        """See `Purchases.look_up`."""
        job_ids = [ref.job_id for ref in refs]
        find = partial(
            self._ledger.find, job_ids=job_ids, limit=max(1, 2 * len(job_ids)),
            provider=self.provider.name, base_url=self.http.base_url, tenant=self.http.tenant,
        )  # fmt: skip
        found = await retry_write(find, until=anyio.current_time() + self._ledger.wait)
        self._known.update((record.job_id, record) for record in found if record.job_id)

    async def take_up(self, ref: JobRef, *, to_fetch: bool, until: float = math.inf) -> Purchase:
        """Go on with a job; to fetch it, nobody else may be about to, for it may be given only once."""
        record = self._known.get(ref.job_id)
        if record is None and to_fetch:
            record = await self._imported(ref)
        while record is not None and record.state is not State.FETCHED and not record.mine:
            taking = partial(self._ledger.take_over, record, as_new=False, token=new_token())
            taken = await retry_write(taking, until=min(until, anyio.current_time() + self._ledger.wait))
            if taken is None and not to_fetch:
                break
            if taken is None:
                await self._bystanders.wait(record, until)
                taken = await self._ledger.record(record.id)
            record = taken
        return self._held(Purchase(completed(ref, record), record, reused=record is not None))

    def _held(self, purchase: Purchase) -> Purchase:
        if purchase.record is not None and purchase.record.mine:
            self._in_hand[purchase.record.id] = purchase.record
        return purchase

    async def _imported(self, ref: JobRef) -> Record:
        """The record of a job that was submitted elsewhere."""
        terms = self.terms
        bought = {"flow_run_id": terms.flow_run_id, "task_run_id": terms.task_run_id, "block": terms.block}
        entry = entry_of_job(ref, **bought)
        record = await self._ledger.claim(entry)
        if not (record.mine and record.state is State.INTENDED):
            return record
        try:
            return await self._ledger.submitted(record, ref)
        except BaseException:
            await self._put_down(record, None)
            raise

    async def done(self, purchase: Purchase, ref: JobRef) -> Purchase:
        """See `Purchases.done`. Not being able to write it costs one more status check, no more."""
        self._arrivals.ended(ref)
        record = purchase.record and self._now(purchase.record)
        if record is not None and record.mine:
            record = await best_effort(self._noted(record, ref)) or record
        return self._held(replace(purchase, ref=ref, record=record))

    async def _noted(self, record: Record, ref: JobRef) -> Record:
        try:
            return await self._ledger.done(record, ref)
        except ClaimLost:
            now = await self._ledger.resume(record)
            if now is None:
                raise
            return now  # still mine: a push has brought the result

    # -- a result is fetched

    async def regain(self, purchase: Purchase, until: float) -> Purchase:
        """See `Purchases.regain`."""
        record = purchase.record and self._now(purchase.record)
        purchase = replace(purchase, record=record)
        if record is None or record.state is State.FETCHED or (record.mine and self._ledger.holds(record)):
            return purchase
        try:
            now = await self._ledger.resume(record) if record.mine else None
            if now is not None:
                return self._held(replace(purchase, record=now))
            self._known[purchase.ref.job_id] = await self._ledger.record(record.id) or record
            taken = await self.take_up(purchase.ref, to_fetch=True, until=until)
        except LedgerUnavailable as problem:
            _log.warning("%s: %s", purchase.ref, problem)
            return purchase
        return replace(taken, reused=purchase.reused)

    async def _kept_answer(self, purchase: Purchase, keep_until: float) -> tuple[Answer | None, Purchase]:
        record = purchase.record
        try:
            if record is not None and record.has_body:
                return kept_answer(record, await self._ledger.body(record)), purchase
            pushed = await self._arrivals.result(purchase.ref)
        except LedgerUnavailable as problem:  # damaged, or its store is gone: the service may have it
            raise Unreadable(str(problem), provider=self.provider.name) from None
        if pushed is not None and record is not None and record.mine:
            purchase = replace(purchase, record=await self._kept(record, purchase.ref, pushed, keep_until))
        return pushed, purchase

    async def _asked(self, purchase: Purchase, keep_until: float) -> tuple[Answer, Purchase]:
        return await seen_through(self._fetched(purchase, keep_until))

    async def _fetched(self, purchase: Purchase, keep_until: float) -> tuple[Answer, Purchase]:
        record = purchase.record and self._now(purchase.record)
        try:
            answer = await self.provider.fetch(self.http, purchase.ref)
        except ResultLost:
            now = await self._ledger.record(record.id) if record else None
            if now is None or not now.has_body or (record is not None and record.has_body):
                raise
            record = replace(now, mine=record is not None and now.claim == record.claim)
            return kept_answer(record, await self._ledger.body(record)), replace(purchase, record=record)
        if record is not None and record.mine:
            record = await self._kept(record, purchase.ref, answer, keep_until)
        return answer, replace(purchase, record=record)

    async def _kept(self, record: Record, ref: JobRef, answer: Answer, keep_until: float) -> Record:
        kind = answer.headers.get("content-type")
        keep = partial(self._ledger.kept, record, ref, answer.body, content_type=kind)
        began = anyio.current_time()
        try:
            # One wait for an outage, not one for each result; and none that would cost the result itself.
            waited_for = min(began, self._away_since) + self._ledger.wait
            kept = await retry_write(keep, until=min(waited_for, keep_until))
        except Exception as problem:  # noqa: BLE001 (bookkeeping costs no result)
            self._away_since = min(began, self._away_since)
            _log.error("%s: the result could not be kept, it is only in memory: %s", ref, problem)
            return record
        self._away_since = math.inf
        if kept.mine:
            self._in_hand[kept.id] = kept
        return kept

    async def _is_read(self, purchase: Purchase, usage: Usage) -> Purchase:
        record = purchase.record
        if record is None or not record.mine or record.state is State.FETCHED:
            return purchase
        ended = None
        if record.has_body:
            reading = self._ledger.fetched(record, purchase.ref, **_figures(usage, purchase.ref))
            ended = await best_effort(reading)
        await self._put_down(record, ended)
        return replace(purchase, record=ended or record)

    async def _put_down(self, record: Record, ended: Record | None) -> None:
        """A document has ended here: where that could not be written, others need not wait for our lease."""
        self._in_hand.pop(record.id, None)
        if ended is None:
            await self._let_go(record)

    async def failed(self, purchase: Purchase, outcome: Outcome) -> None:
        """See `Purchases.failed`."""
        record = purchase.record
        if record is None or not record.mine or outcome.reason is None or record.state is State.FETCHED:
            return
        told = outcome.error or "No reason was given."
        record = self._now(record)
        if outcome.reason is Reason.UNREADABLE:
            ended = await best_effort(self._ledger.set_aside(record, told))
        else:
            ref = None if outcome.reason is Reason.UNCERTAIN else outcome.ref  # it is another document's
            ended = await best_effort(self._ledger.failed(record, outcome.reason, told, ref=ref))
        await self._put_down(record, ended)


def _figures(usage: Usage, ref: JobRef) -> dict[str, Any]:
    """What a job cost, as far as a database takes it."""
    figures = {name: getattr(usage, name) for name in ("pages", "credits", "quota_remaining")}
    odd = [name for name, value in figures.items() if value is not None and not abs(value) <= _MOST]
    if odd:
        _log.warning("%s: the service gives impossible figures, left out: %s.", ref, ", ".join(odd))
    return {name: None if name in odd else value for name, value in figures.items()}


def _of_the_submit(error: Exception, intents: Intents, document: Document) -> DocJobsError:
    """What a submit ended with, as its row says it."""
    if isinstance(error, (SubmitUncertain, JobTimeout)):
        return error
    if intents.lost is not None:  # this call has sent it before
        return recorded_failure(intents.lost)
    if isinstance(error, DocJobsError):
        return error
    _log.error("%s: the submit broke", document.name, exc_info=error)
    what = f"The submit broke ({type(error).__name__})."
    if intents.may_be_accepted:
        return SubmitUncertain(f"{what} The document may have been accepted.")
    return Unavailable(f"{what} Nothing was sent.")
