"""What a run would do with documents: read from the ledger, without a request and without a write."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from prefect_docjobs.errors import DocJobsError, Reason
from prefect_docjobs.extraction.budget import Budget, OverBudget
from prefect_docjobs.extraction.call import Terms
from prefect_docjobs.ledger import Entry, Record, Step, entry_for, next_step
from prefect_docjobs.models import Document
from prefect_docjobs.providers.base import Provider

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Ledger

_AT_A_TIME = 4  # documents that are read at the same time; more keep two processors no busier


class Verdict(str, Enum):
    """What a run would do with a document.

    `submit`: buy it. `paid`: use its result, which is in the ledger. `in_flight`: go on with its job, or wait
    for whoever does. `unclear`: find out whether an interrupted submit was accepted; then go on, submit, or
    report `uncertain`. `failed`: report why it failed before. `duplicate`: use the result of the same content
    earlier in the batch. `over_budget`, `invalid`: report that, send nothing.
    """

    SUBMIT = "submit"
    PAID = "paid"
    IN_FLIGHT = "in_flight"
    UNCLEAR = "unclear"
    FAILED = "failed"
    DUPLICATE = "duplicate"
    OVER_BUDGET = "over_budget"
    INVALID = "invalid"

    def __str__(self) -> str:
        return self.value


_VERDICTS: Mapping[Step, Verdict] = MappingProxyType(
    {
        Step.SUBMIT: Verdict.SUBMIT,
        Step.USE: Verdict.PAID,
        Step.WAIT: Verdict.IN_FLIGHT,
        Step.FETCH: Verdict.IN_FLIGHT,
        Step.STAND_BY: Verdict.IN_FLIGHT,
        Step.RECONCILE: Verdict.UNCLEAR,
        Step.FAIL: Verdict.FAILED,
    }
)


@dataclass(frozen=True, slots=True)
class PlannedDocument:
    """One document of a plan.

    Attributes:
        document: Its name.
        verdict: What would be done.
        pages: That would be bought; None where nothing would.
        counted: Whether they were counted; else it is taken for one page.
        cost: Of those pages; None without a price.
        reason: Why it failed before, also where it would be submitted again.
        job_id: The service's job, where there is one.
        note: For a person: which document it duplicates, or what is wrong with it.
    """

    document: str
    verdict: Verdict
    pages: int | None = None
    counted: bool = True
    cost: float | None = None
    reason: Reason | None = None
    job_id: str | None = None
    note: str | None = None

    def row(self) -> dict[str, Any]:
        """One flat row of plain JSON."""
        return {
            "document": self.document,
            "verdict": self.verdict.value,
            "pages": self.pages,
            "counted": self.counted,
            "cost": self.cost,
            "reason": self.reason.value if self.reason else None,
            "job_id": self.job_id,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do, and what it would cost.

    Attributes:
        documents: One for each document, in the order in which they were given.
        price_per_page: What a page costs; None where that is not known.
    """

    documents: tuple[PlannedDocument, ...] = ()
    price_per_page: float | None = None

    def __len__(self) -> int:
        return len(self.documents)

    def __iter__(self) -> Iterator[PlannedDocument]:
        return iter(self.documents)

    @property
    def counts(self) -> dict[str, int]:
        """Documents of each verdict that occurs."""
        seen = Counter(planned.verdict for planned in self.documents)
        return {verdict.value: seen[verdict] for verdict in Verdict if seen[verdict]}

    @property
    def pages(self) -> int:
        """Pages that would be bought."""
        return sum(planned.pages or 0 for planned in self.documents)

    @property
    def uncounted(self) -> int:
        """Documents among them whose pages nobody can count here; each is taken for one page."""
        return sum(not planned.counted for planned in self.documents)

    @property
    def cost(self) -> float | None:
        """What it would cost; None without a price."""
        return None if self.price_per_page is None else self.pages * self.price_per_page

    def rows(self) -> list[dict[str, Any]]:
        """One flat row for each document."""
        return [planned.row() for planned in self.documents]

    def __str__(self) -> str:
        """Such as `200 documents: 20 submit, 180 paid. 64 pages would be bought for 3.2.`."""
        counts = ", ".join(
            f"{number:,} {verdict.replace('_', ' ')}" for verdict, number in self.counts.items()
        )
        what = f"{_some(len(self), 'document')}: {counts}. " if self.documents else ""
        cost = "" if self.cost is None else f" for {self.cost:,g}"
        unsure = f", {_some(self.uncounted, 'document')} taken for one page each" if self.uncounted else ""
        return f"{what}{_some(self.pages, 'page')} would be bought{cost}{unsure}."


