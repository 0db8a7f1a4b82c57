"""The receiver as an ASGI app, served alone or mounted into another."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.ledger import Ledger
from prefect_docjobs.ledger.setting import address
from prefect_docjobs.webhooks.accounts import Accounts, WebhookAccount
from prefect_docjobs.webhooks.events import Announcer
from prefect_docjobs.webhooks.metrics import CONTENT_TYPE, Metrics
from prefect_docjobs.webhooks.reception import ReceiverLimits, Reception
from prefect_docjobs.webhooks.store import Store

KEEP_FOR = 7 * 86_400.0
"""Seconds for which a push is kept; a job that nobody asks for by then is nobody's."""

_log = logging.getLogger("prefect_docjobs.webhooks")


def create_app(
    accounts: Sequence[WebhookAccount],
    *,
    ledger: str | Ledger | None = None,
    insecure: bool = False,
    events: bool = True,
    keep_for: float = KEEP_FOR,
    limits: ReceiverLimits | None = None,
) -> Starlette:
    """The receiver of pushes, for one event loop.

    Routes: `POST /webhooks/{provider}/{account}` for services that sign, with `/{token}` behind it for those
    that do not; `/healthz`, `/readyz`, `/metrics`. The ledger is opened by the app's lifespan, or by the
    first push where the app is mounted into one that does not run it.

    Args:
        accounts: Whose pushes.
        ledger: A path or `postgresql://…`; or a ledger that is open on the loop and stays so; by default
            that of this process's settings.
        insecure: Take pushes of accounts without a secret: as hints to look, never as results.
        events: Emit Prefect events; without a Prefect API none are.
        keep_for: Seconds for which a push is kept, for a job that is not known yet.
        limits: Of requests, bodies and time.

    Raises:
        ConfigurationError: An account has no secret, two have one path or one secret, or there is no ledger.
    """
    known = Accounts(accounts, insecure=insecure)
    for account in known.unproved:
        _log.warning("Anybody can push to %s: it has no secret, so its pushes are hints.", account.path)
    limits = limits or ReceiverLimits()
    store = Store(_ledger(ledger), keep_for=keep_for, within=limits.ledger_seconds)
    announcer, metrics = Announcer(wanted=events), Metrics()
    reception = Reception(known, store, announcer, metrics, limits)
    closing: dict[Any, Any] = {HTTPException: _refused}
    app = Starlette(
        routes=[
            Route("/webhooks/{provider}/{account}", reception.receive, methods=["POST"]),
            Route("/webhooks/{provider}/{account}/{token}", reception.receive, methods=["POST"]),
            Route("/healthz", _alive),
            Route("/readyz", partial(_ready, store)),
            Route("/metrics", lambda _request: Response(metrics.text(), media_type=CONTENT_TYPE)),
        ],
        exception_handlers=closing,
        lifespan=_open(store, announcer),
    )
    app.router.redirect_slashes = False  # another path is another account, not a reason to redirect
    return app


def _ledger(given: str | Ledger | None) -> str | Ledger:
    ledger = given or address()
    if ledger is None:
        raise ConfigurationError("There is no ledger to keep pushes in: PREFECT_DOCJOBS_LEDGER is empty.")
    return ledger


def _open(
    store: Store, announcer: Announcer
) -> Callable[[Starlette], contextlib.AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        announcer.start()
        await store.open()
        try:
            yield
        finally:
            await store.aclose()
            announcer.close()

    return lifespan


async def _alive(_request: Request) -> Response:
    return PlainTextResponse("alive\n")


async def _ready(store: Store, _request: Request) -> Response:
    if await store.is_ready():
        return PlainTextResponse("ready\n")
    return PlainTextResponse("the ledger cannot be written\n", 503)


async def _refused(_request: Request, error: HTTPException) -> Response:
    """No such path or method: the body is not waited for."""
    headers = {**(error.headers or {}), "Connection": "close"}
    return PlainTextResponse(error.detail, error.status_code, headers)
