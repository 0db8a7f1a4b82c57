"""How a flow for many documents runs: its parameters, its documents, chunk by chunk, and how it ends."""

from __future__ import annotations

import asyncio
import math
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, Protocol, TypeAlias, TypeVar, cast

import anyio
import anyio.to_thread
from prefect import State, runtime, tags, task
from prefect.cache_policies import INPUTS, RUN_ID
from prefect.states import Completed, Failed
from prefect.utilities.annotations import quote
from pydantic import AfterValidator, Field, WithJsonSchema

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.blocks.ledger import open_ledger
from prefect_docjobs.errors import ConfigurationError, InvalidDocument, Reason, Unavailable
from prefect_docjobs.extraction.budget import Budget
from prefect_docjobs.extraction.options import Options
from prefect_docjobs.extraction.pages import pages_of
from prefect_docjobs.flows._output import (
    FAILURES,
    NAMES,
    DeadLetter,
    LetterWriter,
    Outputs,
    ResultFiles,
    is_ours,
)
from prefect_docjobs.flows._report import (
    BatchEvent,
    RunReport,
    Tally,
    artifact_key,
    materialize_files,
    paths_of,
    publish_failures,
    publish_summary,
    publish_table,
    summary,
    tag_run,
)
from prefect_docjobs.ledger import Record
from prefect_docjobs.models import Batch, Document, Outcome
from prefect_docjobs.tasks import aextract_documents
from prefect_docjobs.tasks._run import Job, Log, Progress, followed_by, resolve_job
from prefect_docjobs.tasks.fallback import labelled
from prefect_docjobs.waiting import Forecast

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Ledger

# ----------------------------------------------------------------------------------------------- parameters

JobParameter: TypeAlias = Annotated[DocJob | str, WithJsonSchema({"type": "string"})]
"""The name of a saved job block, such as `mindee-job/invoices`; from Python also the block itself.

A form shows a text field: a block does not travel to a deployment with its secrets, a name does. A file of
flows that is deployed by its path must leave out `from __future__ import annotations`: Prefect 3.8 does not
find the type otherwise.
"""

AtLeastOne: TypeAlias = Annotated[int, Field(ge=1)]
"""A number of things, one or more."""

Seconds: TypeAlias = Annotated[float, Field(gt=0)]
"""A time limit."""


Amount: TypeAlias = Annotated[float, Field(ge=0)]
"""Money, or pages."""

Number: TypeAlias = Annotated[int, Field(ge=0)]
"""A number of things, perhaps none."""

Days: TypeAlias = Annotated[float, Field(ge=0)]
"""Time during which a result is used again."""


def _share_or_number(limit: float) -> float:
    if limit > 1.0 and not limit.is_integer():
        raise ValueError("give a share of the documents below 1, or a whole number of them from 1 on")
    return limit


MaxFailures: TypeAlias = Annotated[float, Field(ge=0), AfterValidator(_share_or_number)]
"""How many documents may fail: below 1 a share of all, from 1 on a number of them."""


def job_label(job: DocJob | str) -> str:
    """What reports call a job: its name, or for a block that came without one its service and product."""
    if isinstance(job, str):
        return job
    provider = job.provider()
    return f"{provider.name}/{provider.product}"


def output_folder(output: str, scheduled: datetime) -> Path:
    """The absolute folder that `output` names; `{date}` in it becomes the date of the scheduled start."""
    return Path(output.replace("{date}", scheduled.date().isoformat())).expanduser().resolve()


# ------------------------------------------------------------------------------------------------ documents


def documents_in(
    folder: str, pattern: str = "*", *, recursive: bool = False, names: Collection[str] | None = None
) -> list[Document]:
    """The documents of a folder in the order of their names, without the files that runs write.

    Args:
        folder: The folder.
        pattern: A glob for file names, such as `*.pdf`. Hidden files are left out.
        recursive: Take the files of sub-folders too.
        names: Only these of them, by their paths inside the folder; None for all.

    Raises:
        InvalidDocument: The folder is not there or cannot be listed.
    """
    found = Document.from_folder(folder, pattern, recursive=recursive)
    given = [document for document in found if document.path and not is_ours(document.path)]
    if names is None:
        return given
    wanted = set(names)
    return [document for document in given if document.name in wanted]


