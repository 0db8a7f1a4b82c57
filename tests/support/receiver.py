"""A receiver of pushes as tests have it: in process or on a port, and calls as the services sign them."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette

from prefect_docjobs.ledger import Account, Ledger, ReceivedPush
from prefect_docjobs.webhooks import WebhookAccount, create_app
from prefect_docjobs.webhooks.server import Receiver

_OURS = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
ORIGIN = "http://localhost"  # where tests have the services
SECRET = "the-signing-secret"
TOKEN = "an-unguessable-path-token-0123456789"
MINDEE = WebhookAccount("main", "mindee", ORIGIN, "acme", (SECRET,))
MINDEE_V1 = WebhookAccount("main", "mindee_v1", ORIGIN, "acme", (SECRET,))
UNSILOED = WebhookAccount("main", "unsiloed", ORIGIN, "acme", path_token=TOKEN)
ACCOUNTS = (MINDEE, MINDEE_V1, UNSILOED)
HEADERS = {"mindee": "X-Signature", "mindee_v1": "X-Mindee-Hmac-Signature"}
PATHS = {
    "mindee": "/webhooks/mindee/main",
    "mindee_v1": "/webhooks/mindee-v1/main",
    "unsiloed": f"/webhooks/unsiloed/main/{TOKEN}",
}


def ledger_account(account: WebhookAccount) -> Account:
    return Account(account.provider, account.base_url, account.tenant)


def tenant(account: WebhookAccount, name: str) -> WebhookAccount:
    """The same account of another tenant, under a path of its own."""
    return replace(account, name=name, tenant=name)


def success(provider: str, job_id: str, **extra: Any) -> bytes:
    """The whole result of a job, as the service pushes it; `extra` makes two of them differ."""
    if provider == "mindee_v1":
        document = {"id": "d", "name": "a.pdf", "inference": {"prediction": {}, "pages": []}, **extra}
        return _line({"document": document, "job": {"id": job_id, "status": "completed", "error": {}}})
    inference = {"id": "i", "job": {"id": job_id}, "file": {"alias": None}, "result": {"fields": {}}}
    return _line({"inference": {**inference, **extra}})


def failure(provider: str, job: str) -> bytes:
    """A failed job: V2's names the alias alone, V1's the id."""
    problem = {"status": 500, "title": "Inference failed", "detail": "no", "code": "500-012", "errors": []}
    if provider == "mindee_v1":
        error = {"code": "ServerError", "message": "no", "details": "no"}
        return _line({"job": {"id": job, "status": "failed", "error": error}})
    return _line({"inference_id": "i", "file_alias": job, "error": problem})


def signed(provider: str, body: bytes, secret: str = SECRET) -> dict[str, str]:
    """The headers of a call."""
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"Content-Type": "application/json", HEADERS[provider]: signature}


def _line(payload: Any) -> bytes:
    return json.dumps(payload, separators=(",", ":")).encode()


async def push(
    client: httpx.AsyncClient, provider: str, body: bytes, *, secret: str = SECRET, path: str | None = None
) -> int:
    """Call as the service does; the answer's status."""
    headers = signed(provider, body, secret) if provider in HEADERS else {}
    return (await client.post(path or PATHS[provider], content=body, headers=headers)).status_code


@asynccontextmanager
async def in_process(
    ledger: str | Ledger | Path, accounts: Sequence[WebhookAccount] = ACCOUNTS, **options: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a receiver whose lifespan runs."""
    where = str(ledger) if isinstance(ledger, Path) else ledger
    app = create_app(accounts, ledger=where, events=False, **options)
    async with app.router.lifespan_context(app), client_of(app) as client:
        yield client


def client_of(app: Starlette) -> httpx.AsyncClient:
    """A client that calls an app in process; an exception in the app is one in the test."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://receiver.test")


@asynccontextmanager
async def on_a_port(
    ledger: Path | Ledger, accounts: Sequence[WebhookAccount] = ACCOUNTS, **options: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a receiver that uvicorn serves on loopback."""
    where = str(ledger) if isinstance(ledger, Path) else ledger
    app = create_app(accounts, ledger=where, events=False, **options)
    bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    server = Receiver(app, "127.0.0.1", 0, bound.set_result)
    serving = asyncio.create_task(server.serve())
    try:
        url = f"http://127.0.0.1:{await bound}"
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            yield client
    finally:
        server.should_exit = True
        await serving


@contextmanager
def running(ledger: Path | str, *trusted_proxies: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A receiver in a process of its own, and its port."""
    script = Path(__file__).with_name("receiver_process.py")
    process = subprocess.Popen(
        [sys.executable, str(script), str(ledger), *trusted_proxies],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(script.parents[1]), *_OURS])},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process, closing(process.stdout):
        try:
            yield process, int(process.stdout.readline())
        finally:
            if process.poll() is None:
                process.kill()


async def received_pushes(
    ledger: Path | str | Ledger, account: WebhookAccount = MINDEE
) -> list[ReceivedPush]:
    """What the inbox has."""
    if isinstance(ledger, Ledger):
        return await ledger.inbox.received(ledger_account(account), within=0.0, limit=100_000)
    async with Ledger(str(ledger)) as opened:
        return await received_pushes(opened, account)
