"""The waiter, in virtual time, against a service that is a script."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import pairwise
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import toy
from support.toy import Account, Listed, ListedAndStreamed, Polled, Streamed, Toy, all_done, ref
from support.virtual_time import virtual_time

from prefect_docjobs.errors import (
    DocJobsError,
    JobCancelled,
    JobError,
    JobExpired,
    JobFailed,
    JobLost,
    JobTimeout,
    NotFound,
    RefMismatch,
    ServiceError,
    Throttled,
    Unauthorized,
    Unavailable,
    Unreadable,
)
from prefect_docjobs.http import AccountLimits, Http
from prefect_docjobs.models import JobRef, JobState, JobStatus
from prefect_docjobs.simulator.virtual_time import VirtualLoop
from prefect_docjobs.waiting import Waiter, WaitLimits
from prefect_docjobs.waiting.durations import Durations

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


def waiting(service: Service, **limits: Any) -> AbstractAsyncContextManager[Waiter]:
    """A waiter for a service behind HTTP."""
    return toy.waiting(Toy(), httpx.MockTransport(service), **limits)


@virtual_time
async def test_a_job_is_reported_at_the_first_poll_that_sees_it_done() -> None:
    service = Service(done_at(7.0))
    async with waiting(service) as waiter:
        status = await waiter.done(ref())
        now = anyio.current_time()

    assert status.state is JobState.SUCCEEDED
    assert now == pytest.approx(service.times("0")[-1] + service.takes)
    assert now - 7.0 < 2.5
    assert len(service.times("0")) <= 4


@virtual_time
async def test_a_job_that_is_done_already_costs_one_poll_and_no_waiting() -> None:
    service = Service(done_at(0.0))
    async with waiting(service) as waiter:
        await waiter.done(ref(), age=3600.0)
        assert anyio.current_time() < 0.1
    assert len(service.asked) == 1


@virtual_time
async def test_polls_without_a_past_keep_to_the_services_advice() -> None:
    service = Service(done_at(600.0))
    async with waiting(service) as waiter:
        await waiter.done(ref())

    times = service.times("0")
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert times[0] >= 1.9
    assert 1.9 <= min(gaps) <= max(gaps) <= 2.2


@virtual_time
async def test_many_jobs_are_polled_together_within_the_gate() -> None:
    service = Service(done_at(*range(5, 25)))
    async with waiting(service) as waiter:
        statuses = await asyncio.gather(*[waiter.done(ref(str(n))) for n in range(60)])

    assert [status.ref.job_id for status in statuses] == [str(n) for n in range(60)]
    assert service.most == WaitLimits().polls


@virtual_time
async def test_thousands_of_jobs_that_end_at_once_are_all_reported() -> None:
    account = Account(takes=(0.01, 0.05))
    async with toy.waiting(Polled(account)) as waiter:
        delays = await all_done(waiter, account, [account.add(str(n), 5.0) for n in range(2_000)])
    assert account.polls.total() <= 3 * 2_000
    assert max(delays.values()) <= 2.1 + 2_000 * 0.01 / 12 + 0.1


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
async def test_polls_may_fail_for_minutes_without_failing_the_job() -> None:
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
async def test_retry_after_is_obeyed_between_polls() -> None:
    def script(job_id: str, now: float) -> httpx.Response:
        return httpx.Response(429, headers={"Retry-After": "20"}) if now < 20 else said(job_id, "succeeded")

    service = Service(script)
    async with waiting(service) as waiter:
        await waiter.done(ref())
    first, second = service.times("0")
    assert 20.0 <= second - first <= 23.0


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
async def test_time_limits_hold_also_for_jobs_that_never_had_a_turn() -> None:
    account_limits = AccountLimits({"status": 0.5}, clock=asyncio.get_running_loop().time)
    account = Account()
    async with toy.waiting(Polled(account), account_limits=account_limits, document_timeout=10.0) as waiter:
        waits = [waiter.done(account.add(str(n), 1e6)) for n in range(100)]
        ends = await asyncio.gather(*waits, return_exceptions=True)
        assert asyncio.get_running_loop().time() <= 12.0
    assert {type(end) for end in ends} == {JobTimeout}
    assert account.polls.total() <= 6


@virtual_time
async def test_a_pause_that_the_service_asks_for_does_not_prolong_a_time_limit() -> None:
    service = Service(lambda job, now: httpx.Response(429, headers={"Retry-After": "59"}))
    async with waiting(service, document_timeout=10.0) as waiter:
        with pytest.raises(JobTimeout):
            await waiter.done(ref())
        assert asyncio.get_running_loop().time() <= 12.0


@virtual_time
async def test_under_a_tight_rate_limit_polls_go_to_the_jobs_that_are_most_likely_done() -> None:
    known = Durations()
    for number in range(100):
        known.add(("toy", toy.URL, "extraction", ""), None, 28.0 + 0.04 * number)
    account_limits = AccountLimits({"status": 1.0}, clock=asyncio.get_running_loop().time)
    account = Account()
    async with toy.waiting(Polled(account), account_limits=account_limits, durations=known) as waiter:
        old = [account.add(f"old-{n}", 30.0) for n in range(15)]
        first = asyncio.gather(*[waiter.done(job) for job in old])
        await asyncio.sleep(20.0)
        new = [account.add(f"new-{n}", 30.0) for n in range(15)]
        waits = asyncio.gather(*[waiter.done(job) for job in new])
        await first
        assert asyncio.get_running_loop().time() <= 30.0 + 2 * 15 + 2.0
        await waits
    assert account.polls.total() <= 90


@pytest.mark.parametrize(("ends", "kind"), [(1800.0, JobStatus), (1e6, JobTimeout)])
@virtual_time
async def test_after_a_pause_of_the_machine_a_job_is_polled_once_more(ends: float, kind: type) -> None:
    """A laptop that slept: the clock has jumped past every time limit."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    account = Account()
    async with toy.waiting(Polled(account), document_timeout=600.0) as waiter:
        wait = asyncio.create_task(waiter.done(account.add("0", ends)))
        await asyncio.sleep(5.0)
        loop._jumping.now += 7_200.0
        (end,) = await asyncio.gather(wait, return_exceptions=True)
        assert isinstance(end, kind)
        assert loop.time() <= 7_210.0


