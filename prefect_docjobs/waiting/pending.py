"""One job that somebody waits for, and how much is put up with for it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from dataclasses import dataclass

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
from prefect_docjobs.models import JobRef, JobState, JobStatus
from prefect_docjobs.waiting.schedule import LogNormal


@dataclass(frozen=True, slots=True)
class WaitLimits:
    """How much the waiter puts up with. Times in seconds.

    Attributes:
        document_timeout: For one job, counted from `done`; None for no limit.
        failed_polls: Polls that may fail in a row (no connection, 5xx, nonsense) before a job is given up.
        refusals: Refusals in a row (401, 403, 400, or 404 outside the grace) that settle a job.
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
    """One job that somebody waits for.

    Attributes:
        since: When the waiting began, on the waiter's clock.
        age_before: Seconds from the submit to `since`.
        deadline: When the wait times out.
        due: When to look next; an entry of the heap with another time is stale.
        waiting: How many callers wait.
        last: The last status seen.
        seen_age: The job's age when it was last seen running.
        polled_age: The job's age when a look last saw it.
        errors: Failed polls in a row.
        refusals: Refused polls in a row.
        polls: Polls so far.
        polls_under_way: Polls that have begun and not ended.
        asked_at: When the last look began.
        hinted_at: When somebody said without proof that the job has ended.
        covered: A stream is open for this job.
    """

    ref: JobRef
    outcome: asyncio.Future[JobStatus]
    since: float
    age_before: float
    deadline: float
    due: float = 0.0
    waiting: int = 0
    last: JobStatus | None = None
    seen_age: float = 0.0
    polled_age: float = 0.0
    errors: int = 0
    refusals: int = 0
    polls: int = 0
    polls_under_way: int = 0
    asked_at: float = -math.inf
    hinted_at: float = -math.inf
    covered: bool = False

    def age(self, now: float) -> float:
        """Seconds since the submit."""
        return self.age_before + now - self.since


@dataclass(frozen=True, slots=True)
class Forecast:
    """When the jobs that still run will be done, in seconds from now; None while too little is known.

    Attributes:
        running: Jobs that are not done, those to come included.
        likely: As likely as not, all are done by then.
        nearly_sure: With 90 % confidence, all are done by then.
    """

    running: int
    likely: float | None = None
    nearly_sure: float | None = None

    def then(self, later: Forecast, number: int, delay: float) -> Forecast:
        """With `number` more jobs, the last of which begin after `delay` seconds."""
        if None in (self.likely, later.likely):
            return Forecast(self.running + number)
        return Forecast(
            self.running + number,
            max(self.likely or 0.0, delay + (later.likely or 0.0)),
            max(self.nearly_sure or 0.0, delay + (later.nearly_sure or 0.0)),
        )

    def __str__(self) -> str:
        if self.likely is None or self.nearly_sure is None:
            return "too early to say how long"
        return f"about {self.likely:.0f} s left (90 %: {self.nearly_sure:.0f} s)"


def forecast(running: Iterable[tuple[LogNormal | None, float, int]]) -> Forecast:
    """When all of these jobs are done.

    Args:
        running: What is known of jobs like these, their age in seconds, and how many there are.
    """
    jobs = list(running)
    count = sum(number for _, _, number in jobs)
    known = [(law, age, number) for law, age, number in jobs if law is not None]
    if not jobs or len(known) < len(jobs):
        return Forecast(count)
    return Forecast(count, _until(known, 0.5), _until(known, 0.1))


def _until(jobs: list[tuple[LogNormal, float, int]], left: float) -> float:
    """Seconds until fewer than `left` jobs are expected to run."""
    early, late = 0.0, 1.0
    while _running(jobs, late) > left and late < 1e6:
        early, late = late, late * 2
    for _ in range(20):
        middle = (early + late) / 2
        early, late = (middle, late) if _running(jobs, middle) > left else (early, middle)
    return late


def _running(jobs: list[tuple[LogNormal, float, int]], seconds: float) -> float:
    return sum(number * (1.0 - law.done_between(age, age + seconds)) for law, age, number in jobs)


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
    """The typed error for a job of which the service refuses to tell."""
    if isinstance(error, NotFound):
        seen = "no longer knows" if job.last else "does not know"
        return JobLost(f"The service {seen} {job.ref}.", ref=job.ref, job_status=job.last)
    return error.about(job.ref.document_name)
