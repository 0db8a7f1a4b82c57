"""What the documents of one call share: the account, the ledger, the terms, slots and limits in time."""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import anyio
from typing_extensions import Self

from prefect_docjobs.cancellation import cancelled
from prefect_docjobs.errors import (
    InvalidDocument,
    QuotaExceeded,
    Reason,
    ServiceError,
    SubmitUncertain,
    Unauthorized,
)
from prefect_docjobs.extraction.budget import Budget
from prefect_docjobs.extraction.durable import GRACE, best_effort, retry_write
from prefect_docjobs.extraction.owners import OwnerWait
from prefect_docjobs.extraction.reconcile import LostSubmits
from prefect_docjobs.http import Http
from prefect_docjobs.ledger import AccountPaused, Record, Step, next_step
from prefect_docjobs.models import Document, JobRef, Outcome
from prefect_docjobs.providers.base import Provider
from prefect_docjobs.waiting import Waiter
from prefect_docjobs.waiting.pushes import PushFeed

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Ledger

OnUncertain = Literal["fail", "resubmit"]
"""What to do when a submit's answer is lost: fail the document, or risk a second bill."""

Observe = Callable[[int, Outcome], None]
"""Called at every step of a document: its job is known, its job is done, it has ended."""

SUBMITS = 8
"""Submits at the same time; each is an open intent, which a crash leaves to be reconciled."""

FETCHES = 8
"""Results that are fetched at the same time."""

REFUSALS_IN_A_ROW = 3
"""Submits refused for the account's sake, one after the other, after which a call sends nothing more."""

