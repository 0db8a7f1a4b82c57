"""Several services that are asked for the same documents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import anyio
from prefect.utilities.annotations import quote

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.flows.chunks import Chunk, all_ended, chunks_of, item_numbers, side_by_side
from prefect_docjobs.models import Batch, Document, Outcome
from prefect_docjobs.tasks import aextract_documents
from prefect_docjobs.tasks._run import Job, resolve_job
from prefect_docjobs.tasks.fallback import labelled

Answered: TypeAlias = Callable[[int, Sequence[Document], Mapping[str, Batch]], Awaitable[None]]
"""What is done with a chunk: the number of its first document, its documents, a batch of each service."""


@dataclass(frozen=True)
class Panel:
    """Services by their labels.

    Attributes:
        jobs: The jobs.
        timeout: Seconds from the making of this object; None for no limit.
        started: When this object was made.
    """

    jobs: Mapping[str, DocJob]
    timeout: float | None = None
    started: float = field(default_factory=anyio.current_time)

    @classmethod
    async def of(cls, jobs: Sequence[Job], *, timeout: float | None) -> Panel:
        """The panel of these jobs.

        Raises:
            ConfigurationError: There is none, one of them is no job, or one is there twice.
        """
        named = labelled([await resolve_job(job) for job in jobs])
        names = [job for job in jobs if isinstance(job, str)]
        if len(set(names)) < len(names):
            raise ConfigurationError("A job is named twice; each service answers once.")
        return cls(dict(named), timeout)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return anyio.current_time() - self.started

    async def ask(
        self, documents: Sequence[Document], chunk_size: int, answered: Answered, **options: Any
    ) -> None:
        """Send all documents to all services chunk by chunk; hand on each chunk when all have answered.

        Args:
            documents: All of them.
            chunk_size: Documents in a chunk.
            answered: Called with each chunk.
            options: Of `extract_documents`, the same for all jobs.
        """

        async def ask(chunk: Chunk[Document]) -> None:
            first, some = chunk
            numbers = item_numbers(first, len(some), len(documents))
            asked = (self._ask(label, some, numbers, options) for label in self.jobs)
            batches = await all_ended(asked)
            await answered(first, some, dict(zip(self.jobs, batches, strict=True)))

        await side_by_side(ask, chunks_of(documents, chunk_size))

    async def _ask(
        self, label: str, documents: Sequence[Document], numbers: str, options: Mapping[str, Any]
    ) -> Batch:
        named = aextract_documents.with_options(task_run_name=f"extract {numbers} through {label}")
        batch: Batch = await named(
            self.jobs[label],
            quote(documents),  # Prefect does not look into it, and hands it on unwrapped
            timeout=None if self.timeout is None else max(0.0, self.timeout - self.elapsed),
            **options,
        )
        return batch


def by_document(batches: Mapping[str, Batch]) -> Iterator[dict[str, Outcome]]:
    """For each document the outcome of each service."""
    for outcomes in zip(*batches.values(), strict=True):
        yield dict(zip(batches, outcomes, strict=True))
