"""A job that took too long, before its document goes to another service."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prefect_docjobs.errors import DocJobsError, Reason
from prefect_docjobs.http import Http
from prefect_docjobs.models import JobRef, JobState, Outcome
from prefect_docjobs.pipeline import fetch_many
from prefect_docjobs.providers import Provider
from prefect_docjobs.tasks.journal import Log

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Ledger


@dataclass(frozen=True)
class LateJobs:
    """The late jobs of one service.

    Attributes:
        provider: The service.
        http: The account.
        ledger: Where a cancelled job is noted.
        log: For those that cannot be cancelled.
    """

    provider: Provider
    http: Http
    ledger: Ledger | None
    log: Log

    async def given_up(self, late: Outcome) -> tuple[Outcome, bool]:
        """Cancel a job where the service can; if it ended meanwhile its result is fetched, not bought again.

        Returns:
            The outcome, perhaps with the result; and whether the job was cancelled.
        """
        if late.ref is None or not self.provider.capabilities.cancel:
            return late, False
        state = await self._state(late.ref)
        if state is JobState.SUCCEEDED:
            return await self._fetched(late, late.ref), False
        return late, state is JobState.CANCELLED

    async def _state(self, ref: JobRef) -> JobState | None:
        """What the job is after the cancel; None where it could not be cancelled."""
        try:
            await self.provider.cancel(self.http, ref)
            seen = await self.provider.status(self.http, ref)
            if seen.state is JobState.CANCELLED and self.ledger is not None:
                await self._note(self.ledger, ref)
        except DocJobsError as problem:
            self.log.warning("%s cannot be cancelled, and is billed: %s", ref, problem)
            return None
        return seen.state

    async def _note(self, ledger: Ledger, ref: JobRef) -> None:
        """Write down that the job was given up, so that nobody waits for it again."""
        found = await ledger.find(
            job_ids=[ref.job_id], provider=ref.provider, base_url=ref.base_url, tenant=ref.tenant
        )
        for record in found:
            if taken := await ledger.take_over(record, as_new=False):
                told = "The job took too long, and was cancelled; another service was asked."
                await ledger.failed(taken, Reason.CANCELLED, told)

    async def _fetched(self, late: Outcome, ref: JobRef) -> Outcome:
        known = {"document": late.document, "reused": late.reused, "seconds": late.seconds}
        fetched = fetch_many(self.provider, self.http, [ref], ledger=self.ledger)
        async with aclosing(fetched):
            async for _, outcome in fetched:
                return outcome.model_copy(update=known)
        return late
