"""`prefect-docjobs extract`: documents through a saved job block in a flow run, their outcomes as a table."""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts.types import NonNegativeInt, PositiveFloat
from rich.table import Table
from rich.text import Text

from prefect_docjobs.cli.console import (
    Flag,
    cell,
    messages,
    output,
    print_json,
    print_lines,
    print_model,
    printable,
    progress_bar,
    table,
)
from prefect_docjobs.cli.errors import FAILED, WRONG_USE, CommandFailed
from prefect_docjobs.cli.prefect_api import check_prefect_api, quiet_prefect

if TYPE_CHECKING:
    from prefect_docjobs.blocks import DocJob
    from prefect_docjobs.extraction import OnForecast
    from prefect_docjobs.extraction.budget import Budget
    from prefect_docjobs.extraction.plan import Plan
    from prefect_docjobs.models import Batch, Document, Outcome, Result
    from prefect_docjobs.waiting import Forecast

_CHUNKS = 25
_CHUNKS_AT_A_TIME = 8

_TOTAL = "total_amount"
_KEYS = ("invoice_number", "supplier_name", "date", _TOTAL)
_MAX_FIELDS = 5
_MAX_TEXT = 200  # characters


def extract(
    *files: str | Path,
    job: str,
    json: Flag = False,
    timeout: PositiveFloat | None = None,
    dry_run: Flag = False,
    max_documents: NonNegativeInt | None = None,
    budget: float | None = None,
    max_submits: int | None = None,
    price_per_page: float | None = None,
) -> int:
    """Extract from documents with a job block that is saved in Prefect.

    Args:
        files: Files, folders or https URLs.
        job: Name of the job block, such as mindee-job/invoices.
        json: A line of JSON for each document as it ends, instead of a table at the end.
        timeout: Seconds for all documents. A job that still runs then is not lost: --json shows its ref.
        dry_run: Send nothing; show what would be submitted, what is reused, and what it would cost.
        max_documents: Take so many documents at most, in the order in which they are named.
        budget: Pages that may be bought, or with --price-per-page what they may cost.
        max_submits: Documents that may be submitted. What is reused does not count.
        price_per_page: What a page costs, in any currency.
    """
    from prefect_docjobs.extraction.options import Options

    limit = Options(budget=budget, max_submits=max_submits, price_per_page=price_per_page).spending()
    if not job.strip():  # as an unset variable of a script is
        raise CommandFailed("--job needs the name of a job block, such as mindee-job/invoices.", WRONG_USE)
    documents = _documents(files)[:max_documents]
    quiet_prefect()
    if dry_run:
        plan = asyncio.run(_plan(job, documents, limit))
        if json:
            for row in plan.rows():
                print_json(row)
        else:
            output().print(plan_table(plan))
            print_lines(messages(), plan)
        return 0
    outcomes: list[tuple[int, Outcome]] = []
    failed = 0
    with progress_bar("Extracting", len(documents), hidden=json and sys.stdout.isatty()) as bar:

        async def ended(first: int, batch: Batch) -> None:
            nonlocal failed
            failed += len(batch.failures)
            if json:
                for outcome in batch:
                    print_model(outcome)
            else:
                outcomes.extend(enumerate(batch, first))
            bar.advance(len(batch))

        asyncio.run(_extract(job, documents, ended, timeout=timeout, foresee=bar.note, budget=limit))
    if not json:
        output().print(outcome_table([outcome for _, outcome in sorted(outcomes, key=lambda each: each[0])]))
        print_lines(messages(), f"{len(documents) - failed} of {len(documents)} documents succeeded.")
    return FAILED if failed else 0


def _documents(names: Iterable[str | Path]) -> list[Document]:
    from prefect_docjobs.models import Document

    documents: list[Document] = []
    for name in map(str, names):
        if "://" in name:
            documents.append(Document.from_url(name))
        elif Path(name).is_dir():
            documents += Document.from_folder(name)
        else:
            documents.append(Document.from_path(name))
    if not documents:
        raise CommandFailed("There is no document. Name files, folders with files, or URLs.", WRONG_USE)
    return documents


