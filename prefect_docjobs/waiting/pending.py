"""The jobs that are waited for: when each is polled next, what was observed of it, and how it ends.

Polls, the list, streams and pushes call `PendingJobs.observe`. They know this module, and not each other.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from prefect_docjobs.errors import (
    DocJobsError,
    JobCancelled,
    JobError,
    JobExpired,
    JobFailed,
    JobLost,
    JobTimeout,
    NotFound,
)
from prefect_docjobs.http import Http
from prefect_docjobs.models import JobRef, JobState, JobStatus
from prefect_docjobs.providers.base import Provider
from prefect_docjobs.waiting.schedule import Schedule

_log = logging.getLogger(__name__)
_STALE = 16  # entries of the heap that may be stale, beside one for each job
_KEPT = 10_000  # entries
_CONTRADICTIONS = 2  # of one account's list, after which it is not read any more

_contradictions = Counter[tuple[str, str, str]]()
"""By provider, base URL and tenant: how often, in this process, the list was wrong about a job."""


_K = TypeVar("_K")
_V = TypeVar("_V")


class Recent(OrderedDict[_K, _V], Generic[_K, _V]):
    """The newest entries only, 10,000 of them."""

    def __setitem__(self, key: _K, value: _V) -> None:
        super().__setitem__(key, value)
        while len(self) > _KEPT:
            self.popitem(last=False)


@dataclass(frozen=True, slots=True)
class WaitLimits:
    """Limits of a waiter. Times in seconds.

    Attributes:
        document_timeout: For one job, counted from `done`; None for no limit.
        failed_polls: Polls that may fail in a row (no connection, 5xx, nonsense) before a job times out.
        refusals: Refusals in a row (401, 403, 400, or 404 outside the grace) that end the wait for a job.
        not_found_grace: A new job may be unknown to the service for so long.
        overrun: A poll that is under way at the deadline may take so much longer.
        polls: Polls at the same time.
        streams: Open streams at the same time, where the service has them.
    """

    document_timeout: float | None = 3600.0
    failed_polls: int = 12
    refusals: int = 3
    not_found_grace: float = 30.0
    overrun: float = 1.0
    polls: int = 16
    streams: int = 8


@dataclass(eq=False, slots=True)
class PendingJob:
    """One job that is waited for. Times are on the waiter's clock, ages in seconds since the submit.

    Attributes:
        since: When the waiting began.
        age_before: The age at `since`.
        deadline: When the wait times out.
        cohort: Of the schedule.
        due: When it is polled next; an entry of the heap with another time is stale.
        is_ready: It is due, and waits for its turn to be polled.
        waiting: How many callers wait.
        last: The last status seen.
        seen_age: The age when it was last seen running.
        polled_age: The age when a poll last saw it.
        errors: Failed polls in a row.
        refusals: Refused polls in a row.
        polls: Polls so far.
        polls_under_way: Polls that have begun and not ended.
        polled_at: When the last poll began.
        hinted_at: When a hint said that the job may have ended.
        doubted_at: When the list said that it has ended, which a poll is to confirm.
        is_streamed: A stream is open for this job.
        is_listed: The list reports this job.
        is_checked: It is polled to check a list that reports no ends.
    """

    ref: JobRef
    outcome: asyncio.Future[JobStatus]
    since: float
    age_before: float
    deadline: float
    cohort: int
    due: float = 0.0
    is_ready: bool = False
    waiting: int = 0
    last: JobStatus | None = None
    seen_age: float = 0.0
    polled_age: float = 0.0
    errors: int = 0
    refusals: int = 0
    polls: int = 0
    polls_under_way: int = 0
    polled_at: float = -math.inf
    hinted_at: float = -math.inf
    doubted_at: float = math.inf
    is_streamed: bool = False
    is_listed: bool = False
    is_checked: bool = False

    def age(self, now: float) -> float:
        """Seconds since the submit."""
        return self.age_before + now - self.since


class PendingJobs:
    """The jobs of one provider and account that are waited for. It belongs to one event loop.

    Attributes:
        jobs: By job id.
        has_pushes: Pushes report the ends of jobs, so polls are a watchdog only.
        closed: Why no job is waited for any more; None while jobs are.
        changed: Set when something may have to be done before `alarm`.
        alarm: When the loop wakes up by itself.
        on_end: Called with each job that is not waited for any more.
        ended_by_poll: Ids of jobs of the list that a poll saw to have ended, and when.
    """

    def __init__(self, provider: Provider, http: Http, limits: WaitLimits, schedule: Schedule) -> None:
        self.provider = provider
        self.http = http
        self.limits = limits
        self.schedule = schedule
        self.now = asyncio.get_running_loop().time
        self.jobs: dict[str, PendingJob] = {}
        self.has_pushes = False
        self.closed: str | None = None
        self.changed = asyncio.Event()
        self.alarm = math.inf
        self.on_end: list[Callable[[PendingJob], None]] = []
        self.ended_by_poll: dict[str, float] = {}
        self._due: list[tuple[float, int, PendingJob]] = []
        self._order = itertools.count()
        self._logged: set[str] = set()
        self._ended_by_list: Recent[str, None] = Recent()
        self._wrong_in_list: set[str] = set()

    def guarded(self, what: str, call: Callable[..., object], *args: object, **more: object) -> None:
        """Call what must not cost a job; that it breaks is logged once."""
        try:
            call(*args, **more)
        except Exception:  # noqa: BLE001 (whatever it is, the waiting goes on)
            if what not in self._logged:
                self._logged.add(what)
                _log.exception("%s of %s: broke while jobs are waited for", what, self.provider.title)

    # -- when a job is polled

    def add(self, ref: JobRef, deadline: float | None, age: float) -> PendingJob:
        """Wait for a job from now on; it is polled once `poll_in` says when."""
        now, limit = self.now(), self.limits.document_timeout
        ends = min(math.inf if limit is None else now + limit, math.inf if deadline is None else deadline)
        outcome: asyncio.Future[JobStatus] = asyncio.get_running_loop().create_future()
        # All callers may be cancelled before they take the exception.
        outcome.add_done_callback(lambda settled: settled.cancelled() or settled.exception())
        job = PendingJob(ref, outcome, since=now, age_before=age, deadline=ends, cohort=self.schedule.begin())
        self.jobs[ref.job_id] = job
        return job

    def poll_in(self, job: PendingJob, delay: float) -> None:
        """Poll after `delay` seconds, and in any case at the deadline."""
        self._schedule(job, min(self.now() + delay, job.deadline))
        job.is_ready = False

    def wait_for_turn(self, job: PendingJob) -> None:
        """A job is due. It has its turn even if it is late, but not any time later."""
        self._schedule(job, max(job.deadline, self.now()) + self.limits.overrun)
        job.is_ready = True

    def _schedule(self, job: PendingJob, due: float) -> None:
        job.due = due
        if due < math.inf:
            heapq.heappush(self._due, (due, next(self._order), job))
        if len(self._due) > 2 * len(self.jobs) + _STALE:  # most of them are of jobs that have ended
            self._due = [entry for entry in self._due if self._counts(entry)]
            heapq.heapify(self._due)
        if due < self.alarm:
            self.changed.set()

    @staticmethod
    def _counts(entry: tuple[float, int, PendingJob]) -> bool:
        due, _, job = entry
        return job.due == due and not job.outcome.done()

    def pop_due(self, now: float) -> Iterator[PendingJob]:
        """Jobs that are due for a poll; those that are ready have waited too long for their turn."""
        while self._due and self._due[0][0] <= now:
            if self._counts(entry := heapq.heappop(self._due)):
                yield entry[2]

    @property
    def next_due(self) -> float:
        """When the next job is due; infinite for none."""
        while self._due and not self._counts(self._due[0]):
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else math.inf

    def next_poll(self, job: PendingJob) -> float:
        """Seconds until the next poll of a job that still runs."""
        size, age = job.ref.document_size, job.age(self.now())
        is_watchdog = self.has_pushes or job.is_streamed or job.is_listed
        return self.schedule.watchdog(size, age) if is_watchdog else self.schedule.next(size, age)

    def soonest(self, job: PendingJob) -> float:
        """Seconds until the service allows the next poll of a job."""
        return max(0.0, job.polled_at + self.schedule.polling.at_least - self.now())

    def hint(self, job_id: str) -> None:
        """A job may have ended, by an unproved message: poll it, if not at once then as soon as allowed.

        However many hints come, a job is polled no more often than the service's minimum interval allows,
        and failed polls are repeated no sooner.
        """
        job = self.jobs.get(job_id)
        if job is None or job.errors or job.refusals:
            return
        job.hinted_at = self.now()
        delay = self.soonest(job)
        if not job.polls_under_way and not job.is_ready and job.hinted_at + delay < job.due:
            self.poll_in(job, delay)

    def expect_pushes(self, expected: bool) -> None:
        """Poll as a watchdog only, because pushes report ends; or poll as the schedule says again."""
        if expected is not self.has_pushes:
            self.has_pushes = expected
            for job in self.jobs.values():
                self.poll_in(job, self.next_poll(job))

    # -- what is observed

    def observe(self, status: JobStatus) -> None:
        """Take an observation of a job, from wherever; an end is reported to the callers."""
        job = self.jobs.get(status.ref.job_id)
        if job is None or job.outcome.done():
            return
        if status.state.is_terminal:
            self._end(job, status)
            return
        if status.state is JobState.UNKNOWN and (not job.last or job.last.raw_state != status.raw_state):
            _log.warning("%s: unknown state %r; waiting on.", job.ref, status.raw_state)
        now = self.now()
        job.last, job.seen_age = status, job.age(now)
        if now >= job.deadline:
            self.time_out(job, f"is still {status.raw_state or status.state}")

    def observe_live(self, status: JobStatus) -> None:
        """Take an observation that was made as it happened, by a push or a stream."""
        if job := self.jobs.get(status.ref.job_id):
            job.seen_age = job.age(self.now())  # it ran until now
            self.observe(status)

    def observe_in_list(self, job: PendingJob, status: JobStatus) -> None:
        """Take an observation that the list made. Only a success is believed; a poll asks for other ends."""
        job_id = job.ref.job_id
        if not status.state.is_terminal:
            self.observe(status)
        elif status.state is JobState.SUCCEEDED and job_id not in self._wrong_in_list:
            self._ended_by_list[job_id] = None
            self.observe(status)
        elif job.doubted_at == math.inf:
            job.doubted_at = self.now()
            self.poll_in(job, self.soonest(job))

    def is_unfinished(self, ref: JobRef) -> None:
        """Note that the service has no result yet of a job that was reported as succeeded."""
        if ref.job_id in self._ended_by_list:
            del self._ended_by_list[ref.job_id]
            self.contradict_list(ref.job_id)

    def contradict_list(self, job_id: str) -> None:
        """Note that the list was wrong about a job; it counts once."""
        if job_id not in self._wrong_in_list:
            self._wrong_in_list.add(job_id)
            _contradictions[self._account] += 1

    @property
    def list_is_believed(self) -> bool:
        """Whether the account's list may be read."""
        return _contradictions[self._account] < _CONTRADICTIONS

    @property
    def _account(self) -> tuple[str, str, str]:
        return self.provider.name, self.http.base_url, self.http.tenant

    # -- the end of a job

    def _end(self, job: PendingJob, status: JobStatus) -> None:
        if status.state is not JobState.SUCCEEDED:
            self.fail(job, ended(status))
            return
        job.outcome.set_result(status)  # before anything is noted: that may break
        size, age, took = job.ref.document_size, job.age(self.now()), status.took
        learned = {"cohort": job.cohort, "running_at": None if took else job.seen_age}
        self.guarded("durations", self.schedule.learn, size, took or age, **learned)
        self.guarded("telemetry", self.http.telemetry.job_done, status.ref, age=age, took=took)
        self.forget(job)

    def time_out(self, job: PendingJob, why: str) -> None:
        """Stop waiting for a job, which may still be running."""
        ref = job.last.ref if job.last else job.ref
        self.fail(job, timed_out(ref, f"{why} after {self.now() - job.since:.0f} s", job.last))

    def fail(self, job: PendingJob, error: DocJobsError) -> None:
        """End a wait with a typed error."""
        if not job.outcome.done():
            job.outcome.set_exception(error)
        self.forget(job)

    def forget(self, job: PendingJob) -> None:
        """Drop a job; its entry in the heap is passed over when it comes up."""
        if self.jobs.get(job.ref.job_id) is job:
            del self.jobs[job.ref.job_id]
        job.is_ready = False
        for note in self.on_end:
            note(job)
        if not job.waiting and not job.outcome.done():
            job.outcome.cancel()

    def close(self, why: str) -> None:
        """End all waits: each job ends with a typed error that names its ref."""
        self.closed = why
        for job in list(self.jobs.values()):
            with suppress(Exception):  # its end is set before anything else is done
                self.time_out(job, f"is not waited for any more, for {why},")


def ended(status: JobStatus) -> JobError:
    """The typed error for a job that ended without a result."""
    if status.error:
        said = str(status.error)
    else:
        said = f"The service says {status.raw_state!r} and gives no reason."
    kind: type[JobError] = JobFailed
    if status.state is JobState.CANCELLED:
        kind = JobCancelled
    elif status.expired:
        kind = JobExpired
    return kind(said, ref=status.ref, job_status=status)


def timed_out(ref: JobRef, why: str, last: JobStatus | None = None) -> JobTimeout:
    """The typed error for a job that is not waited for any more; `why` goes on after its name."""
    message = f"{ref} {why}. The job may still be running: wait for the same ref again."
    return JobTimeout(message, ref=ref, job_status=last)


def refusal(job: PendingJob, error: DocJobsError) -> DocJobsError:
    """The typed error for a job of which the service refuses to give the status."""
    if isinstance(error, NotFound):
        seen = "no longer knows" if job.last else "does not know"
        return JobLost(f"The service {seen} {job.ref}.", ref=job.ref, job_status=job.last)
    return error.about(job.ref.document_name)
