"""The list of jobs: one request observes many, it is read no further than needed, and believed with care."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from statistics import fmean

import pytest
from support.toy import URL, Account, Listed, all_done, waiting
from support.virtual_time import virtual_time

from prefect_docjobs.errors import JobFailed, JobLost, Throttled, Unauthorized, Unavailable, Unreadable
from prefect_docjobs.models import JobRef, JobState
from prefect_docjobs.waiting import Waiter
from prefect_docjobs.waiting.durations import Durations

ORDERS = pytest.mark.parametrize("oldest_first", [False, True], ids=["newest first", "oldest first"])


def around(account: Account, number: int, seconds: float = 8.0) -> list[JobRef]:
    """Jobs that are made now, with durations around `seconds`."""
    dice = random.Random(7)
    return [account.add(str(n), seconds * dice.lognormvariate(0, 0.3)) for n in range(number)]


# What it saves.


@ORDERS
@virtual_time
async def test_one_request_observes_many_jobs(oldest_first: bool) -> None:
    account = Account(oldest_first=oldest_first)
    async with waiting(Listed(account)) as waiter:
        delays = await all_done(waiter, account, around(account, 200))

    requests = account.polls.total() + len(account.pages)
    assert requests <= 0.5 * 200
    assert account.polls.total() <= 20
    assert fmean(delays.values()) < 0.5
    assert max(delays.values()) < 3.0


@ORDERS
@virtual_time
async def test_of_a_long_list_only_the_pages_are_read_where_the_jobs_are(oldest_first: bool) -> None:
    account = Account(oldest_first=oldest_first)
    account.add_old(5_000)
    async with waiting(Listed(account)) as waiter:
        delays = await all_done(waiter, account, around(account, 20))

    first, *others = account.pages
    assert first == 0
    if oldest_first:
        assert min(others) > 4_800  # the last jobs, after the first page has shown the order
    else:
        assert set(others) == {0}
    assert fmean(delays.values()) < 1.0


@ORDERS
@virtual_time
async def test_jobs_on_several_pages_are_all_seen_in_one_read(oldest_first: bool) -> None:
    account = Account(oldest_first=oldest_first)
    account.add_old(5_000)
    async with waiting(Listed(account)) as waiter:
        refs = [account.add(str(n), 60.0) for n in range(250)]
        waits = asyncio.gather(*[waiter.done(job) for job in refs])
        await asyncio.sleep(1.3)
        assert len(account.pages) == (4 if oldest_first else 3)
        assert all(job.is_listed for job in waiter.pending.jobs.values())
        await waits
    assert account.polls.total() <= 15  # for a minute no end is listed: is the list silent?


@ORDERS
@virtual_time
async def test_jobs_that_are_made_during_the_reads_are_found_as_well(oldest_first: bool) -> None:
    account = Account(oldest_first=oldest_first)
    account.add_old(1_000)

    async with waiting(Listed(account)) as waiter:

        async def one(number: int) -> float:
            await asyncio.sleep(number * 0.1)
            return (await all_done(waiter, account, [account.add(str(number), 8.0)]))[str(number)]

        delays = await asyncio.gather(*[one(number) for number in range(400)])
    assert fmean(delays) < 0.7
    assert account.polls.total() + len(account.pages) < 0.75 * 400


@virtual_time
async def test_a_list_without_dates_is_read_from_its_beginning() -> None:
    account = Account(dated=False)
    async with waiting(Listed(account)) as waiter:
        await all_done(waiter, account, around(account, 50))
    assert set(account.pages) == {0}
    assert account.polls.total() <= 20


@virtual_time
async def test_a_single_job_is_polled_and_not_listed() -> None:
    account = Account()
    async with waiting(Listed(account)) as waiter:
        await all_done(waiter, account, [account.add("0", 30.0)])
    assert account.pages == []


@virtual_time
async def test_the_last_job_of_a_batch_is_polled_as_often_as_any_single_job() -> None:
    account = Account()
    async with waiting(Listed(account)) as waiter:
        refs = [account.add(str(n), 10.0) for n in range(10)]
        last = account.add("last", 40.0)
        delays = await all_done(waiter, account, [*refs, last])
    assert delays["last"] <= 2.2


@virtual_time
async def test_reads_begin_again_when_there_are_jobs_again() -> None:
    account = Account()
    async with waiting(Listed(account)) as waiter:
        for batch in range(3):
            refs = [account.add(f"{batch}-{n}", 8.0) for n in range(20)]
            delays = await all_done(waiter, account, refs)
            assert max(delays.values()) < 2.2
    assert account.polls.total() <= 3 * 20


@virtual_time
async def test_nothing_of_a_job_is_kept_after_its_end() -> None:
    account = Account()
    async with waiting(Listed(account)) as waiter:
        await all_done(waiter, account, around(account, 150))
        assert not waiter._list._places
        assert not waiter.pending.ended_by_poll


# Jobs that the list does not report.


@virtual_time
async def test_a_job_that_is_not_listed_is_polled() -> None:
    account = Account(listed=lambda job_id, state: None if job_id == "3" else state)
    async with waiting(Listed(account)) as waiter:
        delays = await all_done(waiter, account, [account.add(str(n), 30.0 + n) for n in range(20)])
    assert account.polls["3"] >= 10
    assert delays["3"] <= 2.2


@virtual_time
async def test_a_job_that_is_listed_no_more_is_polled_again() -> None:
    loop = asyncio.get_running_loop()
    account = Account(listed=lambda job_id, state: None if job_id == "3" and loop.time() > 10 else state)
    async with waiting(Listed(account)) as waiter:
        delays = await all_done(waiter, account, [account.add(str(n), 20.0 + n) for n in range(20)])
    assert delays["3"] <= 4.3  # found missing by one read, then the service's own interval


@virtual_time
async def test_a_job_that_the_service_does_not_know_is_lost_though_others_are_listed() -> None:
    account = Account()
    async with waiting(Listed(account)) as waiter:
        refs = around(account, 10, 60.0)
        gone = account.add("gone", 60.0)
        del account.jobs["gone"]
        ends = await asyncio.gather(*[waiter.done(job) for job in (*refs, gone)], return_exceptions=True)
    assert isinstance(ends[-1], JobLost)
    assert not any(isinstance(end, BaseException) for end in ends[:-1])


# A list that is not to be trusted.


async def fetched(waiter: Waiter, account: Account, ref: JobRef) -> float:
    """Wait for a job, again where its result is not there yet; how long after its end it was there."""
    loop = asyncio.get_running_loop()
    while True:
        await waiter.done(ref)
        await asyncio.sleep(0.05)
        if account.state(ref.job_id) is JobState.SUCCEEDED:
            return loop.time() - account.jobs[ref.job_id].ends
        waiter.pending.is_unfinished(ref)


@virtual_time
async def test_a_success_that_is_listed_is_believed() -> None:
    account = Account()
    async with waiting(Listed(account)) as waiter:
        await all_done(waiter, account, [account.add(str(n), 5.0 + n) for n in range(100)])
    assert sum(not account.polls[job_id] for job_id in account.jobs) >= 90


@virtual_time
async def test_a_failure_that_is_listed_takes_a_poll_for_its_reason() -> None:
    account = Account()
    async with waiting(Listed(account)) as waiter:
        refs = around(account, 30)
        bad = account.add("bad", 20.0, JobState.FAILED)
        ends = await asyncio.gather(*[waiter.done(job) for job in (*refs, bad)], return_exceptions=True)
        assert asyncio.get_running_loop().time() < 24.0
    assert isinstance(ends[-1], JobFailed)
    assert account.polls["bad"] >= 1


REFUSALS: dict[str, tuple[Callable[[int], Exception | None], int]] = {
    "refuses": (lambda number: Unauthorized("no", status=403), 1),
    "makes no sense": (lambda number: Unreadable("html"), 1),
    "breaks": (lambda number: Unavailable("oops", status=500), 3),
    "breaks later": (lambda number: Unavailable("oops", status=500) if number > 4 else None, 8),
    "has a defect": (lambda number: ZeroDivisionError("bug"), 1),
}


@pytest.mark.parametrize("kind", REFUSALS)
@virtual_time
async def test_a_list_that_cannot_be_read_is_left_with_one_warning(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    faults, requests = REFUSALS[kind]
    account = Account(list_faults=faults)
    async with waiting(Listed(account)) as waiter:
        delays = await all_done(waiter, account, [account.add(str(n), 20.0 + n) for n in range(20)])

    assert len(account.pages) == requests
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "Toy" in caplog.text
    assert max(delays.values()) <= 4.0


@virtual_time
async def test_a_list_that_breaks_now_and_then_or_is_throttled_stays_in_use(
    caplog: pytest.LogCaptureFixture,
) -> None:
    faults = [
        None,
        Unavailable("oops", status=503),
        Throttled("slow", status=429),
        Throttled("slow", status=429),
    ]
    account = Account(list_faults=lambda number: faults[number % 4])
    async with waiting(Listed(account)) as waiter:
        await all_done(waiter, account, around(account, 100))
    assert len(account.pages) > 8
    assert account.polls.total() < 50
    assert caplog.records == []


@ORDERS
@virtual_time
async def test_a_list_that_says_done_too_early_loses_no_job_and_is_left(
    oldest_first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    account = Account(oldest_first=oldest_first, listed=lambda job_id, state: JobState.SUCCEEDED)
    async with waiting(Listed(account)) as waiter:
        refs = [account.add(str(n), 20.0 + n) for n in range(20)]
        delays = await asyncio.gather(*[fetched(waiter, account, job) for job in refs])
        assert min(delays) >= 0.0
        assert max(delays) <= 2.3
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "contradicts" in caplog.text
        assert len(account.pages) <= 3
    async with waiting(Listed(account)) as waiter:  # nor is it read by another waiter of this process
        await all_done(waiter, account, [account.add(f"later {n}", 20.0) for n in range(20)])
    assert len(account.pages) <= 3


@virtual_time
async def test_a_list_that_says_failed_too_early_fails_no_job_and_is_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    account = Account(listed=lambda job_id, state: JobState.FAILED)
    async with waiting(Listed(account)) as waiter:
        delays = await all_done(waiter, account, [account.add(str(n), 20.0 + n) for n in range(20)])
    assert max(delays.values()) <= 2.2
    assert "contradicts" in caplog.text
    assert len(account.pages) <= 3


def past(median: float, sigma: float) -> Durations:
    """What batches before have taught."""
    dice, known = random.Random(2), Durations()
    for _ in range(60):
        known.add(("toy", URL, "extraction", ""), None, median * dice.lognormvariate(0, sigma))
    return known


@pytest.mark.parametrize(
    ("median", "sigma", "is_known", "most"),
    [(8.0, 0.5, False, 33.0), (8.0, 0.5, True, 25.0), (45.0, 0.8, False, 120.0), (45.0, 0.8, True, 120.0)],
)
@virtual_time
async def test_a_list_that_says_running_for_ever_is_found_out_when_many_jobs_should_have_ended(
    median: float, sigma: float, is_known: bool, most: float, caplog: pytest.LogCaptureFixture
) -> None:
    account, dice = Account(listed=lambda job_id, state: JobState.PROCESSING), random.Random(5)
    random.seed(3)  # which job is polled among equals
    async with waiting(Listed(account), durations=past(median, sigma) if is_known else None) as waiter:
        refs = [account.add(str(n), median * dice.lognormvariate(0, sigma)) for n in range(200)]
        delays = await all_done(waiter, account, refs)
    assert fmean(delays.values()) <= 0.7 * most
    assert max(delays.values()) <= most
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@virtual_time
async def test_a_list_that_stands_still_is_found_out_after_it_was_right_for_long(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop, dice = asyncio.get_running_loop(), random.Random(5)
    random.seed(3)
    account = Account(listed=lambda job_id, state: state if loop.time() < 8.0 else JobState.PROCESSING)
    async with waiting(Listed(account), durations=past(8.0, 0.5)) as waiter:
        refs = [account.add(str(n), 8.0 * dice.lognormvariate(0, 0.5)) for n in range(200)]
        delays = await all_done(waiter, account, refs)
    assert max(delays.values()) <= 15.0
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize("is_known", [False, True])
@pytest.mark.parametrize("turns", [5.0, 8.0, 10.0, 12.0])
@virtual_time
async def test_a_list_that_turns_false_loses_no_job_and_is_left(
    turns: float, is_known: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """From some moment on it says that all jobs have succeeded; a hundred have not."""
    loop, dice = asyncio.get_running_loop(), random.Random(5)
    account = Account(listed=lambda job_id, state: state if loop.time() < turns else JobState.SUCCEEDED)
    async with waiting(Listed(account), durations=past(8.0, 0.5) if is_known else None) as waiter:
        refs = [account.add(str(n), 8.0 * dice.lognormvariate(0, 0.5)) for n in range(200)]
        delays = await asyncio.gather(*[fetched(waiter, account, job) for job in refs])
    assert min(delays) >= 0.0
    assert max(delays) <= 12.0
    assert "contradicts" in caplog.text


@pytest.mark.parametrize("every", [3, 10])
@virtual_time
async def test_a_list_that_is_false_about_some_jobs_loses_none(
    every: int, caplog: pytest.LogCaptureFixture
) -> None:
    loop, dice = asyncio.get_running_loop(), random.Random(5)

    def says(job_id: str, state: JobState) -> JobState:
        return JobState.SUCCEEDED if loop.time() > 10.0 and int(job_id) % every == 0 else state

    account = Account(listed=says)
    async with waiting(Listed(account)) as waiter:
        refs = [account.add(str(n), 20.0 * dice.lognormvariate(0, 0.3)) for n in range(400)]
        delays = await asyncio.gather(*[fetched(waiter, account, job) for job in refs])
    assert min(delays) >= 0.0
    assert "contradicts" in caplog.text


@virtual_time
async def test_one_result_that_comes_late_does_not_end_the_use_of_the_list(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = asyncio.get_running_loop()

    def says(job_id: str, state: JobState) -> JobState:
        return JobState.SUCCEEDED if job_id == "7" and loop.time() > 10.0 else state

    account = Account(listed=says)
    async with waiting(Listed(account)) as waiter:
        refs = [account.add(str(n), 20.0 + n) for n in range(30)]
        await asyncio.gather(*[fetched(waiter, account, job) for job in refs])
    assert sum(not account.polls[job_id] for job_id in account.jobs) >= 20
    assert caplog.records == []


@pytest.mark.parametrize("takes", [(0.05, 3.0), (3.0, 0.05)], ids=["slow list", "slow polls"])
@virtual_time
async def test_answers_that_overtake_each_other_are_no_contradiction(
    takes: tuple[float, float], caplog: pytest.LogCaptureFixture
) -> None:
    account = Account(takes=takes)
    dice = random.Random(5)
    async with waiting(Listed(account)) as waiter:
        refs = [account.add(str(n), dice.uniform(2.0, 60.0)) for n in range(100)]
        # Polls that have nothing to do with what the list says.
        polls = [_poll_in_between(waiter, job, dice.uniform(2.0, 60.0)) for job in refs]
        await asyncio.gather(all_done(waiter, account, refs), *polls)
    assert caplog.records == []


async def _poll_in_between(waiter: Waiter, job: JobRef, when: float) -> None:
    await asyncio.sleep(when)
    if pending := waiter.pending.jobs.get(job.job_id):
        waiter.pending.poll_in(pending, 0.0)