# ---------------------------------------------------------------------------------------------- the flow run

ChunkEnded = Callable[[int, "Batch"], Awaitable[None]]
"""Called for each chunk that has ended, with the index of its first document and the outcomes."""


async def _extract(
    job: str,
    documents: Sequence[Document],
    ended: ChunkEnded,
    *,
    timeout: float | None,
    foresee: OnForecast,
    budget: Budget | None,
) -> None:
    """Extract in a flow run of its own, so that Prefect shows what was done."""
    from prefect import flow

    from prefect_docjobs.tasks._run import resolve_job

    await check_prefect_api()
    block = await resolve_job(job)

    @flow(name="extract-from-terminal", flow_run_name="{count} via {job}")
    async def extract_from_terminal(job: str, count: int) -> None:  # noqa: ARG001 (shown in Prefect)
        await extract_in_chunks(block, documents, ended, timeout=timeout, foresee=foresee, budget=budget)

    await extract_from_terminal(job, len(documents))


async def extract_in_chunks(
    job: DocJob,
    documents: Sequence[Document],
    ended: ChunkEnded,
    *,
    timeout: float | None = None,
    foresee: OnForecast | None = None,
    budget: Budget | None = None,
) -> None:
    """Run one task for each chunk, a few at a time. Chunks are single documents if there are few.

    Args:
        job: What to extract with.
        documents: What to extract from.
        ended: Called as chunks end, in the order of completion.
        timeout: Seconds for all documents; None for no limit.
        foresee: Called with the forecast for the chunks under way.
        budget: For all documents; None for no limit.
    """
    from prefect_docjobs.tasks import aextract_documents
    from prefect_docjobs.tasks._run import followed_by

    size = max(1, math.ceil(len(documents) / _CHUNKS))
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    at_a_time = asyncio.Semaphore(_CHUNKS_AT_A_TIME)
    forecasts: dict[int, Forecast] = {}

    async def extract_chunk(first: int) -> None:
        def foreseen(forecast: Forecast) -> None:
            forecasts[first] = forecast
            if foresee:
                foresee(max(forecasts.values(), key=lambda each: each.nearly_sure or 0.0))

        chunk = documents[first : first + size]
        others = f" and {len(chunk) - 1} more" if len(chunk) > 1 else ""
        name = f"{job.provider().title}: {chunk[0].name}{others}"
        # Prefect fills in braces in the name of a task run.
        name = name.replace("{", "(").replace("}", ")")
        async with at_a_time:
            left = None if timeout is None else max(0.0, deadline - time.monotonic())
            with followed_by(foreseen):
                task = aextract_documents.with_options(task_run_name=name)
                batch = await task(job, chunk, timeout=left, budget=budget)
            forecasts.pop(first, None)
        await ended(first, batch)

    await asyncio.gather(*map(extract_chunk, range(0, len(documents), size)))


# -------------------------------------------------------------------------------------------------- the plan


async def _plan(job: str, documents: Sequence[Document], budget: Budget | None) -> Plan:
    from prefect_docjobs.tasks.extract import aplan_documents

    await check_prefect_api()
    return await aplan_documents.fn(job, documents, budget=budget)  # without a task run


def plan_table(plan: Plan) -> Table:
    """A row for each document: what would be done with it, and why."""
    shown = table()
    shown.add_column("Document", no_wrap=True, overflow="ellipsis", max_width=28)
    shown.add_column("Plan", no_wrap=True)
    shown.add_column("Pages", justify="right", no_wrap=True)
    shown.add_column("Cost", justify="right", no_wrap=True)
    shown.add_column("Why", ratio=1, no_wrap=True, overflow="ellipsis")
    for planned in plan:
        pages = "" if planned.pages is None else f"{planned.pages:,}{'' if planned.counted else '?'}"
        cost = "" if planned.cost is None else f"{planned.cost:,g}"
        why = planned.note or (planned.reason and f"before: {planned.reason}") or ""
        verdict = planned.verdict.value.replace("_", " ")
        shown.add_row(cell(planned.document), verdict, pages, cost, cell(why))
    return shown


