"""Driving failed documents again, as far as the reasons of their failures allow."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from prefect_docjobs.blocks.buying import REUSE_DAYS, terms_of, the_ledger
from prefect_docjobs.cancellation import cancelled
from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.extraction import OnUncertain, Terms, extract_many, fetch_many, wait_many
from prefect_docjobs.extraction.budget import Budget, budget_of
from prefect_docjobs.http import Http
from prefect_docjobs.models import Batch, Document, JobRef, Outcome
from prefect_docjobs.models.batches import BatchBuilder
from prefect_docjobs.providers import Provider
from prefect_docjobs.tasks.arguments import Job, the_document, the_job
from prefect_docjobs.tasks.costs import log_costs
from prefect_docjobs.tasks.journal import Journal, run_log
from prefect_docjobs.tasks.names import counting
from prefect_docjobs.tasks.redrivable import Again, allowed
from prefect_docjobs.tasks.twins import docjobs_task, plain_twin

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Ledger


@docjobs_task("redrive", counting("redrive", "batch", "document"))
async def aredrive(
    job: Job,
    batch: Iterable[Outcome],
    documents: Sequence[Document | None] | None = None,
    *,
    resubmit: bool = False,
    on_uncertain: OnUncertain = "fail",
    timeout: float | None = None,
    document_timeout: float | None = 3600.0,
    reuse_days: float | None = REUSE_DAYS,
    concurrency: int = 1000,
    budget: Budget | float | None = None,
    max_documents: int | None = None,
    price_per_page: float | None = None,
) -> Batch:
    """Drive the failed documents of a batch again: exactly those whose reasons allow it.

    | reason | what is done |
    |---|---|
    | `throttled` `unavailable` | submitted again |
    | `timeout` | waited for again; without a ref, submitted |
    | `failed` `expired` `lost_job` `lost_result` | bought again with `resubmit`, else left |
    | `uncertain` | submitted again with `on_uncertain="resubmit"`, else left |
    | `unreadable` | fetched again |
    | `unauthorized` `quota` `budget` | submitted again, once the cause is removed |
    | `rejected` `invalid_document` `cancelled` | left |

    Args:
        job: The job block that the batch was made with, or its name.
        batch: The outcomes of an earlier call.
        documents: The documents of the batch in the same order, for those that have to be submitted. A None
            among them is a document that is not to be had: its row is left.
        resubmit: Buy again what is paid for and has no result, whatever the ledger says.
        on_uncertain: What to do when a submit's answer is lost, or was lost in that batch.
        timeout: Seconds for the whole call, None for no limit; see `extract_documents`.
        document_timeout: Seconds for each job; None for no limit.
        reuse_days: Days during which a result is used again for the same content; 0 never, None for ever.
        concurrency: Documents under way at the same time, at most.
        budget: What may be bought: pages, or with `price_per_page` what they may cost. The submit that would
            pass it is not made; its row has the reason `budget`. Waiting costs nothing. None for no limit; a
            `Budget` is shared by all calls that are given it.
        max_documents: Documents that may be bought.
        price_per_page: What a page costs, in any currency.

    Returns:
        The whole batch in its order: rows that are well or may not be driven again as they were, the others
        with what became of them. One document's failure never raises.

    Raises:
        ConfigurationError: The job, an outcome, a document or a limit is no such thing, or a row has to be
            submitted and no `documents` are given. Nothing was sent.
    """
    if concurrency < 1:
        raise ConfigurationError("concurrency must be at least 1.")
    block, rows, log = await the_job(job), _the_rows(batch), run_log()
    plan = _plan(rows, documents, resubmit=resubmit, on_uncertain=on_uncertain)
    log.info(
        "Of %d documents %d are submitted again, %d are waited for again, %d are left as they are",
        len(rows), len(plan.submits), len(plan.waits), len(rows) - len(plan.submits) - len(plan.waits),
    )  # fmt: skip
    limit = budget_of(budget, max_documents, price_per_page)
    terms = replace(terms_of(block, on_uncertain, reuse_days, limit), resubmit=resubmit)
    async with (
        block.credentials.get_client() as http,
        the_ledger() as ledger,
        Journal(log, has_ledger=ledger is not None) as journal,
    ):
        redriving = _Redriving(
            block.provider(), http, ledger, terms, timeout, document_timeout, concurrency, journal
        )
        redriven = await redriving.batch(rows, plan)
    submitted = Batch(tuple(redriven.heads[index] for index in sorted(plan.submits)))
    log_costs(log, submitted, limit, is_shared=limit is budget)
    return redriven


redrive = plain_twin(aredrive)


@dataclass(frozen=True)
class _Plan:
    """What is done with which rows: documents to submit and jobs to wait for, by position."""

    submits: Mapping[int, Document]
    waits: Mapping[int, JobRef]


def _the_rows(batch: Iterable[Outcome]) -> list[Outcome]:
    rows = list(batch) if isinstance(batch, Iterable) else [batch]
    if not all(isinstance(row, Outcome) for row in rows):
        raise ConfigurationError("A batch is needed, or a list of its outcomes.")
    return rows


def _plan(
    rows: Sequence[Outcome],
    documents: Sequence[Document | None] | None,
    *,
    resubmit: bool,
    on_uncertain: OnUncertain,
) -> _Plan:
    steps = [allowed(row, resubmit=resubmit, on_uncertain=on_uncertain) for row in rows]
    to_submit = [index for index, step in enumerate(steps) if step in (Again.SUBMIT, Again.RESUBMIT)]
    if documents is None and to_submit:
        raise ConfigurationError(
            f"{rows[to_submit[0]].document} has to be submitted again: give documents=, those of the batch "
            "in the same order."
        )
    given = [None] * len(rows) if documents is None else list(documents)
    if len(given) != len(rows):
        raise ConfigurationError(f"There are {len(rows)} outcomes and {len(given)} documents. Give all.")
    waits = {
        index: row.ref for index, row in enumerate(rows) if steps[index] is Again.WAIT and row.ref is not None
    }
    submits = {index: the_document(given[index]) for index in to_submit if given[index] is not None}
    return _Plan(submits, waits)


@dataclass
class _Redriving:
    """One call of `redrive`, with its account and its limits."""

    provider: Provider
    http: Http
    ledger: Ledger | None
    terms: Terms
    timeout: float | None
    document_timeout: float | None
    concurrency: int
    journal: Journal
    builder: BatchBuilder = field(default_factory=BatchBuilder)

    async def batch(self, rows: Sequence[Outcome], plan: _Plan) -> Batch:
        """All rows: those that are driven again as they end, the others as they were."""
        driven = plan.submits.keys() | plan.waits.keys()
        for index, row in enumerate(rows):
            if index not in driven:
                self.builder.add(index, row)
        await _together(self._submit(plan, len(driven)), self._wait(rows, plan, len(driven)))
        batch = self.builder.build(len(rows))
        self.journal.close(Batch(tuple(batch.heads[index] for index in sorted(driven))))
        return batch

    async def _submit(self, plan: _Plan, total: int) -> None:
        positions = list(plan.submits)
        outcomes = extract_many(
            self.provider,
            self.http,
            list(plan.submits.values()),
            timeout=self.timeout,
            document_timeout=self.document_timeout,
            concurrency=self.concurrency,
            terms=self.terms,
            ledger=self.ledger,
            observe=self.journal.observe,
        )
        async with aclosing(outcomes):
            async for number, outcome in outcomes:
                self._add(positions[number], outcome, total)

    async def _wait(self, rows: Sequence[Outcome], plan: _Plan, total: int) -> None:
        """Wait for all jobs, then fetch the results of those that have succeeded."""
        positions, succeeded = list(plan.waits), dict[int, JobRef]()
        waited = wait_many(
            self.provider,
            self.http,
            list(plan.waits.values()),
            timeout=self.timeout,
            document_timeout=self.document_timeout,
            ledger=self.ledger,
            observe=self.journal.observe,
        )
        async with aclosing(waited):
            async for number, outcome in waited:
                index = positions[number]
                if outcome.ok and outcome.ref is not None:
                    succeeded[index] = outcome.ref
                else:
                    self._add(index, _named(outcome, rows[index]), total)
        await self._fetch(rows, succeeded, total)

    async def _fetch(self, rows: Sequence[Outcome], refs: Mapping[int, JobRef], total: int) -> None:
        positions = list(refs)
        fetched = fetch_many(
            self.provider,
            self.http,
            list(refs.values()),
            ledger=self.ledger,
            observe=self.journal.observe,
        )
        async with aclosing(fetched):
            async for number, outcome in fetched:
                index = positions[number]
                self._add(index, _named(outcome, rows[index]), total)

    def _add(self, index: int, outcome: Outcome, total: int) -> None:
        self.builder.add(index, outcome)
        self.journal.ended(outcome, total)


def _named(outcome: Outcome, row: Outcome) -> Outcome:
    """The outcome under the name of its row; its job was bought before this call."""
    return outcome.model_copy(update={"document": row.document, "reused": True})


async def _together(*work: Coroutine[None, None, None]) -> None:
    """Do all of it at once; what is left when one breaks, or nobody waits any more, is cancelled."""
    tasks = [asyncio.create_task(part) for part in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        await cancelled(*tasks)
