"""The loop: what is due is looked at, what is done is reported, the rest is put back.

Jobs lie in a heap, ordered by when to look at them next. A look that fails is not a job that failed: each
job has a budget of failed polls in a row, and its ref is in every error. When there are more jobs to look
at than turns, those that are most likely done come first. If the loop itself ends, every pending job ends
with a typed error, and so does every job that is added later.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import math
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from typing_extensions import Self

from prefect_docjobs.cancellation import cancelled
from prefect_docjobs.errors import DocJobsError
from prefect_docjobs.http import Http
from prefect_docjobs.models import JobRef, JobState, JobStatus, Phase
from prefect_docjobs.providers.base import Provider
from prefect_docjobs.telemetry import POLLS
from prefect_docjobs.waiting.listing import ListPoller
from prefect_docjobs.waiting.pending import Forecast, PendingJob, WaitLimits, ended, forecast, timed_out
from prefect_docjobs.waiting.polling import JobPoller
from prefect_docjobs.waiting.ready import Ready
from prefect_docjobs.waiting.schedule import Durations, Schedule
from prefect_docjobs.waiting.streaming import Streams

_log = logging.getLogger(__name__)
_REFIT_EVERY = 1.0
_LONGEST_PAUSE = 60.0
_TOGETHER = 5e-6  # seconds for each job: looks due within them begin together, as waking up costs CPU, too
_LONGEST_TICK = 0.05
_STALE = 16  # entries of the heap that may be stale, beside one for each job


@dataclass(eq=False)
class Waiter:
    """Waits for jobs of one provider and account. Use it as an async context manager.

    ```python
    async with Waiter(provider, http) as waiter:
        status = await waiter.done(ref)
    ```

    Args:
        provider: Reads the answers.
        http: Asks the service.
        limits: Limits.
        durations: What jobs took in the past; a fresh memory by default.
        on_forecast: Told about once a second when the jobs will be done.
        pushes: Somebody calls `tell` for jobs that end, so polling is only a watchdog.
    """

    provider: Provider
    http: Http
    limits: WaitLimits = field(default_factory=WaitLimits)
    durations: Durations = field(default_factory=Durations)
    on_forecast: Callable[[Forecast], None] | None = None
    pushes: bool = False

    async def __aenter__(self) -> Self:
        provider = self.provider
        kind = (provider.name, self.http.base_url, provider.product, provider.variant)
        self.schedule = Schedule(provider.polling, kind, self.durations)
        self.jobs: dict[str, PendingJob] = {}
        self._order = itertools.count()
        self._due: list[tuple[float, int, PendingJob]] = []
        self._ready = Ready(self.schedule, self.limits.overrun)
        self._news = asyncio.Event()
        self._alarm = math.inf
        self._refit_at = -math.inf
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time
        self._over: str | None = None  # why no job is waited for any more
        self._logged: set[str] = set()
        self._poller = JobPoller(self)
        self.streams = Streams(self)
        self.sweeps = ListPoller(self)
        self._rounds = asyncio.create_task(self._run(), name="docjobs-waiter")
        self._rounds.add_done_callback(self._loop_ended)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._over = self._over or "the waiter is closed"
        await cancelled(self._rounds)
        await self._poller.aclose()
        await self.sweeps.aclose()
        await self.streams.aclose()
        for job in self.jobs.values():
            job.outcome.cancel()
        self.guarded("durations", self.durations.close, self.schedule.kind)

    @property
    def is_running(self) -> bool:
        """Whether jobs are waited for: not any more when it is closed, or its loop has ended."""
        return self._over is None

    # -- what callers use

    async def done(self, ref: JobRef, *, deadline: float | None = None, age: float = 0.0) -> JobStatus:
        """Wait until a job has succeeded. The same job may be waited for many times at once.

        Args:
            ref: The job.
            deadline: On the waiter's clock; the earlier of it and the document timeout counts. Of a job
                that is waited for already, the first deadline stays.
            age: Seconds since the submit; a job that is old already is looked at immediately.

        Raises:
            JobFailed, JobExpired, JobCancelled: As the service says.
            JobLost: The service does not know the job (any more).
            JobTimeout: A time limit passed, too many polls failed in a row, or the waiter has ended.
            ServiceError: The service refuses to tell (401, 403, 400), repeatedly.
        """
        self.provider.check_ref(self.http, ref)
        if self._over:
            raise timed_out(ref, f"cannot be waited for: {self._over}")
        with self.http.telemetry.phase(Phase.WAIT, ref.provider, ref.product, ref) as told:
            job = self.jobs.get(ref.job_id) or self._add(ref, deadline, age)
            job.waiting += 1
            try:
                return (await asyncio.shield(job.outcome)).of(ref)
            finally:
                job.waiting -= 1
                if not job.waiting and not job.outcome.done():
                    self._forget(job)
                self.guarded("telemetry", told.note, POLLS, job.polls)

    def tell(self, status: JobStatus) -> None:
        """Take an observation that came from elsewhere, such as a push; of a job that is waited for."""
        job = self.jobs.get(status.ref.job_id)
        if job is not None:
            job.seen_age = job.age(self.now())  # it ran until now
            self.observed(job, status)

    def hint(self, job_id: str) -> None:
        """Somebody says without proof that a job has ended: look, if not at once then as soon as allowed.

        However many hints come, a job is looked at no oftener than the service's minimum interval says, and
        failed polls are repeated no sooner.
        """
        job = self.jobs.get(job_id)
        if job is None or job.errors or job.refusals:
            return
        job.hinted_at = self.now()
        delay = self.soonest(job)
        if not job.polls_under_way and job.hinted_at + delay < job.due:
            self.put(job, delay)

    def soonest(self, job: PendingJob) -> float:
        """Seconds until the service allows the next look at a job."""
        return max(0.0, job.asked_at + self.schedule.polling.at_least - self.now())

    def expect_pushes(self, expected: bool) -> None:
        """Look as a watchdog only, for somebody calls `tell` when jobs end; or look for oneself again."""
        if expected is not self.pushes:
            self.pushes = expected
            for job in self.jobs.values():
                self.put(job, self.next_poll(job))

    def contradicted(self) -> None:
        """Note that a job still runs although it was reported as done."""
        self.sweeps.contradicted()

    def forecast(self, *, to_come: int = 0, each: float = 0.0) -> Forecast:
        """When the jobs that are waited for will be done.

        Args:
            to_come: Jobs that are still to be submitted.
            each: Seconds between two submits.
        """
        now, expected = self.now(), self.schedule.expected
        jobs = Counter((expected(w.ref.document_size), round(w.age(now))) for w in self.jobs.values())
        running = forecast((law, float(age), number) for (law, age), number in jobs.items())
        if not to_come:
            return running
        last = forecast([(expected(None), 0.0, max(1, min(to_come, len(self.jobs))))])
        return running.then(last, to_come, to_come * each)

    # -- the loop

    async def _run(self) -> None:
        while True:
            self._news.clear()
            self._learn()
            self._alarm = self._start_polls()
            await self._wait_for_news()

    def _loop_ended(self, rounds: asyncio.Task[None]) -> None:
        """Nobody waits for a loop that is gone."""
        if self._over:
            return
        bug = None if rounds.cancelled() else rounds.exception()
        self._over = f"the waiter broke ({type(bug).__name__})" if bug else "the waiter was cancelled"
        if bug:
            _log.error("The waiter of %s broke", self.provider.title, exc_info=bug)
        self._poller.cancel()
        for job in list(self.jobs.values()):
            with suppress(Exception):  # its end is set before anything else is told
                self.time_out(job, f"is not waited for any more, for {self._over},")

    def guarded(self, what: str, call: Callable[..., object], *args: object, **more: object) -> None:
        """Call what must not cost a job; that it breaks is logged once."""
        try:
            call(*args, **more)
        except Exception:  # noqa: BLE001 (whatever it is, the waiting goes on)
            if what not in self._logged:
                self._logged.add(what)
                _log.exception("%s of %s: broke while jobs are waited for", what, self.provider.title)

    async def _wait_for_news(self) -> None:
        """Until the next look is due, or something makes an earlier one possible."""
        if self._alarm == math.inf:
            await self._news.wait()
            return
        timer = self._loop.call_at(self._alarm, self._news.set)
        try:
            await self._news.wait()
        finally:
            timer.cancel()

    def _learn(self) -> None:
        """Take in what was learned, at most once a second: it costs a look at every job."""
        now = self.now()
        if now < self._refit_at:
            return
        self._refit_at = now + _REFIT_EVERY
        # A job runs for sure only up to the age at which it was last seen running.
        seen = ((job.ref.document_size, job.seen_age) for job in self.jobs.values())
        self.guarded("durations", self.schedule.refit, ((size, age) for size, age in seen if age > 0.0))
        if (told := self.on_forecast) and self.jobs:
            self.guarded("forecast", lambda: told(self.forecast()))

    def _start_polls(self) -> float:
        """Start what is due, within the gate and the account's rate limit; return when to come back."""
        now = self.now()
        while self._due and self._due[0][0] <= now:
            due, _, job = heapq.heappop(self._due)
            if job.due == due and not job.outcome.done():
                self._is_due(job, now)
        for job in self._ready.expired(now):
            self.time_out(job, "could not be looked at when its time ran out (no turn was free)")
        limiter = self.http.limiter("status")
        come_back = self._on_a_tick(self._due[0][0]) if self._due else math.inf
        while len(self._poller) < self.limits.polls and self._ready.has_due(now):
            if (wait := limiter.take()) > 0:  # other loops may take turns of this account, too
                return min(now + wait, self._ready.next_expiry, come_back)
            self._poller.begin(self._ready.take(now, scarce=limiter.rate < math.inf))
        if self._ready:  # the end of a look is news
            return min(self._ready.next_expiry, come_back)
        return come_back

    def _on_a_tick(self, due: float) -> float:
        """A moment not long after `due`, and the same for many of them."""
        tick = min(max(_TOGETHER * len(self.jobs), _TOGETHER), _LONGEST_TICK)
        return max(due, math.ceil(due / tick) * tick)

    def _is_due(self, job: PendingJob, now: float) -> None:
        sweeps = self.sweeps
        if sweeps.is_on and now < job.deadline and (spared := sweeps.spares(job, now)) > 0.0:
            self.put(job, spared)
        else:
            self._ready.add(job, now)

    def _add(self, ref: JobRef, deadline: float | None, age: float) -> PendingJob:
        now = self.now()
        limit = self.limits.document_timeout
        ends = min(math.inf if limit is None else now + limit, math.inf if deadline is None else deadline)
        outcome: asyncio.Future[JobStatus] = asyncio.get_running_loop().create_future()
        # Nobody may be left to take the exception of a job whose waiters were cancelled.
        outcome.add_done_callback(lambda settled: settled.cancelled() or settled.exception())
        job = PendingJob(ref, outcome, since=now, age_before=age, deadline=ends)
        self.jobs[ref.job_id] = job
        try:
            self._begin(job, age)
        except Exception as bug:
            _log.exception("%s cannot be waited for", ref)
            self._forget(job)
            raise timed_out(ref, f"cannot be waited for ({type(bug).__name__})") from bug
        return job

    def _begin(self, job: PendingJob, age: float) -> None:
        ref = job.ref
        delay = self.schedule.first(ref.document_size, age)
        # What ended before anybody listened is not told again; a stream tells it at once. Where there
        # is a list, streams are kept for the last few jobs.
        listening = not self.sweeps.is_on and self.streams.take(job)
        if listening or (self.pushes and delay > 0.0):
            delay = self.schedule.watchdog(ref.document_size, age)
        self.put(job, delay)
        self.sweeps.wake()

    def put(self, job: PendingJob, delay: float) -> None:
        """Look again after `delay` seconds, and in any case at the deadline."""
        job.due = min(self.now() + delay, job.deadline)
        heapq.heappush(self._due, (job.due, next(self._order), job))
        if len(self._due) > 2 * len(self.jobs) + _STALE:  # most of them are of jobs that have ended
            self._due = [due for due in self._due if due[2].due == due[0] and not due[2].outcome.done()]
            heapq.heapify(self._due)
        if job.due < self._alarm:
            self._news.set()

    def poll_ended(self) -> None:
        """A look has ended: there is room for another."""
        if self._ready:
            self._news.set()

    @property
    def polls_wait(self) -> bool:
        """Whether jobs are due and have not had their turn yet."""
        return bool(self._ready)

    # -- what is seen

    def observed(self, job: PendingJob, status: JobStatus) -> None:
        """Take an observation of a job, from wherever; an end is reported."""
        if job.outcome.done():
            return
        if status.state.is_terminal:
            self._settle(job, status)
            return
        if status.state is JobState.UNKNOWN and (not job.last or job.last.raw_state != status.raw_state):
            _log.warning("%s: unknown state %r; waiting on.", job.ref, status.raw_state)
        now = self.now()
        job.last, job.seen_age = status, job.age(now)
        if now >= job.deadline:
            self.time_out(job, f"is still {status.raw_state or status.state}")

    def next_poll(self, job: PendingJob) -> float:
        """Seconds until the next look at a job that still runs."""
        size, age = job.ref.document_size, job.age(self.now())
        others = self.pushes or job.covered or self.sweeps.covers(job)
        return self.schedule.watchdog(size, age) if others else self.schedule.next(size, age)

    # -- the end of a job

    def _settle(self, job: PendingJob, status: JobStatus) -> None:
        if status.state is not JobState.SUCCEEDED:
            self.fail(job, ended(status))
            return
        job.outcome.set_result(status)  # before anything is noted: that may break
        size, age, took = job.ref.document_size, job.age(self.now()), status.took
        seen = None if took else job.seen_age
        self.guarded("durations", self.schedule.learn, size, took or age, running_at=seen)
        self.guarded("telemetry", self.http.telemetry.job_done, status.ref, age=age, took=took)
        self._forget(job)

    def time_out(self, job: PendingJob, why: str) -> None:
        """Stop waiting for a job, which may still be running."""
        ref = job.last.ref if job.last else job.ref
        why = f"{why} after {self.now() - job.since:.0f} s"
        self.fail(job, timed_out(ref, why, job.last))

    def fail(self, job: PendingJob, error: DocJobsError) -> None:
        """End a wait with a typed error."""
        if not job.outcome.done():
            job.outcome.set_exception(error)
        self._forget(job)

    def _forget(self, job: PendingJob) -> None:
        """Drop a job; its entry in the heap is passed over when it comes up."""
        if self.jobs.get(job.ref.job_id) is job:
            del self.jobs[job.ref.job_id]
        self.streams.drop(job)
        self.sweeps.drop(job)
        if not job.waiting and not job.outcome.done():
            job.outcome.cancel()
