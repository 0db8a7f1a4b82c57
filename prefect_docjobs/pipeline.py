"""Many documents through submit, wait and fetch at once, with bounded memory and one outcome each.

Every function yields `(index of the input, outcome)` in the order of completion. One document's failure
is an outcome, never an exception; cancelling the consumer cancels what is under way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, aclosing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from itertools import islice
from typing import Literal, TypeVar

import anyio

from prefect_docjobs.errors import DocJobsError, JobTimeout, SubmitUncertain
from prefect_docjobs.http import Http
from prefect_docjobs.models import Document, JobRef, JobStatus, Outcome, Phase, Result
from prefect_docjobs.providers.base import Provider
from prefect_docjobs.schedule import shared_durations
from prefect_docjobs.waiter import Forecast, Patience, Waiter

OnUncertain = Literal["fail", "resubmit"]
"""What to do when a submit's answer is lost: fail the document, or risk a second bill."""

Foresee = Callable[[Forecast], None]
"""Told about once a second when everything will be done."""

Observe = Callable[[int, Outcome], None]
"""Told of every step of a document: its job is known, its job is done, it has ended."""

_Item = TypeVar("_Item")
_log = logging.getLogger(__name__)
_FETCH_GRACE = 30.0
_SUBMITS = 8
_FETCHES = 8


async def submit_one(
    provider: Provider, http: Http, document: Document, *, on_uncertain: OnUncertain = "fail"
) -> JobRef:
    """Submit one document; see `Provider.submit` for the errors."""
    try:
        return await provider.submit(http, document)
    except SubmitUncertain:
        if on_uncertain != "resubmit":
            raise
        return await provider.submit(http, document)


async def wait_one(
    provider: Provider, http: Http, ref: JobRef, *, timeout: float | None = 3600.0
) -> JobStatus:
    """Wait until one job has succeeded; see `Waiter.done` for the errors."""
    async with _waiter(provider, http, timeout) as waiter:
        return await waiter.done(ref, age=_age(ref))


async def fetch_one(provider: Provider, http: Http, ref: JobRef) -> Result:
    """Fetch one result; see `Provider.fetch` and `Provider.read_result` for the errors."""
    return provider.read_result(ref, await provider.fetch(http, ref))


async def submit_many(
    provider: Provider,
    http: Http,
    documents: Sequence[Document],
    *,
    on_uncertain: OnUncertain = "fail",
    observe: Observe | None = None,
) -> AsyncGenerator[tuple[int, Outcome], None]:
    """Submit documents; each outcome has the ref of its job, or the reason why there is none."""
    line = _Line(provider, http, on_uncertain=on_uncertain, observe=observe)
    async with aclosing(_completed(line.submit, documents, limit=_SUBMITS)) as outcomes:
        async for done in outcomes:
            yield done


async def wait_many(
    provider: Provider,
    http: Http,
    refs: Sequence[JobRef],
    *,
    timeout: float | None = None,
    document_timeout: float | None = 3600.0,
    observe: Observe | None = None,
    foresee: Foresee | None = None,
) -> AsyncGenerator[tuple[int, Outcome], None]:
    """Wait for jobs; each outcome has the last status and the completed ref, or the reason."""
    async with _waiter(provider, http, document_timeout) as waiter:
        waiter.on_forecast = foresee
        line = _Line(provider, http, waiter=waiter, deadline=_deadline(timeout), observe=observe)
        async with aclosing(_completed(line.wait, refs, limit=max(1, len(refs)))) as outcomes:
            async for done in outcomes:
                yield done


async def fetch_many(
    provider: Provider, http: Http, refs: Sequence[JobRef], *, observe: Observe | None = None
) -> AsyncGenerator[tuple[int, Outcome], None]:
    """Fetch results; each outcome has the result, or the reason why there is none."""
    line = _Line(provider, http, observe=observe)
    async with aclosing(_completed(line.fetch, refs, limit=_FETCHES)) as outcomes:
        async for done in outcomes:
            yield done


