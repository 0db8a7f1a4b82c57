"""Artifacts of a run. They are there for people: a run never fails because one cannot be made."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Sequence
from typing import Any

from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact

from prefect_docjobs.flows.outputs import Outputs
from prefect_docjobs.flows.tables import FailureTable, ResultTable
from prefect_docjobs.tasks._run import Log, count


def artifact_key(*parts: str) -> str:
    """A key made of a-z, 0-9 and dashes, as Prefect demands; the same for each run of the same job."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(("docjobs", *parts)).lower()).strip("-")


async def publish_table(table: ResultTable, outputs: Outputs, *, job: str, log: Log) -> None:
    """Show the documents; the description says how many of them the table leaves out."""
    rows = table.rows()
    description = f"{_shown(rows, table.left_out, 'document')} {outputs.where_documents}"
    await _publish(rows, artifact_key("results", job), description, "result table", log)


async def publish_failures(table: FailureTable, outputs: Outputs, *, job: str, log: Log) -> None:
    """Show the documents without a result, why, and what to do; nothing where there are none."""
    rows = table.rows()
    description = f"{_shown(rows, table.left_out, 'failure')} {outputs.where_failures}"
    await _publish(rows, artifact_key("failures", job), description, "failure table", log)


async def publish_summary(markdown: str, sentence: str, *, job: str, log: Log) -> None:
    """Show the summary, with a sentence where there is no room for it."""
    making = acreate_markdown_artifact(markdown, key=artifact_key("summary", job), description=sentence)
    await not_fatal(making, "summary", log)


def _shown(rows: Sequence[object], left_out: int, noun: str) -> str:
    """Such as `7 documents.`, or `500 documents; 1,500 more are not shown.`."""
    more = f"; {left_out:,} more are not shown" if left_out else ""
    return f"{count(len(rows), noun)}{more}."


async def _publish(rows: Sequence[dict[str, Any]], key: str, description: str, what: str, log: Log) -> None:
    if rows:
        making = acreate_table_artifact(table=list(rows), key=key, description=description)
        await not_fatal(making, what, log)


async def not_fatal(making: Awaitable[Any], what: str, log: Log) -> None:
    """Await what is for people only; the documents are delivered whatever becomes of it."""
    try:
        await making
    except Exception as problem:  # noqa: BLE001 (whatever Prefect answers)
        log.warning("The %s is not shown: %s", what, problem)
