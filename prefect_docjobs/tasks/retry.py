"""Retrying the failed documents of a batch, as far as the reasons of their failures allow."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from typing_extensions import Unpack

from prefect_docjobs.blocks.ledger import open_ledger
from prefect_docjobs.cancellation import cancelled
from prefect_docjobs.errors import ConfigurationError, Retry, allowed_retry
from prefect_docjobs.extraction import OnUncertain, extract_many, fetch_many, wait_many
from prefect_docjobs.extraction.options import ExtractOptions, Options
from prefect_docjobs.models import Batch, Document, JobRef, Outcome
from prefect_docjobs.models.batches import BatchBuilder
from prefect_docjobs.tasks._run import (
    Job,
    RunLog,
    checked_document,
    counting,
    docjobs_task,
    log_costs,
    resolve_job,
    run_log,
    sync_form,
)


@docjobs_task("retry-failures", counting("retry", "batch", "document"))
async def aretry_failures(
    job: Job,
    batch: Iterable[Outcome],
    documents: Sequence[Document | None] | None = None,
    *,
    resubmit: bool = False,
    **options: Unpack[ExtractOptions],
) -> Batch:
    """Retry the failed documents of a batch: exactly those whose reasons allow it.

    | reason | what is done |
    |---|---|
    | `throttled` `unavailable` | submitted again |
    | `timeout` | waited for again; without a ref, submitted |
    | `failed` `expired` `lost_job` `lost_result` | submitted again with `resubmit`, else left |
    | `uncertain` | submitted again with `on_uncertain="resubmit"`, else left |
    | `unreadable` | fetched again |
    | `unauthorized` `quota` `budget` | submitted again, once the cause is removed |
    | `rejected` `invalid_document` `cancelled` | left |

    Args:
        job: The job block that the batch was made with, or its name.
        batch: The outcomes of an earlier call.
        documents: The documents of the batch in the same order, for those that have to be submitted. A None
            among them is a document that is not to be had: its row is left.
        resubmit: Submit again what is paid for and has no result, whatever the ledger says.
        **options: See `Options`. `on_uncertain` is also for answers that were lost in that batch.

    Returns:
        The whole batch in its order: rows that succeeded or may not be retried as they were, the others with
        what became of them. One document's failure never raises.

    Raises:
        ConfigurationError: The job, an outcome, a document or an option is no such thing, or a row has to be
            submitted and no `documents` are given. Nothing was sent.
    """
    chosen = Options.of(options)
    block, rows, log = await resolve_job(job), _checked_rows(batch), run_log()
    plan = _plan(rows, documents, resubmit=resubmit, on_uncertain=chosen.on_uncertain)
    retried = plan.submits.keys() | plan.waits.keys()
    log.info(
        "Of %d documents %d are submitted again, %d are waited for again, %d are left as they are",
        len(rows), len(plan.submits), len(plan.waits), len(rows) - len(retried),
    )  # fmt: skip
    terms = replace(block.terms(chosen), resubmit=resubmit)
    builder = BatchBuilder()
    for index, row in enumerate(rows):
        if index not in retried:
            builder.add(index, row)
    async with (
        block.credentials.get_client() as http,
        open_ledger() as ledger,
        RunLog(log, with_refs=ledger.in_memory) as lines,
    ):
        provider = block.provider()

        def add(index: int, outcome: Outcome) -> None:
            builder.add(index, outcome)
            lines.ended(outcome, len(retried))

        async def submit() -> None:
            positions = list(plan.submits)
            extracted = extract_many(
                provider,
                http,
                list(plan.submits.values()),
                timeout=chosen.timeout,
                document_timeout=chosen.document_timeout,
                concurrency=chosen.concurrency,
                terms=terms,
                ledger=ledger,
                observe=lines.observe,
            )
            async with aclosing(extracted):
                async for number, outcome in extracted:
                    add(positions[number], outcome)

        async def wait() -> None:
            """Wait for all jobs, then fetch the results of those that have succeeded."""
            positions, succeeded = list(plan.waits), dict[int, JobRef]()
            waited = wait_many(
                provider,
                http,
                list(plan.waits.values()),
                timeout=chosen.timeout,
                document_timeout=chosen.document_timeout,
                ledger=ledger,
                observe=lines.observe,
            )
            async with aclosing(waited):
                async for number, outcome in waited:
                    index = positions[number]
                    if outcome.ok and outcome.ref is not None:
                        succeeded[index] = outcome.ref
                    else:
                        add(index, _named(outcome, rows[index]))
            positions, refs = list(succeeded), list(succeeded.values())
            fetched = fetch_many(provider, http, refs, ledger=ledger, observe=lines.observe)
            async with aclosing(fetched):
                async for number, outcome in fetched:
                    add(positions[number], _named(outcome, rows[positions[number]]))

        both = [asyncio.create_task(submit()), asyncio.create_task(wait())]
        try:
            await asyncio.gather(*both)
        finally:
            await cancelled(*both)
        whole = builder.build(len(rows))
        lines.close(Batch(tuple(whole.heads[index] for index in sorted(retried))))
    submitted = Batch(tuple(whole.heads[index] for index in sorted(plan.submits)))
    log_costs(log, submitted, terms.budget, is_shared=terms.budget is options.get("budget"))
    return whole


retry_failures = sync_form(aretry_failures)


@dataclass(frozen=True)
class _Plan:
    """What is done with which rows: documents to submit and jobs to wait for, by position."""

    submits: Mapping[int, Document]
    waits: Mapping[int, JobRef]


def _checked_rows(batch: Iterable[Outcome]) -> list[Outcome]:
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
    steps = [
        allowed_retry(row.reason, has_job=row.ref is not None, resubmit=resubmit, on_uncertain=on_uncertain)
        for row in rows
    ]
    to_submit = [index for index, step in enumerate(steps) if step in (Retry.SUBMIT, Retry.RESUBMIT)]
    if documents is None and to_submit:
        raise ConfigurationError(
            f"{rows[to_submit[0]].document} has to be submitted again: give documents=, those of the batch "
            "in the same order."
        )
    given = [None] * len(rows) if documents is None else list(documents)
    if len(given) != len(rows):
        raise ConfigurationError(f"There are {len(rows)} outcomes and {len(given)} documents. Give all.")
    waits = {
        index: row.ref for index, row in enumerate(rows) if steps[index] is Retry.WAIT and row.ref is not None
    }
    submits = {index: checked_document(given[index]) for index in to_submit if given[index] is not None}
    return _Plan(submits, waits)


def _named(outcome: Outcome, row: Outcome) -> Outcome:
    """The outcome under the name of its row; its job was submitted before this call."""
    return outcome.model_copy(update={"document": row.document, "reused": True})
