"""What every task is made with: the factory, its arguments, its log lines, events and progress bar."""

from __future__ import annotations

import asyncio
import functools
import logging
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

from anyio import move_on_after
from prefect import Task, get_client, get_run_logger
from prefect.artifacts import ProgressArtifact, aupdate_progress_artifact
from prefect.blocks.core import Block
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext, TaskRunContext
from prefect.events import emit_event
from prefect.exceptions import MissingContextError
from prefect.logging import get_logger
from prefect.runtime import task_run
from pydantic import ValidationError
from typing_extensions import ParamSpec, Self

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.blocks.sync_api import run_in_background
from prefect_docjobs.cancellation import cancelled
from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.extraction import OnForecast
from prefect_docjobs.extraction.budget import Budget
from prefect_docjobs.models import Batch, Document, JobRef, Outcome, Phase
from prefect_docjobs.models.job_events import event_payload, event_resource
from prefect_docjobs.waiting import Forecast

P = ParamSpec("P")
R = TypeVar("R")

Log: TypeAlias = "logging.Logger | logging.LoggerAdapter[logging.Logger]"

Job: TypeAlias = DocJob | str
"""A job block, or the name of a saved one, such as `mindee-job/invoices`."""

Ref: TypeAlias = JobRef | Mapping[str, Any] | str
"""A job's ref, or its JSON, as text or parsed."""

# ---------------------------------------------------------------------- tasks, and the names of their runs


def docjobs_task(
    name: str, run_name: Callable[[dict[str, Any]], str]
) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a task that never caches and never retries.

    Args:
        name: Of the task.
        run_name: From a run's parameters to the name of the run.
    """

    def named() -> str:
        return run_name(task_run.parameters)

    def decorate(function: Callable[P, R]) -> Task[P, R]:
        return Task(
            function,
            name=name,
            task_run_name=named,
            tags=["docjobs"],
            cache_policy=NO_CACHE,
            retries=0,
        )

    return decorate


class BlockingCall(RuntimeWarning):
    """A sync task was called on a thread whose event loop it blocks; its `a` form would not."""


def sync_form(task: Task[P, Coroutine[Any, Any, R]]) -> Task[P, R]:
    """The same task for sync code, named without the leading `a`."""

    @functools.wraps(task.fn)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        _warn_if_blocking(task.fn.__name__)
        return run_in_background(task.fn(*args, **kwargs))

    call.__name__ = call.__qualname__ = task.fn.__name__.removeprefix("a")
    return Task(
        call,
        name=task.name,
        task_run_name=task.task_run_name,
        tags=task.tags,
        cache_policy=NO_CACHE,
        retries=0,
    )


def _warn_if_blocking(name: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    _warn_once(name)


@functools.cache
def _warn_once(name: str) -> None:
    """Warn, once in a process: what Python itself remembers is lost with each change of its filters."""
    warnings.warn(
        f"{name.removeprefix('a')} blocks the event loop of this thread until it ends. "
        f"In async code, use: await {name}(…).",
        BlockingCall,
        stacklevel=1,
    )


def about(verb: str, parameter: str) -> Callable[[dict[str, Any]], str]:
    """A name such as `submit invoice.pdf`, from the document or the ref that a task is called with."""

    def name(parameters: dict[str, Any]) -> str:
        return f"{verb} {_subject(parameters.get(parameter))}"

    return name


def counting(verb: str, parameter: str, noun: str) -> Callable[[dict[str, Any]], str]:
    """A name such as `submit 200 documents`, from the collection that a task is called with."""

    def name(parameters: dict[str, Any]) -> str:
        given = parameters.get(parameter)
        return f"{verb} {count(len(given), noun)}" if isinstance(given, Sized) else f"{verb} {noun}s"

    return name


def count(number: int, noun: str) -> str:
    """`1 document`, `2 documents`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _subject(given: object) -> str:
    match given:
        case Document(name=name) | JobRef(document_name=name) | {"document_name": str(name)}:
            return name
        case _:
            return "a job" if isinstance(given, (str, Mapping)) else type(given).__name__


# ----------------------------------------------------------------------------------------------- arguments


async def resolve_job(job: Job) -> DocJob:
    """The block itself, loaded where it is named.

    Raises:
        ConfigurationError: It is no job block, or there is none of this name.
    """
    if isinstance(job, DocJob):
        return job
    if not isinstance(job, str):
        raise ConfigurationError(_no_job(job))
    if not job.strip("*"):
        raise ConfigurationError(
            "The job arrived as a mask: a block does not travel with its secrets. Save it, and pass its name."
        )
    if job.count("/") != 1:
        raise ConfigurationError(
            f"{job!r} names no job block. Give type and name, such as 'mindee-job/invoices'."
        )
    try:
        found = await Block.aload(job)
    except ValueError as problem:
        raise ConfigurationError(f"{job!r} cannot be loaded: {problem}") from None
    if not isinstance(found, DocJob):
        raise ConfigurationError(f"{job!r} is a {type(found).__name__}, not a job block.")
    return found


