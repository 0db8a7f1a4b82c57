"""The simulator without HTTP: documents come in, jobs pass through their states, results come out.

A service uses it like this::

    job = backend.submit("mindee", "extraction", Source.from_bytes(data, "acme.pdf"), options={"alias": None})
    job = backend.find("mindee", job_id)          # None: unknown, or too young (not_found_after_submit)
    phase = backend.observe(job)                  # a status request: counted, and "first seen done" noted
    read = backend.fetch(job)                     # a result request: counted; None when it was used up

Nothing runs in the background: how a job ends is drawn at its submit, and its state is read off the clock.
Times are seconds on an injectable clock, so that tests can jump; ``wall`` turns them into dates.
Every method costs O(1), but for ``page`` (the length of the page) and ``report`` (all jobs).
"""

from __future__ import annotations

import hashlib
import math
import random
import time
import uuid
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any, Literal

from prefect_docjobs.simulator.reading.document import DocumentRead, read_document
from prefect_docjobs.simulator.reading.pages import UnreadableDocument
from prefect_docjobs.simulator.settings import Settings
from prefect_docjobs.simulator.stats import Stats, summary

Channel = Literal["poll", "list", "stream", "push"]
"""How a client learned of a job's state."""

_READS_KEPT = 256


class Phase(Enum):
    """The state of a job in the simulator's own words; each service translates them into its own."""

    QUEUED = "queued"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended."""
        return self not in {Phase.QUEUED, Phase.PROCESSING}


@dataclass(frozen=True, slots=True)
class Source:
    """The document of one submit: its bytes, or a URL that is never downloaded.

    Attributes:
        name: File name as the service would show it.
        data: The bytes; None for a URL that the simulator's table of documents does not hold.
        url: The URL; None for a document that came with the request.
        sha256: SHA-256 (hex) of the bytes; None without bytes.
    """

    name: str
    data: bytes | None
    url: str | None
    sha256: str | None

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> Source:
        """A document that came with the request."""
        return cls(name, data, None, hashlib.sha256(data).hexdigest())

    @classmethod
    def from_url(cls, url: str, name: str | None = None) -> Source:
        """A document that the request only pointed to; its name is the end of the URL's path."""
        tail = url.split("?", 1)[0].split("#", 1)[0].rstrip("/").rsplit("/", 1)[-1]
        return cls(name or tail, None, url, None)

    def holding(self, data: bytes) -> Source:
        """The same source with these bytes."""
        return Source(self.name, data, self.url, self.sha256 or hashlib.sha256(data).hexdigest())

    @property
    def content(self) -> str:
        """What the document is counted by: its URL if it came as one, else the SHA-256 of its bytes."""
        return self.url or self.sha256 or ""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job fails.

    Attributes:
        reason: ``chance`` (the setting ``failed_share``), ``unreadable`` (the document itself) or
            ``unknown_url`` (a URL that the table of documents does not hold).
        detail: A sentence for people.
    """

    reason: Literal["chance", "unreadable", "unknown_url"]
    detail: str


_CHANCE = Failure("chance", "The document could not be processed.")
_UNKNOWN_URL = Failure("unknown_url", "The document could not be downloaded from its URL.")


@dataclass(slots=True)
class Push:
    """One webhook of a job as it went.

    Attributes:
        id: The webhook's id.
        called_at: When it was first called, on the simulator's clock.
        attempts: Calls made.
        status_code: The receiver's last answer; None when it could not be reached.
    """

    id: str
    called_at: float
    attempts: int
    status_code: int | None

    @property
    def delivered(self) -> bool:
        """Whether the receiver answered 2xx."""
        return self.status_code is not None and 200 <= self.status_code < 300


@dataclass(slots=True)
class Job:
    """One submitted document and how its job goes. All times are seconds on the simulator's clock.

    Attributes:
        id: A random UUID4, as text.
        result_id: Another random UUID4, for services whose result has an id of its own.
        service: Name of the service, such as ``mindee``.
        product: The service's product or route family, such as ``extraction``.
        source: The document.
        options: What the service keeps of the request, in the service's own form.
        index: How often this content was submitted to this product before (0 for the first time).
        created_at: When it was submitted.
        starts_at: When it leaves the queue.
        ends_at: When it ends; infinite for a stuck job.
        failure: Why it will fail, None when it will succeed.
        cancelled_at: When it was cancelled.
        polls: Status requests for this job alone.
        observations: Times that it was shown in a list or on a stream.
        fetches: Times that its result was given out.
        seen_done_at: When its end was first reported to a client.
        seen_done_by: By which channel.
        pushes: Webhooks called for it, in order.
    """

    id: str
    result_id: str
    service: str
    product: str
    source: Source
    options: Any
    index: int
    created_at: float
    starts_at: float
    ends_at: float
    failure: Failure | None
    cancelled_at: float | None = None
    polls: int = 0
    observations: int = 0
    fetches: int = 0
    seen_done_at: float | None = None
    seen_done_by: Channel | None = None
    pushes: list[Push] = field(default_factory=list)

    def phase(self, now: float) -> Phase:
        """The job's state at a time; reading it does not count as an observation."""
        if self.cancelled_at is not None and self.cancelled_at <= now:
            return Phase.CANCELLED
        if now < self.starts_at:
            return Phase.QUEUED
        if now < self.ends_at:
            return Phase.PROCESSING
        return Phase.FAILED if self.failure else Phase.SUCCEEDED

    def ended_at(self, now: float) -> float | None:
        """When the job ended, None while it has not."""
        if not self.phase(now).is_terminal:
            return None
        return self.ends_at if self.cancelled_at is None else self.cancelled_at

    def started_at(self, now: float) -> float | None:
        """When processing began, None while it has not."""
        return self.starts_at if self.starts_at <= now else None

    def updated_at(self, now: float) -> float:
        """When the job's state last changed."""
        changes = (self.ended_at(now), self.started_at(now))
        return next((at for at in changes if at is not None), self.created_at)

    @property
    def is_stuck(self) -> bool:
        """Whether the job stays in processing for ever."""
        return math.isinf(self.ends_at)

    @property
    def detection_latency(self) -> float | None:
        """Seconds from the job's end until it was first reported to a client; None before that."""
        if self.seen_done_at is None:
            return None
        return self.seen_done_at - (self.ends_at if self.cancelled_at is None else self.cancelled_at)