# Kept for the replays of the same run only, which go on with its documents whatever the folder has by then.
@task(name="list-documents", tags=["docjobs"], persist_result=True, cache_policy=RUN_ID + INPUTS)
async def list_documents_once(
    folder: str,
    pattern: str,
    *,
    recursive: bool,
    names: Collection[str] | None = None,
    at_most: int | None,
) -> list[tuple[str, str]]:
    """The names and paths of the documents, in the order of their names; a replay gets the same ones."""

    def found() -> list[tuple[str, str]]:
        documents = documents_in(folder, pattern, recursive=recursive, names=names)[:at_most]
        return [(document.name, str(document.path)) for document in documents]

    return await anyio.to_thread.run_sync(found)


# --------------------------------------------------------------------------------------------------- budget

_PAGE = 1000


async def budget_of_run(
    budget: float | None,
    price_per_page: float | None,
    documents: Iterable[Document] = (),
    *,
    max_submits: int | None = None,
    fetch: Callable[[str], Document | None] | None = None,
) -> Budget | None:
    """The budget of the flow run that is going on; what it has bought already, by its ledger, is spent.

    Args:
        budget: As for `Budget`.
        price_per_page: What a page costs.
        documents: Those of the run, to count the pages of what is spent as they were counted before.
        max_submits: Documents that may be submitted.
        fetch: Gets a document by its name, in a thread, where it is none of `documents` and nobody knows its
            pages.
    """
    options = Options(budget=budget, max_submits=max_submits, price_per_page=price_per_page)
    limit = options.spending()
    if limit is None or (budget is None and max_submits is None):
        return limit
    named = {document.name: document for document in documents}
    async with open_ledger() as ledger:
        if not ledger.in_memory:
            async for record in _bought(ledger, str(runtime.flow_run.id)):
                document = named.get(record.document_name)
                if document is None and record.pages is None and fetch is not None:
                    document = await anyio.to_thread.run_sync(fetch, record.document_name)
                limit.charge(await _pages(record, document))
    return limit


async def _bought(ledger: Ledger, flow_run_id: str) -> AsyncIterator[Record]:
    """What a flow run has bought, or may have."""
    last = 0
    while page := await ledger.find(flow_run_id=flow_run_id, limit=_PAGE, after_id=last):
        last = page[-1].id
        for record in page:
            if record.job_id is not None or record.state.is_open or record.reason is Reason.UNCERTAIN:
                yield record


async def _pages(record: Record, document: Document | None) -> int:
    try:
        return (await pages_of(document)).number if document else record.pages or 1
    except (InvalidDocument, Unavailable):  # it is gone, or cannot be read now
        return record.pages or 1


# ------------------------------------------------------------------------------------- when it will be done


@dataclass
class RunForecast:
    """Puts the forecasts of chunks together.

    Chunks that are still to come take as long as those that have ended: likely as long as their mean, and
    nearly surely no longer than the longest of them. Until one has ended the chunks under way stand in.

    Attributes:
        chunks: How many the run has.
        at_a_time: How many go on side by side.
    """

    chunks: int
    at_a_time: int
    _begun: dict[int, float] = field(default_factory=dict)
    _told: dict[int, tuple[float, Forecast]] = field(default_factory=dict)
    _ended: list[float] = field(default_factory=list)

    def begin(self, chunk: int) -> None:
        """A chunk begins."""
        self._begun[chunk] = anyio.current_time()

    def foresee(self, chunk: int, forecast: Forecast) -> None:
        """A chunk under way has a new forecast."""
        self._told[chunk] = (anyio.current_time(), forecast)

    def end(self, chunk: int) -> None:
        """A chunk has ended."""
        self._told.pop(chunk, None)
        self._ended.append(anyio.current_time() - self._begun.pop(chunk))

    def whole(self) -> Forecast:
        """When all chunks will have ended."""
        now = anyio.current_time()
        known = [
            (forecast.likely - (now - since), forecast.nearly_sure - (now - since), now - self._begun[chunk])
            for chunk, (since, forecast) in self._told.items()
            if forecast.likely is not None and forecast.nearly_sure is not None
        ]
        running = sum(forecast.running for _, forecast in self._told.values())
        to_come = self.chunks - len(self._ended) - len(self._begun)
        if not known or (to_come and not self._ended and len(known) < len(self._begun)):
            return Forecast(running)
        likely, sure = (max(0.0, *(each[place] for each in known)) for place in (0, 1))
        waves = math.ceil(to_come / self.at_a_time)
        mean, longest = self._seconds_of_a_chunk(known)
        return Forecast(running, likely + waves * mean, sure + waves * longest)

    def _seconds_of_a_chunk(self, known: list[tuple[float, float, float]]) -> tuple[float, float]:
        """The mean of those that have ended, and the longest."""
        if self._ended:
            return sum(self._ended) / len(self._ended), max(self._ended)
        return max(age + likely for likely, _, age in known), max(age + sure for _, sure, age in known)


