"""The waiter, in virtual time, against a service that is a script."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import pairwise
from typing import Any, ClassVar

import anyio
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.virtual_time import VirtualLoop, virtual_time

from prefect_docjobs.errors import (
    DocJobsError,
    JobCancelled,
    JobError,
    JobExpired,
    JobFailed,
    JobLost,
    JobTimeout,
    RefMismatch,
    Unauthorized,
)
from prefect_docjobs.http import Answer, Http, Limits, Request
from prefect_docjobs.models import Document, JobRef, JobState, JobStatus, Problem, Result
from prefect_docjobs.providers.base import Polling, Provider, Submitted
from prefect_docjobs.waiter import Patience, Waiter


@dataclass(frozen=True)
class Toy(Provider):
    """A service of one route: `{"id", "state", "error"?}`."""

    name = "toy"
    title = "Toy"
    default_base_url = "https://toy.test"
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


Script = Callable[[str, float], httpx.Response | Exception]


@dataclass
class Service:
    """Answers by job id and virtual time; remembers when it was asked for what."""

    script: Script
    asked: list[tuple[float, str]] = field(default_factory=list)
    busy: int = 0
    most: int = 0
    takes: float = 0.05

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        job_id = request.url.path.rsplit("/", 1)[-1]
        self.asked.append((anyio.current_time(), job_id))
        self.busy += 1
        self.most = max(self.most, self.busy)
        try:
            await anyio.sleep(self.takes)
            answer = self.script(job_id, anyio.current_time())
        finally:
            self.busy -= 1
        if isinstance(answer, Exception):
            raise answer
        return answer

    def times(self, job_id: str) -> list[float]:
        return [time for time, asked in self.asked if asked == job_id]


def said(job_id: str, state: str, **more: Any) -> httpx.Response:
    return httpx.Response(200, json={"id": job_id, "state": state, **more})


def done_at(*ends: float) -> Script:
    """Job `0`, `1`, … succeeds at the time given for it."""

    def script(job_id: str, now: float) -> httpx.Response:
        return said(job_id, "succeeded" if now >= ends[int(job_id) % len(ends)] else "processing")

    return script


def ref(job_id: str = "0", **changes: Any) -> JobRef:
    known = {
        "provider": "toy",
        "base_url": "https://toy.test",
        "tenant": "acme",
        "product": "extraction",
        "job_id": job_id,
        "document_name": f"{job_id}.pdf",
        "submitted_at": datetime(2026, 2, 3, tzinfo=timezone.utc),
    }
    return JobRef(**{**known, **changes})


@asynccontextmanager
async def waiting(service: Any, **patience: Any) -> Any:
    http = Http(
        provider="toy",
        base_url="https://toy.test",
        headers={},
        tenant="acme",
        limits=Limits(),
        transport=httpx.MockTransport(service),
    )
    async with http, Waiter(Toy(), http, Patience(**patience)) as waiter:
        yield waiter


@virtual_time
async def test_a_job_is_reported_at_the_first_look_that_sees_it_done() -> None:
    service = Service(done_at(7.0))
    async with waiting(service) as waiter:
        status = await waiter.done(ref())
        now = anyio.current_time()

    assert status.state is JobState.SUCCEEDED
    assert now == pytest.approx(service.times("0")[-1] + service.takes)
    assert now - 7.0 < 2.5
    assert len(service.times("0")) <= 4


@virtual_time
async def test_a_job_that_is_done_already_costs_one_look_and_no_waiting() -> None:
    service = Service(done_at(0.0))
    async with waiting(service) as waiter:
        await waiter.done(ref(), age=3600.0)
        assert anyio.current_time() < 0.1
    assert len(service.asked) == 1


@virtual_time
async def test_looks_begin_with_the_services_advice_grow_and_never_come_faster_than_allowed() -> None:
    service = Service(done_at(600.0))
    async with waiting(service) as waiter:
        await waiter.done(ref())

    times = service.times("0")
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert times[0] >= 2.0
    assert min(gaps) >= 2.0
    assert max(gaps) <= 36.0
    assert len(times) < 110


@virtual_time
async def test_many_jobs_are_looked_at_together_within_the_gate() -> None:
    service = Service(done_at(*range(5, 25)))
    async with waiting(service) as waiter:
        statuses = await asyncio.gather(*[waiter.done(ref(str(n))) for n in range(500)])

    assert [status.ref.job_id for status in statuses] == [str(n) for n in range(500)]
    assert service.most <= 12


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ({"state": "failed", "error": "blurred"}, JobFailed),
        ({"state": "failed", "expired": True}, JobExpired),
        ({"state": "cancelled"}, JobCancelled),
    ],
)
@virtual_time
async def test_a_job_that_ends_without_result_raises_what_happened(
    answer: Mapping[str, Any], kind: type[JobError]
) -> None:
    async with waiting(Service(lambda job, now: said(job, **answer))) as waiter:
        with pytest.raises(kind) as caught:
            await waiter.done(ref())
    assert caught.value.ref == ref()
    assert "blurred" in str(caught.value) or kind is not JobFailed


@virtual_time
async def test_looks_may_fail_for_minutes_without_failing_the_job() -> None:
    outages: list[httpx.Response | Exception] = [
        httpx.Response(503),
        httpx.Response(502, text="<html>"),
        httpx.ReadError("reset"),
    ]

    def script(job_id: str, now: float) -> httpx.Response | Exception:
        if now < 120:
            return outages[int(now) % 3]
        return said(job_id, "succeeded")

    async with waiting(Service(script)) as waiter:
        assert (await waiter.done(ref())).state is JobState.SUCCEEDED
        assert anyio.current_time() < 200


@virtual_time
async def test_a_service_that_never_answers_sensibly_ends_in_a_timeout_with_the_ref() -> None:
    service = Service(lambda job, now: httpx.Response(200, text="<html>hello</html>"))
    async with waiting(service, document_timeout=None) as waiter:
        with pytest.raises(JobTimeout, match="12 times in a row") as caught:
            await waiter.done(ref())
    assert caught.value.ref == ref()
    assert len(service.asked) == 12


@virtual_time
async def test_errors_are_counted_per_job_and_not_per_batch() -> None:
    def script(job_id: str, now: float) -> httpx.Response:
        return (
            httpx.Response(500) if job_id == "1" else said(job_id, "succeeded" if now > 600 else "processing")
        )

    async with waiting(Service(script)) as waiter:
        outcomes = await asyncio.gather(
            *[waiter.done(ref(job)) for job in ("0", "1", "2")], return_exceptions=True
        )
    assert [type(outcome) for outcome in outcomes] == [JobStatus, JobTimeout, JobStatus]


@virtual_time
async def test_retry_after_is_obeyed_between_looks() -> None:
    def script(job_id: str, now: float) -> httpx.Response:
        return httpx.Response(429, headers={"Retry-After": "20"}) if now < 20 else said(job_id, "succeeded")

    service = Service(script)
    async with waiting(service) as waiter:
        await waiter.done(ref())
    assert [time >= 22 for time in service.times("0")] == [False, True]


@virtual_time
async def test_a_new_job_may_be_unknown_for_a_moment() -> None:
    def script(job_id: str, now: float) -> httpx.Response:
        return httpx.Response(404) if now < 6 else said(job_id, "succeeded")

    async with waiting(Service(script)) as waiter:
        assert (await waiter.done(ref())).state is JobState.SUCCEEDED


@pytest.mark.parametrize(("seen", "says"), [(True, "no longer knows"), (False, "does not know")])
@virtual_time
async def test_a_job_that_stays_unknown_is_lost_and_not_failed(seen: bool, says: str) -> None:
    def script(job_id: str, now: float) -> httpx.Response:
        return said(job_id, "processing") if seen and now < 5 else httpx.Response(404)

    async with waiting(Service(script)) as waiter:
        with pytest.raises(JobLost, match=says):
            await waiter.done(ref())
        assert anyio.current_time() > (8 if seen else 30)


@virtual_time
async def test_one_404_in_between_does_not_lose_a_job() -> None:
    def script(job_id: str, now: float) -> httpx.Response:
        return httpx.Response(404) if 4 < now < 5 else said(job_id, "succeeded" if now > 9 else "processing")

    async with waiting(Service(script)) as waiter:
        assert (await waiter.done(ref())).state is JobState.SUCCEEDED


@virtual_time
async def test_a_key_that_is_refused_settles_a_job_and_names_the_document() -> None:
    async with waiting(Service(lambda job, now: httpx.Response(401))) as waiter:
        with pytest.raises(Unauthorized, match=r"0\.pdf"):
            await waiter.done(ref())


@pytest.mark.parametrize("state", ["processing", "an unheard-of word"])
@virtual_time
async def test_a_job_that_never_ends_is_bounded_by_the_document_timeout(state: str) -> None:
    service = Service(lambda job, now: said(job, state))
    async with waiting(service, document_timeout=60) as waiter:
        with pytest.raises(JobTimeout, match="still be running") as caught:
            await waiter.done(ref())
        assert 60 <= anyio.current_time() <= 60.1
    assert service.times("0")[-1] == pytest.approx(60.0)
    assert caught.value.job_status
    assert caught.value.job_status.raw_state == state


@virtual_time
async def test_a_job_that_is_done_just_before_the_deadline_is_done() -> None:
    async with waiting(Service(done_at(59.9)), document_timeout=60) as waiter:
        assert (await waiter.done(ref())).state is JobState.SUCCEEDED


@virtual_time
async def test_the_earlier_of_two_deadlines_counts() -> None:
    async with waiting(Service(done_at(1e9)), document_timeout=60) as waiter:
        with pytest.raises(JobTimeout):
            await waiter.done(ref(), deadline=10)
        assert anyio.current_time() < 10.1


@virtual_time
async def test_a_service_that_hangs_cannot_hold_the_waiter_past_its_time() -> None:
    async with waiting(Service(done_at(0), takes=1e6), document_timeout=10) as waiter:
        with pytest.raises(JobTimeout):
            await waiter.done(ref())
        assert anyio.current_time() <= 11.5


@virtual_time
async def test_an_answer_for_another_job_is_not_believed() -> None:
    async with waiting(Service(lambda job, now: said("other", "succeeded")), document_timeout=20) as waiter:
        with pytest.raises(JobTimeout):
            await waiter.done(ref())


@virtual_time
async def test_the_same_job_may_be_waited_for_twice() -> None:
    service = Service(done_at(5.0))
    async with waiting(service) as waiter:
        one, two = await asyncio.gather(waiter.done(ref()), waiter.done(ref()))
    assert one == two
    assert len(service.asked) <= 3


@virtual_time
async def test_cancelling_one_of_two_waiters_leaves_the_other() -> None:
    async with waiting(Service(done_at(5.0))) as waiter:
        first = asyncio.create_task(waiter.done(ref()))
        second = asyncio.create_task(waiter.done(ref()))
        await asyncio.sleep(1)
        first.cancel()
        assert (await second).state is JobState.SUCCEEDED
        assert first.cancelled()


@virtual_time
async def test_cancelling_the_only_waiter_ends_the_looks() -> None:
    service = Service(done_at(1e9))
    async with waiting(service) as waiter:
        task = asyncio.create_task(waiter.done(ref()))
        await asyncio.sleep(10)
        task.cancel()
        looks = len(service.asked)
        await asyncio.sleep(100)
    assert len(service.asked) == looks


@virtual_time
async def test_a_push_settles_a_job_at_once_also_when_it_comes_early() -> None:
    service = Service(done_at(1e9))
    pushed = JobStatus(ref=ref("1"), state=JobState.SUCCEEDED, seen_at=datetime.now(timezone.utc))
    async with waiting(service) as waiter:
        waiter.tell(pushed)
        assert await waiter.done(ref("1")) == pushed
        late = asyncio.create_task(waiter.done(ref("2")))
        await asyncio.sleep(0.5)
        waiter.tell(pushed.model_copy(update={"ref": ref("2")}))
        assert (await late).ref == ref("2")
        assert anyio.current_time() == pytest.approx(0.5)
    assert service.asked == []


@virtual_time
async def test_a_ref_of_another_account_is_refused() -> None:
    async with waiting(Service(done_at(0))) as waiter:
        with pytest.raises(RefMismatch, match="tenant"):
            await waiter.done(ref(tenant="other"))


@virtual_time
async def test_no_jobs_and_an_early_exit_leave_nothing_behind() -> None:
    async with waiting(Service(done_at(0))):
        pass
    async with waiting(Service(done_at(1e9))) as waiter:
        task = asyncio.create_task(waiter.done(ref()))
        await asyncio.sleep(3)
    with pytest.raises(asyncio.CancelledError):
        await task


ANSWERS = st.sampled_from(
    [
        "processing",
        "queued",
        "succeeded",
        "failed",
        "cancelled",
        "odd",
        "429",
        "503",
        "404",
        "html",
        "drop",
        "wrong",
    ]
)


@settings(max_examples=150, deadline=None)
@given(
    scripts=st.lists(st.lists(ANSWERS, min_size=1, max_size=12), min_size=1, max_size=8),
    cancelled=st.sets(st.integers(0, 7)),
    pushes=st.dictionaries(st.integers(0, 7), st.floats(0, 100)),
)
def test_every_job_ends_in_exactly_one_true_outcome(
    scripts: list[list[str]], cancelled: set[int], pushes: dict[int, float]
) -> None:
    """Whatever is answered, cancelled or pushed: one end for each job, and never before it is true."""
    left = {str(n): list(script) for n, script in enumerate(scripts)}
    truth: dict[str, str] = {}

    def script(job_id: str, now: float) -> httpx.Response | Exception:
        word = left[job_id].pop(0) if left[job_id] else "processing"
        if word in {"succeeded", "failed", "cancelled"}:
            truth.setdefault(job_id, word)
        special: dict[str, httpx.Response | Exception] = {
            "429": httpx.Response(429, headers={"Retry-After": "2"}),
            "503": httpx.Response(503),
            "404": httpx.Response(404),
            "html": httpx.Response(200, text="<html>"),
            "drop": httpx.ReadError("reset"),
            "wrong": said("other", "succeeded"),
        }
        return special.get(word) or said(job_id, word)

    def push(waiter: Waiter, job_id: str) -> None:
        truth.setdefault(job_id, "succeeded")
        waiter.tell(JobStatus(ref=ref(job_id), state=JobState.SUCCEEDED, seen_at=datetime.now(timezone.utc)))

    async def play() -> dict[str, JobStatus | BaseException]:
        async with waiting(Service(script), document_timeout=200) as waiter:
            tasks = {str(n): asyncio.create_task(waiter.done(ref(str(n)))) for n in range(len(scripts))}
            loop = asyncio.get_running_loop()
            for n, when in pushes.items():
                if n < len(scripts):
                    loop.call_later(when, push, waiter, str(n))
            for n in cancelled:
                if n < len(scripts):
                    loop.call_later(n + 0.5, tasks[str(n)].cancel)
            ends = await asyncio.gather(*tasks.values(), return_exceptions=True)
            return dict(zip(tasks, ends, strict=True))

    loop = VirtualLoop()
    try:
        ends = loop.run_until_complete(play())
        assert not asyncio.all_tasks(loop)
    finally:
        loop.close()
    for job_id, end in ends.items():
        match end:
            case JobStatus():
                assert (end.state, end.ref.job_id) == (JobState.SUCCEEDED, job_id)
                assert truth[job_id] == "succeeded"
            case JobFailed() | JobCancelled():
                assert end.ref == ref(job_id)
                assert truth[job_id] == ("failed" if isinstance(end, JobFailed) else "cancelled")
            case asyncio.CancelledError():
                assert int(job_id) in cancelled
            case DocJobsError():
                assert isinstance(end, (JobTimeout, JobLost))
                assert end.ref == ref(job_id)
            case _:
                pytest.fail(f"unexpected end: {end!r}")
