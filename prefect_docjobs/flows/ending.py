"""What the flows for many documents begin and end with: files, artifacts, a state that counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

from prefect import State, runtime, tags
from prefect.states import Completed, Failed

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.flows.artifacts import artifact_key, publish_failures, publish_summary, publish_table
from prefect_docjobs.flows.assets import materialize_files
from prefect_docjobs.flows.batch_events import BatchEvent, paths_of
from prefect_docjobs.flows.chunks import ChunkedRun
from prefect_docjobs.flows.dead_letters import LetterWriter
from prefect_docjobs.flows.files import FAILURES, NAMES, ResultFiles
from prefect_docjobs.flows.outputs import Outputs
from prefect_docjobs.flows.parameters import output_folder
from prefect_docjobs.flows.report import Tally, summary
from prefect_docjobs.flows.run_report import RunReport
from prefect_docjobs.flows.tagging import tag_run
from prefect_docjobs.tasks._run import Log

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
    tally = run.report.tally
    with tags(provider.name):
        title = f"{source} through {job}"
        await publish_report(run.report, run.files, title=title, key=job, elapsed=run.elapsed, log=log)
        await materialize_files(tally, run.files, source=source, job=job, log=log)
    is_well = not too_many(tally, max_failures)
    event = BatchEvent(source, job, provider.name, provider.product, is_well=is_well)
    event.emit(tally, {"files": paths_of(run.files)}, run.elapsed)
    state = _state_of(tally, run.files, max_failures=max_failures, nothing=nothing)
    # Prefect takes the run's state from here and hands the caller the state's data.
    return cast("dict[str, Any]", state)


async def publish_report(
    report: RunReport,
    outputs: Outputs,
    *,
    title: str,
    key: str,
    elapsed: float,
    log: Log,
    counts: Mapping[str, int] | None = None,
    sentence: str | None = None,
) -> None:
    """Show a run's tables and its summary; what Prefect does not take is a warning in the log.

    Args:
        report: The run's sums and tables.
        outputs: Where everything is.
        title: Of the summary.
        key: What the keys of the artifacts end in; runs with the same one are a history.
        elapsed: Seconds that the run took.
        log: Of the flow run.
        counts: See `summary`.
        sentence: The sums in one line; by default those of the tally.
    """
    await publish_table(report.table, outputs, job=key, log=log)
    await publish_failures(report.failure_table, outputs, job=key, log=log)
    tally, failures = report.tally, report.failure_tally
    told = summary(title, tally, outputs, elapsed=elapsed, failures=failures, counts=counts)
    await publish_summary(told, sentence or tally.sentence(), job=key, log=log)


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
