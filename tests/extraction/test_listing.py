"""A service's list of jobs is read as far as is needed, in whichever order it is."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from support.toy import BEGAN, URL, Account, Listed
from support.virtual_time import virtual_time

from prefect_docjobs.extraction.reconcile import JobListing
from prefect_docjobs.http import Http
from prefect_docjobs.models import JobState
from prefect_docjobs.providers.base import JobPage, JobRow

LATELY = BEGAN - timedelta(minutes=90)  # `Account.add_old` ends its jobs at 61 minutes before the clock began
EARLIER = BEGAN - timedelta(minutes=250)


def account(jobs: int, *, oldest_first: bool = False, dated: bool = True) -> Account:
    """An account with jobs of the past, one for each minute."""
    made = Account(oldest_first=oldest_first, dated=dated)
    made.add_old(jobs)
    return made


class WithoutTotal(Listed):
    """Its list does not tell how many jobs there are."""

    async def list_jobs(self, http: Http, *, skip: int = 0, limit: int = 100, once: bool = False) -> JobPage:
        return replace(await super().list_jobs(http, skip=skip, limit=limit), total=None)


async def read(provider: Listed, since: datetime | None = None) -> tuple[dict[str, JobRow], bool]:
    """The jobs of the list as they were read, and whether it is complete."""
    http = Http(provider="toy", base_url=URL, headers={}, tenant="acme")
    listing = JobListing(provider, http, since)
    jobs: dict[str, JobRow] = {}
    async for skip, page in listing.pages():
        assert skip == provider.account.pages[-1]
        jobs |= page.rows
    return jobs, listing.complete


@pytest.mark.parametrize("oldest_first", [False, True])
@pytest.mark.parametrize("jobs", [0, 1, 99, 100, 101, 345])
@virtual_time
async def test_the_whole_list_has_every_job(jobs: int, oldest_first: bool) -> None:
    at = account(jobs, oldest_first=oldest_first)
    assert await read(Listed(account=at)) == await read(WithoutTotal(account=at))
    found, complete = await read(Listed(account=at))
    assert (set(found), complete) == (set(at.jobs), True)


@pytest.mark.parametrize("since", [LATELY, EARLIER])
@pytest.mark.parametrize("oldest_first", [False, True])
@virtual_time
async def test_no_page_is_read_beyond_the_first_that_is_too_old(since: datetime, oldest_first: bool) -> None:
    at = account(1_000, oldest_first=oldest_first)
    found, complete = await read(Listed(account=at), since)
    wanted = {job_id for job_id, job in at.jobs.items() if BEGAN + timedelta(seconds=job.made) >= since}
    assert complete
    assert wanted <= found.keys()
    assert len(at.pages) <= len(wanted) // 100 + 2 + oldest_first  # the first page tells the order


@virtual_time
async def test_an_oldest_first_list_without_a_total_is_read_from_its_beginning_to_its_end() -> None:
    at = account(345, oldest_first=True)
    found, complete = await read(WithoutTotal(account=at), LATELY)
    assert (set(found), complete, at.pages) == (set(at.jobs), True, [0, 100, 200, 300])


@virtual_time
async def test_without_dates_all_pages_are_read_though_a_date_is_asked_for() -> None:
    at = account(345, dated=False)
    found, complete = await read(Listed(account=at), LATELY)
    assert (set(found), complete) == (set(at.jobs), True)


class AllAtOnce(Listed):
    """All jobs of its list began at the same time, long ago, but for the last one."""

    async def list_jobs(self, http: Http, *, skip: int = 0, limit: int = 100, once: bool = False) -> JobPage:
        page = await super().list_jobs(http, skip=skip, limit=limit)
        rows = {job_id: replace(row, created_at=EARLIER) for job_id, row in page.rows.items()}
        if skip + limit >= (page.total or 0):
            rows[list(rows)[-1]] = JobRow(JobState.PROCESSING, created_at=BEGAN)
        return replace(page, rows=rows)


@virtual_time
async def test_old_dates_do_not_end_the_list_where_they_do_not_tell_its_order() -> None:
    found, complete = await read(AllAtOnce(account=account(250)), LATELY)
    assert (len(found), complete) == (250, True)


@pytest.mark.parametrize(("since", "told"), [(None, False), (LATELY, True)])
@virtual_time
async def test_a_list_that_is_too_long_is_complete_only_where_the_date_was_reached(
    since: datetime | None, told: bool
) -> None:
    at = account(20_100)
    _, complete = await read(Listed(account=at), since)
    assert (complete, len(at.pages) <= 200) == (told, True)
