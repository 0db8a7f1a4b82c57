"""Reading the account's list of jobs: one request observes up to a hundred of them.

No service documents the order of its list, so the order is derived from the dates. Pages are read only as far
back as the oldest job that is waited for. `list_policy` decides which ends are believed. A list that
contradicts polls, refuses or makes no sense is not read any more; its jobs are polled again. When it reports
no end for so long that some were to be expected, polls check whether it is stale.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
import random
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from prefect_docjobs.cancellation import cancelled
from prefect_docjobs.errors import DocJobsError, ServiceError, Throttled, Unavailable
from prefect_docjobs.models import JobState, JobStatus
from prefect_docjobs.providers.base import JobPage, JobRow
from prefect_docjobs.waiting.list_policy import Cadence, Trust
from prefect_docjobs.waiting.pending import PendingJob

if TYPE_CHECKING:
    from prefect_docjobs.waiting.waiter import Waiter

_log = logging.getLogger(__name__)
_PAGE = 100
_WORTH_IT = 2  # jobs that nobody listens for, from which on a list is cheaper than looks
_FRESH = 15.0  # seconds for which what a sweep saw is news
_TRUSTED = 300.0  # seconds that a list is trusted with a job, without a look
_PROOF = 10.0  # seconds between two looks that prove the list for all jobs
_SILENCE = 3.0  # ends that were to be expected, and none was told: by chance once in twenty times
_PATIENCE = 0.25  # of the oldest job's age, between two proofs of a silent list
_PROVERS = 0.5  # jobs more that are looked at for each proof in a row; one at first,
_JURY = 4  # and so many after a first lie
_FAILURES = 3
_SLACK = timedelta(minutes=5)  # between the service's clock and ours


class ListPoller:
    """Polls the list of one account, while there are jobs without a stream."""

    def __init__(self, waiter: Waiter) -> None:
        self._waiter = waiter
        self._on = waiter.provider.capabilities.list_jobs
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._seen: set[PendingJob] = set()
        self._places: dict[PendingJob, int] = {}
        self._oldest_first: bool | None = None
        self._total = 0
        self._cadence = Cadence(waiter.now())
        self._pages_read = self._failures = 0
        self._trust = Trust()
        self._proved_at = -math.inf
        self._proving: set[PendingJob] = set()
        self._proofs = 0  # since the list last told of an end

    @property
    def is_on(self) -> bool:
        """Whether the list is read."""
        return self._on

    def covers(self, job: PendingJob) -> bool:
        """Whether the last sweep saw this job."""
        return self._on and job in self._seen

    def spares(self, job: PendingJob, now: float) -> float:
        """Seconds for which a look at this job is not needed, for the list has just seen it running.

        Now and then one job is looked at for all others, and each job after some minutes: a list may stand
        still, as a whole or for one job.
        """
        age = job.age(now)
        fresh = age - job.seen_age <= _FRESH and age - job.polled_age <= _TRUSTED
        asked = job in self._trust or job in self._proving
        if not fresh or asked or self._trust.lies or not self.covers(job):
            return 0.0
        if now - self._proved_at < _PROOF:
            return _PROOF
        self._proved_at = now
        return 0.0

    def wake(self) -> None:
        """Note that there is a job more."""
        if not self._on:
            return
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="docjobs-sweeps")
        self._news.set()

    def drop(self, job: PendingJob) -> None:
        """Forget a job that is not waited for any more."""
        self._seen.discard(job)
        self._proving.discard(job)
        self._trust.drop(job)
        self._places.pop(job, None)

    async def aclose(self) -> None:
        """Stop."""
        if self._task is not None:
            await cancelled(self._task)

    def checked(self, job: PendingJob, status: JobStatus, asked_at: float) -> None:
        """Hold a look against what the list said before it, and will say, of the job."""
        self._proving.discard(job)
        waiter = self._waiter
        if self._trust.looked(
            job,
            ended=status.state.is_terminal,
            listed=job in self._places,
            asked_at=asked_at,
            now=waiter.now(),
            jobs=len(waiter.jobs),
        ):
            self._contradicted()

    # -- the loop

    async def _run(self) -> None:
        try:
            await self._sweep_on()
        except asyncio.CancelledError:
            self._on = False  # whoever cancels it: the list covers no job any more
            raise
        except Exception as bug:  # noqa: BLE001 (no fault of a list may cost a job)
            self._switch_off(f"cannot be swept ({type(bug).__name__}: {bug})")

    async def _sweep_on(self) -> None:
        waiter = self._waiter
        await asyncio.sleep(waiter.schedule.polling.at_least)
        while self._on:
            wanted = self._wanted()
            if len(wanted) < _WORTH_IT:
                self._leave(wanted.values())
                self._news.clear()
                await self._news.wait()
                continue
            started = waiter.now()
            ends = await self._guarded(wanted)
            await asyncio.sleep(self._pause(ends, started))

    def _wanted(self) -> dict[str, PendingJob]:
        """The jobs that nobody listens for; the last few are listened for where that is possible."""
        jobs = self._waiter.jobs
        if len(jobs) <= self._waiter.limits.streams:
            for job in list(jobs.values()):
                if not job.covered and self._waiter.streams.take(job):
                    self._waiter.put(job, self._waiter.next_poll(job))
        return {job_id: job for job_id, job in jobs.items() if not job.covered}

    def _leave(self, jobs: Iterable[PendingJob]) -> None:
        """Have these jobs looked at again: the list does not tell of them any more."""
        for job in jobs:
            self._places.pop(job, None)
            if job in self._seen:
                self._seen.discard(job)
                self._waiter.put(job, self._waiter.next_poll(job))

    def _pause(self, ends: int, started: float) -> float:
        """Until the next sweep. Where turns are scarce, looks that wait go first: they confirm the list."""
        waiter, now = self._waiter, self._waiter.now()
        self._cadence.swept(now, ends, self._pages_read)
        expected = waiter.schedule.expected
        running = [w for w in waiter.jobs.values() if not w.covered]
        self._proofs = 0 if ends else self._proofs
        self._prove_a_silent_list(running, now)
        gap = self._cadence.gap((expected(w.ref.document_size), w.age(now)) for w in running)
        for_a_look = 1.5 / waiter.http.limiter("status").rate if waiter.polls_wait else 0.0
        return max(gap - (now - started), for_a_look)

    def _prove_a_silent_list(self, running: list[PendingJob], now: float) -> None:
        oldest = max((job.age(now) for job in running), default=0.0)
        if self._cadence.silence >= _SILENCE and now - self._proved_at >= _PATIENCE * oldest:
            self._cadence.silence = 0.0
            self._prove(1 + int(_PROVERS * self._proofs))
            self._proofs += 1

    async def _guarded(self, wanted: dict[str, PendingJob]) -> int:
        try:
            ends = await self._sweep(wanted)
        except Throttled:
            return 0
        except DocJobsError as error:
            self._failures += 1
            hopeless = isinstance(error, ServiceError) and not isinstance(error, Unavailable)
            if hopeless or self._failures >= _FAILURES:
                self._switch_off(f"cannot be read ({error})")
            return 0
        except Exception as bug:  # noqa: BLE001 (no fault of a list may cost a job)
            self._switch_off(f"cannot be understood ({type(bug).__name__}: {bug})")
            return 0
        self._failures = 0
        return ends

    def _switch_off(self, why: str) -> None:
        self._on = False
        _log.warning("The list of jobs of %s %s: polling instead.", self._waiter.provider.title, why)
        self._leave(list(self._seen))

    # -- one sweep

    async def _sweep(self, wanted: dict[str, PendingJob]) -> int:
        """Read the pages on which the wanted jobs may be; return how many of them have ended."""
        left, started = dict(wanted), self._waiter.now()
        most = 2 + 2 * math.ceil(len(wanted) / _PAGE)
        ends = self._pages_read = 0
        for _, skip in zip(range(most), self._pages(wanted), strict=False):
            page, asked_at = await self._read(skip)
            self._pages_read += 1
            ends += self._take(page, skip, left, asked_at)
            if not self._on or not left or self._is_far_enough(page, skip, left):
                break
        self._leave(left.values())
        self._trust.swept(started)
        return ends

    async def _read(self, skip: int) -> tuple[JobPage, float]:
        waiter = self._waiter
        await waiter.http.wait_for_token("status")
        asked_at = waiter.now()
        page = await waiter.provider.list_jobs(waiter.http, skip=skip, limit=_PAGE, once=True)
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
        ends = 0
        wanted = [row for job_id, row in page.rows.items() if job_id in left]
        said = sum(row.state is JobState.SUCCEEDED for row in wanted)
        self._trust.sees(said, self._cadence.expected(asked_at))
        for place, (job_id, row) in enumerate(page.rows.items(), start=skip):
            if self._trust.listed(job_id, row.state, asked_at):
                self._contradicted()
            job = left.pop(job_id, None)
            if job is None or job.outcome.done() or not self._on:
                continue
            self._places[job] = place
            ends += row.state.is_terminal
            self._heard(job, row, page.seen_at)
        return ends

    def _heard(self, job: PendingJob, row: JobRow, seen_at: datetime) -> None:
        is_new = job not in self._seen
        self._seen.add(job)
        now = self._waiter.now()
        if row.state.is_terminal and not self._trust.believes(job, row.state, now):
            if self._trust.asks(job, row.state, now):
                self._waiter.put(job, 0.0)
            return
        self._waiter.observed(job, row.status(job.ref, seen_at))
        if is_new and not job.outcome.done():
            self._waiter.put(job, self._waiter.next_poll(job))

    def contradicted(self) -> None:
        """Note that the list reported an end that was none; the second time it is not read any more."""
        self._trust.lies += 1
        self._contradicted()

    def _contradicted(self) -> None:
        if not self._on:
            return
        if self._trust.is_lost:
            self._switch_off("contradicts the jobs themselves")
        else:
            self._prove(_JURY)

    def _prove(self, number: int) -> None:
        """Look at some jobs that the list says are running, those first that most likely are not."""
        self._proved_at = self._waiter.now()
        candidates = [job for job in self._seen if job not in self._trust and not job.covered]
        for job in heapq.nlargest(number, candidates, key=self._likely_ended):
            self._proving.add(job)
            self._waiter.put(job, 0.0)

    def _likely_ended(self, job: PendingJob) -> tuple[float, float]:
        """The chance that a job ended since a look last saw it, and by lot among equals."""
        age = job.age(self._waiter.now())
        law = self._waiter.schedule.expected(job.ref.document_size)
        unseen = age - job.polled_age
        return unseen if law is None else law.done_between(job.polled_age, age), random.random()  # noqa: S311

    def _is_far_enough(self, page: JobPage, skip: int, left: dict[str, PendingJob]) -> bool:
        """Whether no job that is still looked for can stand on a later page."""
        if skip + _PAGE >= self._total:
            return True
        dates = page.dates
        if self._oldest_first or not dates:
            return False
        oldest = min(job.ref.submitted_at for job in left.values())
        return min(dates) < oldest - _SLACK