async def extract_many(
    provider: Provider,
    http: Http,
    documents: Sequence[Document],
    *,
    timeout: float | None = None,
    document_timeout: float | None = 3600.0,
    on_uncertain: OnUncertain = "fail",
    concurrency: int = 1000,
    observe: Observe | None = None,
    foresee: Foresee | None = None,
) -> AsyncGenerator[tuple[int, Outcome], None]:
    """Submit, wait and fetch, document by document, with at most `concurrency` of them under way.

    When `timeout` has passed nothing more is submitted or waited for. Results of jobs that are done by then
    are still fetched for 30 s, for they are paid for; a submit that is under way is never cut off, for that
    would make it uncertain.
    """
    async with _waiter(provider, http, document_timeout) as waiter:
        line = _Line(
            provider,
            http,
            waiter=waiter,
            deadline=_deadline(timeout),
            on_uncertain=on_uncertain,
            observe=observe,
        )
        if foresee:
            pending = _ToCome(len(documents), waiter, foresee)
            waiter.on_forecast, line = pending.foresee, replace(line, observe=pending.observing(observe))
        async with aclosing(_completed(line.extract, documents, limit=concurrency)) as outcomes:
            async for done in outcomes:
                yield done


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


def _waiter(provider: Provider, http: Http, document_timeout: float | None) -> Waiter:
    return Waiter(provider, http, Patience(document_timeout=document_timeout), shared_durations())


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else anyio.current_time() + timeout


def _age(ref: JobRef) -> float:
    """Seconds since the submit by the wall clock; a clock that runs behind counts as zero."""
    return max(0.0, (datetime.now(timezone.utc) - ref.submitted_at).total_seconds())