@virtual_time
async def test_old_jobs_do_not_spoil_what_is_known_of_durations() -> None:
    known = Durations()
    for number in range(50):
        known.add(("toy", toy.URL, "extraction", ""), None, 7.5 + 0.02 * number)
    account = Account()
    async with toy.waiting(Polled(account), durations=known) as waiter:
        refs = [account.add(str(n), 0.0) for n in range(200)]
        await asyncio.gather(*[waiter.done(job, age=7_200.0) for job in refs])
        assert asyncio.get_running_loop().time() < 2.0  # none was made to wait
        waiter.pending.schedule.refit(())
        law = waiter.pending.schedule.expected(None)
        assert law
        assert 7.0 < law.median < 9.0


@virtual_time
async def test_old_jobs_alone_teach_nothing() -> None:
    account = Account()
    async with toy.waiting(Polled(account)) as waiter:
        refs = [account.add(str(n), 0.0) for n in range(50)]
        await asyncio.gather(*[waiter.done(job, age=7_200.0) for job in refs])
        waiter.pending.schedule.refit(())
        assert waiter.pending.schedule.expected(None) is None


@virtual_time
async def test_what_polls_see_is_learned_without_a_bias_towards_the_first_poll() -> None:
    known = Durations()
    key = ("toy", toy.URL, "extraction", "")
    for number in range(30):
        known.add(key, None, 18.0 + 0.15 * number)
    account = Account()
    async with toy.waiting(Polled(account), durations=known) as waiter:
        await all_done(waiter, account, [account.add(str(n), 18.0 + 0.02 * n) for n in range(200)])
        waiter.pending.schedule.refit(())
        law = waiter.pending.schedule.expected(None)
        assert law
        assert law.median == pytest.approx(20.0, rel=0.05)
        assert law.sigma < 0.15


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
async def test_cancelling_the_only_waiter_ends_the_polls() -> None:
    service = Service(done_at(1e9))
    async with waiting(service) as waiter:
        task = asyncio.create_task(waiter.done(ref()))
        await asyncio.sleep(10)
        task.cancel()
        polls = len(service.asked)
        await asyncio.sleep(100)
    assert len(service.asked) == polls


@virtual_time
async def test_a_push_settles_the_job_that_it_names_at_once_and_no_other() -> None:
    service = Service(done_at(1e9))
    pushed = JobStatus(ref=ref("1"), state=JobState.SUCCEEDED, seen_at=datetime.now(timezone.utc))
    async with waiting(service) as waiter:
        first, second = (asyncio.create_task(waiter.done(ref(job_id))) for job_id in ("1", "2"))
        await asyncio.sleep(0.5)
        waiter.pending.observe_live(pushed.model_copy(update={"ref": ref("of somebody else")}))
        waiter.pending.observe_live(pushed)
        assert await first == pushed
        waiter.pending.observe_live(pushed.model_copy(update={"ref": ref("2")}))
        assert (await second).ref == ref("2")
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


