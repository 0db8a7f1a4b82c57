"""The pushes of one account, read from the ledger's inbox for the jobs that are waited for in this process.

Whichever process receives a push writes it into the inbox. A success ends the wait and its result is kept; a
hint causes a poll. Polls go on, so a lost push delays a job and never loses it. They become a watchdog only
while verified pushes report the ends of our jobs; hints, pushes for other jobs and a push that the service
contradicts do not count. When jobs end and no push comes, one warning says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from prefect_docjobs.cancellation import cancelled
from prefect_docjobs.errors import DocJobsError
from prefect_docjobs.http import Answer, Http
from prefect_docjobs.models import JobRef, JobState, JobStatus
from prefect_docjobs.providers.base import Provider
from prefect_docjobs.waiting.pending import PendingJob, PendingJobs, Recent

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Ledger, ReceivedPush

_log = logging.getLogger(__name__)
_EVERY = 0.2  # seconds between two reads of the inbox; one costs about 0.4 ms of CPU on SQLite
_OVERLAP = 15.0  # seconds for which pushes may appear out of their order (see `Inbox.received`)
_PAGE = 1000
_PAGES = 10  # at once; what else there is waits for the next read
_PROVED = 3  # ends in a row that pushes reported, from which on polls are a watchdog only
_GRACE = 20.0  # seconds after a job was seen to have ended, in which its push should have come
_MISSED = 5  # jobs in a row whose end no push reported


@dataclass
class _Health:
    """Whether pushes come for the jobs that end.

    Attributes:
        expected: Pushes were requested, or have come.
        proved: Ends in a row that a verified push reported.
        unproved: Ends in a row that none reported,
        missed: and no hint either.
    """

    expected: bool
    proved: int = 0
    unproved: int = 0
    missed: int = 0

    def reported(self) -> None:
        self.expected = True
        self.proved += 1
        self.unproved = self.missed = 0

    def missing(self, *, hinted: bool) -> None:
        self.proved = 0
        self.unproved += 1
        self.missed += not hinted

    def contradicted(self) -> None:
        self.proved, self.unproved = 0, _MISSED

    @property
    def is_good(self) -> bool:
        return self.proved >= _PROVED

    @property
    def is_bad(self) -> bool:
        return self.unproved >= _MISSED


class PushFeed:
    """Gives the pushes of one account to the jobs that are waited for.

    Args:
        provider: Whose jobs.
        http: Of the account.
        ledger: Whose inbox.
    """

    def __init__(self, provider: Provider, http: Http, ledger: Ledger) -> None:
        from prefect_docjobs.ledger import Account  # it imports SQLAlchemy

        self._provider = provider
        self._ledger = ledger
        self._inbox = ledger.inbox
        self._account = Account(provider.name, http.base_url, http.tenant)
        self._last: int | None = None
        self._is_open = False
        self._seen: Recent[int, None] = Recent()
        self._by_job: Recent[str, ReceivedPush] = Recent()
        self._by_alias: Recent[str, ReceivedPush] = Recent()
        self._reported: Recent[str, ReceivedPush] = Recent()  # ends of our jobs
        self._hints: Recent[str, None] = Recent()  # apart, as they must not displace pushes
        self._hinted_aliases: Recent[str, None] = Recent()
        self._hinted: Recent[str, None] = Recent()  # jobs of ours
        self._silent: Recent[str, float] = Recent()  # jobs that ended without a push, and when
        self._health = _Health(expected=provider.asks_for_pushes)
        self._logged: set[str] = set()

    @asynccontextmanager
    async def feeding(self, pending: PendingJobs) -> AsyncIterator[None]:
        """Report what arrives to `pending` while the context is open."""
        able = self._provider.capabilities
        if self._ledger.in_memory or not (able.push or able.hints):  # no other process writes into its inbox
            yield
            return
        try:
            await self._read_on()  # whatever is submitted from now on is pushed later than this
        except Exception:  # noqa: BLE001
            _log.exception("The inbox of pushes cannot be read: polling instead")
        following = asyncio.create_task(self._follow(pending), name="docjobs-pushes")
        self._is_open = True
        try:
            yield
        finally:
            self._is_open = False
            await cancelled(following)

    def ended(self, ref: JobRef) -> None:
        """Note that a job was seen to have succeeded, from any source."""
        if not self._is_open or ref.job_id in self._reported:
            return
        if push := self._by_job.pop(ref.job_id, None):
            self._confirm(ref.job_id, push)
        else:
            self._silent[ref.job_id] = asyncio.get_running_loop().time()

    async def result(self, ref: JobRef) -> Answer | None:
        """The result that a push brought, as the service's result route would give it."""
        push = self._reported.get(ref.job_id) or self._by_job.get(ref.job_id)
        if push is None or not push.has_body:
            return None
        body = await self._inbox.body(push.id)
        if body is None:
            return None
        headers = httpx.Headers({"content-type": "application/json"})
        return Answer(status=200, headers=headers, body=body, received_at=push.received_at)

    # -- the loop

    async def _follow(self, pending: PendingJobs) -> None:
        while True:
            await asyncio.sleep(_EVERY)
            if not pending.jobs:
                continue
            try:
                if await self._read_on():
                    self._report(pending)
                    self._check(pending)
                else:
                    pending.expect_pushes(False)
            except Exception as bug:  # noqa: BLE001 (whatever a push is like, polls go on)
                pending.expect_pushes(False)
                if "bug" not in self._logged:
                    self._logged.add("bug")
                    _log.warning("Pushes of %s cannot be followed", self._provider.title, exc_info=bug)

    async def _read_on(self) -> bool:
        """Read what is new; whether that was possible."""
        try:
            if self._last is None:
                self._last = await self._inbox.newest(self._account)
            for _ in range(_PAGES):
                if await self._read(self._last) < _PAGE:
                    break
        except DocJobsError as problem:  # polls go on
            _log.debug("The inbox of pushes cannot be read: %s", problem)
            return False
        return True

    async def _read(self, after: int) -> int:
        found = await self._inbox.received(self._account, within=_OVERLAP, limit=_PAGE, after=after)
        for push in found:
            if push.id not in self._seen:
                self._seen[push.id] = None
                self._sort_in(push)
        self._last = max([after, *(push.id for push in found)])
        return sum(push.id > after for push in found)

    def _sort_in(self, push: ReceivedPush) -> None:
        job_id, alias = push.job_id, push.alias
        if push.state is None:
            if job_id is not None:
                self._hints[job_id] = None
            elif alias is not None:
                self._hinted_aliases[alias] = None
        elif job_id is not None and job_id in self._silent:
            if push.state.is_terminal:
                self._confirm(job_id, push)
        elif job_id is not None:
            if not (
                _ends(self._reported.get(job_id)) or _ends(self._by_job.get(job_id))
            ):  # the first end counts
                self._by_job[job_id] = push
        elif alias is not None and not _ends(self._by_alias.get(alias)):
            self._by_alias[alias] = push

    def _confirm(self, job_id: str, push: ReceivedPush) -> None:
        """Compare a push with the job, which was seen to have succeeded."""
        self._silent.pop(job_id, None)
        if push.state is JobState.SUCCEEDED:
            self._reported[job_id] = push
            self._health.reported()
        elif _ends(push):
            self._contradicted(job_id, push)

    def _contradicted(self, job_id: str, push: ReceivedPush) -> None:
        self._health.contradicted()
        if "contradiction" not in self._logged:
            self._logged.add("contradiction")
            _log.warning(
                "%s: a push said %s of job %s, the service itself says otherwise; polling instead.",
                self._provider.title,
                push.state,
                job_id,
            )

    def _report(self, pending: PendingJobs) -> None:
        jobs = pending.jobs
        for job_id in self._reported.keys() & jobs.keys():  # it is waited for again: it had not ended
            if jobs[job_id].last is not None:
                self._contradicted(job_id, self._reported.pop(job_id))
        for job_id in self._by_job.keys() & jobs.keys():
            self._observe(pending, jobs[job_id], self._by_job.pop(job_id))
        for job_id in self._hints.keys() & jobs.keys():
            self._hint(pending, job_id)
        if self._by_alias or self._hinted_aliases:
            for job in list(jobs.values()):
                alias = job.ref.alias or ""
                if push := self._by_alias.pop(alias, None):
                    self._observe(pending, job, push)
                if alias in self._hinted_aliases:
                    del self._hinted_aliases[alias]
                    self._hint(pending, job.ref.job_id)

    def _hint(self, pending: PendingJobs, job_id: str) -> None:
        self._hints.pop(job_id, None)
        self._hinted[job_id] = None
        pending.hint(job_id)

    def _observe(self, pending: PendingJobs, job: PendingJob, push: ReceivedPush) -> None:
        if push.state is None:  # hints go another way
            return
        if push.state.is_terminal:
            self._reported[job.ref.job_id] = push
            self._health.reported()
        status = JobStatus(
            ref=job.ref,
            state=push.state,
            raw_state=push.raw_state,
            error=push.error,
            seen_at=push.received_at,
        )
        pending.observe_live(status)

    # -- whether pushes come at all

    def _check(self, pending: PendingJobs) -> None:
        late = asyncio.get_running_loop().time() - _GRACE
        for job_id in [job_id for job_id, ended_at in self._silent.items() if ended_at <= late]:
            del self._silent[job_id]
            self._health.missing(hinted=job_id in self._hinted)
        if self._health.is_bad:
            pending.expect_pushes(False)
        elif self._health.is_good:
            pending.expect_pushes(True)
        if self._health.expected and self._health.missed >= _MISSED:
            self._warn()

    def _warn(self) -> None:
        if "silence" in self._logged:
            return
        self._logged.add("silence")
        _log.warning(
            "%s: %d jobs in a row have ended and no push reported it; polling instead. Check that the "
            "receiver runs with this ledger, that the webhook's address leads to it, and its signing secret "
            "(the receiver counts what it refuses).",
            self._provider.title,
            self._health.missed,
        )


def _ends(push: ReceivedPush | None) -> bool:
    return push is not None and push.state is not None and push.state.is_terminal
