"""Streams: the service reports the end of a job on an open connection. A few are open at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator

from prefect_docjobs.cancellation import cancelled
from prefect_docjobs.errors import DocJobsError, Throttled
from prefect_docjobs.models import JobStatus
from prefect_docjobs.waiting.pending import PendingJob, PendingJobs

_log = logging.getLogger(__name__)
_TRIES = 3  # streams of one job that may break before it is left to polls
_BROKEN = 6  # streams that may break in a row before none is opened any more
_PAUSE = 1.0


class Streams:
    """The open streams of an account. One that breaks is opened again, then its job is only polled."""

    def __init__(self, pending: PendingJobs) -> None:
        self._pending = pending
        self._on = pending.provider.capabilities.stream and pending.limits.streams > 0
        self._open: dict[PendingJob, asyncio.Task[None]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._given_up: set[PendingJob] = set()
        self._broken = 0
        pending.on_end.append(self._drop)

    def open(self, job: PendingJob) -> bool:
        """Open a stream for a job if there is room; whether it has one."""
        if job in self._open:
            return True
        full = len(self._open) >= self._pending.limits.streams
        if not self._on or full or job in self._given_up:
            return False
        job.is_streamed = True
        self._open[job] = asyncio.create_task(self._follow(job))
        return True

    def _drop(self, job: PendingJob) -> None:
        job.is_streamed = False
        self._given_up.discard(job)
        if stream := self._release(job):
            stream.cancel()

    def _release(self, job: PendingJob) -> asyncio.Task[None] | None:
        """Make room for another stream; this one may take a moment to close."""
        if stream := self._open.pop(job, None):
            self._closing.add(stream)
            stream.add_done_callback(self._closing.discard)
        return stream

    async def aclose(self) -> None:
        """Close all streams."""
        await cancelled(*self._open.values(), *self._closing)

    async def _follow(self, job: PendingJob) -> None:
        for number in range(1, _TRIES + 1):
            job.is_streamed = True
            try:
                await self._read(job)
            except asyncio.CancelledError:
                if job in self._open and not self._pending.closed:  # not cancelled by us
                    self._give_up(job)
                    self._poll_instead(job)
                raise
            except DocJobsError as error:
                self._count(error)
            except Exception as bug:  # noqa: BLE001 (no fault of a stream may cost a job)
                self._switch_off(f"{type(bug).__name__}: {bug}")
            if job.outcome.done():
                return
            self._poll_instead(job)
            if not self._on:
                break
            await asyncio.sleep(_PAUSE * 2.0**number)
        self._give_up(job)

    def _give_up(self, job: PendingJob) -> None:
        """Leave a job to polls for good."""
        self._release(job)
        self._given_up.add(job)

    def _poll_instead(self, job: PendingJob) -> None:
        """Streams often break as their job ends: no reason to leave it to the watchdog."""
        job.is_streamed = False
        delay = self._pending.next_poll(job)
        if not job.is_ready and self._pending.now() + delay < job.due:
            self._pending.poll_in(job, delay)

    async def _read(self, job: PendingJob) -> None:
        pending = self._pending
        await pending.http.wait_for_token("status")
        stream = pending.provider.stream(pending.http, job.ref)
        try:
            async for status in stream:
                self._broken = 0
                if status.ref.job_id == job.ref.job_id:
                    self._observe(job, status)
                if job.outcome.done():
                    return
        finally:
            if isinstance(stream, AsyncGenerator):
                await stream.aclose()

    def _observe(self, job: PendingJob, status: JobStatus) -> None:
        if status.state.is_terminal:
            self._release(job)  # it must not cancel itself when the end of its job drops the stream
        self._pending.observe_live(status)

    def _count(self, error: DocJobsError) -> None:
        self._broken += not isinstance(error, Throttled)
        if self._broken >= _BROKEN:
            self._switch_off(str(error))

    def _switch_off(self, why: str) -> None:
        if self._on:
            self._on = False
            _log.warning("Streams of %s break (%s): polling instead.", self._pending.provider.title, why)
