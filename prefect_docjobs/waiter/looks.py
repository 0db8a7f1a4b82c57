"""Looks: one status check of one job. One that fails is not a job that failed."""

from __future__ import annotations

import asyncio
import math
from functools import partial
from typing import TYPE_CHECKING

import anyio

from prefect_docjobs.cancellation import cancelled
from prefect_docjobs.errors import DocJobsError, ForeignOrigin, NotFound, Throttled, Unavailable, Unreadable
from prefect_docjobs.models import JobStatus
from prefect_docjobs.waiter.watch import Watch, refusal

if TYPE_CHECKING:
    from prefect_docjobs.waiter.loop import Waiter

_LONGEST_PAUSE = 60.0


class Looks:
    """The looks of one waiter that are under way. Whatever breaks in one, its job is put back or ends."""

    def __init__(self, waiter: Waiter) -> None:
        self._waiter = waiter
        self._under_way: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._under_way)

    def begin(self, watch: Watch) -> None:
        """Look at a job."""
        watch.looking += 1
        look = asyncio.create_task(self._look(watch))
        self._under_way.add(look)
        look.add_done_callback(partial(self._ended, watch))

    def cancel(self) -> None:
        """Have all looks end."""
        for look in self._under_way:
            look.cancel()

    async def aclose(self) -> None:
        """Cancel all looks, and return when they have ended."""
        await cancelled(*self._under_way)

    def _ended(self, watch: Watch, look: asyncio.Task[None]) -> None:
        self._under_way.discard(look)
        watch.looking -= 1
        waiter = self._waiter
        waiter.look_ended()
        bug = asyncio.CancelledError() if look.cancelled() else look.exception()
        if bug is None or watch.outcome.done() or not waiter.is_running:
            return
        try:
            self._count(watch, Unreadable(f"The status check broke: {type(bug).__name__}."))
        except Exception:  # else it would never be looked at again
            waiter.time_out(watch, f"could not be looked at ({type(bug).__name__})")
            raise

    async def _look(self, watch: Watch) -> None:
        waiter = self._waiter
        watch.looks += 1
        asked_at = watch.asked_at = waiter.now()
        try:
            status = await self._status(watch, asked_at)
        except DocJobsError as error:
            self._count(watch, error)
            return
        watch.errors = watch.refusals = 0
        watch.looked_age = watch.age(asked_at)
        waiter.guarded("list", waiter.sweeps.checked, watch, status, asked_at)
        waiter.observed(watch, status)
        if not watch.outcome.done():
            delay, hinted = waiter.next_look(watch), watch.hinted_at >= asked_at
            waiter.put(watch, min(delay, waiter.soonest(watch)) if hinted else delay)

    async def _status(self, watch: Watch, asked_at: float) -> JobStatus:
        """One status request; it may outlast the deadline of its job by a little, and no more."""
        waiter = self._waiter
        limit = max(0.0, watch.deadline - asked_at) + waiter.patience.overrun
        try:
            with anyio.fail_after(None if limit == math.inf else limit):
                status = await waiter.provider.status(waiter.http, watch.ref, once=True)
            is_of_the_job = status.ref.job_id == watch.ref.job_id
        except DocJobsError:
            raise
        except TimeoutError:
            raise Unavailable("The service did not answer in time.") from None
        except Exception as bug:
            waiter.guarded("status check", _raise, bug)
            raise Unreadable(f"The status check broke: {type(bug).__name__}.") from bug
        if not is_of_the_job:
            raise Unreadable("The service answered for another job.")
        return status

    # -- looks that fail

    def _count(self, watch: Watch, error: DocJobsError) -> None:
        if watch.outcome.done():
            return
        waiter = self._waiter
        now, patience, schedule = waiter.now(), waiter.patience, waiter.schedule
        delay = schedule.next(watch.ref.document_size, watch.age(now))
        if isinstance(error, Throttled):
            # The pace holds everybody back; a day is no reason to forget a job until its deadline.
            delay = max(min(error.retry_after or 0.0, _LONGEST_PAUSE), delay)
        elif isinstance(error, (Unavailable, Unreadable)) and not isinstance(error, ForeignOrigin):
            watch.errors += 1
            delay = schedule.after_errors(watch.ref.document_size, watch.age(now), watch.errors)
        elif not (isinstance(error, NotFound) and self._is_new(watch, now)):
            watch.refusals += 1
        if watch.refusals >= patience.refusals:
            waiter.fail(watch, refusal(watch, error))
        elif watch.errors >= patience.failed_looks:
            waiter.time_out(watch, f"could not be looked at {watch.errors} times in a row ({error})")
        elif now >= watch.deadline:
            waiter.time_out(watch, f"could not be looked at when its time ran out ({error})")
        else:
            waiter.put(watch, delay)

    def _is_new(self, watch: Watch, now: float) -> bool:
        return not watch.last and watch.age(now) < self._waiter.patience.not_found_grace


def _raise(bug: Exception) -> None:
    raise bug
