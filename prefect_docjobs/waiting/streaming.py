"""Listening: the service tells the end of a job on an open connection. A few at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from prefect_docjobs.cancellation import cancelled
from prefect_docjobs.errors import DocJobsError, Throttled
from prefect_docjobs.models import JobStatus
from prefect_docjobs.waiting.pending import PendingJob

if TYPE_CHECKING:
    from prefect_docjobs.waiting.waiter import Waiter

_log = logging.getLogger(__name__)
_TRIES = 3  # streams of one job that may break before it is left to looks
_BROKEN = 6  # streams that may break in a row before none is opened any more
_PAUSE = 1.0


class Streams:
    """Open streams of one waiter. A stream that breaks is opened again, then its job is only looked at."""

    def __init__(self, waiter: Waiter) -> None:
        self._waiter = waiter
        self._on = waiter.provider.capabilities.stream and waiter.limits.streams > 0
        self._listeners: dict[PendingJob, asyncio.Task[None]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._given_up: set[PendingJob] = set()
        self._broken = 0

    def take(self, job: PendingJob) -> bool:
        """Listen for a job if there is room; whether it is listened for."""
        if job in self._listeners:
            return True
        full = len(self._listeners) >= self._waiter.limits.streams
        if not self._on or full or job in self._given_up:
            return False
        job.covered = True
        self._listeners[job] = asyncio.create_task(self._listen(job))
        return True

    def drop(self, job: PendingJob) -> None:
        """Stop listening for a job that is not waited for any more."""
        job.covered = False
        self._given_up.discard(job)
        if listener := self._release(job):
            listener.cancel()

    def _release(self, job: PendingJob) -> asyncio.Task[None] | None:
        """Make room for another stream; this one may take a moment to close."""
        if listener := self._listeners.pop(job, None):
            self._closing.add(listener)
            listener.add_done_callback(self._closing.discard)
        return listener

    async def aclose(self) -> None:
        """Close all streams."""
        await cancelled(*self._listeners.values(), *self._closing)

    async def _listen(self, job: PendingJob) -> None:
        for number in range(1, _TRIES + 1):
            job.covered = True
            try:
                await self._hear(job)
            except asyncio.CancelledError:
                if job in self._listeners and self._waiter.is_running:  # not cancelled by us
                    self._leave(job)
                    self._look_instead(job)
                raise
            except DocJobsError as error:
                self._count(error)
            except Exception as bug:  # noqa: BLE001 (no fault of a stream may cost a job)
                self._switch_off(f"{type(bug).__name__}: {bug}")
            if job.outcome.done():
                return
            self._look_instead(job)
            if not self._on:
                break
            await asyncio.sleep(_PAUSE * 2.0**number)
        self._leave(job)

    def _leave(self, job: PendingJob) -> None:
        """Leave a job to looks for good."""
        self._release(job)
        self._given_up.add(job)

    def _look_instead(self, job: PendingJob) -> None:
        """Streams often break as their job ends: no reason to leave it to the watchdog."""
        job.covered = False
        delay = self._waiter.next_poll(job)
        if self._waiter.now() + delay < job.due:
            self._waiter.put(job, delay)

    async def _hear(self, job: PendingJob) -> None:
        waiter = self._waiter
        await waiter.http.wait_for_token("status")
        stream = waiter.provider.stream(waiter.http, job.ref)
        try:
            async for status in stream:
                self._broken = 0
                if status.ref.job_id == job.ref.job_id:
                    self._heard(job, status)
                if job.outcome.done():
                    return
        finally:
            if isinstance(stream, AsyncGenerator):
                await stream.aclose()

    def _heard(self, job: PendingJob, status: JobStatus) -> None:
        if status.state.is_terminal:
            self._release(job)  # it must not cancel itself when the end of its job drops the stream
        self._waiter.observed(job, status)

    def _count(self, error: DocJobsError) -> None:
        self._broken += not isinstance(error, Throttled)
        if self._broken >= _BROKEN:
            self._switch_off(str(error))

    def _switch_off(self, why: str) -> None:
        if self._on:
            self._on = False
            _log.warning("Streams of %s break (%s): polling instead.", self._waiter.provider.title, why)
