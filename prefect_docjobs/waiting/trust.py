"""How far a list is believed that says jobs have ended: on credit, which looks renew.

An end that was reported cannot be taken back. So only a few ends are taken on trust between two that a look
has confirmed; the more were confirmed, the more. A list that says of many more jobs than could be expected
that they have ended has no credit until looks confirm it, and one that contradicts a look has none again.
"""

from __future__ import annotations

import math

from prefect_docjobs.models import JobState
from prefect_docjobs.waiting.pending import PendingJob

_CONFIRMED = 2  # ends that must be confirmed before any is taken on trust
_CREDIT = 32  # ends on trust after a confirmed one,
_SHARE = 8  # or that part of the open jobs,
_EARNED = 4  # or so many for each one that was ever confirmed, whichever is most
_LOW = 0.35  # of the credit: then the next end is confirmed, so that it does not run out
_MANY, _SURPRISE = 8, 4.0  # ends at once, and times as many as expected, that are too many to believe
_AT_ONCE = 2  # looks that confirm ends,
_ANSWERED = 2.0  # and the seconds after which they should be answered
_LIES = 2


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