class Backend:
    """All jobs of one simulator, for all its services.

    Args:
        settings: How it behaves; replace ``backend.settings`` to change it while it runs.
        clock: Seconds from any start, never going back.
        started_at: The date that the clock's present reading stands for; now when left out.

    Attributes:
        settings: The settings in force. They apply to what comes next: jobs that exist go on as drawn.
        stats: Counters since the start or the last reset.
        documents: The table that answers URL submits: URL to document bytes. Nothing is ever downloaded.
        on_submit: Called with each new job.
        on_reset: Called after each reset.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        started_at: datetime | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.clock = clock
        self.documents: dict[str, bytes] = {}
        self.on_submit: list[Callable[[Job], None]] = []
        self.on_reset: list[Callable[[], None]] = []
        self._epoch = (started_at or datetime.now(timezone.utc)) - timedelta(seconds=clock())
        self._reads: OrderedDict[str, DocumentRead | Failure] = OrderedDict()
        self._begin()

    def _begin(self) -> None:
        self.stats = Stats()
        self._jobs: dict[tuple[str, str], Job] = {}
        self._results: dict[tuple[str, str], Job] = {}
        self._in_order: dict[str, list[Job]] = {}
        self._contents: dict[str, bytes] = {}

    def reset(self, settings: Settings | None = None) -> None:
        """Forget all jobs and counters, and start again with these settings, or the present ones.

        The table of URL documents stays.
        """
        self.settings = settings or self.settings
        self._begin()
        for listener in self.on_reset:
            listener()

    def now(self) -> float:
        """The clock's reading, in seconds."""
        return self.clock()

    def wall(self, at: float) -> datetime:
        """The date (UTC, with zone) of a clock reading."""
        return self._epoch + timedelta(seconds=at)

    def rng(self, *key: object) -> random.Random:
        """Random numbers that are the same for the same seed and key."""
        return random.Random("/".join(map(str, (self.settings.seed, *key))))  # noqa: S311  (repeatable)

    def submit(self, service: str, product: str, source: Source, options: Any = None) -> Job:
        """Take a document and draw how its job goes.

        Chance is drawn from the seed, the service, the product, the content and how often this content came
        before, so that a job does not depend on what else is submitted, or when. Ids are random.
        """
        now, settings = self.now(), self.settings
        if source.data is None and source.url in self.documents:
            source = source.holding(self.documents[source.url])
        if source.data is not None and source.sha256 is not None:  # equal bytes are kept only once
            source = source.holding(self._contents.setdefault(source.sha256, source.data))
        key = (service, product, source.content)
        index = self.stats.submits[key]
        self.stats.submits[key] += 1
        rng = self.rng(*key, index)
        duration = settings.duration.draw(rng)
        fails, sticks = rng.random() < settings.failed_share, rng.random() < settings.stuck_share
        read = _CHANCE if fails else self._read(source)
        job = Job(
            id=str(uuid.uuid4()),
            result_id=str(uuid.uuid4()),
            service=service,
            product=product,
            source=source,
            options=options or {},
            index=index,
            created_at=now,
            starts_at=now + duration * settings.duration.queue_share,
            ends_at=math.inf if sticks else now + duration,
            failure=read if isinstance(read, Failure) else None,
        )
        self._jobs[service, job.id] = job
        self._results[service, job.result_id] = job
        self._in_order.setdefault(service, []).append(job)
        for listener in self.on_submit:
            listener(job)
        return job

    def find(self, service: str, job_id: str) -> Job | None:
        """The job of a service by its id; None when there is none, or while it is too young to be found."""
        return self._old_enough(self._jobs.get((service, job_id)))

    def find_result(self, service: str, result_id: str) -> Job | None:
        """The job of a service by its result's own id; None as for ``find``."""
        return self._old_enough(self._results.get((service, result_id)))

    def _old_enough(self, job: Job | None) -> Job | None:
        if job is not None and self.now() - job.created_at < self.settings.not_found_after_submit:
            self.stats.given["404_after_submit"] += 1
            return None
        return job

    def page(self, service: str, skip: int, limit: int) -> tuple[int, Sequence[Job]]:
        """How many jobs a service has, and some of them, oldest first. Too young jobs are listed as well."""
        jobs = self._in_order.get(service, [])
        return len(jobs), jobs[skip : skip + limit]

    def all_jobs(self) -> list[Job]:
        """Every job of every service, service by service, oldest first."""
        return [job for jobs in self._in_order.values() for job in jobs]

    def observe(self, job: Job, channel: Channel = "poll") -> Phase:
        """The job's state, reported to a client: counts it and notes when its end was first reported."""
        if channel == "poll":
            job.polls += 1
        elif channel != "push":
            job.observations += 1
        phase = job.phase(self.now())
        if phase.is_terminal and job.seen_done_at is None:
            job.seen_done_at, job.seen_done_by = self.now(), channel
        return phase

    def cancel(self, job: Job) -> Phase:
        """Cancel a job; one that has ended stays as it is. Returns its state now."""
        now = self.now()
        if not job.phase(now).is_terminal:
            job.cancelled_at = now
        return job.phase(now)

    def fetch(self, job: Job) -> DocumentRead | None:
        """Give out a succeeded job's result: what its document says.

        Returns:
            None when the job has not succeeded, or when results can be read once and this one was.
        """
        used_up = job.fetches and self.settings.single_use_results
        if used_up or job.phase(self.now()) is not Phase.SUCCEEDED:
            return None
        job.fetches += 1
        return self.read(job)

    def read(self, job: Job) -> DocumentRead:
        """What a job's document says, without counting it as a fetch.

        Raises:
            UnreadableDocument: The document can not be read, or the job's URL is not in the table.
        """
        read = self._read(job.source)
        if isinstance(read, Failure):
            raise UnreadableDocument(read.detail)
        return read

    def _read(self, source: Source) -> DocumentRead | Failure:
        if source.data is None or source.sha256 is None:
            return _UNKNOWN_URL
        read = self._reads.get(source.sha256)
        if read is None:
            try:
                # Equal bytes are read once under any name, so no name may get into the message.
                read = read_document(source.data, "The document")
            except UnreadableDocument as error:
                read = Failure("unreadable", str(error))
            self._reads[source.sha256] = read
        self._reads.move_to_end(source.sha256)
        if len(self._reads) > _READS_KEPT:
            self._reads.popitem(last=False)
        return read

    def report(self) -> dict[str, Any]:
        """All counters and their summary, as plain JSON.

        ``polls_per_job`` counts status requests, ``observations_per_job`` lists and streams;
        ``detection_latency`` is in seconds, over jobs whose end was reported to a client.
        """
        jobs, now = self.all_jobs(), self.now()
        latencies = (job.detection_latency for job in jobs)
        return {
            **self.stats.as_dict(),
            "jobs": {"total": len(jobs), **Counter(job.phase(now).value for job in jobs)},
            "stuck": sum(job.is_stuck for job in jobs),
            "fetches": sum(job.fetches for job in jobs),
            "fetches_per_job": summary(job.fetches for job in jobs),
            "polls_per_job": summary(job.polls for job in jobs),
            "observations_per_job": summary(job.observations for job in jobs),
            "detection_latency": summary(latency for latency in latencies if latency is not None),
        }