def _no_job(job: object) -> str:
    if isinstance(job, (tuple, list)):
        return "The job arrived in pieces. Wrap the block in .map: unmapped(job), or pass its name."
    return f"A job block or its name is needed, such as 'mindee-job/invoices', not {type(job).__name__}."


def checked_document(document: object) -> Document:
    """The document; raises `ConfigurationError` for anything else."""
    if isinstance(document, Document):
        return document
    raise ConfigurationError(
        f"A Document is needed, not {type(document).__name__}: Document.from_path(…), .from_bytes(…) or "
        ".from_url(…)."
    )


def checked_documents(documents: Iterable[Document]) -> list[Document]:
    """The documents as a list; raises `ConfigurationError` for anything else."""
    if isinstance(documents, (str, bytes, Document, Mapping)) or not isinstance(documents, Iterable):
        raise ConfigurationError(
            "A list of documents is needed: Document.from_folder(…), or [Document.from_path(…), …]."
        )
    return [checked_document(document) for document in documents]


def read_ref(ref: Ref) -> JobRef:
    """The ref itself, read where it came as JSON.

    Raises:
        ConfigurationError: It is not the JSON of a ref.
    """
    if isinstance(ref, JobRef):
        return ref
    try:
        return JobRef.model_validate_json(ref) if isinstance(ref, str) else JobRef.model_validate(ref)
    except ValidationError as problem:
        wrong = ", ".join(".".join(map(str, error["loc"])) or error["msg"] for error in problem.errors())
        raise ConfigurationError(f"This is not the ref of a job: {wrong}.") from None


def rows_of(jobs: Iterable[Ref | Outcome]) -> list[Outcome]:
    """A row for each job: the one it has in a batch, or a new one for a ref.

    Raises:
        ConfigurationError: Something among them is neither.
    """
    if isinstance(jobs, (str, Mapping, JobRef)) or not isinstance(jobs, Iterable):
        raise ConfigurationError("A batch or a list of refs is needed.")
    rows = jobs.heads if isinstance(jobs, Batch) else jobs  # results stay where they are
    return [job if isinstance(job, Outcome) else _new_row(read_ref(job)) for job in rows]


def _new_row(ref: JobRef) -> Outcome:
    return Outcome(document=ref.document_name, ref=ref)


def open_refs(rows: Sequence[Outcome]) -> dict[int, JobRef]:
    """The jobs that can go on, by row. Failed rows stay as they are; to drive them again, give their refs."""
    return {index: row.ref for index, row in enumerate(rows) if row.ok and row.ref is not None}


# ---------------------------------------------------------------------------------- log lines and progress


_STEPS = 10  # lines that tell how far a batch is
_REFS_AT_ONCE = 25  # in one line: sending a line to Prefect costs as much CPU as several requests
_REFS_WITHIN = 1.0  # seconds; Prefect sends its lines every two
_UPDATE_EVERY = 2.0
_LAST_UPDATE_WITHIN = 5.0


def run_log() -> Log:
    """The log of the task or flow run; outside of both, the package's own."""
    try:
        return get_run_logger()
    except MissingContextError:
        return get_logger("docjobs")


def log_ref(log: Log, ref: JobRef) -> None:
    """Write a new job's ref into the log, so that the job can be taken up again whatever happens next."""
    log.info("%s is submitted, its ref is %s", ref, ref.model_dump_json(exclude_none=True))


@dataclass(frozen=True)
class _Follower:
    """What is called for each batch that runs in a context."""

    on_forecast: OnForecast
    ended: Callable[[], None] | None


_following: ContextVar[_Follower | None] = ContextVar("docjobs_following", default=None)


@contextmanager
def followed_by(on_forecast: OnForecast, *, ended: Callable[[], None] | None = None) -> Iterator[None]:
    """Call these, too, for the batches that run in this context.

    Args:
        on_forecast: For each forecast.
        ended: For each document that has ended; the batches show no progress bar of their own then.
    """
    token = _following.set(_Follower(on_forecast, ended))
    try:
        yield
    finally:
        _following.reset(token)


