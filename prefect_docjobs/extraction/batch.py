"""Documents and jobs, one or many at once: bounded memory, and for each document one outcome.

The functions for many yield `(index of the input, outcome)` in the order of completion. One document's
failure is an outcome, never an exception; closing the generator cancels what is under way. The functions for
one document raise.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import anyio

from prefect_docjobs.cancellation import cancelled
from prefect_docjobs.errors import DocJobsError
from prefect_docjobs.extraction.call import Call, Observe, Terms
from prefect_docjobs.extraction.document import DocumentRun
from prefect_docjobs.http import Http
from prefect_docjobs.models import Document, JobRef, JobStatus, Outcome, Phase, Result
from prefect_docjobs.providers.base import Provider
from prefect_docjobs.waiting import Forecast, Waiter, WaitLimits
from prefect_docjobs.waiting.durations import shared_durations

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Ledger

OnForecast = Callable[[Forecast], None]
"""Called about once a second with when everything will be done."""

UNDER_WAY = 1_000
"""Documents under way at the same time, unless a caller says otherwise; requests have slots of their own."""

HOUR = 3600.0

Outcomes: TypeAlias = AsyncGenerator[tuple[int, Outcome], None]

Extract: TypeAlias = Callable[[int, Document], Awaitable[Outcome]]
"""Takes one document through a service; its number is for the observer."""

_Item = TypeVar("_Item")
_Done = TypeVar("_Done")


@asynccontextmanager
async def opened(
    provider: Provider,
    http: Http,
    ledger: Ledger | None,
    *,
    terms: Terms | None = None,
    observe: Observe | None = None,
) -> AsyncIterator[Call]:
    """A call that waits for no job, open while the context is; without a ledger it has one of its own."""
    async with (
        ledger_or_memory(ledger) as used,
        Call(provider, http, used, terms=terms, document_timeout=HOUR, observe=observe) as call,
    ):
        yield call


@asynccontextmanager
async def opened_to_wait(
    provider: Provider,
    http: Http,
    ledger: Ledger | None,
    *,
    deadline: float = math.inf,
    document_timeout: float | None,
    terms: Terms | None = None,
    observe: Observe | None = None,
) -> AsyncIterator[tuple[Call, Waiter]]:
    """A call that waits for jobs, and its waiter; `deadline` is on the loop's clock."""
    limits = WaitLimits(document_timeout=document_timeout)
    async with AsyncExitStack() as stack:
        used = await stack.enter_async_context(ledger_or_memory(ledger))
        waiter = await stack.enter_async_context(Waiter(provider, http, limits, shared_durations()))
        call = await stack.enter_async_context(
            Call(
                provider,
                http,
                used,
                terms=terms,
                waiter=waiter,
                deadline=deadline,
                document_timeout=document_timeout,
                observe=observe,
            )
        )
        await stack.enter_async_context(call.pushes.feeding(waiter.pending))
        yield call, waiter


@asynccontextmanager
async def ledger_or_memory(ledger: Ledger | None) -> AsyncIterator[Ledger]:
    """The ledger, or where there is none an empty one in memory, which ends with the context."""
    if ledger is not None:
        yield ledger
        return
    from prefect_docjobs.ledger import Ledger

    async with Ledger(None) as memory:
        yield memory


# -- many


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
    async with opened(provider, http, ledger, terms=terms, observe=observe) as call:

        async def submit(index: int, document: Document) -> Outcome:
            run = DocumentRun(call, document.name, index)
            with suppress(DocJobsError):
                await run.submit(document, hold=False)
            return run.outcome

        async with aclosing(completed(submit, documents)) as outcomes:
            async for done in outcomes:
                yield done


async def wait_many(
    provider: Provider,
    http: Http,
    refs: Sequence[JobRef],
    *,
    timeout: float | None = None,
    document_timeout: float | None = HOUR,
    ledger: Ledger | None = None,
    observe: Observe | None = None,
    on_forecast: OnForecast | None = None,
) -> Outcomes:
    """Wait for jobs; each outcome has the last status and the completed ref, or the reason."""
    async with opened_to_wait(
        provider,
        http,
        ledger,
        deadline=_deadline(timeout),
        document_timeout=document_timeout,
        observe=observe,
    ) as (call, waiter):
        waiter.on_forecast = on_forecast
        await call.look_up(refs)

        async def wait(index: int, ref: JobRef) -> Outcome:
            run = DocumentRun(call, ref.document_name, index)
            with suppress(DocJobsError):
                await run.resume(ref, Phase.WAIT)
                await run.wait()
            return run.outcome

        async with aclosing(completed(wait, refs, limit=max(1, len(refs)))) as outcomes:
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
    async with opened(provider, http, ledger, observe=observe) as call:
        await call.look_up(refs)

        async def fetch(index: int, ref: JobRef) -> Outcome:
            run = DocumentRun(call, ref.document_name, index)
            with suppress(DocJobsError):
                await run.resume(ref, Phase.FETCH)
                await run.fetch()
            return run.outcome

        async with aclosing(completed(fetch, refs)) as outcomes:
            async for done in outcomes:
                yield done


