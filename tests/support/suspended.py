"""Suspended flow runs without a Prefect server, a service whose jobs they wait for, and watchers of both."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from support.services import KEY, ORIGIN, Recorder, invoice, provider

from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.extraction import submit_many
from prefect_docjobs.flows.watch_jobs import Accounts, RunState, Service, Watcher
from prefect_docjobs.http import Http
from prefect_docjobs.ledger import Ledger, Record, State, Suspension
from prefect_docjobs.models import JobRef
from prefect_docjobs.providers import provider_class
from prefect_docjobs.simulator.backend import Backend
from prefect_docjobs.simulator.server import SimulatorTransport, create_app
from prefect_docjobs.simulator.settings import Settings
from prefect_docjobs.waiting.durations import Durations

JOBS = {"duration": {"law": "fixed", "seconds": 10.0}}
TENANT = "acme"


class ScriptedRuns:
    """Flow runs whose states a test sets; it counts what is asked and what is resumed."""

    def __init__(self) -> None:
        self.now: dict[str, RunState] = {}
        self.resumed: Counter[str] = Counter()
        self.resumed_at: dict[str, float] = {}
        self.asked = 0
        self.away = False
        self.news = asyncio.Event()

    def suspend(self, run_id: str, wait_id: str) -> None:
        self.now[run_id] = RunState(suspended_for=wait_id)

    def run(self, run_id: str) -> None:
        self.now[run_id] = RunState()

    def end(self, run_id: str) -> None:
        self.now[run_id] = RunState(has_ended=True)

    async def states(self, flow_run_ids: Collection[str]) -> Mapping[str, RunState]:
        self._check()
        return {run_id: self.now[run_id] for run_id in flow_run_ids if run_id in self.now}

    async def resume(self, flow_run_id: str) -> bool:
        self._check()
        if self.now[flow_run_id].suspended_for is None:
            return False
        self.run(flow_run_id)
        self.resumed[flow_run_id] += 1
        self.news.set()
        self.resumed_at[flow_run_id] = asyncio.get_running_loop().time()
        return True

    def _check(self) -> None:
        self.asked += 1
        if self.away:
            raise httpx.ConnectError("the API is away")


@dataclass
class Town:
    """One simulated service, one ledger, many flow runs."""

    name: str
    path: Path
    ledger: Ledger
    backend: Backend
    requests: list[httpx.Request]
    transport: httpx.AsyncBaseTransport
    runs: ScriptedRuns = field(default_factory=ScriptedRuns)
    records: list[str] = field(default_factory=list)
    documents: int = 0

    def http(self) -> Http:
        kind = provider_class(self.name)
        return Http(
            provider=self.name,
            base_url=ORIGIN,
            headers=kind.auth_headers(KEY),
            tenant=TENANT,
            secrets=[KEY],
            read_error=kind.read_error,
            transport=self.transport,
        )

    async def load(self, job: str) -> Service:
        if job == "toy-job/gone":
            raise ConfigurationError(f"{job!r} cannot be loaded.")
        return Service(provider(self.name), self.http())

    async def submitted(self, number: int) -> list[JobRef]:
        """New jobs, in the ledger."""
        documents = [invoice(self.documents + each) for each in range(number)]
        self.documents += number
        async with self.http() as http:
            outcomes = submit_many(provider(self.name), http, documents, ledger=self.ledger)
            return [outcome.ref async for _, outcome in outcomes if outcome.ref is not None]

    async def suspended(self, run_id: str, number: int = 2, **facts: Any) -> Suspension:
        """A run that is suspended for so many new jobs."""
        refs = await self.submitted(number)
        wait = await self.registered(run_id, refs, **facts)
        self.runs.suspend(run_id, wait.id)
        return wait

    async def registered(self, run_id: str, refs: Sequence[JobRef], **facts: Any) -> Suspension:
        known = {"flow_run_id": run_id, "job": "toy-job/x", "refs": refs}
        return await self.ledger.suspensions.register(f"{run_id}.0", **{**known, **facts})

    def watcher(self, ledger: Ledger | None = None) -> Watcher:
        used = ledger or self.ledger
        log = logging.getLogger("tests.watching")
        return Watcher(used, Accounts(used, self.load, Durations()), self.runs, log)

    @asynccontextmanager
    async def watched(self, ledger: Ledger | None = None) -> AsyncIterator[Watcher]:
        """A watcher at work while the context is open."""
        watcher = self.watcher(ledger)
        working = asyncio.create_task(watcher.run())
        try:
            yield watcher
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    @asynccontextmanager
    async def another_ledger(self) -> AsyncIterator[Ledger]:
        async with Ledger(str(self.path)) as ledger:
            yield ledger

    async def until_resumed(self, *run_ids: str, within: float = 120.0) -> None:
        async def resumed() -> None:
            while not all(self.runs.resumed[run_id] for run_id in run_ids):
                self.runs.news.clear()
                await self.runs.news.wait()

        await asyncio.wait_for(resumed(), within)
        await asyncio.sleep(1)  # until it is written down

    async def states(self) -> Counter[State]:
        found: list[Record] = await self.ledger.find()
        return Counter(record.state for record in found)

    def looks(self) -> int:
        """Requests that ask for the state of jobs."""
        return sum(request.method == "GET" for request in self.requests)


@asynccontextmanager
async def town(name: str, folder: Path, **settings: Any) -> AsyncIterator[Town]:
    """A service whose jobs take ten seconds, unless `settings` of the simulator say otherwise."""
    app = create_app(Settings().merged(JOBS).merged(settings), clock=asyncio.get_running_loop().time)
    recorder = Recorder(SimulatorTransport(app))
    path = folder / "ledger.db"
    async with Ledger(str(path)) as ledger:
        yield Town(name, path, ledger, app.state.backend, recorder.requests, recorder)
