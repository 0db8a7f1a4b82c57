"""A dry run in a terminal."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from prefect_docjobs.cli.extract import check_job_name, documents_of
from prefect_docjobs.cli.prefect_api import check_prefect_api
from prefect_docjobs.cli.quiet import quiet_prefect
from prefect_docjobs.cli.screen import messages, output, print_json, printable
from prefect_docjobs.extraction.budget import Budget
from prefect_docjobs.models import Document

if TYPE_CHECKING:
    from prefect_docjobs.extraction.plan import Plan


def run_plan(
    files: Iterable[str | Path],
    job: str,
    budget: Budget | None,
    *,
    as_json: bool,
    max_documents: int | None = None,
) -> int:
    """Show what `extract` would do; nothing is sent.

    Args:
        files: Files, folders or https URLs.
        job: Name of a saved job block.
        budget: What may be bought; None for no limit.
        as_json: A line of JSON for each document instead of a table.
        max_documents: How many are taken at most; None for all.

    Returns:
        0; a plan has no failures.

    Raises:
        CommandFailed: There is no document, no name, or Prefect's API does not answer.
        ConfigurationError: There is no such job.
    """
    check_job_name(job)
    documents = documents_of(files)[:max_documents]
    quiet_prefect()
    plan = asyncio.run(_planned(job, documents, budget or Budget()))
    if as_json:
        for row in plan.rows():
            print_json(row)
    else:
        output().print(_table(plan))
        messages().print(str(plan))
    return 0


async def _planned(job: str, documents: list[Document], budget: Budget) -> Plan:
    from prefect_docjobs.tasks.extract import aplan_documents

    await check_prefect_api()
    # The function of the task: a look needs no task run.
    return await aplan_documents.fn(
        job,
        documents,
        budget=budget.most,
        max_submits=budget.max_submits,
        price_per_page=budget.price_per_page,
    )


def _table(plan: Plan) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, expand=True)
    table.add_column("Document", no_wrap=True, overflow="ellipsis", max_width=28)
    table.add_column("Plan", no_wrap=True)
    table.add_column("Pages", justify="right", no_wrap=True)
    table.add_column("Cost", justify="right", no_wrap=True)
    table.add_column("Why", ratio=1, no_wrap=True, overflow="ellipsis")
    for planned in plan:
        pages = "" if planned.pages is None else f"{planned.pages:,}{'' if planned.counted else '?'}"
        cost = "" if planned.cost is None else f"{planned.cost:,g}"
        why = planned.note or (planned.reason and f"before: {planned.reason}") or ""
        verdict = planned.verdict.value.replace("_", " ")
        table.add_row(Text(printable(planned.document)), verdict, pages, cost, Text(printable(why)))
    return table
