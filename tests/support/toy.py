"""A service that is a script: jobs with known ends, polled one by one, in a list, or on a stream.

Its clock is the event loop's, so with `virtual_time` what it reports and when is exact. It keeps count of
every request, and can refuse, break, and lie.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, ClassVar

import httpx

from prefect_docjobs.errors import NotFound
from prefect_docjobs.http import AccountLimits, Answer, Http, Request
from prefect_docjobs.models import Document, JobRef, JobState, JobStatus, Problem, Result
from prefect_docjobs.providers.base import Capabilities, JobPage, JobRow, Polling, Provider, Submitted
from prefect_docjobs.waiting import Waiter, WaitLimits
from prefect_docjobs.waiting.durations import Durations

BEGAN = datetime(2026, 2, 3, tzinfo=timezone.utc)
URL = "https://toy.test"


def ref(job_id: str = "0", **changes: Any) -> JobRef:
    """A job of the toy, submitted when the clock stood at 0."""
    known = {
        "provider": "toy",
        "base_url": URL,
        "tenant": "acme",
        "product": "extraction",
        "job_id": job_id,
        "document_name": f"{job_id}.pdf",
        "submitted_at": BEGAN,
    }
    return JobRef(**{**known, **changes})


@dataclass(frozen=True)
class Toy(Provider):
    """A service of one route: `{"id", "state", "error"?}`."""

    name = "toy"
    title = "Toy"
    default_base_url = URL
    env_key = "TOY_KEY"
    states: ClassVar[Mapping[str, JobState]] = {state.value: state for state in JobState}
    polling = Polling(first=2.0, every=2.0)
    product = "extraction"

    @classmethod
    def auth_headers(cls, api_key: str) -> dict[str, str]:
        return {"authorization": api_key}

    def submit_request(self, document: Document, *, alias: str) -> Request:
        return Request("POST", "/jobs", body=document)

    def read_submit(self, answer: Answer) -> Submitted:
        return Submitted(answer.json()["id"])

    def status_request(self, ref: JobRef) -> Request:
        return Request("GET", f"/jobs/{ref.job_id}")

    def read_status(self, ref: JobRef, answer: Answer) -> JobStatus:
        said = answer.json()
        return JobStatus(
            ref=ref.model_copy(update={"job_id": said["id"]}),
            state=self.state_of(said["state"]),
            raw_state=said["state"],
            error=Problem(message=said["error"]) if "error" in said else None,
            expired=said.get("expired", False),
            seen_at=answer.received_at,
        )

    def result_request(self, ref: JobRef) -> Request:
        return Request("GET", f"/jobs/{ref.job_id}/result", verbatim=True)

    def map_result(self, ref: JobRef, payload: Any) -> Result:
        return Result(ref=ref, raw=payload)


@dataclass(frozen=True, slots=True)
class Job:
    """One job of an account: when it was made and ends, on the loop's clock, and how."""

    made: float
    ends: float
    state: JobState = JobState.SUCCEEDED


Says = Callable[[str, JobState], JobState | None]
"""What is reported of a job that is in this state; None for nothing."""


def honest(job_id: str, state: JobState) -> JobState | None:
    return state