# Whatever happens.


WORDS: dict[str, ServiceError] = {
    "429": Throttled("slow down", status=429, retry_after=2.0),
    "503": Unavailable("sorry", status=503),
    "404": NotFound("unknown", status=404),
    "html": Unreadable("html"),
    "drop": Unavailable("reset"),
}
ANSWERS = st.sampled_from(
    ["processing", "queued", "succeeded", "failed", "cancelled", "odd", "wrong", *WORDS]
)


@dataclass(frozen=True)
class Scripted(Toy):
    """Says of each job what its list of words says, and then that it runs."""

    words: dict[str, list[str]] = field(default_factory=dict)
    truth: dict[str, str] = field(default_factory=dict)

    async def status(self, http: Http, ref: JobRef, *, once: bool = False) -> JobStatus:
        await anyio.sleep(0.05)
        word = self.words[ref.job_id].pop(0) if self.words[ref.job_id] else "processing"
        if word in WORDS:
            raise WORDS[word]
        if word in {"succeeded", "failed", "cancelled"}:
            self.truth.setdefault(ref.job_id, word)
        if word == "wrong":
            return _status_of(toy.ref("other"), JobState.SUCCEEDED)
        return _status_of(ref, self.state_of(word))


def _status_of(job: JobRef, state: JobState) -> JobStatus:
    return JobStatus(ref=job, state=state, raw_state=state.value, seen_at=toy.BEGAN)


def played(play: Callable[[], Any]) -> Any:
    """What a coroutine returns on a virtual loop, on which it leaves nothing behind."""
    loop = VirtualLoop()
    try:
        outcome = loop.run_until_complete(play())
        loop.run_until_complete(loop.shutdown_asyncgens())
        assert not asyncio.all_tasks(loop)
    finally:
        loop.close()
    return outcome


@settings(max_examples=150)
@given(
    scripts=st.lists(st.lists(ANSWERS, min_size=1, max_size=12), min_size=1, max_size=8),
    cancelled=st.sets(st.integers(0, 7)),
    pushes=st.dictionaries(st.integers(0, 7), st.floats(0, 100)),
)
def test_every_job_ends_in_exactly_one_true_outcome(
    scripts: list[list[str]], cancelled: set[int], pushes: dict[int, float]
) -> None:
    """Whatever is answered, cancelled or pushed: one end for each job, and never before it is true."""
    provider = Scripted(words={str(n): list(script) for n, script in enumerate(scripts)})

    def push(waiter: Waiter, job_id: str) -> None:
        provider.truth.setdefault(job_id, "succeeded")
        waiter.pending.observe_live(_status_of(ref(job_id), JobState.SUCCEEDED))

    async def play() -> dict[str, JobStatus | BaseException]:
        loop = asyncio.get_running_loop()
        async with toy.waiting(provider, document_timeout=200) as waiter:
            tasks = {job_id: asyncio.create_task(waiter.done(ref(job_id))) for job_id in provider.words}
            for n, when in pushes.items():
                if n < len(scripts):
                    loop.call_later(when, push, waiter, str(n))
            for n in cancelled:
                if n < len(scripts):
                    loop.call_later(n + 0.5, tasks[str(n)].cancel)
            ends = await asyncio.gather(*tasks.values(), return_exceptions=True)
            return dict(zip(tasks, ends, strict=True))

    for job_id, end in played(play).items():
        match end:
            case JobStatus():
                assert (end.state, end.ref.job_id) == (JobState.SUCCEEDED, job_id)
                assert provider.truth[job_id] == "succeeded"
            case JobFailed() | JobCancelled():
                assert end.ref == ref(job_id)
                assert provider.truth[job_id] == ("failed" if isinstance(end, JobFailed) else "cancelled")
            case asyncio.CancelledError():
                assert int(job_id) in cancelled
            case DocJobsError():
                assert isinstance(end, (JobTimeout, JobLost))
                assert end.ref == ref(job_id)
            case _:
                pytest.fail(f"unexpected end: {end!r}")


@dataclass(frozen=True)
class Life:
    """What happens to one job, and what is said of it."""

    begins: float
    takes: float
    state: JobState
    faults: list[ServiceError | None]
    listed: JobState | str
    streams: list[str]
    push: float | None
    cancel: float | None


