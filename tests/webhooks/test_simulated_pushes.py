"""The simulator pushes to the receiver: what it says is the result, and nobody has to ask for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.receiver import ACCOUNTS, ORIGIN, PATHS, SECRET, ledger_account, received_pushes
from support.services import KEY, invoice, provider, says
from support.simulated import HandClock, settled
from support.wire import answer

from prefect_docjobs.http import Http
from prefect_docjobs.ledger import Ledger, Record, State, entry_for
from prefect_docjobs.models import Document, JobRef, JobState
from prefect_docjobs.providers import Provider, provider_class
from prefect_docjobs.simulator.backend import Backend
from prefect_docjobs.simulator.pushes import Pushes
from prefect_docjobs.simulator.server import SimulatorTransport
from prefect_docjobs.simulator.server import create_app as simulator
from prefect_docjobs.webhooks import create_app

SIGNING = pytest.mark.parametrize("name", ["mindee", "mindee_v1"])
ACCOUNT = {account.provider: account for account in ACCOUNTS}


@dataclass(frozen=True)
class Scene:
    """A service, its client, a receiver, and the ledger between them."""

    provider: Provider
    http: Http
    ledger: Ledger
    backend: Backend
    clock: HandClock
    pushes: Pushes

    async def submit(self, document: Document) -> Record:
        """Buy, as the pipeline does."""
        entry = entry_for(
            self.provider,
            base_url=ORIGIN,
            tenant="acme",
            name=document.name,
            sha256=document.sha256,
            size=document.size,
        )
        record = await self.ledger.claim(entry)
        return await self.ledger.submitted(record, await self.send(document))

    async def send(self, document: Document) -> JobRef:
        """Submit, and write nothing down."""
        return await self.provider.submit(self.http, document)

    async def deliver(self) -> None:
        """Have all jobs end, and all calls be made."""
        self.clock.advance(10.0)
        await self.pushes.deliver_due()


@asynccontextmanager
async def scene(name: str, folder: Path, **settings: Any) -> AsyncIterator[Scene]:
    """A simulator whose pushes go to a receiver, both in process."""
    clock = HandClock()
    async with Ledger(str(folder / "ledger.db")) as ledger:
        receiver = create_app(ACCOUNTS, ledger=ledger, events=False)
        webhooks = {"url": f"http://receiver.test{PATHS[name]}", "secret": SECRET}
        app = simulator(
            settled(webhooks={**webhooks, **settings.pop("webhooks", {})}, **settings),
            clock=clock,
            push_transport=httpx.ASGITransport(receiver),
        )
        kind = provider_class(name)
        http = Http(
            provider=name,
            base_url=ORIGIN,
            headers=kind.auth_headers(KEY),
            tenant="acme",
            secrets=[KEY],
            read_error=kind.read_error,
            transport=SimulatorTransport(app),
        )
        async with receiver.router.lifespan_context(receiver), http:
            yield Scene(provider(name), http, ledger, app.state.backend, clock, app.state.pushes)


@SIGNING
async def test_what_is_pushed_is_what_would_have_been_fetched(name: str, tmp_path: Path) -> None:
    async with scene(name, tmp_path) as it:
        record = await it.submit(invoice(7))
        await it.deliver()
        now = await it.ledger.record(record.id)
        assert now is not None
        assert now.ref is not None
        assert (now.state, now.has_body) == (State.DONE, True)
        pushed = it.provider.read_result(now.ref, answer(await it.ledger.body(now)))
        status = await it.provider.status(it.http, now.ref)
        fetched = it.provider.read_result(status.ref, await it.provider.fetch(it.http, status.ref))
    assert says(pushed) == ("N-00007", 7.5)
    assert (pushed.fields, pushed.text, pushed.pages) == (fetched.fields, fetched.text, fetched.pages)


@SIGNING
async def test_a_push_that_comes_before_its_submit_is_written_down_is_there_for_whoever_waits(
    name: str, tmp_path: Path
) -> None:
    async with scene(name, tmp_path) as it:
        ref = await it.send(invoice(8))
        await it.deliver()
        (received,) = await received_pushes(it.ledger, ACCOUNT[name])
        assert (received.job_id, received.state) == (ref.job_id, JobState.SUCCEEDED)
        body = await it.ledger.inbox.body(received.id)
        assert body is not None
        assert says(it.provider.read_result(ref, answer(body))) == ("N-00008", 8.5)


@SIGNING
async def test_pushes_that_come_twice_and_late_end_each_document_once(name: str, tmp_path: Path) -> None:
    hooks = {"twice_share": 0.5, "late_share": 0.5, "late_seconds": 30.0}
    async with scene(name, tmp_path, webhooks=hooks, failed_share=0.3) as it:
        records = [await it.submit(invoice(number)) for number in range(30)]
        for _ in range(5):
            await it.deliver()
        found = await it.ledger.records(record.id for record in records)
        told = await received_pushes(it.ledger, ACCOUNT[name])
        failures = [received for received in told if received.state is JobState.FAILED]
        fetched = [record for record in found.values() if record.has_body]
        assert it.backend.stats.pushes["delivered"] > 30
        assert it.backend.stats.pushes["refused"] == 0
    assert len(told) == len(records)
    assert len(failures) + len(fetched) == len(records)
    assert failures
    assert len({record.version for record in fetched}) == 1


@SIGNING
async def test_a_failure_names_its_job(name: str, tmp_path: Path) -> None:
    async with scene(name, tmp_path, failed_share=1.0) as it:
        record = await it.submit(invoice(9))
        assert record.ref is not None
        await it.deliver()
        (received,) = await received_pushes(it.ledger, ACCOUNT[name])
        assert received.state is JobState.FAILED
        assert received.error is not None
        assert (received.job_id, received.alias) in {(record.job_id, None), (None, record.ref.alias)}


@SIGNING
async def test_a_secret_that_is_not_ours_is_refused(name: str, tmp_path: Path) -> None:
    async with scene(name, tmp_path, webhooks={"secret": "another"}) as it:
        record = await it.submit(invoice(10))
        await it.deliver()
        now = await it.ledger.record(record.id)
        assert now is not None
        assert (now.state, it.backend.stats.pushes["refused"]) == (State.SUBMITTED, 1)
        assert await received_pushes(it.ledger, ACCOUNT[name]) == []


async def test_unsiloed_hints_at_its_job(tmp_path: Path) -> None:
    async with scene("unsiloed", tmp_path) as it:
        record = await it.submit(invoice(11))
        await it.deliver()
        (received,) = await it.ledger.inbox.received(ledger_account(ACCOUNT["unsiloed"]), within=0.0)
        assert (received.job_id, received.state) == (record.job_id, None)
        assert it.backend.stats.pushes["delivered"] == 1