async def extract_many(
    provider: Provider,
    http: Http,
    documents: Sequence[Document],
    *,
    timeout: float | None = None,
    document_timeout: float | None = HOUR,
    concurrency: int = UNDER_WAY,
    terms: Terms | None = None,
    ledger: Ledger | None = None,
    observe: Observe | None = None,
    on_forecast: OnForecast | None = None,
) -> Outcomes:
    """Submit, wait and fetch, document by document, with at most `concurrency` of them under way.

    When `timeout` has passed nothing more is submitted or waited for. Results of jobs that are done by then
    are still fetched for 30 s, for they are paid for; a submit that is under way is never cut off, for that
    would make it uncertain.
    """
    progress = _Progress(len(documents), observe)
    async with opened_to_wait(
        provider,
        http,
        ledger,
        deadline=_deadline(timeout),
        document_timeout=document_timeout,
        terms=terms,
        observe=progress.observe,
    ) as (call, waiter):
        if on_forecast is not None:
            progress.report_forecasts(waiter, on_forecast)
        async with aclosing(completed(_extract_in(call), documents, limit=concurrency)) as outcomes:
            async for done in outcomes:
                yield done


@asynccontextmanager
async def extracting(
    provider: Provider,
    http: Http,
    *,
    deadline: float = math.inf,
    document_timeout: float | None = HOUR,
    terms: Terms | None = None,
    ledger: Ledger | None = None,
    observe: Observe | None = None,
    on_forecast: OnForecast | None = None,
) -> AsyncIterator[Extract]:
    """Take documents through one service one by one, as they come; see `extract_many`.

    `deadline` is on the loop's clock.
    """
    async with opened_to_wait(
        provider,
        http,
        ledger,
        deadline=deadline,
        document_timeout=document_timeout,
        terms=terms,
        observe=observe,
    ) as (call, waiter):
        waiter.on_forecast = on_forecast
        yield _extract_in(call)


def _extract_in(call: Call) -> Extract:
    async def extract(index: int, document: Document) -> Outcome:
        return await DocumentRun(call, document.name, index).extract(document)

    return extract


class _Progress:
    """Counts what is not submitted yet, so that a forecast covers the whole batch."""

    def __init__(self, documents: int, observe: Observe | None) -> None:
        self._left = self._documents = documents
        self._observe = observe

    def observe(self, index: int, outcome: Outcome) -> None:
        self._left -= outcome.phase is Phase.SUBMIT
        if self._observe:
            self._observe(index, outcome)

    def report_forecasts(self, waiter: Waiter, on_forecast: OnForecast) -> None:
        """Have forecasts reported for the jobs that run together with what is still to come."""
        started = waiter.now()

        def report(_: Forecast) -> None:
            each = (waiter.now() - started) / max(1, self._documents - self._left)
            on_forecast(waiter.forecast(to_come=self._left, each=each))

        waiter.on_forecast = report


def _deadline(timeout: float | None) -> float:
    return math.inf if timeout is None else anyio.current_time() + timeout


async def completed(
    work: Callable[[int, _Item], Awaitable[_Done]], items: Iterable[_Item], *, limit: int = UNDER_WAY
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


# -- one


async def submit_one(
    provider: Provider,
    http: Http,
    document: Document,
    *,
    terms: Terms | None = None,
    ledger: Ledger | None = None,
) -> JobRef:
    """See to it that there is a job for a document; see `find_or_submit` for the errors."""
    async with opened(provider, http, ledger, terms=terms) as call:
        return await DocumentRun(call, document.name).submit(document, hold=False)


async def wait_one(
    provider: Provider,
    http: Http,
    ref: JobRef,
    *,
    timeout: float | None = HOUR,
    ledger: Ledger | None = None,
) -> JobStatus:
    """Wait until one job has succeeded; see `Waiter.done` for the errors."""
    async with opened_to_wait(provider, http, ledger, document_timeout=timeout) as (call, _):
        await call.look_up([ref])
        run = DocumentRun(call, ref.document_name)
        await run.resume(ref, Phase.WAIT)
        return await run.wait()


async def fetch_one(provider: Provider, http: Http, ref: JobRef, *, ledger: Ledger | None = None) -> Result:
    """Fetch one result; see `Provider.fetch` and `Provider.read_result` for the errors."""
    async with opened(provider, http, ledger) as call:
        await call.look_up([ref])
        run = DocumentRun(call, ref.document_name)
        await run.resume(ref, Phase.FETCH)
        return await run.fetch_once()
