"""What all flows of this package begin and end with: their files, their artifacts, a state that counts."""

from __future__ import annotations

import math
from typing import Any

from prefect import State, runtime
from prefect.states import Completed, Failed

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.flows.artifacts import publish_summary, publish_table
from prefect_docjobs.flows.chunks import ChunkedRun
from prefect_docjobs.flows.dead_letters import LetterWriter
from prefect_docjobs.flows.files import FAILURES, NAMES, ResultFiles
from prefect_docjobs.flows.parameters import output_folder
from prefect_docjobs.flows.report import Tally, summary
from prefect_docjobs.tasks.journal import Log


def result_files(output: str) -> ResultFiles:
    """The files of the flow run that is going on."""
    this = runtime.flow_run
    return ResultFiles(output_folder(output, this.scheduled_start_time), run=str(this.id)[:8])


def letter_writer(job: DocJob, log: Log) -> LetterWriter:
    """Writes the dead letters of the flow run that is going on."""
    return LetterWriter(job, str(runtime.flow_run.id), log)


async def publish(run: ChunkedRun[Any], title: str, *, job: str, log: Log) -> None:
    """Show a run that has ended as artifacts."""
    await publish_table(run.table, run.files, job=job, log=log)
    await publish_summary(summary(title, run.tally, run.files, elapsed=run.elapsed), job=job, log=log)


def state_of(
    tally: Tally, files: ResultFiles, *, max_failures: float | None, nothing: str
) -> State[dict[str, Any]]:
    """The state that a run ends with, when everything is written.

    Args:
        tally: The sums of the run.
        files: Where its results are.
        max_failures: How many documents may fail, see `too_many`; None: all but one.
        nothing: The message of a run that had no documents.
    """
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
