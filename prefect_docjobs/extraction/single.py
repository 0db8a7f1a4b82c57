"""One document: submit, wait, fetch. Unlike in a batch, what goes wrong is raised."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from prefect_docjobs.errors import DocJobsError
from prefect_docjobs.extraction.batches import OTHERS, purchases, waiter
from prefect_docjobs.extraction.line import age_of
from prefect_docjobs.extraction.purchases import Purchase, Purchases, Terms
from prefect_docjobs.http import Http
from prefect_docjobs.models import Document, JobRef, JobStatus, Outcome, Phase, Result
from prefect_docjobs.providers.base import Provider
from prefect_docjobs.telemetry.names import REUSED

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Ledger


async def submit_one(
    provider: Provider,
    http: Http,
    document: Document,
    *,
    terms: Terms | None = None,
    ledger: Ledger | None = None,
) -> JobRef:
    """See to it that there is a job for a document; see `Purchases.submit` for the errors."""
    async with purchases(provider, http, terms, ledger) as buying:
        with buying.phase(Phase.SUBMIT) as told:
            purchase = await buying.submit(document, hold=False, others=OTHERS)
            told.job(purchase.ref)
            told.note(REUSED, purchase.reused)
        return purchase.ref


async def wait_one(
    provider: Provider,
    http: Http,
    ref: JobRef,
    *,
    timeout: float | None = 3600.0,
    ledger: Ledger | None = None,
) -> JobStatus:
    """Wait until one job has succeeded; see `Waiter.done` for the errors."""
    async with (
        waiter(provider, http, timeout) as waiting,
        purchases(provider, http, None, ledger) as buying,
        buying.told_to(waiting),
    ):
        await buying.look_up([ref])
        purchase = await buying.take_up(ref, to_fetch=False)
        if purchase.status:
            return purchase.status
        async with _noted(buying, purchase, Phase.WAIT):
            status = await waiting.done(ref, age=age_of(ref))
        await buying.done(purchase, status.ref)
        return status


async def fetch_one(
    provider: Provider, http: Http, ref: JobRef, *, ledger: Ledger | None = None, until: float | None = None
) -> Result:
    """Fetch one result; see `Provider.fetch` and `Provider.read_result` for the errors."""
    async with purchases(provider, http, None, ledger) as buying:
        until = anyio.current_time() + OTHERS if until is None else until
        await buying.look_up([ref])
        purchase = await buying.take_up(ref, to_fetch=True, until=until)
        purchase = await buying.regain(purchase, until)
        with buying.phase(Phase.FETCH, ref):
            async with _noted(buying, purchase, Phase.FETCH):
                result, _ = await buying.fetch(purchase)
        return result


@asynccontextmanager
async def _noted(buying: Purchases, purchase: Purchase, phase: Phase) -> AsyncIterator[None]:
    """Have a failure written down."""
    try:
        yield
    except DocJobsError as error:
        await buying.failed(purchase, Outcome(document=purchase.ref.document_name).failed(phase, error))
        raise
