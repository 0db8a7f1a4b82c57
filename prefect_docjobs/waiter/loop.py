"""The loop: what is due is looked at, what is done is reported, the rest is put back.

Jobs lie in a heap, ordered by when to look at them next. A look that fails is not a job that failed: each
job has a budget of failed looks in a row, and its ref is in every error. When there are more jobs to look
at than turns, those that are most likely done come first.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import anyio
from typing_extensions import Self

from prefect_docjobs.cancellation import cancelled
from prefect_docjobs.errors import (
    DocJobsError,
    ForeignOrigin,
    JobLost,
    JobTimeout,
    NotFound,
    Throttled,
    Unavailable,
    Unreadable,
)
from prefect_docjobs.http import Http
from prefect_docjobs.models import JobRef, JobState, JobStatus, Phase
from prefect_docjobs.providers.base import Provider
from prefect_docjobs.schedule import Durations, Schedule
from prefect_docjobs.telemetry.names import POLLS
from prefect_docjobs.waiter.ready import Ready
from prefect_docjobs.waiter.streams import Streams
from prefect_docjobs.waiter.sweeps import Sweeps
from prefect_docjobs.waiter.watch import Forecast, Patience, Watch, ended, forecast

_log = logging.getLogger(__name__)
_REFIT_EVERY = 1.0
_LONGEST_PAUSE = 60.0
_TOGETHER = 5e-6  # seconds for each job: looks due within them begin together, as waking up costs CPU, too
_LONGEST_TICK = 0.05


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
        patience: Limits.
        durations: What jobs took in the past; a fresh memory by default.
        on_forecast: Told about once a second when the jobs will be done.
        pushes: Somebody calls `tell` for jobs that end, so looking is only a watchdog.
    """

    provider: Provider
    http: Http
    patience: Patience = field(default_factory=Patience)
    durations: Durations = field(default_factory=Durations)
    on_forecast: Callable[[Forecast], None] | None = None
    pushes: bool = False

    async def __aenter__(self) -> Self:
        provider = self.provider
        kind = (provider.name, self.http.base_url, provider.product, provider.variant)
        self.schedule = Schedule(provider.polling, kind, self.durations)
        self.watches: dict[str, Watch] = {}
        self._order = itertools.count()
        self._due: list[tuple[float, int, Watch]] = []
        self._ready = Ready(self.schedule, self.patience.overrun)
        self._looks: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._alarm = math.inf
        self._refit_at = -math.inf
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time
        self._rounds = asyncio.create_task(self._run(), name="docjobs-waiter")
        self.streams = Streams(self)
        self.sweeps = Sweeps(self)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await cancelled(self._rounds, *self._looks)
        await self.sweeps.aclose()
        await self.streams.aclose()
        for watch in self.watches.values():
            watch.outcome.cancel()
        self.durations.close(self.schedule.kind)

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
            JobTimeout: A time limit passed, or too many looks failed in a row.
            ServiceError: The service refuses to tell (401, 403, 400), repeatedly.
        """
        self.provider.claim(self.http, ref)
        with self.http.telemetry.phase(Phase.WAIT, ref.provider, ref.product, ref) as told:
            watch = self.watches.get(ref.job_id) or self._add(ref, deadline, age)
            watch.waiting += 1
            try:
                return (await asyncio.shield(watch.outcome)).of(ref)
            finally:
                told.note(POLLS, watch.looks)
                watch.waiting -= 1
                if not watch.waiting and not watch.outcome.done():
                    self._forget(watch)

    def tell(self, status: JobStatus) -> None:
        """Take an observation that came from elsewhere, such as a push; of a job that is waited for."""
        watch = self.watches.get(status.ref.job_id)
        if watch is not None:
            watch.seen_age = watch.age(self.now())  # it ran until now
            self.observed(watch, status)

    def expect_pushes(self, expected: bool) -> None:
        """Look as a watchdog only, for somebody calls `tell` when jobs end; or look for oneself again."""
        if expected is not self.pushes:
            self.pushes = expected
            for watch in self.watches.values():
                self.put(watch, self.next_look(watch))

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
        jobs = Counter((expected(w.ref.document_size), round(w.age(now))) for w in self.watches.values())
        running = forecast((law, float(age), number) for (law, age), number in jobs.items())
        if not to_come:
            return running
        last = forecast([(expected(None), 0.0, max(1, min(to_come, len(self.watches))))])
        return running.then(last, to_come, to_come * each)

    # -- the loop

    async def _run(self) -> None:
        while True:
            self._news.clear()
            self._learn()
            self._alarm = self._start_looks()
            await self._wait_for_news()

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
        seen = ((watch.ref.document_size, watch.seen_age) for watch in self.watches.values())
        self.schedule.refit((size, age) for size, age in seen if age > 0.0)
        if self.on_forecast and self.watches:
            self.on_forecast(self.forecast())

    def _start_looks(self) -> float:
        """Start what is due, within the gate and the account's pace; return when to come back."""
        now = self.now()
        while self._due and self._due[0][0] <= now:
            due, _, watch = heapq.heappop(self._due)
            if watch.due == due and not watch.outcome.done():
                self._is_due(watch, now)
        for watch in self._ready.expired(now):
            self._time_out(watch, "could not be looked at when its time ran out (no turn was free)")
        pace = self.http.pace("status")
        while self._ready and len(self._looks) < self.patience.looks:
            if (wait := pace.wait()) > 0:
                return min(now + wait, self._ready.next_expiry)
            chosen = self._ready.take(now, scarce=pace.rate < math.inf)
            if chosen is not None:
                pace.take()
                self._look_at(chosen)
        if self._ready:  # the end of a look is news
            return self._ready.next_expiry
        return self._on_a_tick(self._due[0][0]) if self._due else math.inf

    def _on_a_tick(self, due: float) -> float:
        """A moment not long after `due`, and the same for many of them."""
        tick = min(max(_TOGETHER * len(self.watches), _TOGETHER), _LONGEST_TICK)
        return max(due, math.ceil(due / tick) * tick)

    def _is_due(self, watch: Watch, now: float) -> None:
        sweeps = self.sweeps
        if sweeps.is_on and now < watch.deadline and (spared := sweeps.spares(watch, now)) > 0.0:
            self.put(watch, spared)
        else:
            self._ready.add(watch, now)

    def _look_at(self, watch: Watch) -> None:
        look = asyncio.create_task(self._look(watch))
        self._looks.add(look)
        look.add_done_callback(partial(self._look_ended, watch))

    def _look_ended(self, watch: Watch, look: asyncio.Task[None]) -> None:
        self._looks.discard(look)
        if self._ready:
            self._news.set()
        if not look.cancelled() and (bug := look.exception()):
            self._fail(watch, bug)  # not ours to hide, and nobody may wait for ever because of it

    def _add(self, ref: JobRef, deadline: float | None, age: float) -> Watch:
        now = self.now()
        limit = self.patience.document_timeout
        ends = min(math.inf if limit is None else now + limit, math.inf if deadline is None else deadline)
        outcome: asyncio.Future[JobStatus] = asyncio.get_running_loop().create_future()
        # Nobody may be left to take the exception of a job whose waiters were cancelled.
        outcome.add_done_callback(lambda settled: settled.cancelled() or settled.exception())
        watch = Watch(ref, outcome, since=now, age_before=age, deadline=ends)
        self.watches[ref.job_id] = watch
        delay = self.schedule.first(ref.document_size, age)
        # What ended before anybody listened is not told again; a stream tells it at once. Where there
        # is a list, streams are kept for the last few jobs.
        listening = not self.sweeps.is_on and self.streams.take(watch)
        if listening or (self.pushes and delay > 0.0):
            delay = self.schedule.watchdog(ref.document_size, age)
        self.put(watch, delay)
        self.sweeps.wake()
        return watch

    def put(self, watch: Watch, delay: float) -> None:
        """Look again after `delay` seconds, and in any case at the deadline."""
        watch.due = min(self.now() + delay, watch.deadline)
        heapq.heappush(self._due, (watch.due, next(self._order), watch))
        if watch.due < self._alarm:
            self._news.set()

    @property
    def looks_wait(self) -> bool:
        """Whether jobs are due and have not had their turn yet."""
        return bool(self._ready)

    # -- one look

    async def _look(self, watch: Watch) -> None:
        watch.looks += 1
        asked_at = self.now()
        try:
            status = await self._status(watch, asked_at)
        except DocJobsError as error:
            self._count_error(watch, error)
            return
        watch.errors = watch.refusals = 0
        watch.looked_age = watch.age(asked_at)
        self.sweeps.checked(watch, status, asked_at)
        self.observed(watch, status)
        if not watch.outcome.done():
            self.put(watch, self.next_look(watch))

    async def _status(self, watch: Watch, asked_at: float) -> JobStatus:
        """One status request; it may outlast the deadline of its job by a little, and no more."""
        asking = self.provider.status(self.http, watch.ref, once=True)
        if watch.deadline == math.inf:
            status = await asking
        else:
            try:
                with anyio.fail_after(max(0.0, watch.deadline - asked_at) + self.patience.overrun):
                    status = await asking
            except TimeoutError:
                raise Unavailable("The service did not answer in time.") from None
        if status.ref.job_id != watch.ref.job_id:
            raise Unreadable("The service answered for another job.")
        return status

    def observed(self, watch: Watch, status: JobStatus) -> None:
        """Take an observation of a job, from wherever; an end is reported."""
        if watch.outcome.done():
            return
        if status.state.is_terminal:
            self._settle(watch, status)
            return
        if status.state is JobState.UNKNOWN and (not watch.last or watch.last.raw_state != status.raw_state):
            _log.warning("%s: unknown state %r; waiting on.", watch.ref, status.raw_state)
        now = self.now()
        watch.last, watch.seen_age = status, watch.age(now)
        if now >= watch.deadline:
            self._time_out(watch, f"is still {status.raw_state or status.state}")

    def next_look(self, watch: Watch) -> float:
        """Seconds until the next look at a job that still runs."""
        size, age = watch.ref.document_size, watch.age(self.now())
        others = self.pushes or watch.covered or self.sweeps.covers(watch)
        return self.schedule.watchdog(size, age) if others else self.schedule.next(size, age)

    def _count_error(self, watch: Watch, error: DocJobsError) -> None:
        if watch.outcome.done():
            return
        now, patience = self.now(), self.patience
        delay = self.schedule.next(watch.ref.document_size, watch.age(now))
        if isinstance(error, Throttled):
            # The pace holds everybody back; a day is no reason to forget a job until its deadline.
            delay = max(min(error.retry_after or 0.0, _LONGEST_PAUSE), delay)
        elif isinstance(error, (Unavailable, Unreadable)) and not isinstance(error, ForeignOrigin):
            watch.errors += 1
            delay = self.schedule.after_errors(watch.ref.document_size, watch.age(now), watch.errors)
        elif not (isinstance(error, NotFound) and self._is_new(watch, now)):
            watch.refusals += 1
        if watch.refusals >= patience.refusals:
            self._fail(watch, self._refusal(watch, error))
        elif watch.errors >= patience.failed_looks:
            self._time_out(watch, f"could not be looked at {watch.errors} times in a row ({error})")
        elif now >= watch.deadline:
            self._time_out(watch, f"could not be looked at when its time ran out ({error})")
        else:
            self.put(watch, delay)

    def _is_new(self, watch: Watch, now: float) -> bool:
        return not watch.last and watch.age(now) < self.patience.not_found_grace

    def _refusal(self, watch: Watch, error: DocJobsError) -> DocJobsError:
        if isinstance(error, NotFound):
            seen = "no longer knows" if watch.last else "does not know"
            return JobLost(f"The service {seen} {watch.ref}.", ref=watch.ref, job_status=watch.last)
        return error.about(watch.ref.document_name)

    # -- the end of a watch

    def _settle(self, watch: Watch, status: JobStatus) -> None:
        if status.state is not JobState.SUCCEEDED:
            self._fail(watch, ended(status))
            return
        size, age = watch.ref.document_size, watch.age(self.now())
        if status.took:
            self.schedule.learn(size, status.took)
        else:
            self.schedule.learn(size, age, running_at=watch.seen_age)
        self.http.telemetry.job_done(status.ref, age=age, took=status.took)
        watch.outcome.set_result(status)
        self._forget(watch)

    def _time_out(self, watch: Watch, why: str) -> None:
        waited = self.now() - watch.since
        message = (
            f"{watch.ref} {why} after {waited:.0f} s. "
            "The job may still be running: wait for the same ref again."
        )
        ref = watch.last.ref if watch.last else watch.ref
        self._fail(watch, JobTimeout(message, ref=ref, job_status=watch.last))

    def _fail(self, watch: Watch, error: BaseException) -> None:
        if not watch.outcome.done():
            watch.outcome.set_exception(error)
        self._forget(watch)

    def _forget(self, watch: Watch) -> None:
        """Drop a watch; its entry in the heap is passed over when it comes up."""
        if self.watches.get(watch.ref.job_id) is watch:
            del self.watches[watch.ref.job_id]
        self.streams.drop(watch)
        self.sweeps.drop(watch)
        if not watch.waiting and not watch.outcome.done():
            watch.outcome.cancel()
