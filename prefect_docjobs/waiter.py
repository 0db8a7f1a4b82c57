"""The one waiter: many jobs of one account, one loop.

Jobs lie in a heap, ordered by when to look at them next. The loop takes what is due, looks at a bounded
number at a time, and puts back what is not done. A look that fails is not a job that failed: each job has
a budget of failed looks in a row, and its ref is in every error. Observations may also come from outside
(`tell`), before or after the job is known.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import anyio
from typing_extensions import Self

from prefect_docjobs.errors import (
    DocJobsError,
    JobCancelled,
    JobError,
    JobExpired,
    JobFailed,
    JobLost,
    JobTimeout,
    NotFound,
    Throttled,
    Unavailable,
    Unreadable,
)
from prefect_docjobs.http import Http
from prefect_docjobs.models import JobRef, JobState, JobStatus
from prefect_docjobs.providers.base import Provider
from prefect_docjobs.schedule import Schedule

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """How much the waiter puts up with. Times in seconds.

    Attributes:
        document_timeout: For one job, counted from `done`; None for no limit.
        failed_looks: Looks that may fail in a row (no connection, 5xx, nonsense) before a job is given up.
        refusals: Refusals in a row (401, 403, 400, or 404 outside the grace) that settle a job.
        not_found_grace: A new job may be unknown to the service for so long.
        overrun: A look that is under way at the deadline may take so much longer.
        looks: Looks at the same time.
    """

    document_timeout: float | None = 3600.0
    failed_looks: int = 12
    refusals: int = 3
    not_found_grace: float = 30.0
    overrun: float = 1.0
    looks: int = 12


@dataclass(eq=False, slots=True)
class _Watch:
    """One job that somebody waits for."""

    ref: JobRef
    outcome: asyncio.Future[JobStatus]
    since: float
    age_before: float
    deadline: float
    waiting: int = 0
    last: JobStatus | None = None
    errors: int = 0
    refusals: int = 0

    def age(self, now: float) -> float:
        return self.age_before + now - self.since


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
        schedule: When to look; the provider's own advice by default.
        clock: Monotonic seconds; the event loop's by default.
        sleep: Waits; only ever cancelled by this waiter.
    """

    provider: Provider
    http: Http
    patience: Patience = field(default_factory=Patience)
    schedule: Schedule | None = None
    clock: Callable[[], float] = anyio.current_time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def __aenter__(self) -> Self:
        self._when = self.schedule or Schedule(self.provider.polling)
        self._order = itertools.count()
        self._due: list[tuple[float, int, _Watch]] = []
        self._watches: dict[str, _Watch] = {}
        self._early: dict[str, JobStatus] = {}
        self._looks: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._alarm = float("inf")
        self._loop = asyncio.create_task(self._run(), name="docjobs-waiter")
        return self

    async def __aexit__(self, *exc: object) -> None:
        tasks = [self._loop, *self._looks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for watch in self._watches.values():
            watch.outcome.cancel()

    # -- what callers use

    async def done(self, ref: JobRef, *, deadline: float | None = None, age: float = 0.0) -> JobStatus:
        """Wait until a job has succeeded. The same job may be waited for many times at once.

        Args:
            ref: The job.
            deadline: On the waiter's clock; the earlier of it and the document timeout counts.
            age: Seconds since the submit; a job that is old already is looked at immediately.

        Raises:
            JobFailed, JobExpired, JobCancelled: As the service says.
            JobLost: The service does not know the job (any more).
            JobTimeout: A time limit passed, or too many looks failed in a row.
            ServiceError: The service refuses to tell (401, 403, 400), repeatedly.
        """
        self.provider.claim(self.http, ref)
        watch = self._watches.get(ref.job_id) or self._add(ref, deadline, age)
        watch.waiting += 1
        try:
            return await asyncio.shield(watch.outcome)
        finally:
            watch.waiting -= 1
            if not watch.waiting and not watch.outcome.done():
                self._forget(watch)

    def tell(self, status: JobStatus) -> None:
        """Take an observation that came from elsewhere, such as a push; early ones are kept."""
        watch = self._watches.get(status.ref.job_id)
        if watch is None:
            self._early[status.ref.job_id] = status
        elif status.state.is_terminal:
            self._settle(watch, status)

    # -- the loop

    async def _run(self) -> None:
        while True:
            self._start_looks()
            self._news.clear()
            has_room = len(self._looks) < self.patience.looks
            self._alarm = self._due[0][0] if self._due and has_room else float("inf")
            await self._wait_for_news()

    async def _wait_for_news(self) -> None:
        """Until the next look is due, or something makes an earlier one possible."""
        if self._alarm == float("inf"):
            await self._news.wait()
            return
        timers = [
            asyncio.ensure_future(self._news.wait()),
            asyncio.ensure_future(self.sleep(max(0.0, self._alarm - self.clock()))),
        ]
        try:
            await asyncio.wait(timers, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for timer in timers:
                timer.cancel()

    def _start_looks(self) -> None:
        now = self.clock()
        while self._due and self._due[0][0] <= now and len(self._looks) < self.patience.looks:
            watch = heapq.heappop(self._due)[2]
            if watch.outcome.done():
                continue
            look = asyncio.create_task(self._look(watch))
            self._looks.add(look)
            look.add_done_callback(partial(self._look_ended, watch))

    def _look_ended(self, watch: _Watch, look: asyncio.Task[None]) -> None:
        self._looks.discard(look)
        if len(self._looks) == self.patience.looks - 1:
            self._news.set()
        if not look.cancelled() and (bug := look.exception()):
            self._fail(watch, bug)  # not ours to hide, and nobody may wait for ever because of it

    def _add(self, ref: JobRef, deadline: float | None, age: float) -> _Watch:
        now = self.clock()
        own = (
            now + self.patience.document_timeout
            if self.patience.document_timeout is not None
            else float("inf")
        )
        ends = min(own, deadline if deadline is not None else float("inf"))
        outcome: asyncio.Future[JobStatus] = asyncio.get_running_loop().create_future()
        # Nobody may be left to take the exception of a job whose waiters were cancelled.
        outcome.add_done_callback(lambda settled: settled.cancelled() or settled.exception())
        watch = _Watch(ref, outcome, since=now, age_before=age, deadline=ends)
        self._watches[ref.job_id] = watch
        early = self._early.pop(ref.job_id, None)
        if early is not None and early.state.is_terminal:
            self._settle(watch, early)
        else:
            self._put(watch, self._when.first(age))
        return watch

    def _put(self, watch: _Watch, delay: float) -> None:
        """Look again after `delay` seconds, and in any case at the deadline."""
        due = min(self.clock() + delay, watch.deadline)
        heapq.heappush(self._due, (due, next(self._order), watch))
        if due < self._alarm:
            self._news.set()

    # -- one look

    async def _look(self, watch: _Watch) -> None:
        left = watch.deadline - self.clock()
        try:
            status = await self._within(left + self.patience.overrun, watch.ref)
        except DocJobsError as error:
            self._count_error(watch, error)
            return
        watch.errors = watch.refusals = 0
        if status.ref.job_id != watch.ref.job_id:
            self._count_error(watch, Unreadable("The service answered for another job."))
        elif status.state.is_terminal:
            self._settle(watch, status)
        else:
            self._go_on(watch, status)

    async def _within(self, seconds: float, ref: JobRef) -> JobStatus:
        asking = asyncio.ensure_future(self.provider.status(self.http, ref, attempts=1))
        if seconds == float("inf"):
            return await asking
        timer = asyncio.ensure_future(self.sleep(max(0.0, seconds)))
        try:
            await asyncio.wait([asking, timer], return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                raise Unavailable("The service did not answer in time.")
            return asking.result()
        finally:
            timer.cancel()
            asking.cancel()
            with suppress(asyncio.CancelledError, DocJobsError):
                await asking

    def _go_on(self, watch: _Watch, status: JobStatus) -> None:
        if status.state is JobState.UNKNOWN and (not watch.last or watch.last.raw_state != status.raw_state):
            _log.warning("%s: unknown state %r; waiting on.", watch.ref, status.raw_state)
        watch.last = status
        now = self.clock()
        if now >= watch.deadline:
            self._time_out(watch, f"is still {status.raw_state or status.state}")
        else:
            self._put(watch, self._when.next(watch.age(now)))

    def _count_error(self, watch: _Watch, error: DocJobsError) -> None:
        now, patience = self.clock(), self.patience
        if isinstance(error, NotFound) and not watch.last and watch.age(now) < patience.not_found_grace:
            delay = self._when.next(watch.age(now))
        elif isinstance(error, Throttled):
            delay = max(error.retry_after or 0.0, self._when.next(watch.age(now)))
        elif isinstance(error, (Unavailable, Unreadable)):
            watch.errors += 1
            delay = self._when.after_errors(watch.errors, watch.age(now))
        else:
            watch.refusals += 1
            delay = self._when.next(watch.age(now))
        if watch.refusals >= patience.refusals:
            self._fail(watch, self._refusal(watch, error))
        elif watch.errors >= patience.failed_looks:
            self._time_out(watch, f"could not be looked at {watch.errors} times in a row ({error})")
        elif now >= watch.deadline:
            self._time_out(watch, f"could not be looked at when its time ran out ({error})")
        else:
            self._put(watch, delay)

    def _refusal(self, watch: _Watch, error: DocJobsError) -> DocJobsError:
        if isinstance(error, NotFound):
            seen = "no longer knows" if watch.last else "does not know"
            return JobLost(f"The service {seen} {watch.ref}.", ref=watch.ref, job_status=watch.last)
        return error.about(watch.ref.document_name)

    # -- the end of a watch

    def _settle(self, watch: _Watch, status: JobStatus) -> None:
        if status.state is JobState.SUCCEEDED:
            if not watch.outcome.done():
                watch.outcome.set_result(status)
            self._forget(watch)
        else:
            self._fail(watch, _ended(status))

    def _time_out(self, watch: _Watch, why: str) -> None:
        waited = self.clock() - watch.since
        self._fail(
            watch,
            JobTimeout(
                f"{watch.ref} {why} after {waited:.0f} s. "
                "The job may still be running: wait for the same ref again.",
                ref=watch.ref if watch.last is None else watch.last.ref,
                job_status=watch.last,
            ),
        )

    def _fail(self, watch: _Watch, error: BaseException) -> None:
        if not watch.outcome.done():
            watch.outcome.set_exception(error)
        self._forget(watch)

    def _forget(self, watch: _Watch) -> None:
        """Drop a watch; its entry in the heap is passed over when it comes up."""
        if self._watches.get(watch.ref.job_id) is watch:
            del self._watches[watch.ref.job_id]
        if not watch.waiting and not watch.outcome.done():
            watch.outcome.cancel()


def _ended(status: JobStatus) -> JobError:
    """The typed error for a job that ended without a result."""
    said = (
        str(status.error) if status.error else f"The service says {status.raw_state!r} and gives no reason."
    )
    kind: type[JobError] = JobFailed
    if status.state is JobState.CANCELLED:
        kind = JobCancelled
    elif status.expired:
        kind = JobExpired
    return kind(said, ref=status.ref, job_status=status)
