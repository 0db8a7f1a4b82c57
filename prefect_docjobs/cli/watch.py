"""`prefect-docjobs watch`: wait for the jobs of suspended flow runs, in a terminal or under a supervisor."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from cyclopts.types import PositiveFloat

from prefect_docjobs.cancellation import cancelled
from prefect_docjobs.cli.console import Flag, messages, print_json, print_lines
from prefect_docjobs.cli.errors import TERMINATED, WRONG_USE, CommandFailed
from prefect_docjobs.cli.prefect_api import prefect_api_problem

if TYPE_CHECKING:
    from prefect_docjobs.flows.watch_jobs import FlowRuns, RunState, Watcher


def watch(
    *,
    stop_after: PositiveFloat | None = None,
    json: Flag = False,
) -> int:
    """Wait for the jobs of all suspended flow runs, and resume the runs, until Ctrl-C.

    Any number of them may run. The work of one that was killed goes to the others within 15 seconds.

    Args:
        stop_after: Seconds after which it ends by itself.
        json: Print what it does as lines of JSON: that it watches, each run that it resumes, what it logs.
    """
    from prefect.settings import PREFECT_API_URL

    if not PREFECT_API_URL.value():
        raise CommandFailed(
            "No Prefect server is set, so no run can be resumed: prefect config set PREFECT_API_URL=…",
            WRONG_USE,
        )
    try:
        return asyncio.run(_watch_until_sigterm(stop_after, as_json=json))
    except KeyboardInterrupt:
        return 0


async def _watch_until_sigterm(stop_after: float | None, *, as_json: bool) -> int:
    problem = await prefect_api_problem()
    warning = f"{problem} The watcher keeps trying." if problem else None
    watching = asyncio.create_task((_watch_as_json if as_json else _watch)(stop_after, warning))
    with suppress(NotImplementedError):  # on Windows there is no SIGTERM to wait for
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, watching.cancel)
    await asyncio.wait([watching])
    if watching.cancelled():
        return TERMINATED
    watching.result()
    return 0


async def _watch(stop_after: float | None, warning: str | None) -> None:
    from prefect_docjobs.flows.watch_jobs import watch

    if warning:
        print_lines(messages(), warning)
    await watch(stop_after)


async def _watch_as_json(stop_after: float | None, warning: str | None) -> None:
    from prefect_docjobs.flows.watch_jobs import opened_watcher

    events = JsonEvents()
    async with opened_watcher(events.log, lambda runs: ReportedRuns(runs, events)) as watcher:
        events.write("watching", owner=watcher.ledger.owner, stop_after=stop_after)
        if warning:
            events.log.warning("%s", warning)
        await run_watcher(watcher, events, stop_after)


class JsonEvents(logging.Handler):
    """Prints a line of JSON for each event, and raises nothing.

    The watcher would take an error for one of Prefect's, and repeat what is done already.

    Attributes:
        broken: Ends with the error as soon as a line cannot be written.
        log: What is logged there is an event, too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.log = logging.Logger("docjobs.watch", logging.INFO)  # noqa: LOG001 (for this watcher only)
        self.log.addHandler(self)

    def write(self, event: str, **facts: str | float | None) -> None:
        """Print a line at once: `watching`, `resumed` or `log`, with its facts."""
        if self.broken.done():
            return
        try:
            print_json({"at": datetime.now(timezone.utc).isoformat(), "event": event, **facts})
        except OSError as problem:
            self.broken.set_exception(problem)

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record as an event."""
        self.write("log", level=record.levelname.lower(), message=record.getMessage())


@dataclass(frozen=True)
class ReportedRuns:
    """`FlowRuns` with an event for each run that is resumed."""

    runs: FlowRuns
    events: JsonEvents

    async def states(self, flow_run_ids: Collection[str]) -> Mapping[str, RunState]:
        """See `FlowRuns.states`."""
        return await self.runs.states(flow_run_ids)

    async def resume(self, flow_run_id: str) -> bool:
        """See `FlowRuns.resume`."""
        is_resumed = await self.runs.resume(flow_run_id)
        if is_resumed:
            self.events.write("resumed", flow_run_id=flow_run_id)
        return is_resumed


async def run_watcher(watcher: Watcher, events: JsonEvents, stop_after: float | None = None) -> None:
    """Run a watcher until its time has passed, or until an event cannot be written.

    Raises:
        OSError: An event cannot be written, such as `BrokenPipeError` when the reader has left.
    """
    watching = asyncio.create_task(watcher.run())
    try:
        ended, _ = await asyncio.wait(
            {watching, events.broken}, timeout=stop_after, return_when=asyncio.FIRST_COMPLETED
        )
        for each in ended:
            each.result()
    finally:
        await cancelled(watching)
