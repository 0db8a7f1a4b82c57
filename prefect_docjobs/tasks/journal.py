"""What a person sees of a run: log lines, and for a batch a progress bar."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeAlias

from anyio import move_on_after
from prefect import get_client, get_run_logger
from prefect.artifacts import ProgressArtifact, aupdate_progress_artifact
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import MissingContextError
from prefect.logging import get_logger
from typing_extensions import Self

from prefect_docjobs.cancellation import cancelled
from prefect_docjobs.extraction import OnForecast
from prefect_docjobs.models import Batch, JobRef, Outcome, Phase
from prefect_docjobs.tasks.events import Events
from prefect_docjobs.tasks.names import count
from prefect_docjobs.waiter import Forecast

Log: TypeAlias = "logging.Logger | logging.LoggerAdapter[logging.Logger]"

_STEPS = 10  # lines that tell how far a batch is
_REFS_AT_ONCE = 25  # in one line: sending a line to Prefect costs as much CPU as several requests
_REFS_WITHIN = 1.0  # seconds; Prefect sends its lines every two
_UPDATE_EVERY = 2.0
_LAST_UPDATE_WITHIN = 5.0


def run_log() -> Log:
    """The log of the task or flow run; outside of both, the package's own."""
    try:
        return get_run_logger()
    except MissingContextError:
        return get_logger("docjobs")


def log_ref(log: Log, ref: JobRef) -> None:
    """Write a new job's ref into the log, so that the job can be taken up again whatever happens next."""
    log.info("%s is submitted, its ref is %s", ref, ref.model_dump_json(exclude_none=True))


@dataclass(frozen=True)
class _Listener:
    """Somebody beside a batch who follows it."""

    foresee: OnForecast
    ended: Callable[[], None] | None


_listening: ContextVar[_Listener | None] = ContextVar("docjobs_listening", default=None)


@contextmanager
def foreseeing(foresee: OnForecast, *, ended: Callable[[], None] | None = None) -> Iterator[None]:
    """Tell others, too, of the batches that run in this context.

    Args:
        foresee: Told their forecasts.
        ended: Called for each document that has ended, by who shows a bar for all of the batches: they show
            none of their own then.
    """
    token = _listening.set(_Listener(foresee, ended))
    try:
        yield
    finally:
        _listening.reset(token)


