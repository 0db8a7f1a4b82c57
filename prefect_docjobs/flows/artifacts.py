"""Artifacts of a run. They are there for people: a run never fails because one cannot be made."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from typing import Any

from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact

from prefect_docjobs.flows.files import RESULTS, ROWS, ResultFiles
from prefect_docjobs.flows.report import ResultTable
from prefect_docjobs.tasks.journal import Log


def artifact_key(*parts: str) -> str:
    """A key made of a-z, 0-9 and dashes, as Prefect demands; the same for each run of the same job."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(("docjobs", *parts)).lower()).strip("-")


async def publish_table(table: ResultTable, files: ResultFiles, *, job: str, log: Log) -> None:
    """Show the result table; its description says how many documents it leaves out."""
    rows = table.rows()
    if not rows:
        return
    where = f"`{files.path(ROWS)}` has them all, `{files.path(RESULTS)}` the whole results."
    missing = f"{table.left_out:,} more documents are not shown. " if table.left_out else ""
    making = acreate_table_artifact(
        table=rows, key=artifact_key("results", job), description=f"{missing}{where}"
    )
    await _not_fatal(making, "result table", log)


async def publish_summary(markdown: str, *, job: str, log: Log) -> None:
    """Show the summary."""
    await _not_fatal(
        acreate_markdown_artifact(markdown=markdown, key=artifact_key("summary", job)), "summary", log
    )


async def _not_fatal(making: Awaitable[Any], what: str, log: Log) -> None:
    try:
        await making
    except Exception as problem:  # noqa: BLE001 (the documents are delivered whatever Prefect answers)
        log.warning("The %s is not shown: %s", what, problem)
