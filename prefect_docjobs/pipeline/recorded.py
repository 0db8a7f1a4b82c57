"""Buying with a ledger: what it says about a document decides what is done, so nothing is bought twice."""

from __future__ import annotations

import asyncio
import logging
import math
import time
import uuid
from collections.abc import Awaitable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from prefect_docjobs.errors import (
    DocJobsError,
    Reason,
    ResultLost,
    SubmitUncertain,
)
from prefect_docjobs.http import Answer, Http, InDoubt
from prefect_docjobs.ledger import (
    AccountPaused,
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
from prefect_docjobs.pipeline.arrivals import Arrivals
from prefect_docjobs.pipeline.budget import OverBudget
from prefect_docjobs.pipeline.bystanders import Bystanders
from prefect_docjobs.pipeline.finishing import insist, seen_through
from prefect_docjobs.pipeline.imports import entry_of_job
from prefect_docjobs.pipeline.known import completed, kept_answer, recorded_failure
from prefect_docjobs.pipeline.lost_submits import LostSubmits
from prefect_docjobs.pipeline.purchases import Purchase, Purchases, Terms
from prefect_docjobs.pipeline.turns import Turn
from prefect_docjobs.providers.base import SMALL, Provider
from prefect_docjobs.waiter import Waiter

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Ledger, Pause
_log = logging.getLogger(__name__)
_BUYS = 3  # submits of one document in one call, all but the last surely not accepted


@dataclass(frozen=True, slots=True)
class _Unsure:
    """An intent of ours that may or may not have been accepted; `jobs` may be its, where that is known."""

    record: Record
    why: str
    jobs: tuple[str, ...] = ()


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

    async def __aexit__(self, *exc: object) -> None:
        """Let go of what is still open, so that others need not wait until the ledger is closed."""
        with anyio.CancelScope(shield=True):
            await self._bystanders.aclose()
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
            await self._best_effort(self._ledger.let_go(record))

    def told_to(self, waiter: Waiter) -> AbstractAsyncContextManager[None]:
        """See `Purchases.told_to`."""
        return self._arrivals.told_to(waiter)

    # -- a document becomes a job

    async def submit(self, document: Document, *, hold: bool, until: float = math.inf) -> Purchase:
        """See `Purchases.submit`."""
        self.provider.check(document)
        entry = await self._entry(document)
        record, buys_left = None, _BUYS
        while True:
            # An intent is written when its turn has come, so that a crash leaves few of them open.
            async with Turn(self.turns) as turn:
                settled = await self._settled(document, entry, record, turn, hold=hold)
            if isinstance(settled, Purchase):
                return self._held(settled)
            if isinstance(settled, _Unsure):
                self._in_hand[settled.record.id] = settled.record
                buys_left -= 1
                record = await self._reconciled(settled, last=not buys_left)
                if record is settled.record:
                    self.not_accepted(document)
                buys_left = 1 if record and record.state is State.FAILED else buys_left
            else:
                await self._bystanders.wait(settled, until)
                record = None

    async def _settled(
        self, document: Document, entry: Entry, record: Record | None, turn: Turn, *, hold: bool
    ) -> Purchase | Record | _Unsure:
        """A job; or the record of somebody who is at work on it; or what became of an intent."""
        while True:
            record = record or await self._claimed(entry)
            step = self._step(record)
            if step is Step.SUBMIT and (pause := await self._ledger.paused(self._account)):
                if record.mine and record.state is State.INTENDED:
                    await self._best_effort(self._ledger.released(record))
                raise _paused(pause)
            if step is Step.FAIL:
                raise recorded_failure(record)
            if step is Step.STAND_BY:
                known = None if hold else record.ref
                return Purchase(known, record, reused=True) if known else record
            if step is Step.SUBMIT and record.mine and record.state is State.INTENDED:
                if bought := await self._buy(document, record, turn):
                    return bought
                record = None
                continue
            if (step is Step.USE or record.mine or not hold) and record.ref and step is not Step.SUBMIT:
                return Purchase(record.ref, record, reused=True)
            record = await self._ledger.take_over(record, as_new=step is Step.SUBMIT, entry=entry)
            if record is not None and step is Step.RECONCILE:
                return _Unsure(record, "The submit was under way when its worker ended.")

    async def _claimed(self, entry: Entry) -> Record:
        """The record of a key; while the account is paused, only one that is there already."""
        if pause := await self._ledger.paused(self._account):
            known = await self._ledger.find(keys=[entry.key], limit=1)
            if not known:
                raise _paused(pause)
            return known[0]
        return await self._ledger.claim(entry)

    def _step(self, record: Record) -> Step:
        terms, mine = self.terms, record.mine
        # A retry or a replay of a flow run goes on with what the run has bought, whatever `reuse_for` says.
        replays = terms.flow_run_id is not None and record.flow_run_id == terms.flow_run_id
        reuse_for = None if replays else terms.reuse_for
        step = next_step(record, mine=mine, reuse_for=reuse_for, on_uncertain=terms.on_uncertain)
        # What was intended since this call began has been bought again already.
        is_earlier = record.age > time.monotonic() - self._began
        again = terms.resubmit and is_earlier and record.reason is not Reason.UNCERTAIN
        return Step.SUBMIT if step is Step.FAIL and again else step

    async def _buy(self, document: Document, intent: Record, turn: Turn) -> Purchase | _Unsure | None:
        """Submit once; None when the intent was no longer ours when its turn came."""
        may_be_accepted = False

        def note(in_doubt: bool) -> None:
            nonlocal may_be_accepted
            if in_doubt and not self._ledger.holds(intent):
                raise ClaimLost(f"{document.name}: the lease ran out before it was sent.")
            if in_doubt and (pause := self._ledger.pauses.seen(self._account)):
                raise _paused(pause)
            may_be_accepted = in_doubt

        try:
            async with self._ledger.pauses.followed():
                buying = self._bought(document, intent, turn, note)
                return await seen_through(buying, matters=lambda: may_be_accepted)
        except ClaimLost:
            await self._best_effort(self._ledger.released(intent))
            return None
        except SubmitUncertain as lost:
            return _Unsure(intent, str(lost))
        except DocJobsError:
            raise
        except BaseException:
            if not may_be_accepted:  # else it stays an open intent, to be reconciled
                await self._best_effort(self._ledger.released(intent))
            raise

    async def _bought(
        self, document: Document, intent: Record, turn: Turn, note: InDoubt
    ) -> Purchase | _Unsure:
        try:
            ref = await self.send(document, in_doubt=note)
        except (SubmitUncertain, ClaimLost):
            raise
        except (
            OverBudget,
            AccountPaused,
        ):  # a later run may buy it; a record of each would be no use
            await self._best_effort(self._ledger.released(intent))
            raise
        except DocJobsError as error:
            await self._best_effort(self._ledger.failed(intent, error.reason, str(error)))
            raise
        turn.end()
        try:
            self.check_is_new(ref)
        except SubmitUncertain as wrong:
            return _Unsure(intent, str(wrong), (ref.job_id,))
        if ref.document_sha256 != intent.document_sha256:
            why = f"{document.name} was changed before it was sent: job {ref.job_id} is of another content."
            return _Unsure(intent, why, (ref.job_id,))
        return Purchase(ref, await self._submitted(intent, ref))

    async def _submitted(self, intent: Record, ref: JobRef) -> Record:
        """Write down a job that is paid for. The ledger makes a write durable even when we are cancelled."""
        try:
            return await insist(partial(self._ledger.submitted, intent, ref))
        except DocJobsError as problem:
            told = ref.model_dump_json(exclude_none=True)
            _log.error("%s is submitted, but could not be written down: %s Its ref: %s", ref, problem, told)
            return replace(intent, state=State.SUBMITTED, ref=ref, job_id=ref.job_id)

    async def _reconciled(self, unsure: _Unsure, *, last: bool) -> Record | None:
        """Find out whether the service accepted an intent; the record says what to do next."""
        try:
            candidates = unsure.jobs or await self._lost.candidates(unsure.record)
            if candidates is not None and not candidates and not last:
                _log.info("%s: the service did not accept it; submitting.", unsure.record.document_name)
                return unsure.record
            named = f" It may be one of the jobs {', '.join(candidates)}." if candidates else ""
            failed = await self._ledger.failed(
                unsure.record, Reason.UNCERTAIN, unsure.why + named, candidates=candidates or ()
            )
        except ClaimLost:
            return None  # somebody else finds out
        except LedgerUnavailable as problem:
            raise SubmitUncertain(f"{unsure.why} {problem}", provider=self.provider.name) from None
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
        if record.mine and record.state is State.INTENDED:
            record = await self._ledger.submitted(record, ref)
        return record

    async def done(self, purchase: Purchase, ref: JobRef) -> Purchase:
        """See `Purchases.done`. Not being able to write it costs one more look, no more."""
        self._arrivals.ended(ref)
        record = purchase.record
        if record is not None and record.mine:
            record = await self._best_effort(self._noted(record, ref)) or record
        return replace(purchase, ref=ref, record=record)

    async def _noted(self, record: Record, ref: JobRef) -> Record:
        try:
            return await self._ledger.done(record, ref)
        except ClaimLost:
            now = await self._ledger.record(record.id)
            if now is None or now.state is not State.FETCHED or now.job_id != ref.job_id:
                raise
            return now  # a push has brought the result

    async def fetch(self, purchase: Purchase) -> tuple[Answer, Purchase]:
        """See `Purchases.fetch`."""
        return await seen_through(self._fetched(await self._still_ours(purchase)))

    async def _fetched(self, purchase: Purchase) -> tuple[Answer, Purchase]:
        record = purchase.record
        if record is not None and record.state is State.FETCHED:
            return kept_answer(record, await self._ledger.body(record)), purchase
        try:
            pushed = await self._arrivals.result(purchase.ref)
            answer = pushed or await self.provider.fetch(self.http, purchase.ref)
        except ResultLost:
            record = await self._ledger.record(record.id) if record else None
            if record is None or record.state is not State.FETCHED:
                raise
            return await self._fetched(replace(purchase, record=record))  # somebody was faster
        if record is not None:
            record = await self._kept(record, purchase.ref, answer)
        return answer, replace(purchase, record=record)

    async def _still_ours(self, purchase: Purchase) -> Purchase:
        """After a stop of this process others may have gone on with the job, and be about to fetch it."""
        record = purchase.record
        if record is None or record.state is State.FETCHED or self._ledger.holds(record):
            return purchase
        try:
            self._known[purchase.ref.job_id] = await self._ledger.record(record.id) or record
            return await self.take_up(purchase.ref, to_fetch=True)
        except LedgerUnavailable as problem:
            _log.warning("%s: %s", purchase.ref, problem)
            return purchase

    async def _kept(self, record: Record, ref: JobRef, answer: Answer) -> Record:
        kind = answer.headers.get("content-type")
        try:
            return await insist(partial(self._ledger.fetched, record, ref, answer.body, content_type=kind))
        except DocJobsError as problem:
            _log.error("%s: the result could not be kept, it is only in memory: %s", ref, problem)
            return record

    async def billed(self, purchase: Purchase, usage: Usage) -> None:
        """See `Purchases.billed`."""
        await super().billed(purchase, usage)
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


def _paused(pause: Pause) -> AccountPaused:
    return AccountPaused(f"Nothing was sent. {pause}")
