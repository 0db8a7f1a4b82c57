"""The watcher: waits for the jobs of all suspended flow runs, and resumes the runs.

It keeps nothing that is not in the ledger, so it may die at any instant: its leases run out, and another
watcher, or itself when it is back, goes on. Several watchers share the waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import anyio

from prefect_docjobs.cancellation import cancelled
from prefect_docjobs.errors import ConfigurationError, DocJobsError
from prefect_docjobs.flows.watching.accounts import Accounts
from prefect_docjobs.flows.watching.runs import FlowRuns, RunState
from prefect_docjobs.ledger import WaitState
from prefect_docjobs.tasks._run import Log, count

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Ledger, Wait

_T = TypeVar("_T")

_LEASE = 15.0  # seconds until another watcher takes over
_RENEWED_EVERY = 5.0
_LOOKS_EVERY = 0.5  # for new waits
_CLAIMS = 100  # waits at a time
_RUNS_EVERY = 30.0  # for runs that were cancelled
_HEART_BEAT = 60.0
_KEPT = 30 * 86_400.0  # seconds that waits whose runs have gone on are kept
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 60.0  # before something is tried again
_RESUMED_AT_A_TIME = 4  # Prefect's server on SQLite refuses many writes at once
_ABOUT_TO_SUSPEND = 5.0  # at most between two looks at a run that is not suspended yet


@dataclass
class Watcher:
    """Watches until it is cancelled; nothing that goes wrong with one wait stops it.

    Attributes:
        ledger: Opened. Its owner holds the waits.
        accounts: Where jobs are waited for.
        runs: What is resumed.
        log: A line a minute, and what goes wrong.
        resumed: Runs that it has resumed.
    """

    ledger: Ledger
    accounts: Accounts
    runs: FlowRuns
    log: Log
    resumed: int = 0
    _watches: dict[str, _Watch] = field(default_factory=dict)
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_RESUMED_AT_A_TIME))

    async def run(self) -> None:
        """Watch until cancelled; then give back what is held."""
        chores: list[tuple[Callable[[], Awaitable[None]], float]] = [
            (self._take_new, _LOOKS_EVERY),
            (self._renew, _RENEWED_EVERY),
            (self._drop_ended_runs, _RUNS_EVERY),
            (self._beat, _HEART_BEAT),
        ]
        tasks = [asyncio.create_task(self._every(seconds, chore)) for chore, seconds in chores]
        try:
            await asyncio.gather(*tasks)
        finally:
            with anyio.CancelScope(shield=True):
                await cancelled(*tasks, *(watch.task for watch in self._watches.values()))
                with suppress(DocJobsError):  # else the leases run out by themselves
                    await self.ledger.waits.release(self.ledger.owner)

    async def _every(self, seconds: float, chore: Callable[[], Awaitable[None]]) -> None:
        """Do something again and again, less often while it fails."""
        failures = 0
        while True:
            try:
                await chore()
                failures = 0
            except Exception as problem:  # noqa: BLE001 (the ledger or Prefect's API is away)
                failures += 1
                self.log.warning("%s: %s", type(problem).__name__, _told(problem))
            await asyncio.sleep(max(seconds, _pause(failures)) if failures else seconds)

    # -- what is done again and again

    async def _take_new(self) -> None:
        while found := await self.ledger.waits.claim(self.ledger.owner, _LEASE, _CLAIMS):
            for wait in found:
                if stale := self._watches.get(wait.id):  # its lease had run out
                    await cancelled(stale.task)
                task = asyncio.create_task(self._watch(wait), name=f"docjobs-wait-{wait.id}")
                self._watches[wait.id] = _Watch(wait, task)
                task.add_done_callback(partial(self._forget, wait.id))

    def _forget(self, wait_id: str, ended: asyncio.Task[None]) -> None:
        if (watch := self._watches.get(wait_id)) and watch.task is ended:
            del self._watches[wait_id]
        if not ended.cancelled() and (bug := ended.exception()):
            self.log.error("A watch broke and is begun again: %s", type(bug).__name__)

    async def _renew(self) -> None:
        held = await self.ledger.waits.renew(self.ledger.owner, _LEASE)
        await cancelled(*(watch.task for wait_id, watch in self._watches.items() if wait_id not in held))
        # What nobody is at work on here is anybody's.
        await self.ledger.waits.release(self.ledger.owner, held - self._watches.keys())

    async def _drop_ended_runs(self) -> None:
        """Forget the waits of runs that were cancelled or deleted."""
        await self.ledger.waits.forget_resumed(_KEPT)
        watches = list(self._watches.values())
        if not watches:
            return
        states = await self.runs.states({watch.wait.flow_run_id for watch in watches})
        ended = [watch for watch in watches if _has_ended(states.get(watch.wait.flow_run_id))]
        await cancelled(*(watch.task for watch in ended))
        await self.ledger.waits.forget({watch.wait.flow_run_id for watch in ended})

    async def _beat(self) -> None:
        jobs = sum(len(watch.wait.refs) for watch in self._watches.values())
        self.log.info(
            "Watching %s with %s of %s; %s resumed so far",
            count(len(self._watches), "run"),
            count(jobs, "job"),
            count(len(self.accounts), "account"),
            count(self.resumed, "run"),
        )

    # -- one wait

    async def _watch(self, wait: Wait) -> None:
        if not wait.is_over:
            await self._jobs_ended(wait)
            await self._insist(lambda: self.ledger.waits.end(wait.id))
        await self._resume(wait)

    async def _jobs_ended(self, wait: Wait) -> None:
        """Until its jobs have ended or its time has passed.

        With a block that is not there any more it ends at once: its run is resumed, and fails visibly.
        """

        async def watched() -> None:
            async with self.accounts.of(wait.job) as account:
                await account.wait(wait.refs)

        async def until_known() -> None:
            try:
                await self._insist(watched)
            except ConfigurationError as problem:
                self.log.warning("The jobs of flow run %s: %s", wait.flow_run_id, problem)

        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(until_known(), None if wait.left is None else max(0.0, wait.left))

    async def _resume(self, wait: Wait) -> None:
        """Resume a run as soon as it is suspended for this wait; until then it may be about to be."""
        attempts = 0
        while not await self._insist(lambda: self._is_settled(wait)):
            attempts += 1
            await asyncio.sleep(min(_pause(attempts), _ABOUT_TO_SUSPEND))

    async def _is_settled(self, wait: Wait) -> bool:
        waits, run_id = self.ledger.waits, wait.flow_run_id
        async with self._turns:
            state = (await self.runs.states([run_id])).get(run_id)
            is_resumed = (
                state is not None and state.suspended_for == wait.id and await self.runs.resume(run_id)
            )
        if _has_ended(state):
            await waits.forget([run_id])
            return True
        if is_resumed:
            self.resumed += 1
            await waits.resumed(wait.id)
            return True
        now = await waits.get(wait.id)
        return now is None or now.state is WaitState.RESUMED

    async def _insist(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """Do something until it works; only a mistake in the configuration is raised."""
        failures = 0
        while True:
            try:
                return await work()
            except ConfigurationError:
                raise
            except Exception as problem:  # noqa: BLE001 (whatever Prefect, the ledger or the network raises)
                failures += 1
                self.log.warning("%s: %s", type(problem).__name__, _told(problem))
            await asyncio.sleep(_pause(failures))


@dataclass(frozen=True, slots=True)
class _Watch:
    """A wait that is held, and what is done about it."""

    wait: Wait
    task: asyncio.Task[None]


def _has_ended(state: RunState | None) -> bool:
    return state is None or state.has_ended


def _pause(attempts: int) -> float:
    """Seconds before the next attempt, doubling."""
    return float(min(_FIRST_PAUSE * 2.0 ** min(attempts - 1, 10), _LONGEST_PAUSE))


def _told(problem: Exception) -> str:
    """What may be logged: the text of an error that is not ours may hold anything."""
    return f"{problem}" if isinstance(problem, DocJobsError) else "trying again"