# --------------------------------------------------------------------------------------------------- chunks

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


# ----------------------------------------------------------------------------------------- several services

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


# -------------------------------------------------------------------------------------------------- the end


def result_files(output: str) -> ResultFiles:
    """The files of the flow run that is going on."""
    this = runtime.flow_run
    return ResultFiles(output_folder(output, this.scheduled_start_time), run=str(this.id)[:8])


def letter_writer(job: DocJob, log: Log) -> LetterWriter:
    """Writes the dead letters of the flow run that is going on."""
    return LetterWriter(job, str(runtime.flow_run.id), log)


async def carry_out(
    run: ChunkedRun[_Item],
    items: Sequence[_Item],
    *,
    chunk_size: int,
    source: str,
    job: str,
    max_failures: float | None,
    nothing: str,
    log: Log,
) -> dict[str, Any]:
    """Drive all items, write what comes out, show and announce it, and end as `max_failures` says.

    Args:
        run: What is done with them.
        items: The documents or dead letters.
        chunk_size: Items per task run.
        source: Where the items come from, for the title of the summary.
        job: The job, as people are told of it.
        max_failures: How many documents may fail, see `too_many`; None: all but one.
        nothing: The message of a run that has no items.
        log: Of the flow run.

    Returns:
        For a flow to return: the totals and the paths of the files.

    Raises:
        OSError: The folder or a file cannot be made.
    """
    provider = run.work.job.provider()
    await tag_run("docjobs", provider.name, log=log)
    with tags(provider.name), run.files.written():
        await run.through(items, chunk_size, log, bar=artifact_key("progress", job))
    tally = run.report.tally
    with tags(provider.name):
        title = f"{source} through {job}"
        await publish_report(run.report, run.files, title=title, key=job, elapsed=run.elapsed, log=log)
        await materialize_files(tally, run.files, source=source, job=job, log=log)
    is_well = not too_many(tally, max_failures)
    event = BatchEvent(source, job, provider.name, provider.product, is_well=is_well)
    event.emit(tally, {"files": paths_of(run.files)}, run.elapsed)
    state = _state_of(tally, run.files, max_failures=max_failures, nothing=nothing)
    # Prefect takes the run's state from here and hands the caller the state's data.
    return cast("dict[str, Any]", state)


async def publish_report(
    report: RunReport,
    outputs: Outputs,
    *,
    title: str,
    key: str,
    elapsed: float,
    log: Log,
    counts: Mapping[str, int] | None = None,
    sentence: str | None = None,
) -> None:
    """Show a run's tables and its summary; what Prefect does not take is a warning in the log.

    Args:
        report: The run's sums and tables.
        outputs: Where everything is.
        title: Of the summary.
        key: What the keys of the artifacts end in; runs with the same one are a history.
        elapsed: Seconds that the run took.
        log: Of the flow run.
        counts: See `summary`.
        sentence: The sums in one line; by default those of the tally.
    """
    await publish_table(report.table, outputs, job=key, log=log)
    await publish_failures(report.failure_table, outputs, job=key, log=log)
    tally, failures = report.tally, report.failure_tally
    told = summary(title, tally, outputs, elapsed=elapsed, failures=failures, counts=counts)
    await publish_summary(told, sentence or tally.sentence(), job=key, log=log)


def _state_of(
    tally: Tally, files: ResultFiles, *, max_failures: float | None, nothing: str
) -> State[dict[str, Any]]:
    if too_many(tally, max_failures):
        limit = "" if max_failures is None else f", more than max_failures={max_failures:g} allows"
        return Failed(message=f"{tally.sentence()}{limit}. See {files.path(FAILURES)}")
    message = f"{tally.sentence()}. Results are in {files.folder}" if tally.documents else nothing
    return Completed(
        message=message, data={**tally.totals(), "files": [str(files.path(name)) for name in NAMES]}
    )


def too_many(tally: Tally, max_failures: float | None) -> bool:
    """Whether more documents failed than may.

    Args:
        tally: The sums of the run.
        max_failures: Below 1 a share of the documents, from 1 on a number of them; None when it is enough
            that one document was delivered.
    """
    if max_failures is None:
        return bool(tally.documents) and not tally.delivered
    if max_failures >= 1.0:
        return tally.failed > max_failures
    allowed = max_failures * tally.documents
    return tally.failed > allowed and not math.isclose(
        tally.failed, allowed
    )  # 7 of 100 are no more than 0.07
