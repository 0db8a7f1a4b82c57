"""Many documents at once, with bounded memory and one outcome each.

Every function yields `(index of the input, outcome)` in the order of completion. One document's failure
is an outcome, never an exception; cancelling the consumer cancels what is under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import anyio

from prefect_docjobs.cancellation import cancelled
from prefect_docjobs.extraction.line import Line, Observe
from prefect_docjobs.extraction.purchases import Purchases, Terms, Unrecorded
from prefect_docjobs.extraction.recorded import Recorded
from prefect_docjobs.http import Http
from prefect_docjobs.models import Document, JobRef, Outcome, Phase
from prefect_docjobs.providers.base import Provider
from prefect_docjobs.schedule import shared_durations
from prefect_docjobs.waiter import Forecast, Patience, Waiter

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Ledger

Foresee = Callable[[Forecast], None]
"""Told about once a second when everything will be done."""

UNDER_WAY = 1_000
"""Documents under way at the same time, where nothing else says; requests have slots of their own."""

OTHERS = 3600.0
"""Seconds that a submit or a fetch waits for another worker that is at work on the same document."""

Outcomes: TypeAlias = AsyncGenerator[tuple[int, Outcome], None]

Extract: TypeAlias = Callable[[int, Document], Awaitable[Outcome]]
"""Takes one document through a service; its number is for the observer."""

_Item = TypeVar("_Item")
_Done = TypeVar("_Done")


def purchases(provider: Provider, http: Http, terms: Terms | None, ledger: Ledger | None) -> Purchases:
    """Buys with the ledger, or without one."""
    terms = terms or Terms()
    return Unrecorded(provider, http, terms) if ledger is None else Recorded(provider, http, terms, ledger)


def waiter(provider: Provider, http: Http, document_timeout: float | None) -> Waiter:
    """A waiter with the memory that all of this process share."""
    return Waiter(provider, http, Patience(document_timeout=document_timeout), shared_durations())


async def submit_many(
    provider: Provider,
    http: Http,
    documents: Sequence[Document],
    *,
    terms: Terms | None = None,
    ledger: Ledger | None = None,
    observe: Observe | None = None,
) -> Outcomes:
    """Submit documents; each outcome has the ref of its job, or the reason why there is none."""
    async with purchases(provider, http, terms, ledger) as buying:
        line = Line(buying, document_timeout=OTHERS, observe=observe)
        # Standing by for somebody else's submit takes none of the turns.
        async with aclosing(completed(line.submit, documents, limit=UNDER_WAY)) as outcomes:
            async for done in outcomes:
                yield done


async def wait_many(
    provider: Provider,
    http: Http,
    refs: Sequence[JobRef],
    *,
    timeout: float | None = None,
    document_timeout: float | None = 3600.0,
    ledger: Ledger | None = None,
    observe: Observe | None = None,
    foresee: Foresee | None = None,
) -> Outcomes:
    """Wait for jobs; each outcome has the last status and the completed ref, or the reason."""
    deadline = _deadline(timeout)
    async with (
        waiter(provider, http, document_timeout) as waiting,
        purchases(provider, http, None, ledger) as buying,
        buying.told_to(waiting),
    ):
        await buying.look_up(refs)
        waiting.on_forecast = foresee
        line = Line(buying, waiting, deadline, document_timeout, observe)
        async with aclosing(completed(line.wait, refs, limit=max(1, len(refs)))) as outcomes:
            async for done in outcomes:
                yield done


async def fetch_many(
    provider: Provider,
    http: Http,
    refs: Sequence[JobRef],
    *,
    ledger: Ledger | None = None,
    observe: Observe | None = None,
) -> Outcomes:
    """Fetch results; each outcome has the result, or the reason why there is none."""
    async with purchases(provider, http, None, ledger) as buying:
        await buying.look_up(refs)
        line = Line(buying, document_timeout=OTHERS, observe=observe)
        async with aclosing(completed(line.fetch, refs, limit=UNDER_WAY)) as outcomes:
            async for done in outcomes:
                yield done


async def extract_many(
    provider: Provider,
    http: Http,
    documents: Sequence[Document],
    *,
    timeout: float | None = None,
    document_timeout: float | None = 3600.0,
    concurrency: int = 1000,
    terms: Terms | None = None,
    ledger: Ledger | None = None,
    observe: Observe | None = None,
    foresee: Foresee | None = None,
) -> Outcomes:
    """Submit, wait and fetch, document by document, with at most `concurrency` of them under way.

    When `timeout` has passed nothing more is submitted or waited for. Results of jobs that are done by then
    are still fetched for 30 s, for they are paid for; a submit that is under way is never cut off, for that
    would make it uncertain.
    """
    async with (
        waiter(provider, http, document_timeout) as waiting,
        purchases(provider, http, terms, ledger) as buying,
        buying.told_to(waiting),
    ):
        line = Line(buying, waiting, _deadline(timeout), document_timeout, observe)
        if foresee:
            pending = _ToCome(len(documents), waiting, foresee)
            waiting.on_forecast, line = pending.foresee, replace(line, observe=pending.observing(observe))
        async with aclosing(completed(line.extract, documents, limit=concurrency)) as outcomes:
            async for done in outcomes:
                yield done


@asynccontextmanager
async def extracting(
    provider: Provider,
    http: Http,
    *,
    deadline: float | None = None,
    document_timeout: float | None = 3600.0,
    terms: Terms | None = None,
    ledger: Ledger | None = None,
    observe: Observe | None = None,
    foresee: Foresee | None = None,
) -> AsyncIterator[Extract]:
    """Take documents through one service one by one, as they come; see `extract_many`.

    `deadline` is on the loop's clock.
    """
    async with (
        waiter(provider, http, document_timeout) as waiting,
        purchases(provider, http, terms, ledger) as buying,
        buying.told_to(waiting),
    ):
        waiting.on_forecast = foresee
        yield Line(buying, waiting, deadline, document_timeout, observe).extract


class _ToCome:
    """Counts what is not submitted yet, so that a forecast speaks of the whole batch."""

    def __init__(self, documents: int, waiter: Waiter, foresee: Foresee) -> None:
        self._left = self._documents = documents
        self._waiter = waiter
        self._foresee = foresee
        self._started = waiter.now()

    def observing(self, observe: Observe | None) -> Observe:
        """`observe`, with submits counted on the way."""

        def counted(index: int, outcome: Outcome) -> None:
            self._left -= outcome.phase is Phase.SUBMIT
            if observe:
                observe(index, outcome)

        return counted

    def foresee(self, _: Forecast) -> None:
        """Tell the forecast of the waiter together with what is still to come."""
        submitted = self._documents - self._left
        each = (self._waiter.now() - self._started) / max(1, submitted)
        self._foresee(self._waiter.forecast(to_come=self._left, each=each))


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else anyio.current_time() + timeout


async def completed(
    work: Callable[[int, _Item], Awaitable[_Done]], items: Iterable[_Item], *, limit: int
) -> AsyncGenerator[tuple[int, _Done], None]:
    """Run `work` on every item, at most `limit` at a time; yield as they end, cancel the rest when closed."""
    ended: asyncio.Queue[asyncio.Task[tuple[int, _Done]]] = asyncio.Queue()
    under_way: set[asyncio.Task[tuple[int, _Done]]] = set()
    numbered = enumerate(items)

    async def run(index: int, item: _Item) -> tuple[int, _Done]:
        return index, await work(index, item)

    try:
        while True:
            for index, item in islice(numbered, limit - len(under_way)):
                task = asyncio.create_task(run(index, item))
                task.add_done_callback(ended.put_nowait)
                under_way.add(task)
            if not under_way:
                return
            task = await ended.get()
            under_way.discard(task)
            yield task.result()
    finally:
        await cancelled(*under_way)