PASSING = [Throttled("slow", status=429), Unavailable("sorry", status=503), Unreadable("html"), None, None]
TERMINAL = [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED]
lives = st.builds(
    Life,
    begins=st.floats(0.0, 20.0),
    takes=st.floats(0.0, 60.0),
    state=st.sampled_from(TERMINAL),
    faults=st.lists(st.sampled_from(PASSING), max_size=4),
    listed=st.sampled_from(["truth", "truth", "nothing", JobState.PROCESSING, JobState.UNKNOWN]),
    streams=st.lists(st.sampled_from(["truth", "break", "bug", "silence", "running"]), max_size=4),
    push=st.none() | st.floats(0.0, 30.0),
    cancel=st.none() | st.none() | st.floats(0.0, 60.0),
)
LIST_FAULTS = [None, None, None, *PASSING, Unauthorized("no", status=403), ZeroDivisionError("bug")]


@dataclass
class Lived(Account):
    """An account whose jobs live the given lives."""

    lives: Mapping[str, Life] = field(default_factory=dict)
    all_listed_done: bool = False

    async def poll(self, ref: JobRef) -> JobStatus:
        status, faults = await super().poll(ref), self.lives[ref.job_id].faults
        fault = faults.pop(0) if faults else None
        if fault:
            raise fault
        return status

    def says(self, job_id: str, state: JobState) -> JobState | None:
        listed = self.lives[job_id].listed
        if self.all_listed_done:
            return JobState.SUCCEEDED
        if isinstance(listed, JobState):
            return listed
        return state if listed == "truth" else None

    def opens(self, job_id: str, number: int) -> Exception | None:
        kinds = {"break": Unavailable("broke off"), "bug": ZeroDivisionError("bug")}
        return kinds.get(self._stream(job_id, number))

    def ends(self, job_id: str, state: JobState) -> JobState | None:
        kind = self._stream(job_id, self.streams[job_id] - 1)
        return {"silence": None, "running": JobState.PROCESSING}.get(kind, state)

    def _stream(self, job_id: str, number: int) -> str:
        kinds = self.lives[job_id].streams
        return kinds[number] if number < len(kinds) else "truth"


@settings(max_examples=150)
@given(
    st.lists(lives, min_size=1, max_size=12),
    st.sampled_from([Polled, Listed, Streamed, ListedAndStreamed]),
    st.lists(st.sampled_from(LIST_FAULTS), max_size=20),
    st.booleans(),
    st.booleans(),
)
def test_no_job_is_lost_or_ends_before_its_time_whatever_reports_it(
    given_lives: list[Life],
    kind: type[Polled],
    list_faults: list[Exception | None],
    oldest_first: bool,
    all_listed_done: bool,
) -> None:
    """Looks, a list, streams and pushes; each of them may be late, break, refuse, or say nonsense."""
    account = Lived(
        oldest_first=oldest_first,
        list_faults=lambda number: list_faults[number] if number < len(list_faults) else None,
        lives={str(n): life for n, life in enumerate(given_lives)},
        # A list that lies about everything from its first read on, where nothing else reports jobs.
        all_listed_done=all_listed_done
        and kind is Listed
        and len({life.begins for life in given_lives}) == 1,
    )
    account.listed, account.stream_faults, account.streamed = account.says, account.opens, account.ends

    async def live(waiter: Waiter, job_id: str, life: Life) -> tuple[Any, float]:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(life.begins)
        job = account.add(job_id, life.takes, life.state)
        wait = asyncio.create_task(waiter.done(job))
        if life.push is not None:
            loop.call_later(life.takes + life.push, waiter.pending.observe_live, _status_of(job, life.state))
        if life.cancel is not None:
            loop.call_later(life.cancel, wait.cancel)
        (end,) = await asyncio.gather(wait, return_exceptions=True)
        return end, loop.time() - life.begins

    async def play() -> list[tuple[Any, float]]:
        async with toy.waiting(kind(account=account), document_timeout=1_000.0) as waiter:
            waits = [live(waiter, job_id, life) for job_id, life in account.lives.items()]
            ends = await asyncio.gather(*waits)
            assert waiter.pending.jobs == {}
            return ends

    for (end, age), life in zip(played(play), account.lives.values(), strict=True):
        if isinstance(end, asyncio.CancelledError):
            assert life.cancel is not None
            continue
        assert age >= life.takes - 1e-6
        assert age <= life.takes + 400.0
        kinds = {JobState.SUCCEEDED: JobStatus, JobState.FAILED: JobFailed, JobState.CANCELLED: JobCancelled}
        assert isinstance(end, kinds[life.state]), repr(end)
    assert account.open_streams == set()
