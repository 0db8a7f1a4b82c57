"""Jobs whose time to be looked at has come, when there are more of them than turns."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Iterator

from prefect_docjobs.waiting.pending import PendingJob
from prefect_docjobs.waiting.schedule import Schedule

_STALE = 16  # entries of the heap that may be stale, beside one for each job
_CHOICE = 256  # jobs that are compared to find the one most likely done


class Ready:
    """A queue of jobs to look at, each in it once. Those that became due again later are passed over.

    Args:
        schedule: Knows how long jobs take.
        overrun: Seconds past its deadline that a job may wait for a turn.
    """

    def __init__(self, schedule: Schedule, overrun: float) -> None:
        self._schedule = schedule
        self._overrun = overrun
        self._queue: deque[PendingJob] = deque()
        self._expires: dict[PendingJob, float] = {}
        self._expiries: list[tuple[float, int, PendingJob]] = []
        self._order = itertools.count()

    def __bool__(self) -> bool:
        return bool(self._queue)

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, job: PendingJob, now: float) -> None:
        """Queue a job that is due. One that is late already has its turn all the same."""
        if job not in self._expires:
            self._queue.append(job)
            self._expires[job] = max(job.deadline, now) + self._overrun
            if job.deadline < math.inf:
                self._push(job)

    def _push(self, job: PendingJob) -> None:
        heapq.heappush(self._expiries, (self._expires[job], next(self._order), job))
        if len(self._expiries) > 2 * len(self._expires) + _STALE:  # most of them had their turn long ago
            kept = [entry for entry in self._expiries if self._expires.get(entry[2]) == entry[0]]
            heapq.heapify(kept)
            self._expiries = kept

    @property
    def next_expiry(self) -> float:
        """When the first of them has waited too long; infinite for none."""
        return self._expiries[0][0] if self._expiries else math.inf

    def expired(self, now: float) -> Iterator[PendingJob]:
        """Those whose time has run out while they waited for a turn."""
        while self._expiries and self._expiries[0][0] <= now:
            expiry, _, job = heapq.heappop(self._expiries)
            if self._expires.get(job) == expiry and not job.outcome.done():
                yield job

    def has_due(self, now: float) -> bool:
        """Whether `take` has a job to give; drops those in front that are not due any more."""
        while self._queue and not _is_due(self._queue[0], now):
            del self._expires[self._queue.popleft()]
        if not self._queue:
            self._expiries.clear()
        return bool(self._queue)

    def take(self, now: float, *, scarce: bool) -> PendingJob:
        """Take the job to look at now; `has_due` has just said that there is one.

        Args:
            now: On the waiter's clock.
            scarce: Turns are: the one that most likely ended unseen is worth searching for. Otherwise all
                have their turn in a moment, and the first one will do.
        """
        drawn = [self._queue.popleft() for _ in range(min(len(self._queue), _CHOICE if scarce else 1))]
        due = [job for job in drawn if _is_due(job, now)]
        best = max(due, key=lambda job: self._chance(job, now)) if len(due) > 1 else due[0]
        others = [job for job in due if job is not best]
        self._queue.extend(others)  # back behind those that were not compared this time
        for job in set(drawn).difference(others):
            del self._expires[job]
        return best

    def _chance(self, job: PendingJob, now: float) -> float:
        """That it ended since it was last seen running; by age alone where nothing is known."""
        law = self._schedule.expected(job.ref.document_size)
        age = job.age(now)
        return age - job.seen_age if law is None else law.done_between(job.seen_age, age)


def _is_due(job: PendingJob, now: float) -> bool:
    return job.due <= now and not job.outcome.done()