MONTH = 30 * 86_400.0


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms a call submits.

    Attributes:
        on_uncertain: What to do when a submit's answer is lost.
        reuse_for: Seconds after a submit during which its result is used again for the same content; None for
            ever, 0 never. Work in flight is always taken up, and what the same flow run has submitted.
        flow_run_id: The flow run that submits, where there is one.
        task_run_id: The task run likewise.
        scope: Names the call: documents given by URL are the same within one call only.
        block: Name of the saved job block, by which another process can find the account.
        budget: What all submits may cost; None for no limit.
        resubmit: Submit again what was paid for before this call and has no result.
    """

    on_uncertain: OnUncertain = "fail"
    reuse_for: float | None = MONTH
    flow_run_id: str | None = None
    task_run_id: str | None = None
    scope: str = ""
    block: str | None = None
    budget: Budget | None = None
    resubmit: bool = False


class Call:
    """One call for documents of one account. Use it as an async context manager.

    Args:
        provider: The service, with the settings of the job.
        http: A client of the account.
        ledger: Opened.
        terms: On which documents are submitted.
        waiter: Waits for jobs; None where nothing is waited for.
        deadline: Of the whole call, on the loop's clock.
        document_timeout: Seconds for each document.
        observe: Called at every step.
    """

    def __init__(
        self,
        provider: Provider,
        http: Http,
        ledger: Ledger,
        *,
        terms: Terms | None = None,
        waiter: Waiter | None = None,
        deadline: float = math.inf,
        document_timeout: float | None = None,
        observe: Observe | None = None,
    ) -> None:
        from prefect_docjobs.ledger import Account

        terms = terms or Terms()
        self.provider = provider
        self.http = http
        self.ledger = ledger
        self.terms = terms if terms.scope else replace(terms, scope=uuid.uuid4().hex)
        self.waiter = waiter
        self.deadline = deadline
        self.document_timeout = document_timeout
        self.observe = observe
        self.account = Account(provider.name, http.base_url, http.tenant)
        self.submit_slots = asyncio.Semaphore(SUBMITS)
        self.fetch_slots = asyncio.Semaphore(FETCHES)
        self.refusals = Refusals()
        self.owners = OwnerWait(ledger)
        self.pushes = PushFeed(provider, http, ledger)
        self.lost_submits = LostSubmits(provider, http, ledger)
        self.known: dict[str, Record] = {}  # by job id
        self.held: dict[int, Record] = {}  # by id
        self.away_since = math.inf  # when results could not be kept any more
        self._began = time.monotonic()
        self._late: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Give back what is still held, so that others need not wait until the ledger is closed."""
        is_cancelled = bool(exc) and isinstance(exc[1], asyncio.CancelledError)
        with anyio.CancelScope(shield=True):
            await self.owners.aclose()
            if self._late:
                await asyncio.wait(self._late, timeout=GRACE if is_cancelled else self.ledger.wait)
                await cancelled(*self._late)
            await asyncio.gather(*map(self.release, self.held.values()))

    def write_late(self, writing: asyncio.Task[Any]) -> None:
        """Wait for a write to a database that is away when the call ends."""
        self._late.add(writing)
        writing.add_done_callback(self._late.discard)

    def limit(self, since: float | None = None) -> float:
        """When, on the loop's clock, a document is given up that began then; by default now."""
        began = anyio.current_time() if since is None else since
        return min(
            self.deadline, math.inf if self.document_timeout is None else began + self.document_timeout
        )

    async def release(self, record: Record) -> None:
        """Let anybody go on with a record of ours."""
        if self.ledger.holds(record):
            await best_effort(self.ledger.release_lease(record))

    async def look_up(self, refs: Iterable[JobRef]) -> None:
        """Read what the ledger knows of these jobs, all at once."""
        job_ids = [ref.job_id for ref in refs]
        find = partial(
            self.ledger.find, job_ids=job_ids, limit=max(1, 2 * len(job_ids)),
            provider=self.provider.name, base_url=self.http.base_url, tenant=self.http.tenant,
        )  # fmt: skip
        found = await retry_write(find, until=anyio.current_time() + self.ledger.wait)
        self.known.update((record.job_id, record) for record in found if record.job_id)

    def next_step(self, record: Record | None) -> Step:
        """What to do with a document of which the ledger knows this."""
        if record is None:
            return Step.SUBMIT
        terms = self.terms
        # A retry or a replay of a flow run goes on with what the run submitted, whatever `reuse_for` says.
        replays = terms.flow_run_id is not None and record.flow_run_id == terms.flow_run_id
        # What was intended since this call began has been submitted again already.
        is_earlier = record.age > time.monotonic() - self._began
        reuse_for = None if replays or not is_earlier else terms.reuse_for
        step = next_step(record, mine=record.mine, reuse_for=reuse_for, on_uncertain=terms.on_uncertain)
        again = terms.resubmit and is_earlier and record.reason is not Reason.UNCERTAIN
        return Step.SUBMIT if step is Step.FAIL and again else step

    async def check_pause(self, *, fresh: bool = False) -> None:
        """Raise `AccountPaused` where nobody may submit to the account.

        Args:
            fresh: Read it, unless that was done within the last second; else only where it was paused then.
        """
        if fresh or self.ledger.pauses.seen(self.account):
            await self.ledger.paused(self.account)
        self.check_seen_pause()

    def check_seen_pause(self) -> None:
        """The same, without a read."""
        if pause := self.ledger.pauses.seen(self.account):
            raise AccountPaused(f"Nothing was sent. {pause}")


class Refusals:
    """Counts submits refused for the account's sake: a wrong key, or an empty quota, meets every document."""

    def __init__(self) -> None:
        self._last: Unauthorized | QuotaExceeded | None = None
        self._in_a_row = 0

    def check(self, document: Document) -> None:
        """Raise the refusal instead of sending a document that would meet it, too."""
        if self._last is None or self._in_a_row < REFUSALS_IN_A_ROW:
            return
        message = Exception.__str__(self._last)
        refusal = type(self._last)(
            f"{document.name} was not sent: {self._in_a_row} submits in a row were refused. {message}",
            provider=self._last.provider,
            status=self._last.status,
            code=self._last.code,
        )
        raise refusal.about(document.name)

    async def counted(self, submit: Awaitable[JobRef]) -> JobRef:
        """What `submit` returns or raises, counted."""
        try:
            ref = await submit
        except (Unauthorized, QuotaExceeded) as refusal:
            same = type(refusal) is type(self._last)
            self._last, self._in_a_row = copy(refusal), self._in_a_row + 1 if same else 1
            raise
        except (InvalidDocument, SubmitUncertain):
            raise  # neither says anything about the account
        except ServiceError as error:
            if error.status is not None:
                self._in_a_row = 0  # the account was let in
            raise
        self._in_a_row = 0
        return ref
