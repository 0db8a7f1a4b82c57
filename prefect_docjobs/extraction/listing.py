"""A service's list of jobs, read page by page from the newest job back to a moment."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime

from prefect_docjobs.http import Http
from prefect_docjobs.providers.base import JobPage, Provider

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
