"""A job that took too long, before its document goes to another service."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from prefect_docjobs.errors import DocJobsError, Reason
from prefect_docjobs.extraction import fetch_many
from prefect_docjobs.http import Http
from prefect_docjobs.models import JobRef, JobState, Outcome
from prefect_docjobs.providers import Provider
from prefect_docjobs.tasks.journal import Log

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Ledger, Record


_PATIENCE = 10.0  # seconds for a service to cancel a job
_GRACE = 1.0  # seconds past the deadline of the call, so that one request may get through
_FETCH_GRACE = 30.0  # the same for a result, which is paid for
_NOTING = 5.0  # seconds to give a record back


@dataclass(frozen=True)
class LateJobs:
    """The late jobs of one service.

    Attributes:
        provider: The service.
        http: The account.
        ledger: Where a cancelled job is noted.
        log: For those that cannot be cancelled.
        deadline: When the call ends, on the loop's clock.
    """

    provider: Provider
    http: Http
    ledger: Ledger | None
    log: Log
    deadline: float = math.inf

    async def given_up(self, late: Outcome) -> tuple[Outcome, bool]:
        """Cancel a job where the service can; if it ended meanwhile its result is fetched, not bought again.

        A job that another run or document is waiting for is left alone.

        Returns:
            The outcome, perhaps with the result; and whether the job was cancelled.
        """
        if late.ref is None or not self.provider.capabilities.cancel:
            return late, False
        state = None
        with anyio.move_on_after(min(_PATIENCE, self._left(_GRACE))) as limit:
            state = await self._state(late, late.ref)
        if limit.cancelled_caught:
            self.log.warning("%s could not be cancelled in time, and may be billed.", late.ref)
        if state is JobState.SUCCEEDED:
            with anyio.move_on_after(self._left(_FETCH_GRACE)):
                return await self._fetched(late, late.ref), False
        return late, state is JobState.CANCELLED

    def _left(self, grace: float) -> float:
        return max(0.0, self.deadline - anyio.current_time()) + grace

    async def _state(self, late: Outcome, ref: JobRef) -> JobState | None:
        """What the job is after the cancel; None where it could not be cancelled."""
        try:
            async with self._held(late, ref) as held:
                if held is None:
                    self.log.info("%s is not cancelled: somebody else is waiting for it.", ref)
                    return None
                await self.provider.cancel(self.http, ref)
                held.state = (await self.provider.status(self.http, ref)).state
                return held.state
        except DocJobsError as problem:
            self.log.warning("%s cannot be cancelled, and is billed: %s", ref, problem)
            return None

    @asynccontextmanager
    async def _held(self, late: Outcome, ref: JobRef) -> AsyncIterator[_Held | None]:
        """The job's records in the ledger, taken from anybody else; None while somebody has one of them."""
        held = _Held()
        try:
            is_free = self.ledger is None or await self._take(self.ledger, ref, held)
            yield held if is_free else None
        finally:
            if self.ledger is not None and held.records:
                with anyio.move_on_after(_NOTING, shield=True):
                    await self._give_back(self.ledger, late, held)

    async def _take(self, ledger: Ledger, ref: JobRef, held: _Held) -> bool:
        found = await ledger.find(
            job_ids=[ref.job_id], provider=ref.provider, base_url=ref.base_url, tenant=ref.tenant
        )
        for record in found:
            taken = await ledger.take_over(record, as_new=False)
            if taken is None:
                return False
            held.records.append(taken)
        return True

    async def _give_back(self, ledger: Ledger, late: Outcome, held: _Held) -> None:
        """Write down what became of the job: nobody waits again for one that is cancelled."""
        try:
            for record in held.records:
                if held.state is JobState.CANCELLED:
                    told = "The job took too long, and was cancelled; another service was asked."
                    await ledger.failed(record, Reason.CANCELLED, told)
                elif held.state is not None and held.state.is_terminal:
                    await ledger.let_go(record)
                else:
                    await ledger.failed(record, Reason.TIMEOUT, late.error or "The job took too long.")
        except DocJobsError as problem:
            self.log.warning("What became of %s cannot be written: %s", late.ref, problem)

    async def _fetched(self, late: Outcome, ref: JobRef) -> Outcome:
        known = {"document": late.document, "reused": late.reused, "seconds": late.seconds}
        fetched = fetch_many(self.provider, self.http, [ref], ledger=self.ledger)
        async with aclosing(fetched):
            async for _, outcome in fetched:
                return outcome.model_copy(update=known)
        return late


@dataclass
class _Held:
    """A job's records that are ours, and what the service said of the job after the cancel."""

    records: list[Record] = field(default_factory=list)
    state: JobState | None = None
