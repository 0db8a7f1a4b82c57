"""Many documents in chunks: one task run for each chunk, a few of them at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, Protocol, TypeAlias, TypeVar

import anyio

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.flows.dead_letters import DeadLetter
from prefect_docjobs.flows.files import ResultFiles
from prefect_docjobs.flows.forecasts import RunForecast
from prefect_docjobs.flows.run_report import RunReport
from prefect_docjobs.models import Batch
from prefect_docjobs.tasks._run import Log, Progress, followed_by
from prefect_docjobs.waiter import Forecast

_CHUNKS_AT_A_TIME = 4

_Item = TypeVar("_Item")
_Item_contra = TypeVar("_Item_contra", contravariant=True)

Chunk: TypeAlias = tuple[int, Sequence[_Item]]
"""The number of the first item, and the items."""


class Work(Protocol[_Item_contra]):
    """What is done with a chunk."""

    @property
    def job(self) -> DocJob:
        """The job block that it is done with."""

    async def drive(self, items: Sequence[_Item_contra], *, numbers: str, timeout: float | None) -> Batch:
        """An outcome for each item, in their order.

        Args:
            items: What a chunk holds.
            numbers: Their numbers, such as `1-100 of 250`, for the name of the task run.
            timeout: Seconds that are left; None for no limit.
        """

    async def letters(self, items: Sequence[_Item_contra], batch: Batch) -> list[DeadLetter]:
        """The dead letters of those that failed, in their order."""


@dataclass
class ChunkedRun(Generic[_Item]):
    """Documents on their way; of what comes out only files, sums and tables of bounded size are kept.

    Attributes:
        work: What is done with each chunk.
        files: Where results go as chunks end.
        timeout: Seconds for all documents, from the making of this object; None for no limit.
        price_per_page: What a page costs, in any currency; None where that is not known.
    """

    work: Work[_Item]
    files: ResultFiles
    timeout: float | None = None
    price_per_page: float | None = None
    report: RunReport = field(init=False)
    started: float = field(default_factory=anyio.current_time)

    def __post_init__(self) -> None:
        self.report = RunReport(self.price_per_page)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return anyio.current_time() - self.started

    async def through(self, items: Sequence[_Item], chunk_size: int, log: Log, *, bar: str) -> None:
        """Drive all items chunk by chunk, with one progress bar: the artifact with the key `bar`."""
        await through_chunks(partial(self._drive, len(items)), items, chunk_size, log, bar=bar)

    async def _drive(self, total: int, bar: RunBar, chunk: Chunk[_Item]) -> None:
        first, items = chunk
        with bar.follows(first, len(items)):
            batch = await self.work.drive(
                items,
                numbers=item_numbers(first, len(items), total),
                timeout=None if self.timeout is None else max(0.0, self.timeout - self.elapsed),
            )
        letters = await self.work.letters(items, batch)
        await self.files.append(batch, letters)
        self.report.add(first, batch, letters)


@dataclass(frozen=True)
class RunBar:
    """The progress bar of a run; it moves with each document, and tells when all chunks will be done."""

    progress: Progress
    forecast: RunForecast

    @contextmanager
    def follows(self, chunk: int, documents: int) -> Iterator[None]:
        """Follow a chunk while the context is open; then all of its documents are counted, each once."""
        left = iter(range(documents))

        def advance() -> None:
            if next(left, None) is not None:  # a step of the work may tell of a document more than once
                self.progress.advance()

        def foresee(forecast: Forecast) -> None:
            self.forecast.foresee(chunk, forecast)
            self.progress.on_forecast(self.forecast.whole())

        self.forecast.begin(chunk)
        with followed_by(foresee, ended=advance):
            yield
        self.forecast.end(chunk)
        for _ in left:
            self.progress.advance()


async def through_chunks(
    work: Callable[[RunBar, Chunk[_Item]], Awaitable[None]],
    items: Sequence[_Item],
    chunk_size: int,
    log: Log,
    *,
    bar: str,
) -> None:
    """Work on items chunk by chunk, see `side_by_side`, with one progress bar for all of them.

    Args:
        work: Told the bar, which it lets follow its chunk.
        items: Documents, files or dead letters.
        chunk_size: Items in a chunk.
        log: Of the flow run.
        bar: Key of the progress artifact.
    """
    chunks = chunks_of(items, chunk_size)
    async with Progress(len(items), "Documents", key=bar).shown(log) as progress:
        whole = RunBar(progress, RunForecast(len(chunks), _CHUNKS_AT_A_TIME))
        await side_by_side(partial(work, whole), chunks)


def chunks_of(items: Sequence[_Item], size: int) -> list[Chunk[_Item]]:
    """The items in chunks of `size`; the last may have fewer."""
    return [(first, items[first : first + size]) for first in range(0, len(items), size)]


def item_numbers(first: int, items: int, total: int) -> str:
    """The numbers of the items of a chunk, such as `1-100 of 250`, for the names of its task runs."""
    return f"{first + 1:,}-{first + items:,} of {total:,}"


async def side_by_side(
    work: Callable[[Chunk[_Item]], Awaitable[None]], chunks: Iterable[Chunk[_Item]]
) -> None:
    """Work on the chunks, a few at a time.

    After an error no other chunk is begun; those under way are finished first, for they are paid for.
    """
    waiting = (chunk for chunk in chunks)

    async def work_on_the_next() -> None:
        try:
            for chunk in waiting:
                await work(chunk)
        finally:
            waiting.close()

    await all_ended(work_on_the_next() for _ in range(_CHUNKS_AT_A_TIME))


async def all_ended(paid: Iterable[Awaitable[_Item]]) -> list[_Item]:
    """What they give, in their order; an error is raised when all have ended, for they are paid for."""
    ends = await asyncio.gather(*paid, return_exceptions=True)
    given = []
    for end in ends:
        if isinstance(end, BaseException):
            raise end
        given.append(end)
    return given