@dataclass
class Account:
    """The jobs of one account, and what was asked about them.

    Attributes:
        jobs: In the order in which they were made.
        oldest_first: How the list is ordered.
        dated: Whether the list says when jobs were made.
        listed: What the list says of a job.
        list_faults: What goes wrong with a list request, given its number from 0.
        streamed: What a stream says at the end of a job; None breaks it off.
        stream_faults: Called as a stream opens, given the job and how often it was opened before.
        takes: Seconds of a poll, and of a list request.
    """

    jobs: dict[str, Job] = field(default_factory=dict)
    oldest_first: bool = False
    dated: bool = True
    listed: Says = honest
    list_faults: Callable[[int], Exception | None] = lambda number: None
    streamed: Says = honest
    stream_faults: Callable[[str, int], Exception | None] = lambda job_id, number: None
    takes: tuple[float, float] = (0.05, 0.05)
    polls: Counter[str] = field(default_factory=Counter)
    pages: list[int] = field(default_factory=list)
    streams: Counter[str] = field(default_factory=Counter)
    open_streams: set[str] = field(default_factory=set)

    def add(self, job_id: str, takes: float, state: JobState = JobState.SUCCEEDED) -> JobRef:
        """A job that is made now; returns its ref."""
        now = asyncio.get_running_loop().time()
        self.jobs[job_id] = Job(now, now + takes, state)
        return ref(job_id, submitted_at=BEGAN + timedelta(seconds=now))

    def add_old(self, number: int) -> None:
        """Jobs of the past, one for each minute before the clock began, all done long ago."""
        for minutes in range(number, 0, -1):
            self.jobs[f"old-{minutes}"] = Job(-60.0 * minutes - 3_600.0, -3_600.0)

    def state(self, job_id: str) -> JobState:
        """The true state of a job now."""
        job = self.jobs[job_id]
        return job.state if asyncio.get_running_loop().time() >= job.ends else JobState.PROCESSING

    async def poll(self, ref: JobRef) -> JobStatus:
        self.polls[ref.job_id] += 1
        await asyncio.sleep(self.takes[0])
        if ref.job_id not in self.jobs:
            raise NotFound("no such job", status=404)
        return _status(ref, self.state(ref.job_id))

    async def page(self, skip: int, limit: int) -> JobPage:
        number = len(self.pages)
        self.pages.append(skip)
        if fault := self.list_faults(number):
            await asyncio.sleep(self.takes[1])
            raise fault
        order = list(self.jobs) if self.oldest_first else list(reversed(self.jobs))
        states = {job_id: self.listed(job_id, self.state(job_id)) for job_id in order[skip : skip + limit]}
        rows = {job_id: self._row(job_id, state) for job_id, state in states.items() if state is not None}
        await asyncio.sleep(self.takes[1])
        return JobPage(rows=rows, seen_at=BEGAN, total=len(order))

    def _row(self, job_id: str, state: JobState) -> JobRow:
        made = BEGAN + timedelta(seconds=self.jobs[job_id].made)
        return JobRow(state=state, raw_state=state.value, created_at=made if self.dated else None)

    async def stream(self, ref: JobRef) -> AsyncGenerator[JobStatus, None]:
        number = self.streams[ref.job_id]
        self.streams[ref.job_id] += 1
        if fault := self.stream_faults(ref.job_id, number):
            await asyncio.sleep(self.takes[0])
            raise fault
        self.open_streams.add(ref.job_id)
        try:
            job = self.jobs[ref.job_id]
            await asyncio.sleep(max(0.0, job.ends - asyncio.get_running_loop().time()))
            if state := self.streamed(ref.job_id, job.state):
                yield _status(ref, state)
        finally:
            self.open_streams.discard(ref.job_id)


def _status(ref: JobRef, state: JobState) -> JobStatus:
    return JobStatus(ref=ref, state=state, raw_state=state.value, seen_at=BEGAN)


@dataclass(frozen=True)
class Polled(Toy):
    """The toy with an account in memory instead of one behind HTTP; it offers only polls."""

    account: Account = field(default_factory=Account)

    async def status(self, http: Http, ref: JobRef, *, once: bool = False) -> JobStatus:
        return await self.account.poll(ref)


class Listed(Polled):
    """It offers a list, too."""

    capabilities = Capabilities(list_jobs=True)

    async def list_jobs(self, http: Http, *, skip: int = 0, limit: int = 100, once: bool = False) -> JobPage:
        return await self.account.page(skip, limit)


class Streamed(Polled):
    """It offers streams, too."""

    capabilities = Capabilities(stream=True)

    def stream(self, http: Http, ref: JobRef) -> AsyncIterator[JobStatus]:
        return self.account.stream(ref)


class ListedAndStreamed(Listed, Streamed):
    """It offers everything."""

    capabilities = Capabilities(list_jobs=True, stream=True)


@asynccontextmanager
async def waiting(
    provider: Provider,
    transport: httpx.AsyncBaseTransport | None = None,
    *,
    durations: Durations | None = None,
    account_limits: AccountLimits | None = None,
    pushes: bool = False,
    **limits: Any,
) -> AsyncIterator[Waiter]:
    """A waiter for this provider; `limits` are those that differ from the default."""
    http = Http(
        provider="toy",
        base_url=URL,
        headers={},
        tenant="acme",
        transport=transport or httpx.MockTransport(lambda request: httpx.Response(500)),
        account_limits=account_limits,
    )
    waiter = Waiter(provider, http, WaitLimits(**limits), durations or Durations())
    async with http, waiter:
        waiter.pending.expect_pushes(pushes)
        yield waiter


async def all_done(waiter: Waiter, account: Account, refs: list[JobRef]) -> dict[str, float]:
    """Wait for all of these jobs; how many seconds after its end each was reported, and none before."""
    loop = asyncio.get_running_loop()

    async def late(job: JobRef) -> float:
        status = await waiter.done(job)
        assert status.ref.job_id == job.job_id
        assert status.state is account.jobs[job.job_id].state is JobState.SUCCEEDED
        return loop.time() - account.jobs[job.job_id].ends

    delays = await asyncio.gather(*[late(job) for job in refs])
    assert min(delays) >= 0.0
    return {job.job_id: delay for job, delay in zip(refs, delays, strict=True)}
