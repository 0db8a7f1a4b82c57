"""A service, an account and a ledger, for tests of buying. Use it in a `patient_time` test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import text
from support.ledgers import dead
from support.services import KEY, ORIGIN, Recorder, provider

from prefect_docjobs.extraction import Terms, extract_many
from prefect_docjobs.http import Http
from prefect_docjobs.ledger import Entry, Ledger, Record, entry_for
from prefect_docjobs.models import Document, Outcome
from prefect_docjobs.providers import Provider
from prefect_docjobs.simulator.backend import Backend
from prefect_docjobs.simulator.pushes import Pushes
from prefect_docjobs.simulator.server import SimulatorTransport, create_app
from prefect_docjobs.simulator.settings import Settings

TENANT = "acme"
JOBS = {"duration": {"law": "fixed", "seconds": 10.0}}


class Late(httpx.AsyncBaseTransport):
    """Hands answers on late, or others in their place: `seconds` and `instead` say so, given the request."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner
        self.seconds: Callable[[httpx.Request], float] = lambda request: 0.0
        self.instead: Callable[[httpx.Request], httpx.Response | None] = lambda request: None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = self.instead(request) or await self._inner.handle_async_request(request)
        await asyncio.sleep(self.seconds(request))
        return answer


@dataclass
class Shop:
    """What is bought from, and what remembers it.

    Attributes:
        provider: The service.
        http: The account.
        backend: What the service knows.
        requests: All that it was asked.
        late: How late answers arrive.
        pushes: The service's webhook calls; somebody has to run them.
        path: Of the ledger.
        ledger: Opened.
    """

    provider: Provider
    http: Http
    backend: Backend
    requests: list[httpx.Request]
    late: Late
    pushes: Pushes
    path: Path
    ledger: Ledger

    @property
    def submits(self) -> int:
        """Accepted, by the service's own count."""
        return sum(self.backend.stats.submits.values())

    @property
    def fetches(self) -> int:
        return sum(job.fetches for job in self.backend.all_jobs())

    def set(self, **settings: Any) -> None:
        """Change how the service behaves."""
        self.backend.settings = self.backend.settings.merged(settings)

    async def extract(
        self,
        *documents: Document,
        ledger: Ledger | None = None,
        provider: Provider | None = None,
        timeout: float | None = None,
        document_timeout: float | None = 3600.0,
        concurrency: int = 1000,
        **terms: Any,
    ) -> Sequence[Outcome]:
        """The outcomes in the order of the documents; `terms` as for `Terms`."""
        outcomes = extract_many(
            provider or self.provider,
            self.http,
            documents,
            timeout=timeout,
            document_timeout=document_timeout,
            concurrency=concurrency,
            terms=Terms(**terms),
            ledger=ledger or self.ledger,
        )
        async with aclosing(outcomes):
            found = {index: outcome async for index, outcome in outcomes}
        return [found[index] for index in range(len(documents))]

    async def the_record(self) -> Record:
        """The only row of the ledger."""
        (record,) = await self.ledger.find()
        return record

    def entry(self, document: Document) -> Entry:
        """What is written down for a document."""
        return entry_for(
            self.provider,
            base_url=self.http.base_url,
            tenant=TENANT,
            name=document.name,
            sha256=document.sha256,
            size=document.size,
        )

    async def orphaned_intent(self, document: Document) -> Record:
        """An intent whose worker has died."""
        return await dead(self.ledger, await self.ledger.claim(self.entry(document)))

    @asynccontextmanager
    async def another_worker(self) -> AsyncIterator[Ledger]:
        """The same ledger, opened by somebody else."""
        async with Ledger(str(self.path)) as ledger:
            yield ledger

    @asynccontextmanager
    async def refusing(self, what: str) -> AsyncIterator[None]:
        """The database refuses to `INSERT`, or to `UPDATE`."""
        await self.execute(
            f"CREATE TRIGGER refusal BEFORE {what} ON docjobs_jobs BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
        yield
        await self.execute("DROP TRIGGER refusal")

    async def execute(self, statement: str) -> None:
        await self.ledger._database.run(lambda connection: connection.execute(text(statement)), writes=True)


@asynccontextmanager
async def shop(
    name: str, folder: Path, *, push_transport: httpx.AsyncBaseTransport | None = None, **settings: Any
) -> AsyncIterator[Shop]:
    """A service whose jobs take ten seconds, unless `settings` of the simulator say otherwise."""
    clock = asyncio.get_running_loop().time
    configured = Settings().merged(JOBS).merged(settings)
    app = create_app(configured, clock=clock, push_transport=push_transport)
    recorder = Recorder(SimulatorTransport(app))
    late = Late(recorder)
    made = provider(name)
    http = Http(
        provider=name,
        base_url=ORIGIN,
        headers=made.auth_headers(KEY),
        tenant=TENANT,
        secrets=[KEY],
        read_error=made.read_error,
        transport=late,
    )
    path = folder / "ledger.db"
    async with http, Ledger(str(path)) as ledger:
        state = app.state
        yield Shop(made, http, state.backend, recorder.requests, late, state.pushes, path, ledger)
