"""A service's list of jobs against the ledger: submits whose answer was lost, and unknown jobs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal

from prefect_docjobs.errors import DocJobsError, Reason, Unsupported
from prefect_docjobs.extraction.imports import import_refs
from prefect_docjobs.http import Http
from prefect_docjobs.ledger import Record
from prefect_docjobs.models import JobRef, JobState
from prefect_docjobs.providers.base import JobPage, JobRow, Provider

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Ledger

# ------------------------------------------------------------------------------------------------- the list

PAGE = 100
"""Jobs of one page."""

_PAGES = 200  # read at most


class JobListing:
    """The jobs of an account that began since a moment; to be read once.

    No service says in which order it lists, so that is found out from the dates. Where they tell nothing,
    every page is read.

    Args:
        provider: A service that lists its jobs.
        http: A client of the account.
        since: Pages on which all jobs began before are not asked for; None for the whole list.

    Attributes:
        complete: Whether all jobs since then were on the pages that were read.
    """

    def __init__(self, provider: Provider, http: Http, since: datetime | None = None) -> None:
        self.complete = False
        self._provider = provider
        self._http = http
        self._since = since

    async def pages(self) -> AsyncGenerator[tuple[int, JobPage]]:
        """Each page with its place in the list: the number of jobs before it.

        Raises:
            ServiceError: The service does not tell.
        """
        first = await self._page(0)
        backwards = first.oldest_first is True and first.total is not None and self._since is not None
        last = (max(first.total or 1, 1) - 1) // PAGE * PAGE if backwards else 0
        newest_first = False
        for number in range(_PAGES):
            skip = last - number * PAGE if backwards else number * PAGE
            page = await self._page(skip) if skip else first
            yield skip, page
            newest_first = newest_first or page.oldest_first is False
            is_last = skip == 0 if backwards else _is_last(page, skip)
            if is_last or ((backwards or newest_first) and self._is_older(page)):
                self.complete = True
                return

    async def _page(self, skip: int) -> JobPage:
        return await self._provider.list_jobs(self._http, skip=skip, limit=PAGE)

    def _is_older(self, page: JobPage) -> bool:
        """Whether all jobs of a page began too early, and so all on the pages that follow."""
        since, dates = self._since, page.dates
        return since is not None and 0 < len(dates) == len(page.rows) and max(dates) < since


def _is_last(page: JobPage, skip: int) -> bool:
    return len(page.rows) < PAGE and (page.total is None or page.total <= skip + PAGE)


# ---------------------------------------------------------------------------- submits whose answer was lost

_log = logging.getLogger(__name__)
GRACE = 30.0
"""Seconds after which an accepted job surely is in the list."""

RECHECKS: Sequence[float] = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds between looks at who claims a job: the answers of others' submits are written down meanwhile."""

_LONGEST = 1_800.0  # seconds; no submit that was intended longer ago can still be under way
_SLACK = timedelta(minutes=5)  # between the service's clock and the database's


class LostSubmits:
    """Looks for jobs of an account that nobody has claimed.

    A job is never taken for a document's because of the time at which it began: who else submits to the
    account is not known here. That no job began since the intent proves that it was not accepted.
    """

    def __init__(self, provider: Provider, http: Http, ledger: Ledger) -> None:
        self._provider = provider
        self._http = http
        self._ledger = ledger
        self._reading = asyncio.Lock()
        self._read_at = -1.0
        self._since = datetime.max.replace(tzinfo=timezone.utc)
        self._jobs: dict[str, datetime | None] | None = None

    async def candidates(self, intent: Record, *, just_sent: bool) -> tuple[str, ...] | None:
        """Ids of jobs that may be the intent's.

        Args:
            intent: The submit whose answer is lost.
            just_sent: By this call, however long ago it was intended.

        Returns:
            Empty: it surely was not accepted. None: nobody can tell.
        """
        if not self._provider.capabilities.list_jobs:
            return None
        if (
            just_sent or intent.age < _LONGEST
        ):  # counted from now: the intent may have waited long for its turn
            await asyncio.sleep(GRACE)
        since = intent.intended_at - _SLACK
        jobs = await self._jobs_since(since)
        if jobs is None:
            return None
        began = [job_id for job_id, created_at in jobs.items() if created_at is None or created_at >= since]
        return tuple(await self._unclaimed(intent, began))

    async def _unclaimed(self, intent: Record, job_ids: list[str]) -> list[str]:
        """Those that nobody claims; a job that another submit is just making is claimed in a moment."""
        for pause in (0.0, *RECHECKS):
            await asyncio.sleep(pause)
            known = await self._ledger.known_jobs(intent.provider, intent.base_url, intent.tenant, job_ids)
            job_ids = [job_id for job_id in job_ids if job_id not in known]
            if not job_ids:
                break
        return job_ids

    async def _jobs_since(self, since: datetime) -> dict[str, datetime | None] | None:
        """The jobs that began since then; one reading serves all who asked before it."""
        clock = asyncio.get_running_loop().time
        asked_at = clock()
        async with self._reading:
            if self._read_at < asked_at or self._since > since:
                self._read_at, self._since = clock(), since
                self._jobs = await self._listed(since)
            return self._jobs

    async def _listed(self, since: datetime) -> dict[str, datetime | None] | None:
        listing = JobListing(self._provider, self._http, since)
        jobs: dict[str, datetime | None] = {}
        try:
            async with aclosing(listing.pages()) as pages:
                async for _, page in pages:
                    if page.total is None and len(page.rows) >= PAGE:
                        return None  # there is more, and nobody knows how much
                    jobs.update((job_id, row.created_at) for job_id, row in page.rows.items())
        except DocJobsError as error:
            _log.warning("The list of jobs of %s cannot be read: %s", self._provider.title, error)
        return jobs if listing.complete else None


