"""Jobs that took too long, before their documents go to another service."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.blocks.buying import the_ledger
from prefect_docjobs.errors import DocJobsError, Reason
from prefect_docjobs.http import Http
from prefect_docjobs.models import Batch, JobRef, JobState
from prefect_docjobs.tasks.accounts import destination_of
from prefect_docjobs.tasks.journal import Log
from prefect_docjobs.tasks.many import afetch_results

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Ledger


@dataclass(frozen=True)
class LateJobs:
    """The late jobs of one batch.

    Attributes:
        job: What they were submitted with.
        log: For those that cannot be cancelled.
    """

    job: DocJob
    log: Log

    async def given_up(self, batch: Batch, leaving: Collection[int]) -> tuple[Batch, Collection[str]]:
        """Cancel them where the service can; what ended meanwhile is fetched instead of being bought again.

        Args:
            batch: All outcomes.
            leaving: The positions of documents that have another job to go to.

        Returns:
            The batch with what was fetched, and the ids of the jobs that were cancelled.
        """
        late = {
            position: row.ref
            for position, row in enumerate(batch.heads)
            if row.reason is Reason.TIMEOUT and row.ref is not None and position in leaving
        }
        if not late or not self.job.provider().capabilities.cancel:
            return batch, ()
        states = await self._states(list(late.values()))
        done = {
            position: ref for position, ref in late.items() if states.get(ref.job_id) is JobState.SUCCEEDED
        }
        cancelled = {job_id for job_id, state in states.items() if state is JobState.CANCELLED}
        if not done:
            return batch, cancelled
        fetched = dict(zip(done, await afetch_results.fn(self.job, list(done.values())), strict=True))
        return Batch.of(fetched.get(position, row) for position, row in enumerate(batch)), cancelled

    async def _states(self, refs: Sequence[JobRef]) -> dict[str, JobState]:
        """What each job is after the cancel; those that could not be cancelled are left out."""
        async with self.job.credentials.get_client() as http, the_ledger() as ledger:
            seen = await asyncio.gather(*(self._state(http, ledger, ref) for ref in refs))
        known = zip(refs, seen, strict=True)
        return {ref.job_id: state for ref, state in known if state is not None}

    async def _state(self, http: Http, ledger: Ledger | None, ref: JobRef) -> JobState | None:
        provider = self.job.provider()
        try:
            await provider.cancel(http, ref)
            seen = await provider.status(http, ref)
            if seen.state is JobState.CANCELLED and ledger is not None:
                await self._note(ledger, ref)
        except DocJobsError as problem:
            self.log.warning("%s cannot be cancelled, and is billed: %s", ref, problem)
            return None
        return seen.state

    async def _note(self, ledger: Ledger, ref: JobRef) -> None:
        """Write down that the job was given up, so that nobody waits for it again."""
        where = destination_of(self.job)
        account = {name: where[name] for name in ("provider", "base_url", "tenant")}
        for record in await ledger.find(job_ids=[ref.job_id], **account):  # type: ignore[arg-type]
            if taken := await ledger.take_over(record, as_new=False):
                told = "The job took too long, and was cancelled; another service was asked."
                await ledger.failed(taken, Reason.CANCELLED, told)