# ---------------------------------------------------------------------------------------------- the outcomes


def outcome_table(outcomes: Iterable[Outcome]) -> Table:
    """A row for each document of one service."""
    shown = table()
    shown.add_column("Document", no_wrap=True, overflow="ellipsis", max_width=28)
    shown.add_column("State", max_width=11)
    shown.add_column("Found", ratio=1)
    shown.add_column("Sec", justify="right", no_wrap=True)
    for outcome in outcomes:
        found: Table | Text = key_fields(outcome)
        if outcome.result is not None:
            values = _found(outcome.result)
            invoice = ", ".join(filter(None, _invoice(values))) if _TOTAL in values else ""
            found = _one_line(invoice or _summary(outcome.result, values))
        shown.add_row(cell(outcome.document), state(outcome), found, seconds(outcome))
    return shown


def state(outcome: Outcome) -> Text:
    """`succeeded`, or the reason why there is no result."""
    return Text("succeeded", "green") if outcome.ok else Text(str(outcome.reason).replace("_", " "), "red")


def seconds(outcome: Outcome) -> str:
    """How long it took."""
    return "" if outcome.seconds is None else f"{outcome.seconds:.1f}"


def key_fields(outcome: Outcome) -> Table | Text:
    """An invoice's number, supplier, date and total, or else the first fields; of a failure, the error."""
    if outcome.result is None:
        return cell((outcome.error or "no result").removeprefix(f"{outcome.document}: "))
    values = _found(outcome.result)
    if _TOTAL in values:
        return invoice_columns(*_invoice(values))
    return _one_line(_summary(outcome.result, values))


def invoice_columns(number: str, supplier: str, date: str, total: str, *, style: str = "") -> Table:
    """The four key fields of an invoice, or their headings."""
    columns = Table.grid(expand=True, padding=(0, 1, 0, 0))
    columns.add_column(width=13, no_wrap=True, overflow="ellipsis")
    columns.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    columns.add_column(width=10, no_wrap=True)
    columns.add_column(width=13, no_wrap=True, justify="right")
    columns.add_row(*(cell(text, style) for text in (number, supplier, date, total)))
    return columns


def _found(result: Result) -> dict[str, Any]:
    return {name: value for name, value in result.row().items() if value not in (None, "", [])}


def _invoice(found: Mapping[str, Any]) -> tuple[str, str, str, str]:
    number = found.get("invoice_number") or found.get("purchase_order_number") or ""
    total = found[_TOTAL]
    amount = f"{total:,.2f}" if isinstance(total, (int, float)) else str(total)
    currency = found.get("currency") or found.get("locale.currency") or ""
    supplier, date = (str(found.get(name, "")) for name in ("supplier_name", "date"))
    return str(number), supplier, date, f"{amount} {currency}".strip()


def _summary(result: Result, found: Mapping[str, Any]) -> str:
    """The first fields, the first words of the text, or what there are lists of, such as `3 splits`."""
    names = sorted(found, key=lambda name: name not in _KEYS)[:_MAX_FIELDS]
    fields = ", ".join(f"{name.replace('_', ' ')}: {found[name]}" for name in names)
    words = " ".join((result.text or "")[:_MAX_TEXT].split())
    lists = Counter(item["list"] for item in result.line_items())
    counts = ", ".join(f"{count} {name}" for name, count in lists.items())
    return fields or words or counts or "nothing requested"


def _one_line(text: str) -> Text:
    return Text(printable(text), no_wrap=True, overflow="ellipsis")
