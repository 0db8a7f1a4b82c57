"""Submits whose answer is lost: was the document accepted? Only a service that lists its jobs can tell."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import aclosing
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from prefect_docjobs.errors import DocJobsError
from prefect_docjobs.extraction.listing import PAGE, JobListing
from prefect_docjobs.http import Http
from prefect_docjobs.ledger import Record
from prefect_docjobs.providers.base import Provider

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Ledger

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