class RunLog:
    """Writes to the log and to Prefect's events what becomes of a batch; an async context manager.

    Args:
        log: Where the lines go.
        with_refs: Log the refs of new jobs, for no ledger records them.
    """

    def __init__(self, log: Log, *, with_refs: bool = False) -> None:
        self.log = log
        self._with_refs = with_refs
        self._done = self._failed = 0
        self._forecast: Forecast | None = None
        self._events = JobEvents()
        self._refs: list[JobRef] = []
        self._flush_at: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Write what was collected, whatever ended the batch."""
        self._flush_refs()
        self._events.flush()

    def on_forecast(self, forecast: Forecast) -> None:
        """Note when the rest will be done."""
        self._forecast = forecast
        if follower := _following.get():
            follower.on_forecast(forecast)

    def observe(self, index: int, outcome: Outcome) -> None:  # noqa: ARG002 (of an `Observe`)
        """Note one step of a document: its ref as soon as it is known, and a failure."""
        self._events.observe(outcome)
        if not outcome.ok:
            self.log.warning(
                "%s: %s in %s: %s", outcome.document, outcome.reason, outcome.phase, outcome.error
            )
        elif outcome.phase is Phase.SUBMIT and outcome.ref is not None and not outcome.reused:
            self._collect(outcome.ref)

    def ended(self, outcome: Outcome, total: int) -> None:
        """Note the end of one of `total` documents; a line for every tenth of them."""
        self._done += 1
        self._failed += not outcome.ok
        if (follower := _following.get()) and follower.ended:
            follower.ended()
        if total >= _STEPS and self._done * _STEPS // total > (self._done - 1) * _STEPS // total:
            left = f", {self._forecast}" if self._forecast and self._done < total else ""
            self.log.info("%d of %d ended, %d of them failed%s", self._done, total, self._failed, left)

    def close(self, batch: Batch) -> None:
        """Sum up a batch that has ended."""
        totals = batch.totals
        reasons = ", ".join(f"{number} {reason}" for reason, number in totals["reasons"].items())
        reused = sum(head.reused for head in batch.heads)
        self.log.info(
            "%s: %d succeeded, %d failed%s%s",
            count(len(batch), "document"),
            len(batch) - totals["failed"],
            totals["failed"],
            f" ({reasons})" if reasons else "",
            f", {reused} reused" if reused else "",
        )

    def _collect(self, ref: JobRef) -> None:
        self._refs.append(ref)
        if len(self._refs) >= _REFS_AT_ONCE:
            self._flush_refs()
        elif self._flush_at is None:
            self._flush_at = asyncio.get_running_loop().call_later(_REFS_WITHIN, self._flush_refs)

    def _flush_refs(self) -> None:
        """Log new jobs. Their refs must be somewhere, so that they can be taken up again."""
        if self._flush_at is not None:
            self._flush_at.cancel()
        new, self._refs, self._flush_at = self._refs, [], None
        if new and self._with_refs:
            refs = ", ".join(ref.model_dump_json(exclude_none=True) for ref in new)
            self.log.info("%s submitted, with the refs [%s]", count(len(new), "job"), refs)
        elif new:
            self.log.info("%s submitted and recorded in the ledger", count(len(new), "job"))


class Progress:
    """A progress artifact of the run: updated every two seconds, and never a reason to fail or to wait.

    Args:
        total: Documents in the batch.
        description: Stands beside the bar.
        key: Of the artifact; None for one that only the run itself lists.
    """

    def __init__(self, total: int, description: str, *, key: str | None = None) -> None:
        self._total = total
        self._key = key
        self._description = description
        self._done = 0
        self._forecast: Forecast | None = None
        self._news = asyncio.Event()
        self._closing = asyncio.Event()

    def advance(self) -> None:
        """Count one document."""
        self._done += 1
        self._news.set()

    def on_forecast(self, forecast: Forecast) -> None:
        """Say beside the bar when the rest will be done."""
        self._forecast = forecast
        self._news.set()

    @property
    def description(self) -> str:
        """What stands beside the bar: what is done, how much of it, and how long the rest will take."""
        done = f"{self._description}: {self._done:,} of {self._total:,}"
        return f"{done}, {self._forecast}" if self._forecast and self._done < self._total else done

    @property
    def percent(self) -> float:
        """Of the batch, 0 to 100."""
        return round(100.0 * self._done / self._total, 1) if self._total else 100.0

    @asynccontextmanager
    async def shown(self, log: Log) -> AsyncIterator[Progress]:
        """Keep the artifact up to date while the context is open; do nothing where no run is to show it."""
        follower = _following.get()
        is_shown_elsewhere = follower is not None and follower.ended is not None
        if is_shown_elsewhere or (TaskRunContext.get() is None and FlowRunContext.get() is None):
            yield self
            return
        publishing = asyncio.create_task(self._publish(log))
        try:
            yield self
            self._closing.set()
            self._news.set()
            await asyncio.wait([publishing], timeout=_LAST_UPDATE_WITHIN)
        finally:
            await cancelled(publishing)

    async def _publish(self, log: Log) -> None:
        try:
            async with get_client() as client:
                bar = ProgressArtifact(key=self._key, progress=self.percent, description=self.description)
                artifact = (await bar.acreate(client=client)).id

                async def update() -> None:
                    await aupdate_progress_artifact(artifact, self.percent, self.description, client=client)

                while not self._closing.is_set():
                    await self._news.wait()
                    self._news.clear()
                    await update()
                    with move_on_after(_UPDATE_EVERY):
                        await self._closing.wait()
                await update()
        except Exception as problem:  # noqa: BLE001 (a progress bar must not cost the batch)
            log.debug("No progress bar: %s", problem)


# -------------------------------------------------------------------------------------------------- events


_EVENTS_AT_ONCE = 100
_EVENTS: Mapping[Phase, str] = MappingProxyType({Phase.SUBMIT: "submitted", Phase.WAIT: "completed"})


class JobEvents:
    """Emits what happens to jobs, in bunches; does nothing outside of runs.

    `docjobs.job.submitted`, `docjobs.job.completed` and `docjobs.job.failed`, each about the resource
    `docjobs.job.<provider>.<job id>`; Prefect adds the runs as related resources.
    """

    def __init__(self) -> None:
        self._on = TaskRunContext.get() is not None or FlowRunContext.get() is not None
        self._waiting: list[tuple[str, Outcome, JobRef]] = []

    def observe(self, outcome: Outcome) -> None:
        """Note one step of a document that has a job."""
        name = _EVENTS.get(outcome.phase) if outcome.ok else "failed"
        if outcome.reused and name == "submitted":
            return  # that was another run, or this one before it was retried
        if self._on and name and outcome.ref:
            self._waiting.append((name, outcome, outcome.ref))
            if len(self._waiting) >= _EVENTS_AT_ONCE:
                self.flush()

    def flush(self) -> None:
        """Hand what was collected to Prefect, which sends it in the background."""
        waiting, self._waiting = self._waiting, []
        for name, outcome, ref in waiting:
            emit_event(f"docjobs.job.{name}", resource=event_resource(ref), payload=_payload(outcome, ref))


def _payload(outcome: Outcome, ref: JobRef) -> dict[str, Any]:
    reason = outcome.reason.value if outcome.reason else None
    phase, seconds = outcome.phase.value, outcome.seconds
    return event_payload(ref.provider, ref.job_id, ref, phase=phase, reason=reason, seconds=seconds)


# --------------------------------------------------------------------------------------------------- costs


def log_costs(log: Log, batch: Batch, budget: Budget | None, *, is_shared: bool) -> None:
    """Log what a batch cost. What a shared budget has counted is not this batch's alone."""
    price = budget.price_per_page if budget else None
    counted = budget.pages if budget and not is_shared else None
    log.info("%s", cost_line(batch, price_per_page=price, counted=counted))


