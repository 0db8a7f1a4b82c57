"""The watcher: waits for the jobs of all suspended flow runs in one loop, and resumes the runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeAlias, TypeVar
from uuid import UUID

import anyio
from prefect import flow, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import SetStateStatus
from typing_extensions import Self

from prefect_docjobs.blocks.ledger import open_ledger
from prefect_docjobs.cancellation import cancelled
from prefect_docjobs.errors import ConfigurationError, DocJobsError
from prefect_docjobs.extraction.call import Call
from prefect_docjobs.extraction.document import age_of
from prefect_docjobs.extraction.record import JobRecord
from prefect_docjobs.flows._run import Seconds
from prefect_docjobs.http import Http
from prefect_docjobs.ledger import Ledger, Suspension, SuspensionState
from prefect_docjobs.models import JobRef, Outcome, Phase
from prefect_docjobs.providers import Provider
from prefect_docjobs.tasks._run import Log, count, resolve_job, run_log
from prefect_docjobs.tasks.suspend import has_ended, waits_for
from prefect_docjobs.waiting import Waiter, WaitLimits
from prefect_docjobs.waiting.durations import Durations, shared_durations

# ----------------------------------------------------------------------------------------- jobs, by account

_WRITTEN_EVERY = 0.5  # seconds; ends that are seen meanwhile share a few transactions
_NEVER = 1 << 30  # failed looks: while a service is away nobody is held up, so each wait's own limits count

_Key: TypeAlias = "tuple[str, ...]"


@dataclass(frozen=True, slots=True)
class Service:
    """What a job block stands for.

    Attributes:
        provider: With the block's settings.
        http: Of its account, not open yet.
    """

    provider: Provider
    http: Http

    @property
    def key(self) -> _Key:
        """Jobs of services with the same key are waited for together."""
        provider, http = self.provider, self.http
        return (provider.name, http.base_url, http.tenant, provider.product, provider.variant)


LoadService: TypeAlias = Callable[[str], Awaitable[Service]]
"""From the name of a saved job block; raises `ConfigurationError` where there is none."""


class Account:
    """One account and product: the one waiter of its jobs, and what is written of their ends.

    Args:
        service: Opened.
        waiter: Running.
        ledger: Opened.
        call: Opened; it reports pushes to the waiter, and sees ends, so that missing pushes are noticed.
    """

    def __init__(self, service: Service, waiter: Waiter, ledger: Ledger, call: Call) -> None:
        self._service = service
        self._waiter = waiter
        self._ledger = ledger
        self._call = call

    @property
    def is_broken(self) -> bool:
        """Whether nothing can be waited for with it any more."""
        return not self._waiter.is_running

    async def wait(self, refs: Sequence[JobRef]) -> None:
        """Return when all jobs have ended, or cannot be waited for; their ends are in the ledger by then.

        No record is held meanwhile: whoever else takes a job up need not wait for a watcher that died.

        Raises:
            JobTimeout: The waiter broke, which says nothing about the jobs: wait with another.
        """
        waiting = {asyncio.create_task(self._end_of(ref)) for ref in await self._running(refs)}
        try:
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if waiting:
                    more, waiting = await asyncio.wait(waiting, timeout=_WRITTEN_EVERY)
                    done |= more
                await self._write([task.result() for task in done])
        finally:
            await cancelled(*waiting)

    async def _running(self, refs: Sequence[JobRef]) -> list[JobRef]:
        """Those of whose end the ledger does not know."""
        http, job_ids = self._service.http, [ref.job_id for ref in refs]
        found = await self._ledger.find(
            job_ids=job_ids, limit=max(1, 2 * len(job_ids)),
            provider=self._service.provider.name, base_url=http.base_url, tenant=http.tenant,
        )  # fmt: skip
        ended = {record.job_id for record in found if has_ended(record)}
        return [ref for ref in refs if ref.job_id not in ended]

    async def _end_of(self, ref: JobRef) -> Outcome:
        seen = Outcome(document=ref.document_name, ref=ref, phase=Phase.WAIT)
        try:
            status = await self._waiter.done(ref, age=age_of(ref))
        except DocJobsError as error:
            if self.is_broken:
                raise
            return seen.failed(Phase.WAIT, error)
        return seen.model_copy(update={"status": status, "ref": status.ref})

    async def _write(self, ended: Sequence[Outcome]) -> None:
        jobs = [(outcome.ref, outcome) for outcome in ended if outcome.ref is not None]
        await self._call.look_up(ref for ref, _ in jobs)
        await asyncio.gather(*(self._write_one(ref, outcome) for ref, outcome in jobs))

    async def _write_one(self, ref: JobRef, ended: Outcome) -> None:
        job = JobRecord(self._call, ref)
        await job.take_up(ref, to_fetch=False)
        try:
            if not ended.ok:
                await job.failed(ended)
            elif job.end is None:
                await job.done(ref)
        finally:
            self._call.known.pop(ref.job_id, None)
            await job.release()


@dataclass
class _Open:
    """An account that is open, and how many waits use it."""

    account: Account
    stack: AsyncExitStack
    users: int = 0


@dataclass
class Accounts:
    """The accounts that are open: each while there are waits that use it.

    Attributes:
        ledger: Opened.
        load: Finds the service of a wait.
        durations: What jobs took in the past.
    """

    ledger: Ledger
    load: LoadService
    durations: Durations = field(default_factory=shared_durations)
    _open: dict[_Key, _Open] = field(default_factory=dict)
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __len__(self) -> int:
        return len(self._open)

    @asynccontextmanager
    async def of(self, job: str) -> AsyncIterator[Account]:
        """The account of a saved job block, open while the context is.

        Raises:
            ConfigurationError: There is no such block.
        """
        service = await self.load(job)
        async with self._opening:
            used = self._open.get(service.key)
            if used is None or used.account.is_broken:
                used = await self._opened(service)
            used.users += 1
        try:
            yield used.account
        finally:
            used.users -= 1
            if not used.users:
                if self._open.get(service.key) is used:
                    del self._open[service.key]
                await used.stack.aclose()

    async def _opened(self, service: Service) -> _Open:
        provider = service.provider
        limits = WaitLimits(document_timeout=None, failed_polls=_NEVER)
        async with AsyncExitStack() as opening:  # closes what is open when it is cancelled halfway
            http = await opening.enter_async_context(service.http)
            waiter = Waiter(provider, http, limits, self.durations)
            await opening.enter_async_context(waiter)
            call = await opening.enter_async_context(Call(provider, http, self.ledger))
            await opening.enter_async_context(call.pushes.feeding(waiter.pending))
            opened = _Open(Account(service, waiter, self.ledger, call), opening.pop_all())
        self._open[service.key] = opened
        return opened


# ------------------------------------------------------------------------------------------------ flow runs

_PAGE = 200


@dataclass(frozen=True, slots=True)
class RunState:
    """What a flow run is doing.

    Attributes:
        has_ended: It will not go on by itself.
        suspended_for: Id of the wait that it is suspended for; None when it is not suspended.
    """

    has_ended: bool = False
    suspended_for: str | None = None


class FlowRuns(Protocol):
    """Where flow runs are looked up and resumed. Anything may be raised: then it is tried again."""

    async def states(self, flow_run_ids: Collection[str]) -> Mapping[str, RunState]:
        """What these runs are doing; those that are not there any more are left out."""
        ...

    async def resume(self, flow_run_id: str) -> bool:
        """Schedule a suspended run; false when it was not suspended."""
        ...


class PrefectRuns:
    """The flow runs of Prefect's API. Use it as an async context manager: a client is dear to make."""

    async def __aenter__(self) -> Self:
        self._stack = AsyncExitStack()
        self._client = await self._stack.enter_async_context(get_client())
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def states(self, flow_run_ids: Collection[str]) -> Mapping[str, RunState]:
        """See `FlowRuns.states`."""
        ids = [UUID(flow_run_id) for flow_run_id in flow_run_ids]
        found: dict[str, RunState] = {}
        for first in range(0, len(ids), _PAGE):
            these = FlowRunFilter(id=FlowRunFilterId(any_=ids[first : first + _PAGE]))
            for run in await self._client.read_flow_runs(flow_run_filter=these, limit=_PAGE):
                found[str(run.id)] = _state_of(run)
        return found

    async def resume(self, flow_run_id: str) -> bool:
        """See `FlowRuns.resume`."""
        answer = await self._client.resume_flow_run(UUID(flow_run_id))
        return answer.status is SetStateStatus.ACCEPT


