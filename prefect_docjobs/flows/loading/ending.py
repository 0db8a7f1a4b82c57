"""What a load shows and announces when it has ended, and the state that it ends in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

from prefect import State
from prefect.states import Completed, Failed

from prefect_docjobs.flows._report import BatchEvent, materialize_places, sums_of
from prefect_docjobs.flows._run import publish_report
from prefect_docjobs.flows.loading.destination import Destination
from prefect_docjobs.flows.loading.work import Load
from prefect_docjobs.loading import SourceFile

_COUNTS: Mapping[str, str] = MappingProxyType(
    {
        "found": "Found",
        "unchanged": "Unchanged since they were loaded",
        "known": "Known: their content is loaded already, or that of another file",
        "loaded": "Loaded",
        "failed": "Failed",
        "left": "Left: failed before, and not tried again",
    }
)


def artifacts_of(job: str) -> str:
    """What the keys of a load's artifacts end in: another history than that of the job's extractions."""
    return f"load-{job}"


async def show(load: Load, destination: Destination, *, source: str, job: str) -> None:
    """Show tables and a summary, and tell what the tables of the destination are made of.

    Args:
        load: What was done.
        destination: Where the rows are.
        source: The folder, as it was given.
        job: The job, as people are told of it.
    """
    counts = asdict(load.counts)
    await publish_report(
        load.report,
        destination,
        title=f"{source} through {job}",
        key=artifacts_of(job),
        elapsed=load.elapsed,
        log=load.log,
        counts={name: counts[key] for key, name in _COUNTS.items()},
        sentence=_sentence(load),
    )
    if load.report.tally.documents:  # else nothing was made, and what waits for news need not start
        metadata = {**sums_of(load.report.tally, job), **counts, "schema": destination.schema}
        places = {destination.asset: f"Documents as {destination.content}."}
        await materialize_places(places, metadata, what="tables", source=source, log=load.log)


def announce(load: Load, destination: Destination, *, source: str, job: str, is_well: bool) -> None:
    """Emit the event of a load that has ended; `is_well` says that no more documents failed than may."""
    provider = load.job.provider()
    event = BatchEvent(source, job, provider.name, provider.product, is_well=is_well, kind="load")
    where = {"destination": destination.place, "schema": destination.schema}
    event.emit(load.report.tally, {**asdict(load.counts), **where, "message": _sentence(load)}, load.elapsed)


def state_of(
    load: Load, files: Sequence[SourceFile], destination: str, *, is_well: bool
) -> State[dict[str, Any]]:
    """The state that the run ends in, with what the flow returns.

    Args:
        load: What was done.
        files: All that were found.
        destination: As it was given.
        is_well: Whether no more documents failed than may.
    """
    totals = load.report.tally.totals()
    if not is_well:
        return Failed(message=f"{_sentence(load)}. The reasons are in the table documents.")
    modified = max((file.modified_at for file in files if file.modified_at), default=None)
    return Completed(
        message=_sentence(load),
        data={
            **asdict(load.counts),
            "reasons": totals["reasons"],
            "pages": totals["pages"],
            "credits": totals["credits"],
            "watermark": modified.isoformat() if modified else None,
            "destination": destination,
        },
    )


def _sentence(load: Load) -> str:
    """The counts in one line, such as `4 found, 0 unchanged, 1 known, 2 loaded, 1 failed, 0 left`."""
    return ", ".join(f"{number:,} {name}" for name, number in asdict(load.counts).items())
