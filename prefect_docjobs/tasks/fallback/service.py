"""One job of a call, ready to take documents as they come."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.extraction import Terms
from prefect_docjobs.extraction.batch import Extract, extracting
from prefect_docjobs.ledger import entry_for
from prefect_docjobs.models import Document, Outcome
from prefect_docjobs.models.batches import BatchBuilder
from prefect_docjobs.providers import Provider
from prefect_docjobs.tasks.fallback.late import LateJobs
from prefect_docjobs.tasks.journal import Journal, Log
from prefect_docjobs.tasks.names import count

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Ledger

_TOLD_WITHIN = 1.0  # seconds; documents that go on are told of together


@dataclass(frozen=True)
class Stage:
    """A job, and what it is called in a trail."""

    label: str
    job: DocJob


def labelled(jobs: Sequence[DocJob]) -> list[Stage]:
    """The jobs by their names; raises `ConfigurationError` where there is none."""
    if not jobs:
        raise ConfigurationError("Give one job at least.")
    stages: list[Stage] = []
    for job in jobs:
        provider = job.provider()
        label = job.saved_name or f"{provider.name}/{provider.product}"
        twins = sum(stage.label.partition(" (")[0] == label for stage in stages)
        stages.append(Stage(f"{label} ({twins + 1})" if twins else label, job))
    return stages


@dataclass
class Service:
    """An opened job.

    Attributes:
        label: What it is called in a trail.
        provider: The service with the job's settings.
        account: `base_url` and `tenant`.
        extract: Takes one document through the service.
        late: Gives up what took too long.
        log: Of the run.
        outcomes: Of the documents that came, in the order in which they ended.
        ended: How many of them there are.
        under_way: Documents that are here now.
    """

    label: str
    provider: Provider
    account: dict[str, str]
    extract: Extract
    late: LateJobs
    log: Log
    outcomes: BatchBuilder = field(default_factory=BatchBuilder)
    ended: int = 0
    under_way: int = 0
    _going: Counter[str] = field(default_factory=Counter)
    _telling: asyncio.TimerHandle | None = None

    @classmethod
    @asynccontextmanager
    async def opened(
        cls,
        stage: Stage,
        terms: Terms,
        ledger: Ledger | None,
        log: Log,
        *,
        deadline: float,
        **options: Any,
    ) -> AsyncIterator[Service]:
        """Open the account of a job; `deadline` and `options` as for `extracting`."""
        provider, credentials = stage.job.provider(), stage.job.credentials
        account = {"base_url": credentials.base_url, "tenant": credentials.tenant_id}
        async with (
            credentials.get_client() as http,
            Journal(log, has_ledger=ledger is not None) as journal,
            extracting(
                provider,
                http,
                deadline=deadline,
                terms=terms,
                ledger=ledger,
                observe=journal.observe,
                **options,
            ) as extract,
        ):
            late = LateJobs(provider, http, ledger, log, deadline)
            service = cls(stage.label, provider, account, extract, late, log)
            try:
                yield service
            finally:
                service._tell()

    def key(self, sha256: str) -> str:
        """Under which the ledger knows a content that was bought through this job."""
        return entry_for(self.provider, name="", sha256=sha256, size=None, **self.account).key

    async def extracted(self, index: int, document: Document) -> Outcome:
        """What comes out of a document."""
        self.under_way += 1
        try:
            return await self.extract(index, document)
        finally:
            self.under_way -= 1

    def add(self, outcome: Outcome) -> int:
        """Keep an outcome; returns its position."""
        self.outcomes.add(self.ended, outcome)
        self.ended += 1
        return self.ended - 1

    def goes_on(self, why: str) -> None:
        """Say that a document goes on to the next job."""
        self._going[why] += 1
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(_TOLD_WITHIN, self._tell)

    def _tell(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
        going, self._going, self._telling = self._going, Counter(), None
        if going:
            reasons = ", ".join(f"{number:,} {why}" for why, number in going.most_common())
            some = count(going.total(), "document")
            self.log.warning("%s of %s: %s; going on to the next job", some, self.label, reasons)
