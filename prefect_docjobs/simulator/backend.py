"""The simulator without HTTP: documents come in, jobs pass through their states, results come out.

A service half (``mindee.py``, ``numind.py``, …) uses it like this::

    job = backend.submit("mindee", "extraction", Source.from_bytes(data, "acme.pdf"), options={"alias": None})
    job = backend.find("mindee", job_id)            # None: unknown, or too young (not_found_after_submit)
    phase = backend.observe(job)                    # a status request: counted, and "first seen done" noted
    read = backend.fetch(job)                       # a result request: counted; None when it was used up

Nothing runs in the background: a job's fate is planned at its submit and its state read off the clock.
Times are seconds on an injectable clock, so that tests can jump; ``wall`` turns them into dates.
Every method costs O(1), but for ``page`` (the length of the page) and ``report`` (all jobs).
"""

from __future__ import annotations

import math
import random
import time
import uuid
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from prefect_docjobs.simulator.hazards import Hazards
from prefect_docjobs.simulator.jobs import Channel, Failure, Job, Phase, Source
from prefect_docjobs.simulator.reading import DocumentRead, UnreadableDocument, read_document
from prefect_docjobs.simulator.settings import Settings
from prefect_docjobs.simulator.stats import Stats, summary

__all__ = ["Backend", "Channel", "Failure", "Job", "Phase", "Settings", "Source"]

_READS_KEPT = 256
_CHANCE = Failure("chance", "The document could not be processed.")
_UNKNOWN_URL = Failure("unknown_url", "The document could not be downloaded from its URL.")


class Backend:
    """All jobs of one simulator, for all its services.

    Args:
        settings: How it behaves; replace ``backend.settings`` to change it while it runs.
        clock: Seconds from any start, never going back.
        started_at: The date that the clock's present reading stands for; now when left out.

    Attributes:
        settings: The settings in force. They apply to what comes next: planned fates stay.
        sightings: What was seen so far.
        hazards: The dice and rate limits for requests.
        documents: The table that answers URL submits: URL to document bytes. Nothing is ever downloaded.
        on_submit: Called with each new job (the webhooks use it to plan their calls).
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
        self.hazards = Hazards(self.settings.seed, self.clock)
        self._jobs: dict[tuple[str, str], Job] = {}
        self._results: dict[tuple[str, str], Job] = {}
        self._in_order: dict[str, list[Job]] = {}
        self._contents: dict[str, bytes] = {}

    def reset(self, settings: Settings | None = None) -> None:
        """Forget all jobs, counters and dice, and start again with these settings, or the present ones.

        The table of URL documents stays.
        """
        self.settings = settings or self.settings
        self._begin()
        for listener in self.on_reset:
            listener()

    # Time

    def now(self) -> float:
        """The clock's reading, in seconds."""
        return self.clock()

    def wall(self, at: float) -> datetime:
        """The date (UTC, with zone) of a clock reading."""
        return self._epoch + timedelta(seconds=at)

    # Jobs

    def submit(
        self, service: str, product: str, source: Source, options: Mapping[str, Any] | None = None
    ) -> Job:
        """Take a document and plan its job's whole fate.

        Chance is drawn from the seed, the service, the product, the content and how often this content came
        before, so that a document's fate does not depend on what else is submitted, or when. Ids are random.
        """
        now = self.now()
        source = self._with_bytes(source)
        key = (service, product, source.content)
        index = self.stats.submits[key]
        self.stats.submits[key] += 1
        rng = random.Random("/".join(map(str, (self.settings.seed, *key, index))))  # noqa: S311  (repeatable)
        starts_at, ends_at, failure = self._fate(rng, source, now)
        job = Job(
            id=str(uuid.uuid4()),
            result_id=str(uuid.uuid4()),
            service=service,
            product=product,
            source=source,
            options=options or {},
            index=index,
            created_at=now,
            starts_at=starts_at,
            ends_at=ends_at,
            failure=failure,
        )
        self._keep(job)
        return job

    def _fate(self, rng: random.Random, source: Source, now: float) -> tuple[float, float, Failure | None]:
        """When a job leaves the queue, when it ends, and why it fails if it does."""
        settings = self.settings
        duration = settings.duration.draw(rng)
        fails, sticks = rng.random() < settings.failed_share, rng.random() < settings.stuck_share
        starts_at = now + duration * settings.duration.queue_share
        return starts_at, math.inf if sticks else now + duration, _CHANCE if fails else self._flaw(source)

    def _keep(self, job: Job) -> None:
        self._jobs[job.service, job.id] = job
        self._results[job.service, job.result_id] = job
        self._in_order.setdefault(job.service, []).append(job)
        for listener in self.on_submit:
            listener(job)

    def _with_bytes(self, source: Source) -> Source:
        """The source with its bytes: a URL's from the table, and equal bytes kept only once."""
        if source.data is None and source.url in self.documents:
            source = source.holding(self.documents[source.url])
        if source.data is None or source.sha256 is None:
            return source
        return source.holding(self._contents.setdefault(source.sha256, source.data))

    def find(self, service: str, job_id: str) -> Job | None:
        """The job of a service by its id; None when there is none, or while it is too young to be found."""
        return self._old_enough(self._jobs.get((service, job_id)))

    def find_result(self, service: str, result_id: str) -> Job | None:
        """The job of a service by its result's own id; None as for ``find``."""
        return self._old_enough(self._results.get((service, result_id)))

    def _old_enough(self, job: Job | None) -> Job | None:
        if job is None:
            return None
        if self.now() - job.created_at < self.settings.not_found_after_submit:
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
        """Where the job stands, told to somebody: counts the look and notes when its end was first seen."""
        if channel == "poll":
            job.polls += 1
        elif channel != "push":
            job.observations += 1
        phase = job.phase(self.now())
        if phase.is_terminal and job.seen_done_at is None:
            job.seen_done_at, job.seen_done_by = self.now(), channel
        return phase

    def cancel(self, job: Job) -> Phase:
        """Cancel a job; one that has ended stays as it is. Returns where it stands now."""
        now = self.now()
        if not job.phase(now).is_terminal:
            job.cancelled_at = now
        return job.phase(now)

    # Documents and results

    def fetch(self, job: Job) -> DocumentRead | None:
        """Give out a succeeded job's result: what its document says.

        Returns:
            None when the job has not succeeded, or when results can be read once and this one was.
        """
        if job.phase(self.now()) is not Phase.SUCCEEDED:
            return None
        if job.fetches and self.settings.single_use_results:
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

    def _flaw(self, source: Source) -> Failure | None:
        read = self._read(source)
        return read if isinstance(read, Failure) else None

    def _read(self, source: Source) -> DocumentRead | Failure:
        """Read a document, or take it from the most recently read ones."""
        if source.data is None or source.sha256 is None:
            return _UNKNOWN_URL
        read = self._reads.get(source.sha256)
        if read is None:
            read = self._reads[source.sha256] = _read_or_failure(source.data)
        self._reads.move_to_end(source.sha256)
        if len(self._reads) > _READS_KEPT:
            self._reads.popitem(last=False)
        return read

    # What was seen

    def report(self) -> dict[str, Any]:
        """All counters and their summary, as plain JSON.

        ``polls_per_job`` counts status requests, ``observations_per_job`` sightings in lists and on streams;
        ``detection_latency`` is in seconds, over jobs whose end was told to somebody.
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


def _read_or_failure(data: bytes) -> DocumentRead | Failure:
    try:
        # Equal bytes are read once under whatever names they come, so no name may get into the message.
        return read_document(data, "The document")
    except UnreadableDocument as error:
        return Failure("unreadable", str(error))
