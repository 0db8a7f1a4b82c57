"""The waiter: puts pending jobs, polls, the list and streams together.

A poll that fails is not a job that failed: each job may have so many failed polls in a row, and its ref is in
every error. If the loop itself ends, every pending job ends with a typed error, and so does every job that is
added later.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from typing_extensions import Self

from prefect_docjobs.cancellation import cancelled
from prefect_docjobs.http import Http
from prefect_docjobs.models import JobRef, JobStatus, Phase
from prefect_docjobs.providers.base import Provider
from prefect_docjobs.telemetry import POLLS
from prefect_docjobs.waiting.durations import Durations, Forecast, forecast
from prefect_docjobs.waiting.listing import ListPoller
from prefect_docjobs.waiting.pending import PendingJob, PendingJobs, WaitLimits, timed_out
from prefect_docjobs.waiting.polling import JobPoller
from prefect_docjobs.waiting.schedule import Schedule
from prefect_docjobs.waiting.streaming import Streams

_log = logging.getLogger(__name__)
_REFIT_EVERY = 1.0


@dataclass(eq=False)
class Waiter:
    """Waits for jobs of one provider and account. Use it as an async context manager.

    ```python
    async with Waiter(provider, http) as waiter:
        status = await waiter.done(ref)
    ```

    Args:
        provider: Reads the answers.
        http: Sends the requests.
        limits: Limits.
        durations: What jobs took in the past; a fresh memory by default.
        on_forecast: Called about once a second with when the jobs will be done.

    Attributes:
        pending: The jobs that are waited for.
    """

    provider: Provider
    http: Http
    limits: WaitLimits = field(default_factory=WaitLimits)
    durations: Durations = field(default_factory=Durations)
    on_forecast: Callable[[Forecast], None] | None = None

    async def __aenter__(self) -> Self:
        provider = self.provider
        kind = (provider.name, self.http.base_url, provider.product, provider.variant)
        schedule = Schedule(provider.polling, kind, self.durations)
        self.pending = PendingJobs(provider, self.http, self.limits, schedule)
        self.now = self.pending.now
        self._refit_at = -math.inf
        self._poller = JobPoller(self.pending)
        self._streams = Streams(self.pending)
        self._list = ListPoller(self.pending, self._stream_the_last)
        self._loop = asyncio.create_task(self._run(), name="docjobs-waiter")
        self._loop.add_done_callback(self._loop_ended)
        return self

    async def __aexit__(self, *exc: object) -> None:
        pending = self.pending
        pending.closed = pending.closed or "the waiter is closed"
        await cancelled(self._loop)
        await self._poller.aclose()
        await self._list.aclose()
        await self._streams.aclose()
        for job in pending.jobs.values():
            job.outcome.cancel()
        pending.guarded("durations", self.durations.save, pending.schedule.kind)

    @property
    def is_running(self) -> bool:
        """Whether jobs are waited for: not any more when it is closed, or its loop has ended."""
        return self.pending.closed is None

    async def done(self, ref: JobRef, *, deadline: float | None = None, age: float = 0.0) -> JobStatus:
        """Wait until a job has succeeded. The same job may be waited for many times at once.

        Args:
            ref: The job.
            deadline: On the waiter's clock; the earlier of it and the document timeout counts. Of a job
                that is waited for already, the first deadline stays.
            age: Seconds since the submit; a job that is old already is polled immediately.

        Raises:
            JobFailed, JobExpired, JobCancelled: As the service says.
            JobLost: The service does not know the job (any more).
            JobTimeout: A time limit passed, too many polls failed in a row, or the waiter has ended.
            ServiceError: The service refuses to give the status (401, 403, 400), repeatedly.
        """
        pending = self.pending
        self.provider.check_ref(self.http, ref)
        if pending.closed:
            raise timed_out(ref, f"cannot be waited for: {pending.closed}")
        with self.http.telemetry.phase(Phase.WAIT, ref.provider, ref.product, ref) as measured:
            job = pending.jobs.get(ref.job_id) or self._add(ref, deadline, age)
            job.waiting += 1
            try:
                return (await asyncio.shield(job.outcome)).of(ref)
            finally:
                job.waiting -= 1
                if not job.waiting and not job.outcome.done():
                    pending.forget(job)
                pending.guarded("telemetry", measured.note, POLLS, job.polls)

    def forecast(self, *, to_come: int = 0, each: float = 0.0) -> Forecast:
        """When the jobs that are waited for will be done.

        Args:
            to_come: Jobs that are still to be submitted.
            each: Seconds between two submits.
        """
        jobs, expected, now = self.pending.jobs, self.pending.schedule.expected, self.now()
        known = Counter((expected(job.ref.document_size), round(job.age(now))) for job in jobs.values())
        running = forecast((law, float(age), number) for (law, age), number in known.items())
        if not to_come:
            return running
        last = forecast([(expected(None), 0.0, max(1, min(to_come, len(jobs))))])
        return running.then(last, to_come, to_come * each)

    def _add(self, ref: JobRef, deadline: float | None, age: float) -> PendingJob:
        job = self.pending.add(ref, deadline, age)
        try:
            self._begin(job, age)
        except Exception as bug:
            _log.exception("%s cannot be waited for", ref)
            self.pending.forget(job)
            raise timed_out(ref, f"cannot be waited for ({type(bug).__name__})") from bug
        return job

    def _begin(self, job: PendingJob, age: float) -> None:
        pending, size = self.pending, job.ref.document_size
        delay = pending.schedule.first(size, age)
        # A push for what ended before anything listened is not repeated; a stream reports it at once. Where
        # there is a list, streams are kept for the last few jobs.
        has_stream = not self._list.is_on and self._streams.open(job)
        if has_stream or (pending.has_pushes and delay > 0.0):
            delay = pending.schedule.watchdog(size, age)
        pending.poll_in(job, delay)
        self._list.wake()

    # -- the loop

    async def _run(self) -> None:
        pending = self.pending
        while True:
            pending.changed.clear()
            self._learn()
            pending.alarm = self._poller.start_due()
            await self._sleep(pending.alarm)

    async def _sleep(self, until: float) -> None:
        """Until the next poll is due, or something makes an earlier one possible."""
        changed = self.pending.changed
        if until == math.inf:
            await changed.wait()
            return
        timer = asyncio.get_running_loop().call_at(until, changed.set)
        try:
            await changed.wait()
        finally:
            timer.cancel()

    def _loop_ended(self, loop: asyncio.Task[None]) -> None:
        """A loop that is gone ends no job: all end with an error now."""
        if self.pending.closed:
            return
        bug = None if loop.cancelled() else loop.exception()
        if bug:
            _log.error("The waiter of %s broke", self.provider.title, exc_info=bug)
        self._poller.cancel()
        self.pending.close(f"the waiter broke ({type(bug).__name__})" if bug else "the waiter was cancelled")

    def _learn(self) -> None:
        """Take in what was learned, at most once a second, as it goes through all jobs."""
        pending, now = self.pending, self.now()
        if now < self._refit_at:
            return
        self._refit_at = now + _REFIT_EVERY
        # A job runs for sure only up to the age at which it was last seen running.
        seen = (job for job in pending.jobs.values() if job.seen_age > 0.0)
        running = ((job.cohort, job.ref.document_size, job.seen_age) for job in seen)
        pending.guarded("durations", pending.schedule.refit, running, now=now)
        if (report := self.on_forecast) and pending.jobs:
            pending.guarded("forecast", lambda: report(self.forecast()))

    def _stream_the_last(self) -> None:
        """The last few jobs get streams, where the service has them; the list is for many."""
        pending = self.pending
        if len(pending.jobs) <= self.limits.streams:
            for job in list(pending.jobs.values()):
                if not job.is_streamed and self._streams.open(job):
                    pending.poll_in(job, pending.next_poll(job))
