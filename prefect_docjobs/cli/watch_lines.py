"""The watcher, with what it does as lines of JSON on standard output."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from prefect_docjobs.cancellation import cancelled
from prefect_docjobs.cli.screen import print_json
from prefect_docjobs.flows.watch_jobs import FlowRuns, RunState, Watcher, opened_watcher


class WatchLines(logging.Handler):
    """Writes a line for each thing that happens, and raises nothing.

    For the watcher would take an error for one of Prefect's, and try again what has been done.

    Attributes:
        broken: Ends with the error as soon as a line cannot be written.
        log: What is logged there is a line, too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.log = logging.Logger("docjobs.watch", logging.INFO)  # noqa: LOG001 (for this watcher only)
        self.log.addHandler(self)

    def tell(self, event: str, **facts: str | float | None) -> None:
        """Write a line, at once.

        Args:
            event: What happened: `watching`, `resumed` or `log`.
            facts: About it.
        """
        if self.broken.done():
            return
        try:
            print_json({"at": datetime.now(timezone.utc).isoformat(), "event": event, **facts})
        except OSError as problem:
            self.broken.set_exception(problem)

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line of a record."""
        self.tell("log", level=record.levelname.lower(), message=record.getMessage())


@dataclass(frozen=True)
class ToldRuns:
    """Flow runs with a line for each that is resumed.

    Attributes:
        runs: Where they are.
        lines: Where the lines go.
    """

    runs: FlowRuns
    lines: WatchLines

    async def states(self, flow_run_ids: Collection[str]) -> Mapping[str, RunState]:
        """See `FlowRuns.states`."""
        return await self.runs.states(flow_run_ids)

    async def resume(self, flow_run_id: str) -> bool:
        """See `FlowRuns.resume`."""
        is_resumed = await self.runs.resume(flow_run_id)
        if is_resumed:
            self.lines.tell("resumed", flow_run_id=flow_run_id)
        return is_resumed


async def watch_in_lines(stop_after: float | None, warning: str | None = None) -> None:
    """Do what `prefect_docjobs.flows.watch_jobs.watch` does, and tell it.

    Args:
        stop_after: Seconds after which it ends by itself; None for never.
        warning: Told when it has begun.

    Raises:
        ConfigurationError: There is no ledger.
        OSError: A line cannot be written, such as `BrokenPipeError` when the reader has left.
    """
    lines = WatchLines()
    async with opened_watcher(lines.log, lambda runs: ToldRuns(runs, lines)) as watcher:
        lines.tell("watching", owner=watcher.ledger.owner, stop_after=stop_after)
        if warning:
            lines.log.warning("%s", warning)
        await run_while_told(watcher, lines, stop_after)


async def run_while_told(watcher: Watcher, lines: WatchLines, stop_after: float | None = None) -> None:
    """Run a watcher until its time has passed, or until a line cannot be written.

    Args:
        watcher: What it holds is given back at the end.
        lines: Where it tells what it does.
        stop_after: Seconds; None for no limit.

    Raises:
        OSError: A line cannot be written.
    """
    watching = asyncio.create_task(watcher.run())
    try:
        ended, _ = await asyncio.wait(
            {watching, lines.broken}, timeout=stop_after, return_when=asyncio.FIRST_COMPLETED
        )
        for each in ended:
            each.result()
    finally:
        await cancelled(watching)