def _some(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


async def plan_many(
    provider: Provider,
    base_url: str,
    tenant: str,
    documents: Sequence[Document],
    *,
    terms: Terms | None = None,
    ledger: Ledger | None = None,
) -> Plan:
    """Find out what a run on the same terms would do now.

    Args:
        provider: The service, with its settings.
        base_url: Scheme, host and port of the service.
        tenant: Whose account it is.
        documents: All documents of the run.
        terms: On which it would submit. What is planned is taken from `terms.budget`, so give it one of its
            own.
        ledger: What is known; without one everything would be submitted.
    """
    terms = terms or Terms()
    scope, slots = terms.scope or uuid.uuid4().hex, asyncio.Semaphore(_AT_A_TIME)

    def entry(document: Document) -> Entry | DocJobsError:
        try:
            provider.check(document)
            return entry_for(
                provider,
                base_url=base_url,
                tenant=tenant,
                name=document.name,
                sha256=document.sha256,
                size=document.size,
                url=document.url,
                scope=scope,
            )
        except DocJobsError as wrong:
            return wrong.about(document.name)

    async def read(document: Document) -> Entry | DocJobsError:
        async with slots:
            return await anyio.to_thread.run_sync(entry, document)

    entries = await asyncio.gather(*map(read, documents))
    keys = [each.key for each in entries if isinstance(each, Entry)]
    found = await ledger.find(keys=keys, limit=max(1, len(keys))) if ledger else []
    budget = terms.budget or Budget()
    planning = _Planning(terms, budget, {record.key: record for record in found})
    planned = [await planning.plan(*each) for each in zip(documents, entries, strict=True)]
    return Plan(tuple(planned), budget.price_per_page)


@dataclass(frozen=True, slots=True)
class _Planning:
    """Decides document by document, as a run would."""

    terms: Terms
    budget: Budget
    records: Mapping[str, Record]
    first: dict[str, str] = field(default_factory=dict)

    async def plan(self, document: Document, known: Entry | DocJobsError) -> PlannedDocument:
        if isinstance(known, DocJobsError):
            return PlannedDocument(document.name, Verdict.INVALID, reason=known.reason, note=str(known))
        if known.key in self.first:
            same = f"the same content as {self.first[known.key]}"
            return PlannedDocument(document.name, Verdict.DUPLICATE, note=same)
        self.first[known.key] = document.name
        record = self.records.get(known.key)
        if record is None:
            return await self._bought(document, None)
        return await self._as_recorded(document, record)

    async def _as_recorded(self, document: Document, record: Record) -> PlannedDocument:
        terms = self.terms
        step = next_step(record, mine=False, reuse_for=terms.reuse_for, on_uncertain=terms.on_uncertain)
        if step is Step.SUBMIT:
            return await self._bought(document, record.reason)
        return PlannedDocument(
            document.name,
            _VERDICTS[step],
            reason=record.reason,
            job_id=record.job_id,
            note=record.error if step is Step.FAIL else None,
        )

    async def _bought(self, document: Document, failed_before: Reason | None) -> PlannedDocument:
        try:
            pages = await self.budget.take(document)
        except OverBudget as over:
            return PlannedDocument(document.name, Verdict.OVER_BUDGET, reason=over.reason, note=str(over))
        except DocJobsError as wrong:
            return PlannedDocument(document.name, Verdict.INVALID, reason=wrong.reason, note=str(wrong))
        price = self.budget.price_per_page
        return PlannedDocument(
            document.name,
            Verdict.SUBMIT,
            pages=pages.number,
            counted=pages.counted,
            cost=None if price is None else pages.number * price,
            reason=failed_before,
        )
