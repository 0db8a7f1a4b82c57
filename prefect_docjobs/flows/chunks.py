"""Many documents in chunks: one task run for each chunk, a few of them at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

import anyio

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.flows.files import ResultFiles
from prefect_docjobs.flows.report import ResultTable, Tally
from prefect_docjobs.models import Document
from prefect_docjobs.pipeline import OnUncertain
from prefect_docjobs.tasks import aextract_documents
from prefect_docjobs.tasks.journal import Log, Progress

_CHUNKS_AT_A_TIME = 4

Chunk: TypeAlias = tuple[int, Sequence[Document]]
"""The number of the first document, and the documents."""


@dataclass
class ChunkedRun:
    """Documents on their way; of what comes out only files, sums and a table of bounded size are kept.

    Attributes:
        files: Where results go as chunks end.
        timeout: Seconds for all documents, from the making of this object; None for no limit.
        document_timeout: Seconds for each document; None for no limit.
        on_uncertain: What to do when a submit's answer is lost.
    """

    block: DocJob
    documents: Sequence[Document]
    files: ResultFiles
    timeout: float | None = None
    document_timeout: float | None = 3600.0
    on_uncertain: OnUncertain = "fail"
    tally: Tally = field(default_factory=Tally)
    table: ResultTable = field(default_factory=ResultTable)
    started: float = field(default_factory=anyio.current_time)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return anyio.current_time() - self.started

    async def extract(self, chunk_size: int, log: Log) -> None:
        """Extract chunk by chunk, with one progress bar for all of them."""
        starts = range(0, len(self.documents), chunk_size)
        chunks = [(first, self.documents[first : first + chunk_size]) for first in starts]
        async with Progress(len(self.documents), "All documents of the run").shown(log) as progress:
            await side_by_side(partial(self._extract, progress), chunks)

    async def _extract(self, progress: Progress, chunk: Chunk) -> None:
        first, documents = chunk
        name = f"extract {first + 1:,}-{first + len(documents):,} of {len(self.documents):,}"
        batch = await aextract_documents.with_options(task_run_name=name)(
            self.block,
            documents,
            timeout=None if self.timeout is None else max(0.0, self.timeout - self.elapsed),
            document_timeout=self.document_timeout,
            on_uncertain=self.on_uncertain,
        )
        await self.files.append(batch)
        self.tally.add(batch)
        self.table.add(first, batch)
        for _ in range(len(batch)):
            progress.advance()


async def side_by_side(work: Callable[[Chunk], Awaitable[None]], chunks: Iterable[Chunk]) -> None:
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

    workers = (work_on_the_next() for _ in range(_CHUNKS_AT_A_TIME))
    ends = await asyncio.gather(*workers, return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException):
            raise end
