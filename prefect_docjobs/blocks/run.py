"""One job that a block submitted or took up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from prefect.blocks.abstract import JobRun

from prefect_docjobs.blocks.buying import open_ledger
from prefect_docjobs.blocks.sync_api import sync_form
from prefect_docjobs.errors import JobError
from prefect_docjobs.extraction import fetch_one, wait_one
from prefect_docjobs.http import Http
from prefect_docjobs.models import JobRef, JobStatus, Result

if TYPE_CHECKING:
    from prefect_docjobs.blocks.base import DocJob


class DocJobRun(JobRun[Result]):
    """A job at a service. Each verb opens a client of its own, so a run may travel between event loops.

    Attributes:
        job: The block that the job belongs to.
        ref: Which job it is, as complete as it has been seen so far.
    """

    def __init__(self, job: DocJob, ref: JobRef) -> None:
        self.job = job
        self.ref = ref

    def __repr__(self) -> str:
        return f"DocJobRun({self.ref})"

    async def await_for_completion(self, timeout: float | None = 3600.0) -> JobStatus:
        """Wait until the job has succeeded.

        Args:
            timeout: Seconds; None for no limit.

        Returns:
            The last status. (Prefect declares a logger here; none of its own runs returns one.)

        Raises:
            JobError: The job ended otherwise, or `timeout` passed; see `Waiter.done`.
        """
        async with self._client() as http, open_ledger() as ledger:
            status = await wait_one(self.job.provider(), http, self.ref, timeout=timeout, ledger=ledger)
        self.ref = status.ref
        return status

    def wait_for_completion(self, timeout: float | None = 3600.0) -> JobStatus:  # type: ignore[override]
        """The sync form of `await_for_completion`."""
        return sync_form(self.await_for_completion(timeout), "await_for_completion")

    async def afetch_result(self) -> Result:
        """Fetch the result of a job that has succeeded.

        Raises:
            ResultLost: The service no longer has it.
            ServiceError: It has none yet, or does not tell.
        """
        async with self._client() as http, open_ledger() as ledger:
            result = await fetch_one(self.job.provider(), http, self.ref, ledger=ledger)
        self.ref = result.ref
        return result

    def fetch_result(self) -> Result:  # type: ignore[override]
        """The sync form of `afetch_result`."""
        return sync_form(self.afetch_result(), "afetch_result")

    async def astatus(self) -> JobStatus:
        """Ask the service for the job's status once."""
        async with self._client() as http:
            status = await self.job.provider().status(http, self.ref)
        self.ref = status.ref
        return status

    def status(self) -> JobStatus:
        """The sync form of `astatus`."""
        return sync_form(self.astatus(), "astatus")

    async def acancel(self) -> None:
        """Stop the job at the service. Raises `Unsupported` where the service cannot."""
        async with self._client() as http:
            await self.job.provider().cancel(http, self.ref)

    def cancel(self) -> None:
        """The sync form of `acancel`."""
        return sync_form(self.acancel(), "acancel")

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[Http]:
        try:
            async with self.job.credentials.get_client() as http:
                yield http
        except JobError as error:
            self.ref = error.ref or self.ref
            raise