def is_bought(outcome: Outcome) -> bool:
    """Whether this call submitted the document's job.

    The failure of a submit may name a job: that of an earlier call, or of another worker.
    """
    was_sent = outcome.ok or outcome.phase is not Phase.SUBMIT
    return outcome.ref is not None and was_sent and not outcome.reused


def cost_line(batch: Batch, *, price_per_page: float | None = None, counted: int | None = None) -> str:
    """Such as `3 documents bought, 2 reused; 18 pages, 18 credits, 982 left; 0.9 at 0.05 a page`.

    Args:
        batch: All its outcomes.
        price_per_page: What a page costs, where that is known.
        counted: Pages as they were counted before the submit; used where the service reports none.
    """
    bought = [head for head in batch.heads if is_bought(head)]
    usages = [head.result.usage for head in bought if head.result is not None]
    pages = [usage.pages for usage in usages if usage.pages is not None]
    credits_ = [usage.credits for usage in usages if usage.credits is not None]
    left = [usage.quota_remaining for usage in usages if usage.quota_remaining is not None]
    reported = [
        count(sum(pages), "page") if pages else "",
        f"{sum(credits_):,g} credits" if credits_ else "",
        f"{min(left):,g} left" if left else "",  # it only falls while a batch goes on
    ]
    cost = ""
    if price_per_page is not None and pages:
        at_least = "at least " if len(pages) < len(bought) else ""
        cost = f"{at_least}{sum(pages) * price_per_page:,g} at {price_per_page:,g} a page"
    elif price_per_page is not None and counted is not None:
        cost = f"{counted * price_per_page:,g} at {price_per_page:,g} a page, as counted here"
    reused = sum(head.reused for head in batch.heads)
    parts = (
        f"{count(len(bought), 'document')} bought, {reused:,} reused",
        ", ".join(filter(None, reported)),
        cost,
    )
    return "; ".join(filter(None, parts))