def _state_of(run: FlowRun) -> RunState:
    state = run.state
    if state is None:
        return RunState()
    details = state.state_details
    # Not a pause, which keeps its process; what it is suspended for may be something else, such as consent.
    is_suspended = state.is_paused() and details.pause_reschedule and details.pause_key is not None
    return RunState(
        has_ended=state.is_final(),
        suspended_for=waits_for(details.pause_key or "") if is_suspended else None,
    )


# ---------------------------------------------------------------------------------------------- the watcher

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
                    await self.ledger.suspensions.release(self.ledger.owner)

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
        while found := await self.ledger.suspensions.claim(self.ledger.owner, _LEASE, _CLAIMS):
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
        held = await self.ledger.suspensions.renew(self.ledger.owner, _LEASE)
        await cancelled(*(watch.task for wait_id, watch in self._watches.items() if wait_id not in held))
        # What nobody is at work on here is anybody's.
        await self.ledger.suspensions.release(self.ledger.owner, held - self._watches.keys())

    async def _drop_ended_runs(self) -> None:
        """Forget the waits of runs that were cancelled or deleted."""
        await self.ledger.suspensions.forget_resumed(_KEPT)
        watches = list(self._watches.values())
        if not watches:
            return
        states = await self.runs.states({watch.wait.flow_run_id for watch in watches})
        ended = [watch for watch in watches if _has_ended(states.get(watch.wait.flow_run_id))]
        await cancelled(*(watch.task for watch in ended))
        await self.ledger.suspensions.forget({watch.wait.flow_run_id for watch in ended})

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

    async def _watch(self, wait: Suspension) -> None:
        if not wait.is_over:
            await self._jobs_ended(wait)
            await self._insist(lambda: self.ledger.suspensions.end(wait.id))
        await self._resume(wait)

    async def _jobs_ended(self, wait: Suspension) -> None:
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

    async def _resume(self, wait: Suspension) -> None:
        """Resume a run as soon as it is suspended for this wait; until then it may be about to be."""
        attempts = 0
        while not await self._insist(lambda: self._is_settled(wait)):
            attempts += 1
            await asyncio.sleep(min(_pause(attempts), _ABOUT_TO_SUSPEND))

    async def _is_settled(self, wait: Suspension) -> bool:
        suspensions, run_id = self.ledger.suspensions, wait.flow_run_id
        async with self._turns:
            state = (await self.runs.states([run_id])).get(run_id)
            is_resumed = (
                state is not None and state.suspended_for == wait.id and await self.runs.resume(run_id)
            )
        if _has_ended(state):
            await suspensions.forget([run_id])
            return True
        if is_resumed:
            self.resumed += 1
            await suspensions.resumed(wait.id)
            return True
        now = await suspensions.get(wait.id)
        return now is None or now.state is SuspensionState.RESUMED

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

    wait: Suspension
    task: asyncio.Task[None]


