"""The flow that extracts, asks people about what is in doubt, and writes what they say."""

# No `from __future__ import annotations`: a flow that is served is loaded by its path, and Prefect 3.8 does
# not find the types of its parameters then.

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, cast

from prefect import flow, runtime
from prefect.context import FlowRunContext
from pydantic import Field

from prefect_docjobs.comparison import Acceptance, ComparatorName, VotingRule, check_settings
from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.extraction import OnUncertain
from prefect_docjobs.extraction.options import REUSE_DAYS
from prefect_docjobs.flows.budgets import budget_of_run
from prefect_docjobs.flows.files import REVIEWS
from prefect_docjobs.flows.lines import LineFiles
from prefect_docjobs.flows.listing import list_documents_once
from prefect_docjobs.flows.panel import Panel
from prefect_docjobs.flows.parameters import Amount, AtLeastOne, Days, JobParameter, Seconds, output_folder
from prefect_docjobs.flows.reviewing.decisions import Decisions
from prefect_docjobs.flows.reviewing.queue import FILES, Examination, ReviewQueue
from prefect_docjobs.flows.reviewing.waiting import Waiting, WaitMode, can_suspend
from prefect_docjobs.models import BatchBuilder, Document
from prefect_docjobs.tasks import cancel_remote_jobs
from prefect_docjobs.tasks._run import count, run_log

Share = Annotated[float, Field(ge=0, le=1)]


def _run_name() -> str:
    given = runtime.flow_run.parameters
    return f"review {Path(given['folder']).name or given['folder']}"


@flow(
    name="review-documents",
    flow_run_name=_run_name,
    on_cancellation=[cancel_remote_jobs],
    on_crashed=[cancel_remote_jobs],
)
async def review_documents(
    folder: str,
    jobs: Annotated[Sequence[JobParameter], Field(min_length=1)],
    *,
    required: list[str] | None = None,
    min_confidence: Share | None = 0.8,
    only: list[str] | None = None,
    fields: dict[str, list[str]] | None = None,
    comparators: dict[str, ComparatorName] | None = None,
    quorum: AtLeastOne = 1,
    documents_per_form: AtLeastOne = 10,
    wait: WaitMode = "auto",
    review_timeout: Seconds | None = None,
    pattern: str = "*",
    recursive: bool = False,
    output: str = "docjobs-reviewed",
    chunk_size: AtLeastOne = 100,
    timeout: Seconds | None = None,
    document_timeout: Seconds | None = 3600,
    max_documents: AtLeastOne | None = None,
    on_uncertain: OnUncertain = "fail",
    reuse_days: Days | None = REUSE_DAYS,
    budget: Amount | None = None,
    price_per_page: Amount | None = None,
) -> dict[str, Any]:
    """Extract from the documents of a folder, and have people look at what is missing, unsure or disputed.

    With several jobs the value that most services found counts, and a tie is disputed. The run waits with a
    form for each few documents: open it in the UI and press Resume. What people said is written down at once
    and never asked again, also not by a later run with the same output folder; nothing is bought twice.

    Args:
        folder: The folder with the documents.
        jobs: Names of saved job blocks, such as mindee-job/invoices: one, or several that vote.
        required: Fields that every document has to have, but no columns.
        min_confidence: Values that are less sure are looked at, 0 to 1. Empty: none is for this reason.
        only: Look at these fields (and the required ones) only, columns as line_items[].amount. Empty: all.
        fields: What is extracted, and what the services call it, such as {"total": ["total_amount"]}. Empty:
            all, by their own names.
        comparators: When two values are the same, by field: auto, exact, text, identifier, number, amount,
            date or date_month_first. Empty: auto.
        quorum: Services that have to have found a value, or it is disputed.
        documents_per_form: Documents that a person sees at a time.
        wait: Give up the process while people work (suspend), keep it (pause), or the first where the run
            can be suspended: in a deployment, with a ledger and saved jobs (auto).
        review_timeout: Seconds for each form; then the run fails, and a new one goes on with what was
            answered. Empty: no limit, or 30 days where the process is kept.
        pattern: Which files, such as *.pdf. Hidden files are left out.
        recursive: Take the files of sub-folders too.
        output: Folder for results.jsonl, rows.jsonl, fields.jsonl (where each value comes from),
            failures.jsonl and reviews.jsonl. All but the last replace those of an earlier run; {date} becomes
            the date on which the run is scheduled, or resumed (UTC).
        chunk_size: Documents per task run and service; four chunks go on at a time.
        timeout: Seconds for the extraction; then nothing more is submitted or waited for. Empty: no limit.
        document_timeout: Seconds for each document at each service. Empty: no limit.
        max_documents: Take so many documents at most, in the order of their names. Empty: all.
        on_uncertain: When a submit's answer is lost: fail the document, or resubmit it at the risk of a
            second bill.
        reuse_days: Days for which a content that was bought is not bought again; 0 never. Empty: for ever.
        budget: Pages that may be bought from all services together, or with a price what they may cost; the
            documents that do not fit are failures at that service. Empty: no limit.
        price_per_page: What a page costs, in any currency.

    Returns:
        The totals (documents, delivered, failed, reviewed documents, confirmed and corrected fields), and
        the paths of the files.

    Raises:
        InvalidDocument: The folder is not there or cannot be listed.
        ConfigurationError: One of the jobs or settings is no such thing, or the run cannot be suspended
            although it has to be.
    """
    log = run_log()
    check_settings(fields, comparators)  # before anything is bought
    _check_required(required or ())
    panel = await Panel.of(jobs, timeout=timeout)
    waiting = Waiting(can_suspend(wait, list(panel.jobs.values())), review_timeout, log)
    listed = await list_documents_once(folder, pattern, recursive=recursive, at_most=max_documents)
    documents = [Document.from_path(path, name=name) for name, path in listed]
    log.info("Found %s in %s", count(len(documents), "document"), folder)
    this = runtime.flow_run
    folder_out = output_folder(output, this.scheduled_start_time)
    queue = ReviewQueue(
        examination=Examination(
            names=fields,
            comparators=comparators or {},
            rule=VotingRule(quorum=quorum),
            accept=Acceptance(
                required=tuple(required or ()), min_confidence=min_confidence, of=tuple(only or ())
            ),
        ),
        decisions=await Decisions.at(folder_out),
        files=LineFiles(folder_out, FILES, str(this.id)[:8]),
        log=log,
        documents=documents,
        answers={label: BatchBuilder() for label in panel.jobs},
        started=_first_start(),
    )
    await panel.ask(
        documents,
        chunk_size,
        queue.take,
        document_timeout=document_timeout,
        on_uncertain=on_uncertain,
        reuse_days=reuse_days,
        budget=await budget_of_run(budget, price_per_page, documents),
    )
    await queue.ask(waiting, documents_per_form)
    await queue.write(panel.jobs, str(this.id))
    # Prefect takes the run's state from here and hands the caller the state's data.
    state = queue.state(f"No file in {folder} matches {pattern}.", reviews=str(folder_out / REVIEWS))
    return cast("dict[str, Any]", state)


def _first_start() -> datetime:
    """When this run began, before it was suspended or retried."""
    context = FlowRunContext.get()
    known = context.flow_run.start_time if context and context.flow_run else None
    return known or datetime.now(timezone.utc)


def _check_required(required: Sequence[str]) -> None:
    for name in required:
        if "[" in name:
            raise ConfigurationError(f"{name!r} is a column: a form can ask for single values only.")