@dataclass(frozen=True)
class _Line:
    """What one document goes through; each step returns an outcome and never raises `DocJobsError`."""

    provider: Provider
    http: Http
    waiter: Waiter | None = None
    deadline: float | None = None
    on_uncertain: OnUncertain = "fail"
    observe: Observe | None = None
    submits: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_SUBMITS))
    jobs: dict[str, JobRef] = field(default_factory=dict)
    fetches: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_FETCHES))

    async def submit(self, index: int, document: Document) -> Outcome:
        outcome, started = Outcome(document=document.name), anyio.current_time()
        try:
            async with self.submits:
                with _typed(Phase.SUBMIT, document.name):
                    ref = await self._submit(index, document)
        except DocJobsError as error:
            return self._failed(index, outcome, Phase.SUBMIT, error, started)
        return self._told(index, outcome.model_copy(update={"ref": ref, "seconds": _since(started)}))

    async def _submit(self, index: int, document: Document) -> JobRef:
        try:
            ref = await submit_one(self.provider, self.http, document, on_uncertain=self.on_uncertain)
        except asyncio.CancelledError:
            lost = SubmitUncertain(
                "The submit was under way when it was cancelled; it may have been accepted."
            )
            self._failed(index, Outcome(document=document.name), Phase.SUBMIT, lost, anyio.current_time())
            raise
        other = self.jobs.setdefault(ref.job_id, ref)
        if other.document_sha256 != ref.document_sha256:
            raise SubmitUncertain(
                f"The service answered with the job of {other.document_name}, {ref.job_id}."
            )
        return ref

    async def wait(self, index: int, ref: JobRef) -> Outcome:
        outcome = Outcome(document=ref.document_name, ref=ref, phase=Phase.WAIT)
        return await self._wait(index, outcome, anyio.current_time(), _age(ref))

    async def fetch(self, index: int, ref: JobRef) -> Outcome:
        outcome = Outcome(document=ref.document_name, ref=ref, phase=Phase.FETCH)
        return await self._fetch(index, outcome, anyio.current_time())

    async def extract(self, index: int, document: Document) -> Outcome:
        started = anyio.current_time()
        if self.deadline is not None and started >= self.deadline:
            late = JobTimeout("The time limit passed before the document was submitted.")
            return self._failed(index, Outcome(document=document.name), Phase.SUBMIT, late, started)
        outcome = await self.submit(index, document)
        if outcome.ok:
            outcome = await self._wait(index, outcome, started, 0.0)
        if outcome.ok:
            outcome = await self._fetch(index, outcome, started)
        return outcome

    async def _wait(self, index: int, outcome: Outcome, started: float, age: float) -> Outcome:
        assert self.waiter  # noqa: S101 (wait and extract are only called with one)
        assert outcome.ref  # noqa: S101 (set by the callers above)
        try:
            with _typed(Phase.WAIT, outcome.document, outcome.ref):
                status = await self.waiter.done(outcome.ref, deadline=self.deadline, age=age)
        except DocJobsError as error:
            return self._failed(index, outcome, Phase.WAIT, error, started)
        seen = {"phase": Phase.WAIT, "status": status, "ref": status.ref, "seconds": _since(started)}
        return self._told(index, outcome.model_copy(update=seen))

    async def _fetch(self, index: int, outcome: Outcome, started: float) -> Outcome:
        assert outcome.ref  # noqa: S101 (set by the callers above)
        try:
            async with self.fetches:
                with _typed(Phase.FETCH, outcome.document, outcome.ref), self._in_time():
                    result = await fetch_one(self.provider, self.http, outcome.ref)
        except DocJobsError as error:
            return self._failed(index, outcome, Phase.FETCH, error, started)
        ended = {"phase": Phase.DONE, "result": result, "ref": result.ref, "seconds": _since(started)}
        return self._told(index, outcome.model_copy(update=ended))

    def _in_time(self) -> AbstractContextManager[object]:
        """A result that is there is paid for, so fetching it may go on a little past the deadline."""
        left = (
            None if self.deadline is None else max(0.0, self.deadline - anyio.current_time()) + _FETCH_GRACE
        )
        return anyio.fail_after(left)

    def _failed(
        self, index: int, outcome: Outcome, phase: Phase, error: DocJobsError, started: float
    ) -> Outcome:
        return self._told(index, outcome.failed(phase, error, seconds=_since(started)))

    def _told(self, index: int, outcome: Outcome) -> Outcome:
        if self.observe:
            try:
                self.observe(index, outcome)
            except Exception:  # a log line must not cost a document
                _log.exception("%s: an observer broke", outcome.document)
        return outcome


@contextmanager
def _typed(phase: Phase, document: str, ref: JobRef | None = None) -> Iterator[None]:
    """Turn what is no typed error into one: a fault of ours is one document's row, not the batch's end."""
    try:
        yield
    except DocJobsError:
        raise
    except TimeoutError:
        raise JobTimeout(f"The {phase} did not end in time. Take the job up again.", ref=ref) from None
    except Exception as bug:
        _log.exception("%s: the %s broke", document, phase)
        what = f"The {phase} broke ({type(bug).__name__})."  # the error's text may hold anything
        if ref is None:
            raise SubmitUncertain(f"{what} The document may have been accepted.") from None
        raise JobTimeout(f"{what} Take the job up again.", ref=ref) from None


def _since(started: float) -> float:
    return round(anyio.current_time() - started, 3)


async def _completed(
    work: Callable[[int, _Item], Awaitable[Outcome]], items: Iterable[_Item], *, limit: int
) -> AsyncGenerator[tuple[int, Outcome], None]:
    """Run `work` on every item, at most `limit` at a time; yield as they end, cancel the rest when closed."""
    ended: asyncio.Queue[asyncio.Task[tuple[int, Outcome]]] = asyncio.Queue()
    under_way: set[asyncio.Task[tuple[int, Outcome]]] = set()
    numbered = enumerate(items)

    async def run(index: int, item: _Item) -> tuple[int, Outcome]:
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
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
