"""What a person sees of a run: log lines, and for a batch a progress bar."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias

from anyio import move_on_after
from prefect import get_client, get_run_logger
from prefect.artifacts import ProgressArtifact, aupdate_progress_artifact
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import MissingContextError
from prefect.logging import get_logger

from prefect_docjobs.models import Batch, JobRef, Outcome, Phase
from prefect_docjobs.tasks.names import count

Log: TypeAlias = "logging.Logger | logging.LoggerAdapter[logging.Logger]"

_STEPS = 10  # lines that tell how far a batch is
_UPDATE_EVERY = 1.0
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


@dataclass
class Journal:
    """Tells the log what becomes of the documents of a batch."""

    log: Log
    done: int = 0
    failed: int = 0

    def observe(self, index: int, outcome: Outcome) -> None:  # noqa: ARG002 (the pipeline gives it)
        """Note one step of a document: its ref as soon as it is known, and a failure."""
        if not outcome.ok:
            self.log.warning(
                "%s: %s in %s: %s", outcome.document, outcome.reason, outcome.phase, outcome.error
            )
        elif outcome.phase is Phase.SUBMIT and outcome.ref is not None:
            log_ref(self.log, outcome.ref)

    def ended(self, outcome: Outcome, total: int) -> None:
        """Note the end of one of `total` documents; a line for every tenth of them."""
        self.done += 1
        self.failed += not outcome.ok
        if total >= _STEPS and self.done * _STEPS // total > (self.done - 1) * _STEPS // total:
            self.log.info("%d of %d ended, %d of them failed", self.done, total, self.failed)

    def close(self, batch: Batch) -> None:
        """Sum up a batch that has ended."""
        reasons = ", ".join(f"{number} {reason}" for reason, number in batch.totals["reasons"].items())
        self.log.info(
            "%s: %d ok, %d failed%s",
            count(len(batch), "document"),
            len(batch) - len(batch.failures),
            len(batch.failures),
            f" ({reasons})" if reasons else "",
        )


class Progress:
    """A progress artifact of the run: updated at most once a second, and never a reason to fail or to wait.

    Args:
        total: Documents in the batch.
        description: Stands beside the bar.
    """

    def __init__(self, total: int, description: str) -> None:
        self._total = total
        self._description = description
        self._done = 0
        self._news = asyncio.Event()
        self._closing = asyncio.Event()

    def advance(self) -> None:
        """Count one document."""
        self._done += 1
        self._news.set()

    @property
    def percent(self) -> float:
        """Of the batch, 0 to 100."""
        return round(100.0 * self._done / self._total, 1) if self._total else 100.0

    @asynccontextmanager
    async def shown(self, log: Log) -> AsyncIterator[Progress]:
        """Keep the artifact up to date while the context is open; do nothing outside of runs."""
        if TaskRunContext.get() is None and FlowRunContext.get() is None:
            yield self
            return
        publishing = asyncio.create_task(self._publish(log))
        try:
            yield self
            self._closing.set()
            self._news.set()
            await asyncio.wait([publishing], timeout=_LAST_UPDATE_WITHIN)
        finally:
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)

    async def _publish(self, log: Log) -> None:
        try:
            async with get_client() as client:
                bar = ProgressArtifact(progress=self.percent, description=self._description)
                artifact = (await bar.acreate(client=client)).id
                while not self._closing.is_set():
                    await self._news.wait()
                    self._news.clear()
                    await aupdate_progress_artifact(artifact, self.percent, client=client)
                    with move_on_after(_UPDATE_EVERY):
                        await self._closing.wait()
                await aupdate_progress_artifact(artifact, self.percent, client=client)
        except Exception as problem:  # noqa: BLE001 (a progress bar must not cost the batch)
            log.debug("No progress bar: %s", problem)
