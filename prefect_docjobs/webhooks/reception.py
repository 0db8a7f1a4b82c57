"""The way of one push: its head checked, its body read within bounds and checked, kept, answered, logged."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial

from anyio import to_thread
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

from prefect_docjobs.errors import DocJobsError
from prefect_docjobs.webhooks.accounts import UNKNOWN, Accounts, WebhookAccount
from prefect_docjobs.webhooks.bodies import Room, Usage, check_announced, read_body
from prefect_docjobs.webhooks.calls import Call, check_head, read_hint, read_signed
from prefect_docjobs.webhooks.clients import client_key
from prefect_docjobs.webhooks.events import Announcer
from prefect_docjobs.webhooks.metrics import Metrics
from prefect_docjobs.webhooks.outcomes import Declined, Outcome
from prefect_docjobs.webhooks.store import Store

_log = logging.getLogger("prefect_docjobs.webhooks")
_AT_ONCE = 64 << 10  # bytes that are checked and parsed without a thread: about 1 ms
_SEND_AGAIN_AFTER = "5"  # seconds


@dataclass(frozen=True, slots=True)
class ReceiverLimits:
    """The limits of a receiver. What is beyond those of requests and memory is answered with 503.

    Attributes:
        body_bytes: The largest push.
        hint_bytes: The largest push of a service that does not sign.
        body_seconds: For the whole body of a request to arrive.
        requests: Pushes in progress at the same time.
        client_requests: Of these, pushes of one client.
        memory_bytes: Bodies in memory at the same time, all together.
        client_memory_bytes: Of these, bodies of one client; at least one body of the largest size.
        ledger_seconds: For the ledger to keep a push.
    """

    body_bytes: int = 20 << 20
    hint_bytes: int = 128 << 10
    body_seconds: float = 10.0
    requests: int = 256
    client_requests: int = 64
    memory_bytes: int = 80 << 20
    client_memory_bytes: int = 40 << 20
    ledger_seconds: float = 5.0


@dataclass(slots=True)
class _Visit:
    """What is told of one request afterwards."""

    account: WebhookAccount | None
    begun: float
    size: int = 0
    job_id: str | None = None


class Reception:
    """Takes pushes. Nothing of them is logged but their account, job, size and outcome.

    Args:
        accounts: Whose.
        store: Where they are kept.
        announcer: Told of what was kept.
        metrics: Told of everything.
        limits: Of requests, bodies and time.
    """

    def __init__(
        self,
        accounts: Accounts,
        store: Store,
        announcer: Announcer,
        metrics: Metrics,
        limits: ReceiverLimits,
    ) -> None:
        self._accounts = accounts
        self._store = store
        self._announcer = announcer
        self._metrics = metrics
        self._limits = limits
        most_of_client = max(limits.client_memory_bytes, limits.body_bytes)
        self._room = Room(
            Usage(limits.requests, limits.memory_bytes), Usage(limits.client_requests, most_of_client)
        )

    async def receive(self, request: Request) -> Response:
        """Answer one POST: 2xx only when the push is durable."""
        account = self._accounts.find(request.path_params["provider"], request.path_params["account"])
        visit = _Visit(account, time.perf_counter())
        try:
            outcome = await self._outcome(request, visit)
        except Declined as declined:
            outcome = declined.outcome
        self._tell(visit, outcome)
        return _answer(outcome)

    async def _outcome(self, request: Request, visit: _Visit) -> Outcome:
        limits = self._limits
        most = limits.body_bytes
        if visit.account is not None and visit.account.hints_only:
            most = min(most, limits.hint_bytes)
        check_announced(request, most)
        token = request.path_params.get("token", "")
        account = check_head(visit.account, token, request.headers.getlist)
        with ExitStack() as stack:
            share = stack.enter_context(self._room.entered(_client(request)))
            try:
                body = await read_body(request, share, most=most, seconds=limits.body_seconds)
            finally:
                visit.size = share.used
            call = await _read(request.headers, account, body)
            visit.job_id = call.job_id
            then = partial(self._announcer.announce, account, call)
            writing = self._store.begin(account, call, then)
            leave = stack.pop_all().close  # the push has its room until it is written, or cannot be
            writing.add_done_callback(lambda _: leave())
        try:
            kept = await self._store.answer(writing)
        except DocJobsError as problem:
            _log.warning("A push could not be kept: %s", problem)
            return Outcome.UNAVAILABLE
        except Exception as problem:  # noqa: BLE001 (whatever it is, the service has to send again)
            _log.error("A push could not be kept: %s", type(problem).__name__)
            return Outcome.UNAVAILABLE
        return Outcome.KEPT if kept.is_new else Outcome.REPLAYED

    def _tell(self, visit: _Visit, outcome: Outcome) -> None:
        seconds = time.perf_counter() - visit.begun
        account = visit.account
        provider = account.provider if account else UNKNOWN
        self._metrics.count(provider, outcome, seconds, visit.size)
        line = {
            "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            "event": "push",
            "provider": provider,
            "account": account.name if account else UNKNOWN,
            "job_id": visit.job_id,
            "outcome": outcome.value,
            "status": outcome.status,
            "ms": round(seconds * 1000, 2),
            "bytes": visit.size,
        }
        _log.info("%s", json.dumps(line))


async def _read(headers: Headers, account: WebhookAccount, body: bytes) -> Call:
    """The call, checked; beside the loop where that takes long."""
    if account.hints_only:
        read = partial(read_hint, account, body)
    else:
        read = partial(read_signed, account, _joined(headers), body)
    return read() if len(body) <= _AT_ONCE else await to_thread.run_sync(read)


def _client(request: Request) -> str:
    return client_key(request.client.host if request.client else None)


def _joined(headers: Headers) -> Mapping[str, str]:
    """Each header once: one that came twice is a list (RFC 9110, 5.3), which is no signature."""
    return {name: ", ".join(headers.getlist(name)) for name in headers.keys()}  # noqa: SIM118 (repeats)


def _answer(outcome: Outcome) -> Response:
    """An answer without a word: who may know more reads the log."""
    headers: dict[str, str] = {}
    if not outcome.is_final:
        headers["Connection"] = "close"  # the rest of a body that was not read is not waited for
    if outcome.status == 503:
        headers["Retry-After"] = _SEND_AGAIN_AFTER
    return Response(status_code=outcome.status, headers=headers)
