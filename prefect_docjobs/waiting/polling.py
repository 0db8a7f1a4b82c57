"""Polls: one status check of one job. A poll that fails is not a job that failed.

When there are more jobs due than turns, those that are most likely done come first.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from functools import partial

import anyio

from prefect_docjobs.cancellation import cancelled
from prefect_docjobs.errors import DocJobsError, ForeignOrigin, NotFound, Throttled, Unavailable, Unreadable
from prefect_docjobs.models import JobStatus
from prefect_docjobs.waiting.pending import PendingJob, PendingJobs, refusal

_LONGEST_PAUSE = 60.0
_TOGETHER = 5e-6  # seconds for each job: polls due within them begin together, as waking up costs CPU, too
_LONGEST_TICK = 0.05
_CHOICE = 256  # jobs that are compared to find the one most likely done
_FRESH = 15.0  # seconds for which a job that the list has seen running is not polled,
_LONGEST_UNPOLLED = 300.0  # unless it was not polled for so long


class JobPoller:
    """Polls the jobs that are due. If a poll breaks, its job is polled again or ends."""

    def __init__(self, pending: PendingJobs) -> None:
        self._pending = pending
        self._ready: deque[PendingJob] = deque()
        self._under_way: set[asyncio.Task[None]] = set()

    def start_due(self) -> float:
        """Start the polls that are due, within the limits of requests and rate; return when to come back."""
        pending = self._pending
        now = pending.now()
        for job in pending.pop_due(now):
            if job.is_ready:
                pending.time_out(job, "could not be polled when its time ran out (no turn was free)")
            elif now < job.deadline and _is_fresh(job, now):
                pending.poll_in(job, _FRESH)
            else:
                self._ready.append(job)
                pending.wait_for_turn(job)
        limiter = pending.http.limiter("status")
        while len(self._under_way) < pending.limits.polls and self.has_ready:
            if (wait := limiter.take()) > 0:  # other loops may use this account, too
                return min(now + wait, pending.next_due)
            self._begin(self._take(now, is_scarce=limiter.rate < math.inf))
        return _on_a_tick(pending.next_due, len(pending.jobs))

    @property
    def has_ready(self) -> bool:
        """Whether jobs are due and have not had their turn yet."""
        while self._ready and not self._ready[0].is_ready:
            self._ready.popleft()
        return bool(self._ready)

    def _take(self, now: float, *, is_scarce: bool) -> PendingJob:
        """The job to poll now.

        Args:
            now: On the waiter's clock.
            is_scarce: Turns are: the job that most likely ended is worth searching for. Otherwise all have
                their turn in a moment, and the first one will do.
        """
        drawn = [self._ready.popleft() for _ in range(min(len(self._ready), _CHOICE if is_scarce else 1))]
        ready = [job for job in drawn if job.is_ready]
        best = max(ready, key=lambda job: self._chance(job, now)) if len(ready) > 1 else ready[0]
        self._ready.extend(job for job in ready if job is not best)  # behind those that were not compared
        return best

    def _chance(self, job: PendingJob, now: float) -> float:
        """That it ended since it was last seen running; by age alone where nothing is known."""
        law, age = self._pending.schedule.expected(job.ref.document_size), job.age(now)
        return age - job.seen_age if law is None else law.done_between(job.seen_age, age)

    def _begin(self, job: PendingJob) -> None:
        job.is_ready, job.due = False, math.inf
        job.polls_under_way += 1
        poll = asyncio.create_task(self._poll(job))
        self._under_way.add(poll)
        poll.add_done_callback(partial(self._ended, job))

    def cancel(self) -> None:
        """Cancel all polls, without waiting for them."""
        for poll in self._under_way:
            poll.cancel()

    async def aclose(self) -> None:
        """Cancel all polls, and return when they have ended."""
        await cancelled(*self._under_way)

    def _ended(self, job: PendingJob, poll: asyncio.Task[None]) -> None:
        self._under_way.discard(poll)
        job.polls_under_way -= 1
        pending = self._pending
        if self._ready:
            pending.changed.set()
        bug = asyncio.CancelledError() if poll.cancelled() else poll.exception()
        if bug is None or job.outcome.done() or pending.closed:
            return
        try:
            self._count(job, Unreadable(f"The status check broke: {type(bug).__name__}."))
        except Exception:  # else it would never be polled again
            pending.time_out(job, f"could not be polled ({type(bug).__name__})")
            raise

    async def _poll(self, job: PendingJob) -> None:
        pending = self._pending
        job.polls += 1
        began = job.polled_at = pending.now()
        try:
            status = await self._status(job, began)
        except DocJobsError as error:
            self._count(job, error)
            return
        job.errors = job.refusals = 0
        job.polled_age = job.age(began)
        job.is_checked = False
        if job.doubted_at <= began:
            job.doubted_at = math.inf
            if not status.state.is_terminal:
                pending.contradict_list(job.ref.job_id)
        if job.is_listed and status.state.is_terminal:
            pending.ended_by_poll[job.ref.job_id] = pending.now()
        pending.observe(status)
        if not job.outcome.done():
            delay, is_hinted = pending.next_poll(job), job.hinted_at >= began
            pending.poll_in(job, min(delay, pending.soonest(job)) if is_hinted else delay)

    async def _status(self, job: PendingJob, began: float) -> JobStatus:
        """One status request; it may outlast the deadline of its job by a little, and no more."""
        pending = self._pending
        limit = max(0.0, job.deadline - began) + pending.limits.overrun
        try:
            with anyio.fail_after(None if limit == math.inf else limit):
                status = await pending.provider.status(pending.http, job.ref, once=True)
            is_of_the_job = status.ref.job_id == job.ref.job_id
        except DocJobsError:
            raise
        except TimeoutError:
            raise Unavailable("The service did not answer in time.") from None
        except Exception as bug:
            pending.guarded("status check", _raise, bug)
            raise Unreadable(f"The status check broke: {type(bug).__name__}.") from bug
        if not is_of_the_job:
            raise Unreadable("The service answered for another job.")
        return status

    # -- polls that fail

    def _count(self, job: PendingJob, error: DocJobsError) -> None:
        if job.outcome.done():
            return
        pending = self._pending
        now, limits, schedule = pending.now(), pending.limits, pending.schedule
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
            pending.fail(job, refusal(job, error))
        elif job.errors >= limits.failed_polls:
            pending.time_out(job, f"could not be polled {job.errors} times in a row ({error})")
        elif now >= job.deadline:
            pending.time_out(job, f"could not be polled when its time ran out ({error})")
        else:
            pending.poll_in(job, delay)

    def _is_new(self, job: PendingJob, now: float) -> bool:
        return not job.last and job.age(now) < self._pending.limits.not_found_grace


def _is_fresh(job: PendingJob, now: float) -> bool:
    """Whether the list has seen the job running just now, so that no poll is needed."""
    age = job.age(now)
    asked = job.doubted_at < math.inf or job.is_checked
    return (
        job.is_listed
        and not asked
        and age - job.seen_age <= _FRESH
        and age - job.polled_age <= _LONGEST_UNPOLLED
    )


def _on_a_tick(due: float, jobs: int) -> float:
    """A moment not long after `due`, and the same for many of them."""
    if due == math.inf:
        return due
    tick = min(max(_TOGETHER * jobs, _TOGETHER), _LONGEST_TICK)
    return max(due, math.ceil(due / tick) * tick)


def _raise(bug: Exception) -> None:
    raise bug
