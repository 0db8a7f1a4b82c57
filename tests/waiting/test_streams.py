"""Streams and pushes: the end of a job is reported, and polls are only there in case it was not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from support.toy import BEGAN, Account, ListedAndStreamed, Polled, Streamed, all_done, ref, waiting
from support.virtual_time import virtual_time

from prefect_docjobs.errors import JobFailed, JobTimeout, NotFound, Throttled, Unavailable
from prefect_docjobs.models import JobState, JobStatus
from prefect_docjobs.waiting import Waiter
from prefect_docjobs.waiting.durations import Durations

Faults = Callable[[str, int], Exception | None]
BROKEN = Unavailable("broke off")


def succeeded(job_id: str) -> JobStatus:
    return JobStatus(ref=ref(job_id), state=JobState.SUCCEEDED, seen_at=BEGAN)


# Streams.


@virtual_time
async def test_a_few_jobs_are_listened_to_and_reported_as_they_end() -> None:
    account = Account()
    async with waiting(Streamed(account)) as waiter:
        delays = await all_done(waiter, account, [account.add(str(n), 5.0 + n) for n in range(8)])
    assert max(delays.values()) == 0.0
    assert (account.streams.total(), account.polls.total()) == (8, 0)
    assert account.open_streams == set()


@virtual_time
async def test_an_end_without_result_is_reported_on_a_stream_too() -> None:
    account = Account()
    async with waiting(Streamed(account)) as waiter:
        with pytest.raises(JobFailed):
            await waiter.done(account.add("0", 5.0, JobState.FAILED))
        assert asyncio.get_running_loop().time() == 5.0


@virtual_time
async def test_no_more_streams_are_open_than_allowed_and_the_rest_is_polled() -> None:
    account = Account()
    async with waiting(Streamed(account), streams=3) as waiter:
        delays = await all_done(waiter, account, [account.add(str(n), 30.0) for n in range(10)])
    assert sorted(account.streams) == ["0", "1", "2"]
    assert {job_id for job_id, late in delays.items() if late == 0.0} == {"0", "1", "2"}
    assert max(delays.values()) <= 2.2


@virtual_time
async def test_more_jobs_than_streams_are_swept_and_the_last_ones_listened_to() -> None:
    account = Account()
    async with waiting(ListedAndStreamed(account)) as waiter:
        ends = [10.0 + 0.25 * n for n in range(95)] + [60.0 + 5 * n for n in range(5)]
        delays = await all_done(waiter, account, [account.add(str(n), end) for n, end in enumerate(ends)])
    assert [delays[str(n)] for n in range(95, 100)] == [0.0] * 5
    assert sum(delays.values()) / 100 < 0.5
    assert account.polls.total() + len(account.pages) + account.streams.total() <= 100
    assert account.open_streams == set()


@virtual_time
async def test_a_stream_that_breaks_is_opened_again() -> None:
    account = Account(stream_faults=lambda job_id, number: BROKEN if number < 2 else None)
    async with waiting(Streamed(account)) as waiter:
        delays = await all_done(waiter, account, [account.add("0", 60.0)])
    assert delays["0"] == 0.0
    assert account.streams["0"] == 3


@pytest.mark.parametrize(
    "faults",
    [
        lambda job_id, number: BROKEN,
        lambda job_id, number: NotFound("no stream", status=404),
        lambda job_id, number: ZeroDivisionError("bug"),
    ],
    ids=["broken", "unknown", "defect"],
)
@virtual_time
async def test_streams_that_always_break_are_left_with_one_warning_and_the_jobs_polled(
    faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    account = Account(stream_faults=faults)
    async with waiting(Streamed(account)) as waiter:
        delays = await all_done(waiter, account, [account.add(str(n), 3.0 + 3 * n) for n in range(8)])
        opened = account.streams.total()
        late = await all_done(waiter, account, [account.add("late", 30.0)])
    assert max(delays.values()) <= 2.2
    assert late["late"] <= 2.2
    assert account.streams.total() == opened <= 13
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@virtual_time
async def test_one_job_whose_stream_always_breaks_is_given_up_and_the_others_are_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    account = Account(stream_faults=lambda job_id, number: BROKEN if job_id == "3" else None)
    async with waiting(ListedAndStreamed(account)) as waiter:
        delays = await all_done(waiter, account, [account.add(str(n), 20.0 + 20 * n) for n in range(8)])
    assert account.streams["3"] == 3
    assert delays.pop("3") <= 4.5
    assert max(delays.values()) == 0.0
    assert caplog.records == []


@virtual_time
async def test_a_stream_that_says_nothing_at_the_end_is_noticed_at_once() -> None:
    account = Account(streamed=lambda job_id, state: None)
    async with waiting(Streamed(account)) as waiter:
        delays = await all_done(waiter, account, [account.add("0", 20.0)])
    assert delays["0"] <= 2.2


@virtual_time
async def test_a_stream_that_is_throttled_is_not_taken_for_broken(caplog: pytest.LogCaptureFixture) -> None:
    account = Account(
        stream_faults=lambda job_id, number: Throttled("slow", status=429) if number < 2 else None
    )
    async with waiting(Streamed(account)) as waiter:
        await all_done(waiter, account, [account.add(str(n), 60.0) for n in range(8)])
    assert caplog.records == []


@virtual_time
async def test_a_stream_that_hangs_loses_no_job() -> None:
    account = Account(streamed=lambda job_id, state: JobState.PROCESSING)
    async with waiting(Streamed(account)) as waiter:
        delays = await all_done(waiter, account, [account.add("0", 8.0)])
    assert delays["0"] <= 35.0


@virtual_time
async def test_streams_are_closed_when_no_caller_waits_any_more() -> None:
    account = Account()
    async with waiting(Streamed(account), document_timeout=50.0) as waiter:
        one, two = (asyncio.create_task(waiter.done(account.add(name, 1e6))) for name in ("one", "two"))
        await asyncio.sleep(5.0)
        assert account.open_streams == {"one", "two"}
        one.cancel()
        await asyncio.sleep(0.0)
        await asyncio.sleep(0.0)
        assert account.open_streams == {"two"}
        with pytest.raises(JobTimeout):
            await two
        await asyncio.sleep(0.0)
        assert account.open_streams == set()


@virtual_time
async def test_streams_are_closed_when_the_waiter_is_left() -> None:
    account = Account()
    async with waiting(Streamed(account)) as waiter:
        tasks = [asyncio.create_task(waiter.done(account.add(str(n), 1e6))) for n in range(5)]
        await asyncio.sleep(5.0)
        tasks[0].cancel()
    assert account.open_streams == set()
    await asyncio.gather(*tasks, return_exceptions=True)


# Pushes.


@virtual_time
async def test_a_push_ends_a_job_without_a_poll() -> None:
    account = Account()
    async with waiting(Polled(account), pushes=True) as waiter:
        refs = [account.add(str(n), 8.0) for n in range(20)]
        for job in refs:
            asyncio.get_running_loop().call_later(8.0, waiter.pending.observe_live, succeeded(job.job_id))
        delays = await all_done(waiter, account, refs)
    assert max(delays.values()) == 0.0
    assert account.polls.total() == 0


@pytest.mark.parametrize("learned", [False, True])
@virtual_time
async def test_a_push_that_is_lost_delays_a_job_until_the_watchdog_polls(learned: bool) -> None:
    account, known = Account(), Durations()
    if learned:
        for number in range(100):
            known.add(("toy", "https://toy.test", "extraction", ""), None, 7.0 + 0.02 * number)
    async with waiting(Polled(account), pushes=True, durations=known) as waiter:
        delays = await all_done(waiter, account, [account.add("0", 8.0)])
    assert 0.0 < delays["0"] <= (4.0 if learned else 24.0)
    assert account.polls["0"] == 1


@pytest.mark.parametrize("learned", [0, 50])
@virtual_time
async def test_an_old_job_is_polled_immediately_though_pushes_are_expected(learned: int) -> None:
    """Its push may have come before anything listened."""
    account, known = Account(), Durations()
    for _ in range(learned):
        known.add(("toy", "https://toy.test", "extraction", ""), None, 8.0)
    async with waiting(Polled(account), pushes=True, durations=known) as waiter:
        account.add("0", 0.0)
        await waiter.done(ref("0"), age=3_600.0)
        assert asyncio.get_running_loop().time() < 0.1


@virtual_time
async def test_a_push_is_learned_as_the_time_of_the_end() -> None:
    account = Account()
    async with waiting(Polled(account), pushes=True) as waiter:
        refs = [account.add(str(n), 20.0) for n in range(30)]
        for job in refs:
            asyncio.get_running_loop().call_later(20.0, waiter.pending.observe_live, succeeded(job.job_id))
        await all_done(waiter, account, refs)
        waiter.pending.schedule.refit(())
        law = waiter.pending.schedule.expected(None)
        assert law
        assert law.median == pytest.approx(20.0, rel=0.02)


@virtual_time
async def test_a_push_of_a_job_that_still_runs_does_not_put_off_its_polls() -> None:
    account = Account()

    async def chatter(waiter: Waiter) -> None:
        while True:
            await asyncio.sleep(1.0)
            waiter.pending.observe_live(succeeded("0").model_copy(update={"state": JobState.PROCESSING}))

    async with waiting(Polled(account), pushes=True) as waiter:
        talking = asyncio.create_task(chatter(waiter))
        delays = await all_done(waiter, account, [account.add("0", 8.0)])
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)
    assert delays["0"] <= 35.0
