"""What the flows for many documents begin and end with: files, artifacts, a state that counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar, cast

from prefect import State, runtime, tags
from prefect.states import Completed, Failed

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.flows.artifacts import artifact_key, publish_failures, publish_summary, publish_table
from prefect_docjobs.flows.assets import materialize_files
from prefect_docjobs.flows.batch_events import BatchEvent
from prefect_docjobs.flows.chunks import ChunkedRun
from prefect_docjobs.flows.dead_letters import LetterWriter
from prefect_docjobs.flows.files import FAILURES, NAMES, ResultFiles
from prefect_docjobs.flows.parameters import output_folder
from prefect_docjobs.flows.report import Tally, summary
from prefect_docjobs.flows.tagging import tag_run
from prefect_docjobs.tasks.journal import Log

_Item = TypeVar("_Item")


def result_files(output: str) -> ResultFiles:
    """The files of the flow run that is going on."""
    this = runtime.flow_run
    return ResultFiles(output_folder(output, this.scheduled_start_time), run=str(this.id)[:8])


def letter_writer(job: DocJob, log: Log) -> LetterWriter:
    """Writes the dead letters of the flow run that is going on."""
    return LetterWriter(job, str(runtime.flow_run.id), log)


async def carry_out(
    run: ChunkedRun[_Item],
    items: Sequence[_Item],
    *,
    chunk_size: int,
    source: str,
    job: str,
    max_failures: float | None,
    nothing: str,
    log: Log,
) -> dict[str, Any]:
    """Drive all items, write what comes out, show and announce it, and end as `max_failures` says.

    Args:
        run: What is done with them.
        items: The documents or dead letters.
        chunk_size: Items per task run.
        source: Where the items come from, for the title of the summary.
        job: The job, as people are told of it.
        max_failures: How many documents may fail, see `too_many`; None: all but one.
        nothing: The message of a run that has no items.
        log: Of the flow run.

    Returns:
        For a flow to return: the totals and the paths of the files.

    Raises:
        OSError: The folder or a file cannot be made.
    """
    provider = run.work.job.provider()
    await tag_run("docjobs", provider.name, log=log)
    with tags(provider.name), run.files.written():
        await run.through(items, chunk_size, log, bar=artifact_key("progress", job))
    with tags(provider.name):
        await _publish(run, source, job=job, log=log)
    is_well = not too_many(run.tally, max_failures)
    event = BatchEvent(source, job, provider.name, provider.product, is_well=is_well)
    event.emit(run.tally, run.files, run.elapsed)
    state = _state_of(run.tally, run.files, max_failures=max_failures, nothing=nothing)
    # Prefect takes the run's state from here and hands the caller the state's data.
    return cast("dict[str, Any]", state)


async def _publish(run: ChunkedRun[Any], source: str, *, job: str, log: Log) -> None:
    """Show tables and a summary, and tell where the files come from."""
    await publish_table(run.table, run.files, job=job, log=log)
    await publish_failures(run.failure_table, run.files, job=job, log=log)
    title = f"{source} through {job}"
    told = summary(title, run.tally, run.files, elapsed=run.elapsed, failures=run.failure_tally)
    await publish_summary(told, run.tally.sentence(), job=job, log=log)
    await materialize_files(run.tally, run.files, source=source, job=job, log=log)


def _state_of(
    tally: Tally, files: ResultFiles, *, max_failures: float | None, nothing: str
) -> State[dict[str, Any]]:
    if too_many(tally, max_failures):
        limit = "" if max_failures is None else f", more than max_failures={max_failures:g} allows"
        return Failed(message=f"{tally.sentence()}{limit}. See {files.path(FAILURES)}")
    message = f"{tally.sentence()}. Results are in {files.folder}" if tally.documents else nothing
    return Completed(
        message=message, data={**tally.totals(), "files": [str(files.path(name)) for name in NAMES]}
    )


def too_many(tally: Tally, max_failures: float | None) -> bool:
    """Whether more documents failed than may.

    Args:
        tally: The sums of the run.
        max_failures: Below 1 a share of the documents, from 1 on a number of them; None when it is enough
            that one document was delivered.
    """
    if max_failures is None:
        return bool(tally.documents) and not tally.delivered
    if max_failures >= 1.0:
        return tally.failed > max_failures
    allowed = max_failures * tally.documents
    return tally.failed > allowed and not math.isclose(
        tally.failed, allowed
    )  # 7 of 100 are no more than 0.07