# ----------------------------------------------------------------------- jobs that the ledger does not know

Action = Literal["report", "adopt", "cancel"]
"""What to do with orphans: tell of them; write them into the ledger; stop those that still run."""

SETTLED_AFTER = 600.0
"""Seconds after which a job that the ledger does not know is an orphan: before, its submit may be under way,
and the two clocks differ."""

_CANCELS = 4  # at the same time


class Standing(str, Enum):
    """How a job of the service stands to the ledger.

    `known`: it is there. `new`: it is not, but too young, or without a date, to be called an orphan.
    `orphaned`: it is not. `adopted`: it was not, and is now. `cancelled`: likewise, and was told to stop.
    """

    KNOWN = "known"
    NEW = "new"
    ORPHANED = "orphaned"
    ADOPTED = "adopted"
    CANCELLED = "cancelled"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class ServiceJob:
    """One job of the service.

    Attributes:
        ref: Its ref. An orphan's document is not known; it is named after the job, and its product is the
            one that was asked with.
        state: What it does.
        standing: How it stands to the ledger.
        created_at: When the service says that it began (UTC), where it does.
        note: The document that it may belong to, or why it could not be cancelled.
    """

    ref: JobRef
    state: JobState
    standing: Standing
    created_at: datetime | None = None
    note: str | None = None

    def row(self) -> dict[str, Any]:
        """One flat row of plain JSON."""
        return {
            "job": self.ref.job_id,
            "standing": self.standing.value,
            "state": self.state.value,
            "created_at": self.created_at.isoformat() if self.created_at else None,
            "document": self.ref.document_name if self.standing is Standing.KNOWN else None,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """All jobs of an account since a time.

    Attributes:
        jobs: In the service's order.
        complete: Whether its whole list was read; it ends after 20,000 jobs.
    """

    jobs: tuple[ServiceJob, ...] = ()
    complete: bool = True

    @property
    def counts(self) -> dict[str, int]:
        """Jobs of each standing."""
        standings = [job.standing for job in self.jobs]
        return {standing.value: standings.count(standing) for standing in Standing}


async def reconcile(
    provider: Provider,
    http: Http,
    ledger: Ledger,
    *,
    since: datetime | None = None,
    action: Action = "report",
    settled_after: float = SETTLED_AFTER,
) -> Reconciliation:
    """Hold the service's jobs against the ledger.

    Args:
        provider: The service; adopted jobs become jobs of its product.
        http: A client of the account.
        ledger: What is known.
        since: Leave out jobs that began before; None for all.
        action: What to do with orphans. Only jobs that may have a result are adopted, and only jobs that
            have not ended are cancelled.
        settled_after: Seconds; see `SETTLED_AFTER`.

    Raises:
        Unsupported: The service has no list of jobs, or cannot cancel.
        ServiceError: It does not tell.
        LedgerUnavailable: The ledger cannot be read or written.
    """
    _check(provider, action)
    rows, complete = await _listed(provider, http, since)
    before = datetime.now(timezone.utc) - timedelta(seconds=settled_after)
    comparison = await _Comparison.of(provider, http, ledger, rows, before)
    jobs = [comparison.job(job_id, row) for job_id, row in rows.items()]
    if action == "adopt":
        jobs = await _adopted(ledger, jobs)
    elif action == "cancel":
        jobs = await _cancelled(provider, http, jobs)
    return Reconciliation(tuple(jobs), complete)


def _check(provider: Provider, action: Action) -> None:
    if not provider.capabilities.list_jobs:
        raise Unsupported(
            f"{provider.title} has no list of jobs, so nobody can find out which of its jobs are unknown "
            "here. Jobs whose refs you have can be imported."
        )
    if action == "cancel" and not provider.capabilities.cancel:
        raise Unsupported(f"{provider.title} cannot cancel a job. It runs to its end and is billed.")


async def _listed(provider: Provider, http: Http, since: datetime | None) -> tuple[dict[str, JobRow], bool]:
    """The jobs that began since then, or that have no date; and whether the whole list was read."""
    listing = JobListing(provider, http, since)
    pages = {skip: page async for skip, page in listing.pages()}
    in_order = (item for skip in sorted(pages) for item in pages[skip].rows.items())
    return {job_id: row for job_id, row in in_order if not _is_before(row, since)}, listing.complete


def _is_before(row: JobRow, since: datetime | None) -> bool:
    return since is not None and row.created_at is not None and row.created_at < since


@dataclass(frozen=True, slots=True)
class _Comparison:
    """What the ledger says of jobs.

    Attributes:
        known: Its records, by job id.
        wanted: Names of documents whose submit is uncertain, by the ids of the jobs that may be theirs.
        before: What began later may still be written down.
    """

    provider: Provider
    http: Http
    known: Mapping[str, Record]
    wanted: Mapping[str, str]
    before: datetime

    @classmethod
    async def of(
        cls, provider: Provider, http: Http, ledger: Ledger, rows: Mapping[str, JobRow], before: datetime
    ) -> _Comparison:
        account: dict[str, Any] = {
            "provider": provider.name,
            "base_url": http.base_url,
            "tenant": http.tenant,
        }
        found = await ledger.find(job_ids=list(rows), limit=max(1, 2 * len(rows)), **account)
        unsure = await ledger.find(reasons=[Reason.UNCERTAIN], limit=10_000, **account)
        return cls(
            provider,
            http,
            {record.job_id: record for record in found if record.job_id},
            {job_id: record.document_name for record in unsure for job_id in record.candidates},
            before,
        )

    def job(self, job_id: str, row: JobRow) -> ServiceJob:
        """The job, and how it stands."""
        record = self.known.get(job_id)
        if record is not None:
            ref = record.ref or self._ref(job_id, row)
            return ServiceJob(ref, row.state, Standing.KNOWN, row.created_at)
        settled = row.created_at is not None and row.created_at < self.before
        wanted = self.wanted.get(job_id)
        return ServiceJob(
            self._ref(job_id, row),
            row.state,
            Standing.ORPHANED if settled else Standing.NEW,
            row.created_at,
            f"may be the job of {wanted}" if wanted else None,
        )

    def _ref(self, job_id: str, row: JobRow) -> JobRef:
        return JobRef(
            provider=self.provider.name,
            base_url=self.http.base_url,
            tenant=self.http.tenant,
            product=self.provider.product,
            job_id=job_id,
            document_name=f"job {job_id}",
            submitted_at=row.created_at or datetime.now(timezone.utc),
        )


async def _adopted(ledger: Ledger, jobs: Iterable[ServiceJob]) -> list[ServiceJob]:
    """The jobs, with those orphans in the ledger that may have a result."""
    given = list(jobs)
    without_result = (JobState.FAILED, JobState.CANCELLED)
    refs = [job.ref for job in _orphans(given) if job.state not in without_result]
    adopted = {ref.job_id for ref in (await import_refs(ledger, refs)).new}
    return [replace(job, standing=Standing.ADOPTED) if job.ref.job_id in adopted else job for job in given]


async def _cancelled(provider: Provider, http: Http, jobs: Iterable[ServiceJob]) -> list[ServiceJob]:
    """The jobs, with those orphans stopped that still run."""
    turns = asyncio.Semaphore(_CANCELS)

    async def cancel(job: ServiceJob) -> ServiceJob:
        if job.standing is not Standing.ORPHANED or job.state.is_terminal:
            return job
        async with turns:
            try:
                await provider.cancel(http, job.ref)
            except DocJobsError as refused:
                return replace(job, note=f"not cancelled: {refused}")
        return replace(job, standing=Standing.CANCELLED)

    return list(await asyncio.gather(*map(cancel, jobs)))


def _orphans(jobs: Iterable[ServiceJob]) -> list[ServiceJob]:
    return [job for job in jobs if job.standing is Standing.ORPHANED]
