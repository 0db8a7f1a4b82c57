"""When the account's list of jobs is read again, and which of the ends that it reports are believed.

A result that was delivered cannot be taken back. So only a few reported ends are believed between two that a
poll has confirmed; the more were confirmed, the more. A list that reports many more ends than expected is not
believed until polls confirm it, and after a contradiction not at all.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from prefect_docjobs.models import JobState
from prefect_docjobs.waiting.pending import PendingJob
from prefect_docjobs.waiting.schedule import LogNormal

_REQUEST_WORTH = 0.7  # seconds of delay, of all jobs together, that a request is worth
_SHORTEST, _LONGEST = 0.3, 4.0  # seconds between two sweeps
_STEP = 0.1
_FIRST = 5.0  # ends per mean age of a batch of which none has ended: what its first one would make likely

_CONFIRMED = 2  # ends that must be confirmed before any is taken on trust
_CREDIT = 32  # ends on trust after a confirmed one,
_SHARE = 8  # or that part of the open jobs,
_EARNED = 4  # or so many for each one that was ever confirmed, whichever is most
_LOW = 0.35  # of the credit: then the next end is confirmed, so that it does not run out
_MANY, _SURPRISE = 8, 4.0  # ends at once, and times as many as expected, that are too many to believe
_AT_ONCE = 2  # looks that confirm ends,
_ANSWERED = 2.0  # and the seconds after which they should be answered
_LIES = 2


class Cadence:
    """Seconds between two sweeps over a list.

    What jobs are expected to take tells how fast undetected ends will gather. While too little is known for
    that, the rate of the ends seen tells it, or the age at which none has ended yet.

    Attributes:
        silence: Ends that were to be expected since the list last told of one.
    """

    def __init__(self, now: float) -> None:
        self._swept_at = now
        self._rate = 0.0
        self._pages = 1
        self._expected = 0.0  # ends per second until the next sweep
        self.silence = 0.0

    def swept(self, now: float, ends: int, pages: int) -> None:
        """Note a sweep that has read so many pages and seen so many jobs end."""
        self.silence = 0.0 if ends else self.silence + self.expected(now)
        self._rate = 0.5 * self._rate + 0.5 * ends / max(now - self._swept_at, _SHORTEST)
        self._swept_at = now
        self._pages = max(1, pages)

    def expected(self, now: float) -> float:
        """How many jobs should have ended since the last sweep."""
        return self._expected * (now - self._swept_at)

    def gap(self, running: Iterable[tuple[LogNormal | None, float]]) -> float:
        """Seconds from one sweep to the next.

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


class Trust:
    """What a list has said, held against what looks saw.

    Attributes:
        lies: How often it contradicted a look.
    """

    def __init__(self) -> None:
        self.lies = 0
        self._confirmed = 0
        self._lately = 0  # confirmed since the last sweep
        self._credit = self._most = 0
        self._reported: dict[PendingJob, float] = {}  # when as ended, which a later look is to confirm
        self._ended: dict[str, float] = {}  # when a look saw it, which a later sweep is to confirm

    @property
    def is_lost(self) -> bool:
        """Whether the list is not to be read any more."""
        return self.lies >= _LIES

    def __contains__(self, job: PendingJob) -> bool:
        """Whether this job was said to have ended, and a look is to confirm it."""
        return job in self._reported

    def drop(self, job: PendingJob) -> None:
        """Forget a job that is not waited for any more."""
        self._reported.pop(job, None)

    # -- what the list says

    def sees(self, said: int, expected: float) -> None:
        """Note how many jobs a page says have ended, before any of them is believed."""
        if said > max(_MANY, _SURPRISE * expected) and self._lately < _CONFIRMED:
            self._credit = 0

    def believes(self, job: PendingJob, state: JobState, now: float) -> bool:
        """Whether this end is taken on trust. The reason of a failure takes a look anyway."""
        if state is not JobState.SUCCEEDED or self.lies or job in self._reported or self._credit <= 0:
            return False
        if self._credit <= _LOW * self._most and not self._under_way(now):
            return False
        self._credit -= 1
        return True

    def asks(self, job: PendingJob, state: JobState, now: float) -> bool:
        """Whether a look is to confirm this end now; of many successes a few are looked at first."""
        may_wait = state is JobState.SUCCEEDED and not self.lies and job not in self._reported
        if may_wait and self._under_way(now) >= _AT_ONCE:
            return False  # left to the next sweep, when the list has proved right or wrong
        self._reported.setdefault(job, now)
        return True

    def _under_way(self, now: float) -> int:
        return sum(now - at < _ANSWERED for at in self._reported.values())

    # -- what looks see

    def looked(
        self, job: PendingJob, *, ended: bool, listed: bool, asked_at: float, now: float, jobs: int
    ) -> bool:
        """Hold a look against what the list said before it; return whether the list was wrong.

        Args:
            job: The job.
            ended: Whether it has.
            listed: Whether the list tells of it.
            asked_at: When the look began.
            now: When it was answered.
            jobs: How many are waited for.
        """
        if self._reported.get(job, math.inf) <= asked_at:
            del self._reported[job]
            if not ended:
                self.lies += 1
                return True
            self._confirm(jobs)
        elif ended and listed:
            self._ended[job.ref.job_id] = now
        return False

    def _confirm(self, jobs: int) -> None:
        self._confirmed += 1
        self._lately += 1
        if self._confirmed >= _CONFIRMED:
            most = max(_CREDIT, jobs // _SHARE, _EARNED * self._confirmed)
            self._most = min(2 ** min(self._confirmed + 1, 30), most)
            self._credit = self._most

    def listed(self, job_id: str, state: JobState, asked_at: float) -> bool:
        """Hold what the list says against what looks saw before it; return whether it was wrong."""
        if self._ended.get(job_id, math.inf) >= asked_at:
            return False
        del self._ended[job_id]
        if state.is_terminal:
            return False
        self.lies += 1
        return True

    def swept(self, started: float) -> None:
        """Note the end of a sweep: it has had its say on all jobs that had ended before."""
        self._lately = 0
        self._ended = {job_id: at for job_id, at in self._ended.items() if at > started}
