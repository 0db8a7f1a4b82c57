"""Reading the account's list of jobs: one request observes up to a hundred of them.

No service documents the order of its list, so the order is derived from the dates. Pages are read only as far
back as the oldest job that is waited for. A list ends a job only as succeeded; a poll confirms other ends.
When the list has reported no end for so long that some were expected, a few of its jobs are polled. A list
that contradicts two polls or fetches, refuses or makes no sense is not read any more; its jobs are polled.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta

from prefect_docjobs.cancellation import cancelled
from prefect_docjobs.errors import DocJobsError, ServiceError, Throttled, Unavailable
from prefect_docjobs.providers.base import JobPage
from prefect_docjobs.waiting.durations import LogNormal
from prefect_docjobs.waiting.pending import PendingJob, PendingJobs

_log = logging.getLogger(__name__)
_PAGE = 100
_WORTH_IT = 2  # jobs without a stream, from which on a list is cheaper than polls
_FAILURES = 3
_SLACK = timedelta(minutes=5)  # between the service's clock and ours

_SILENCE = 3.0  # ends that were expected, and none was reported: by chance once in twenty times
_CHECKED = 2  # jobs that are polled then,
_CHECKED_AFTER = 0.25  # and the part of the oldest job's age that passes until the next are

_REQUEST_WORTH = 0.7  # seconds of delay, of all jobs together, that a request is worth
_SHORTEST, _LONGEST = 0.3, 4.0  # seconds between two reads
_STEP = 0.1
_FIRST = 5.0  # ends per mean age of a batch of which none has ended: what its first one would make likely


class ReadInterval:
    """Seconds between two reads of a list.

    What jobs are expected to take tells how fast unseen ends gather. While too little is known for that, the
    rate of the ends seen tells it, or the age at which none has ended yet.

    Attributes:
        silence: Ends that were to be expected since the list last reported one.
    """

    def __init__(self, now: float) -> None:
        self._read_at = now
        self._rate = 0.0
        self._pages = 1
        self._expected = 0.0  # ends per second until the next read
        self.silence = 0.0

    def was_read(self, now: float, ends: int, pages: int) -> None:
        """Note that so many pages were read and so many jobs seen to end."""
        since = now - self._read_at
        self.silence = 0.0 if ends else self.silence + self._expected * since
        self._rate = 0.5 * self._rate + 0.5 * ends / max(since, _SHORTEST)
        self._read_at = now
        self._pages = max(1, pages)

    def next(self, running: Iterable[tuple[LogNormal | None, float]]) -> float:
        """Seconds from one read to the next.

        Args:
            running: What is known of each job that is not done, and its age in seconds.
        """
        jobs = Counter((law, round(age, 1)) for law, age in running)
        known = [(law, age, number) for (law, age), number in jobs.items() if law is not None]
        gap = self._foreseen(known) if len(known) == len(jobs) else self._guessed(jobs)
        return min(max(gap, _SHORTEST), _LONGEST)

    def _foreseen(self, jobs: list[tuple[LogNormal, float, int]]) -> float:
        worth, late, gap = _REQUEST_WORTH * self._pages, 0.0, 0.0
        while late < worth and gap < _LONGEST:
            gap += _STEP
            ended = sum(number * law.done_between(age, age + gap) for law, age, number in jobs)
            late += _STEP * ended
            self._expected = ended / gap
        return gap

    def _guessed(self, jobs: Counter[tuple[LogNormal | None, float]]) -> float:
        number = jobs.total()
        ages = sum(age * count for (_, age), count in jobs.items())
        rate = max(self._rate, min(number, _FIRST) * number / (ages + 1.0), 0.01)
        self._expected = rate
        return math.sqrt(2.0 * _REQUEST_WORTH * self._pages / rate)


class ListPoller:
    """Reads the list of one account while there are jobs without a stream.

    Args:
        pending: The jobs.
        before_read: Called before each read; it may open streams.
    """

    def __init__(self, pending: PendingJobs, before_read: Callable[[], None]) -> None:
        self._pending = pending
        self._before_read = before_read
        self._on = pending.provider.capabilities.list_jobs and pending.list_is_believed
        self._added = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._places: dict[PendingJob, int] = {}
        self._oldest_first: bool | None = None
        self._total = 0
        self._interval = ReadInterval(pending.now())
        self._pages_read = self._failures = 0
        self._checked_at = -math.inf
        pending.on_end.append(self._drop)

    @property
    def is_on(self) -> bool:
        """Whether the list is read."""
        return self._on

    def wake(self) -> None:
        """Note that there is a job more."""
        if not self._on:
            return
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="docjobs-list")
        self._added.set()

    def _drop(self, job: PendingJob) -> None:
        self._places.pop(job, None)

    async def aclose(self) -> None:
        """Stop."""
        if self._task is not None:
            await cancelled(self._task)

    # -- the loop

    async def _run(self) -> None:
        try:
            await self._read_on()
        except asyncio.CancelledError:
            if not self._pending.closed:
                self._switch_off("was cancelled")
            raise
        except Exception as bug:  # noqa: BLE001 (no fault of a list may cost a job)
            self._switch_off(f"cannot be read ({type(bug).__name__}: {bug})")

    async def _read_on(self) -> None:
        pending = self._pending
        await asyncio.sleep(pending.schedule.polling.at_least)
        while self._on:
            self._before_read()
            wanted = {job_id: job for job_id, job in pending.jobs.items() if not job.is_streamed}
            if len(wanted) < _WORTH_IT:
                self._leave(wanted.values())
                self._added.clear()
                await self._added.wait()
                continue
            began = pending.now()
            ends = await self._guarded(wanted)
            if not pending.list_is_believed:
                self._switch_off("contradicts the jobs themselves")
            await asyncio.sleep(self._pause(ends, began))

    def _leave(self, jobs: Iterable[PendingJob]) -> None:
        """Have these jobs polled again: the list does not report them any more."""
        for job in jobs:
            self._places.pop(job, None)
            if job.is_listed:
                job.is_listed = False
                self._pending.poll_in(job, self._pending.next_poll(job))

    def _switch_off(self, why: str) -> None:
        if self._on:
            self._on = False
            title = self._pending.provider.title
            _log.warning("The list of jobs of %s %s: polling instead.", title, why)
            self._leave(list(self._pending.jobs.values()))

    def _pause(self, ends: int, began: float) -> float:
        """Until the next read. Where the rate is limited, polls that wait go first."""
        pending, now = self._pending, self._pending.now()
        self._interval.was_read(now, ends, self._pages_read)
        running = [job for job in pending.jobs.values() if not job.is_streamed]
        self._check_a_silent_list(running, now)
        expected = pending.schedule.expected
        gap = self._interval.next((expected(job.ref.document_size), job.age(now)) for job in running)
        polls_wait = any(job.is_ready for job in running)
        for_a_poll = 1.5 / pending.http.limiter("status").rate if polls_wait else 0.0
        return max(gap - (now - began), for_a_poll)

    def _check_a_silent_list(self, running: list[PendingJob], now: float) -> None:
        """Poll the jobs that most likely have ended, if some should have and none is reported."""
        oldest = max((job.age(now) for job in running), default=0.0)
        if self._interval.silence < _SILENCE or now - self._checked_at < _CHECKED_AFTER * oldest:
            return
        self._interval.silence, self._checked_at = 0.0, now

        def likely_ended(job: PendingJob) -> tuple[float, float]:
            law, age = self._pending.schedule.expected(job.ref.document_size), job.age(now)
            unseen = age - job.polled_age
            chance = unseen if law is None else law.done_between(job.polled_age, age)
            return chance, random.random()  # noqa: S311 (by lot among equals)

        for job in heapq.nlargest(_CHECKED, (job for job in running if job.is_listed), key=likely_ended):
            job.is_checked = True
            self._pending.poll_in(job, self._pending.soonest(job))

    async def _guarded(self, wanted: dict[str, PendingJob]) -> int:
        try:
            ends = await self._read_pages(wanted)
        except Throttled:
            return 0
        except DocJobsError as error:
            self._failures += 1
            is_hopeless = isinstance(error, ServiceError) and not isinstance(error, Unavailable)
            if is_hopeless or self._failures >= _FAILURES:
                self._switch_off(f"cannot be read ({error})")
            return 0
        except Exception as bug:  # noqa: BLE001 (no fault of a list may cost a job)
            self._switch_off(f"cannot be understood ({type(bug).__name__}: {bug})")
            return 0
        self._failures = 0
        return ends

    # -- one read

    async def _read_pages(self, wanted: dict[str, PendingJob]) -> int:
        """Read the pages on which the wanted jobs may be; return how many of them have ended."""
        left, began = dict(wanted), self._pending.now()
        most = 2 + 2 * math.ceil(len(wanted) / _PAGE)
        ends = self._pages_read = 0
        for _, skip in zip(range(most), self._pages(wanted), strict=False):
            page, asked_at = await self._read(skip)
            self._pages_read += 1
            ends += self._take(page, skip, left, asked_at)
            if not left or self._is_far_enough(page, skip, left):
                break
        self._leave(left.values())
        ended = self._pending.ended_by_poll
        for job_id in [job_id for job_id, at in ended.items() if at <= began]:
            del ended[job_id]  # this read was late enough to report its end
        return ends

    async def _read(self, skip: int) -> tuple[JobPage, float]:
        pending = self._pending
        await pending.http.wait_for_token("status")
        asked_at = pending.now()
        page = await pending.provider.list_jobs(pending.http, skip=skip, limit=_PAGE, once=True)
        if page.total is not None:
            self._total = page.total
        if self._oldest_first is None:
            self._oldest_first = page.oldest_first
        return page, asked_at

    def _pages(self, wanted: dict[str, PendingJob]) -> Iterator[int]:
        """Where the pages to read begin, the most promising first."""
        start = 0
        if self._oldest_first is None:
            yield start
            start = _PAGE
        if not self._oldest_first:
            yield from range(start, max(self._total, 1), _PAGE)
            return
        places = [self._places[job] for job in wanted.values() if job in self._places]
        # New jobs stand behind all that were listed before; unlisted ones at most so far from the end.
        tail = max(0, self._total - len(wanted) - _PAGE // 2)
        start = min(places) if len(places) == len(wanted) else min([tail, *places])
        while start < max(self._total, 1):
            yield start
            start += _PAGE

    def _take(self, page: JobPage, skip: int, left: dict[str, PendingJob], asked_at: float) -> int:
        pending, ends = self._pending, 0
        for place, (job_id, row) in enumerate(page.rows.items(), start=skip):
            if pending.ended_by_poll.get(job_id, math.inf) < asked_at:
                del pending.ended_by_poll[job_id]
                if not row.state.is_terminal:
                    pending.contradict_list(job_id)
            job = left.pop(job_id, None)
            if job is None or job.outcome.done():
                continue
            if not pending.list_is_believed:
                break
            self._places[job] = place
            ends += row.state.is_terminal
            is_new, job.is_listed = not job.is_listed, True
            pending.observe_in_list(job, row.status(job.ref, page.seen_at))
            if is_new and not job.outcome.done() and not row.state.is_terminal:
                pending.poll_in(job, pending.next_poll(job))
        return ends

    def _is_far_enough(self, page: JobPage, skip: int, left: dict[str, PendingJob]) -> bool:
        """Whether no job that is still looked for can stand on a later page."""
        if skip + _PAGE >= self._total:
            return True
        dates = page.dates
        if self._oldest_first or not dates:
            return False
        oldest = min(job.ref.submitted_at for job in left.values())
        return min(dates) < oldest - _SLACK