def _has_ended(state: RunState | None) -> bool:
    return state is None or state.has_ended


def _pause(attempts: int) -> float:
    """Seconds before the next attempt, doubling."""
    return float(min(_FIRST_PAUSE * 2.0 ** min(attempts - 1, 10), _LONGEST_PAUSE))


def _told(problem: Exception) -> str:
    """What may be logged: the text of an error that is not ours may hold anything."""
    return f"{problem}" if isinstance(problem, DocJobsError) else "trying again"


# ------------------------------------------------------------------------------------------------- the flow


@flow(name="watch-jobs")
async def watch_jobs(*, stop_after: Seconds | None = None) -> None:
    """Wait for the jobs of all suspended flow runs, and resume the runs when their jobs have ended.

    It runs until it is cancelled. It may die at any time, and any number of them may run: what one held goes
    to the others within 15 seconds.

    Args:
        stop_after: Seconds after which it ends by itself, for schedules that start it anew. Empty: never.

    Raises:
        ConfigurationError: There is no ledger.
    """
    await watch(stop_after)


async def watch(stop_after: float | None = None) -> None:
    """Do what `watch_jobs` does, without a flow run."""
    async with opened_watcher(run_log()) as watcher:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(watcher.run(), stop_after)


@asynccontextmanager
async def opened_watcher(
    log: Log, seen: Callable[[FlowRuns], FlowRuns] | None = None
) -> AsyncIterator[Watcher]:
    """A watcher of the flow runs of Prefect and the jobs of the ledger, both open while the context is.

    Args:
        log: Where it logs.
        seen: Makes of the flow runs what the watcher sees of them.

    Raises:
        ConfigurationError: There is no ledger.
    """
    async with open_ledger() as ledger:
        if ledger.in_memory:
            raise ConfigurationError("There is nothing to watch: PREFECT_DOCJOBS_LEDGER is empty.")
        async with PrefectRuns() as runs:
            yield Watcher(ledger, Accounts(ledger, _service), seen(runs) if seen else runs, log)


async def _service(job: str) -> Service:
    block = await resolve_job(job)
    return Service(block.provider(), block.credentials.get_client())