class Journal:
    """Tells the log and Prefect's events what becomes of the documents of a batch; an async context manager.

    Args:
        log: Where the lines go.
        has_ledger: New jobs are written down, so the log need not have their refs.
    """

    def __init__(self, log: Log, *, has_ledger: bool = False) -> None:
        self.log = log
        self._has_ledger = has_ledger
        self._done = self._failed = 0
        self._forecast: Forecast | None = None
        self._events = Events()
        self._refs: list[JobRef] = []
        self._telling: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Tell what was collected, whatever ended the batch."""
        self._tell_refs()
        self._events.flush()

    def foresee(self, forecast: Forecast) -> None:
        """Note when the rest will be done."""
        self._forecast = forecast
        if listener := _listening.get():
            listener.foresee(forecast)

    def observe(self, index: int, outcome: Outcome) -> None:  # noqa: ARG002 (the pipeline gives it)
        """Note one step of a document: its ref as soon as it is known, and a failure."""
        self._events.observe(outcome)
        if not outcome.ok:
            self.log.warning(
                "%s: %s in %s: %s", outcome.document, outcome.reason, outcome.phase, outcome.error
            )
        elif outcome.phase is Phase.SUBMIT and outcome.ref is not None and not outcome.reused:
            self._collect(outcome.ref)

    def ended(self, outcome: Outcome, total: int) -> None:
        """Note the end of one of `total` documents; a line for every tenth of them."""
        self._done += 1
        self._failed += not outcome.ok
        if (listener := _listening.get()) and listener.ended:
            listener.ended()
        if total >= _STEPS and self._done * _STEPS // total > (self._done - 1) * _STEPS // total:
            left = f", {self._forecast}" if self._forecast and self._done < total else ""
            self.log.info("%d of %d ended, %d of them failed%s", self._done, total, self._failed, left)

    def close(self, batch: Batch) -> None:
        """Sum up a batch that has ended."""
        totals = batch.totals
        reasons = ", ".join(f"{number} {reason}" for reason, number in totals["reasons"].items())
        reused = sum(head.reused for head in batch.heads)
        self.log.info(
            "%s: %d ok, %d failed%s%s",
            count(len(batch), "document"),
            len(batch) - totals["failed"],
            totals["failed"],
            f" ({reasons})" if reasons else "",
            f", {reused} bought before" if reused else "",
        )

    def _collect(self, ref: JobRef) -> None:
        self._refs.append(ref)
        if len(self._refs) >= _REFS_AT_ONCE:
            self._tell_refs()
        elif self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(_REFS_WITHIN, self._tell_refs)

    def _tell_refs(self) -> None:
        """Tell of new jobs. Their refs must be somewhere, so that they can be taken up again."""
        if self._telling is not None:
            self._telling.cancel()
        told, self._refs, self._telling = self._refs, [], None
        if told and self._has_ledger:
            self.log.info("%s submitted, written down in the ledger", count(len(told), "job"))
        elif told:
            refs = ", ".join(ref.model_dump_json(exclude_none=True) for ref in told)
            self.log.info("%s submitted, with the refs [%s]", count(len(told), "job"), refs)


class Progress:
    """A progress artifact of the run: updated every two seconds, and never a reason to fail or to wait.

    Args:
        total: Documents in the batch.
        description: Stands beside the bar.
        key: Of the artifact; None for one that only the run itself lists.
    """

    def __init__(self, total: int, description: str, *, key: str | None = None) -> None:
        self._total = total
        self._key = key
        self._description = description
        self._done = 0
        self._forecast: Forecast | None = None
        self._news = asyncio.Event()
        self._closing = asyncio.Event()

    def advance(self) -> None:
        """Count one document."""
        self._done += 1
        self._news.set()

    def foresee(self, forecast: Forecast) -> None:
        """Say beside the bar when the rest will be done."""
        self._forecast = forecast
        self._news.set()

    @property
    def description(self) -> str:
        """What stands beside the bar: what is done, how much of it, and how long the rest will take."""
        told = f"{self._description}: {self._done:,} of {self._total:,}"
        return f"{told}, {self._forecast}" if self._forecast and self._done < self._total else told

    @property
    def percent(self) -> float:
        """Of the batch, 0 to 100."""
        return round(100.0 * self._done / self._total, 1) if self._total else 100.0

    @asynccontextmanager
    async def shown(self, log: Log) -> AsyncIterator[Progress]:
        """Keep the artifact up to date while the context is open; do nothing where no run is to show it."""
        listener = _listening.get()
        is_shown_elsewhere = listener is not None and listener.ended is not None
        if is_shown_elsewhere or (TaskRunContext.get() is None and FlowRunContext.get() is None):
            yield self
            return
        publishing = asyncio.create_task(self._publish(log))
        try:
            yield self
            self._closing.set()
            self._news.set()
            await asyncio.wait([publishing], timeout=_LAST_UPDATE_WITHIN)
        finally:
            await cancelled(publishing)

    async def _publish(self, log: Log) -> None:
        try:
            async with get_client() as client:
                bar = ProgressArtifact(key=self._key, progress=self.percent, description=self.description)
                artifact = (await bar.acreate(client=client)).id

                async def update() -> None:
                    await aupdate_progress_artifact(artifact, self.percent, self.description, client=client)

                while not self._closing.is_set():
                    await self._news.wait()
                    self._news.clear()
                    await update()
                    with move_on_after(_UPDATE_EVERY):
                        await self._closing.wait()
                await update()
        except Exception as problem:  # noqa: BLE001 (a progress bar must not cost the batch)
            log.debug("No progress bar: %s", problem)
