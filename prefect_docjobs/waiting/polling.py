"""Polls: one status check of one job. A poll that fails is not a job that failed."""

from __future__ import annotations

import asyncio
import math
from functools import partial
from typing import TYPE_CHECKING

import anyio

from prefect_docjobs.cancellation import cancelled
from prefect_docjobs.errors import DocJobsError, ForeignOrigin, NotFound, Throttled, Unavailable, Unreadable
from prefect_docjobs.models import JobStatus
from prefect_docjobs.waiting.pending import PendingJob, refusal

if TYPE_CHECKING:
    from prefect_docjobs.waiting.waiter import Waiter

_LONGEST_PAUSE = 60.0


class JobPoller:
    """The polls of one waiter that are under way. If one breaks, its job is put back or ends."""

    def __init__(self, waiter: Waiter) -> None:
        self._waiter = waiter
        self._under_way: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._under_way)

    def begin(self, job: PendingJob) -> None:
        """Look at a job."""
        job.polls_under_way += 1
        look = asyncio.create_task(self._look(job))
        self._under_way.add(look)
        look.add_done_callback(partial(self._ended, job))

    def cancel(self) -> None:
        """Cancel all polls, without waiting for them."""
        for look in self._under_way:
            look.cancel()

    async def aclose(self) -> None:
        """Cancel all polls, and return when they have ended."""
        await cancelled(*self._under_way)

    def _ended(self, job: PendingJob, look: asyncio.Task[None]) -> None:
        self._under_way.discard(look)
        job.polls_under_way -= 1
        waiter = self._waiter
        waiter.poll_ended()
        bug = asyncio.CancelledError() if look.cancelled() else look.exception()
        if bug is None or job.outcome.done() or not waiter.is_running:
            return
        try:
            self._count(job, Unreadable(f"The status check broke: {type(bug).__name__}."))
        except Exception:  # else it would never be looked at again
            waiter.time_out(job, f"could not be looked at ({type(bug).__name__})")
            raise

    async def _look(self, job: PendingJob) -> None:
        waiter = self._waiter
        job.polls += 1
        asked_at = job.asked_at = waiter.now()
        try:
            status = await self._status(job, asked_at)
        except DocJobsError as error:
            self._count(job, error)
            return
        job.errors = job.refusals = 0
        job.polled_age = job.age(asked_at)
        waiter.guarded("list", waiter.sweeps.checked, job, status, asked_at)
        waiter.observed(job, status)
        if not job.outcome.done():
            delay, hinted = waiter.next_poll(job), job.hinted_at >= asked_at
            waiter.put(job, min(delay, waiter.soonest(job)) if hinted else delay)

    async def _status(self, job: PendingJob, asked_at: float) -> JobStatus:
        """One status request; it may outlast the deadline of its job by a little, and no more."""
        waiter = self._waiter
        limit = max(0.0, job.deadline - asked_at) + waiter.limits.overrun
        try:
            with anyio.fail_after(None if limit == math.inf else limit):
                status = await waiter.provider.status(waiter.http, job.ref, once=True)
            is_of_the_job = status.ref.job_id == job.ref.job_id
        except DocJobsError:
            raise
        except TimeoutError:
            raise Unavailable("The service did not answer in time.") from None
        except Exception as bug:
            waiter.guarded("status check", _raise, bug)
            raise Unreadable(f"The status check broke: {type(bug).__name__}.") from bug
        if not is_of_the_job:
            raise Unreadable("The service answered for another job.")
        return status

    # -- polls that fail

    def _count(self, job: PendingJob, error: DocJobsError) -> None:
        if job.outcome.done():
            return
        waiter = self._waiter
        now, limits, schedule = waiter.now(), waiter.limits, waiter.schedule
        delay = schedule.next(job.ref.document_size, job.age(now))
        if isinstance(error, Throttled):
            # The rate limiter holds all requests back; a day is no reason to forget a job until its deadline.
            delay = max(min(error.retry_after or 0.0, _LONGEST_PAUSE), delay)
        elif isinstance(error, (Unavailable, Unreadable)) and not isinstance(error, ForeignOrigin):
            job.errors += 1
            delay = schedule.after_errors(job.ref.document_size, job.age(now), job.errors)
        elif not (isinstance(error, NotFound) and self._is_new(job, now)):
            job.refusals += 1
        if job.refusals >= limits.refusals:
            waiter.fail(job, refusal(job, error))
        elif job.errors >= limits.failed_polls:
            waiter.time_out(job, f"could not be looked at {job.errors} times in a row ({error})")
        elif now >= job.deadline:
            waiter.time_out(job, f"could not be looked at when its time ran out ({error})")
        else:
            waiter.put(job, delay)

    def _is_new(self, job: PendingJob, now: float) -> bool:
        return not job.last and job.age(now) < self._waiter.limits.not_found_grace


def _raise(bug: Exception) -> None:
    raise bug
