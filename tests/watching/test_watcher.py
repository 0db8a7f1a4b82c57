"""The watcher: jobs of suspended runs are waited for together, and their runs resumed, whatever happens."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from sqlalchemy import text
from support.patient_time import patient_time
from support.suspended import Town, town

from prefect_docjobs.ledger import State, SuspensionState
from prefect_docjobs.waiting import WaitLimits

SEEN_WITHIN = 5.0  # seconds between the end of a job and the look that sees it, of these services


async def state_of(place: Town, wait_id: str) -> SuspensionState | None:
    wait = await place.ledger.suspensions.get(wait_id)
    return wait.state if wait else None


async def suspended_each(place: Town, number: int) -> list[str]:
    """The ids of so many runs, each suspended for a job of its own."""
    run_ids = [f"run-{each}" for each in range(number)]
    for run_id in run_ids:
        await place.suspended(run_id, 1)
    return run_ids


async def watched_until_resumed(place: Town, *run_ids: str, within: float = 120.0) -> None:
    """Watch until these runs go on."""
    async with place.watched():
        await place.until_resumed(*run_ids, within=within)


async def leases_run_out(place: Town) -> None:
    """What becomes of the leases of a watcher that was killed."""
    out = text("UPDATE docjobs_suspensions SET lease_until = 0")
    await place.ledger._database.run(lambda connection: connection.execute(out), writes=True)


@patient_time
async def test_a_run_is_resumed_when_all_its_jobs_have_ended(tmp_path: Path) -> None:
    async with town("mindee", tmp_path) as place:
        wait = await place.suspended("run-1", 3)
        async with place.watched() as watcher:
            await place.until_resumed("run-1")
            await asyncio.sleep(30)
        assert 10.0 <= place.runs.resumed_at["run-1"] <= 10.0 + SEEN_WITHIN
        assert place.runs.resumed == {"run-1": 1}
        assert watcher.resumed == 1
        assert await place.states() == {State.DONE: 3}
        assert await state_of(place, wait.id) is SuspensionState.RESUMED


@patient_time
async def test_the_records_of_ended_jobs_are_free_when_the_run_is_resumed(tmp_path: Path) -> None:
    async with town("mindee", tmp_path) as place:
        await place.suspended("run-1", 3)
        async with place.watched():
            await place.until_resumed("run-1")
            assert max(record.lease_left for record in await place.ledger.find()) <= 0.0


@patient_time
async def test_no_record_is_held_while_jobs_run(tmp_path: Path) -> None:
    async with town("mindee", tmp_path) as place:
        await place.suspended("run-1", 3)
        async with place.watched():
            await asyncio.sleep(5)
            assert max(record.lease_left for record in await place.ledger.find()) <= 0.0


@patient_time
async def test_a_wait_that_is_registered_later_is_seen_within_a_second(tmp_path: Path) -> None:
    async with town("mindee", tmp_path) as place, place.watched():
        await asyncio.sleep(5)
        wait = await place.suspended("run-1")
        await asyncio.sleep(1)
        assert await place.ledger.suspensions.claim("somebody else", 1.0, 10) == []
        assert await place.ledger.suspensions.renew(place.ledger.owner, 15.0) == {wait.id}


@patient_time
async def test_all_waits_of_an_account_share_one_waiter(tmp_path: Path) -> None:
    async with town("mindee", tmp_path) as place:
        run_ids = await suspended_each(place, 20)
        async with place.watched() as watcher:
            await asyncio.sleep(5)
            assert len(watcher.accounts) == 1
            await place.until_resumed(*run_ids)
            await asyncio.sleep(1)
            assert len(watcher.accounts) == 0


@patient_time
async def test_failed_jobs_are_written_down_and_end_a_wait_too(tmp_path: Path) -> None:
    async with town("mindee", tmp_path, failed_share=1.0) as place:
        await place.suspended("run-1", 2)
        await watched_until_resumed(place, "run-1")
        assert await place.states() == {State.FAILED: 2}


@patient_time
async def test_a_job_of_two_runs_is_looked_at_once(tmp_path: Path) -> None:
    async with town("mindee", tmp_path) as place:
        refs = await place.submitted(1)
        for run_id in ("run-1", "run-2"):
            wait = await place.registered(run_id, refs)
            place.runs.suspend(run_id, wait.id)
        await watched_until_resumed(place, "run-1", "run-2")
        async with town("mindee", tmp_path / "alone") as alone:
            await alone.suspended("run-1", 1)
            await watched_until_resumed(alone, "run-1")
        assert place.looks() <= alone.looks() + 1


@patient_time
async def test_when_the_time_has_passed_the_run_is_resumed(tmp_path: Path) -> None:
    async with town("mindee", tmp_path, stuck_share=1.0) as place:
        await place.suspended("run-1", timeout=30.0)
        await place.suspended("run-2", document_timeout=20.0)
        await watched_until_resumed(place, "run-1", "run-2")
        assert place.runs.resumed_at["run-1"] == pytest.approx(30.0, abs=2.0)
        assert place.runs.resumed_at["run-2"] == pytest.approx(20.0, abs=2.0)
        assert await place.states() == {State.SUBMITTED: 4}


@patient_time
async def test_when_a_waiter_breaks_the_jobs_are_waited_for_with_another(tmp_path: Path) -> None:
    async with town("mindee", tmp_path) as place:
        await place.suspended("run-1", 3)
        async with place.watched() as watcher:
            await asyncio.sleep(5)
            (waiter,) = [task for task in asyncio.all_tasks() if task.get_name() == "docjobs-waiter"]
            waiter.cancel()
            await place.until_resumed("run-1", within=30.0)
            assert 10.0 <= place.runs.resumed_at["run-1"] <= 10.0 + SEEN_WITHIN
            await asyncio.sleep(1)
            assert len(watcher.accounts) == 0
        assert await place.states() == {State.DONE: 3}


@patient_time
async def test_a_service_that_is_away_ends_no_wait_before_its_time(tmp_path: Path) -> None:
    async with town("mindee", tmp_path, faults={"status": {"unavailable": 1.0}}) as place:
        await place.suspended("run-1", timeout=2000.0)
        async with place.watched():
            await asyncio.sleep(900)
            assert not place.runs.resumed
            place.backend.settings = place.backend.settings.merged(
                {"faults": {"status": {"unavailable": 0.0}}}
            )
            await place.until_resumed("run-1")
        assert await place.states() == {State.DONE: 2}


# ------------------------------------------------------------------------------------------------- races


@patient_time
async def test_a_run_that_is_about_to_be_suspended_is_resumed_when_it_is(tmp_path: Path) -> None:
    async with town("mindee", tmp_path) as place:
        wait = await place.registered("run-1", await place.submitted(1))
        place.runs.run("run-1")
        async with place.watched():
            await asyncio.sleep(40)
            assert await state_of(place, wait.id) is SuspensionState.ENDED
            place.runs.suspend("run-1", wait.id)
            await place.until_resumed("run-1", within=6.0)
        assert await state_of(place, wait.id) is SuspensionState.RESUMED


@patient_time
async def test_a_run_that_goes_on_by_itself_is_not_looked_at_any_more(tmp_path: Path) -> None:
    async with town("mindee", tmp_path) as place:
        wait = await place.registered("run-1", await place.submitted(1))
        place.runs.run("run-1")
        async with place.watched():
            await asyncio.sleep(30)
            await place.ledger.suspensions.resumed(wait.id)
            await asyncio.sleep(10)
            asked = place.runs.asked
            await asyncio.sleep(100)
        assert place.runs.asked == asked


@patient_time
async def test_a_run_that_is_suspended_for_something_else_is_left_alone(tmp_path: Path) -> None:
    async with town("mindee", tmp_path) as place:
        await place.registered("run-1", await place.submitted(1))
        place.runs.suspend("run-1", "a person's consent")
        async with place.watched():
            await asyncio.sleep(60)
        assert not place.runs.resumed


@patient_time
async def test_the_wait_of_a_run_that_was_cancelled_is_forgotten(tmp_path: Path) -> None:
    async with town("mindee", tmp_path, stuck_share=1.0) as place:
        wait = await place.suspended("run-1")
        other = await place.suspended("run-2")
        async with place.watched():
            await asyncio.sleep(5)
            place.runs.end("run-1")
            await asyncio.sleep(31)
            assert await state_of(place, wait.id) is None
            assert await state_of(place, other.id) is SuspensionState.OPEN
            seen = place.looks()
            del place.runs.now["run-2"]  # deleted
            await asyncio.sleep(31)
            assert await state_of(place, other.id) is None
            assert place.looks() > seen
            seen = place.looks()
            await asyncio.sleep(60)
            assert place.looks() == seen
        assert not place.runs.resumed


@patient_time
async def test_a_run_that_ends_while_its_jobs_do_is_forgotten(tmp_path: Path) -> None:
    async with town("mindee", tmp_path) as place:
        wait = await place.registered("run-1", await place.submitted(1))
        place.runs.end("run-1")
        async with place.watched():
            await asyncio.sleep(20)
        assert await state_of(place, wait.id) is None


# --------------------------------------------------------------------------------------------- what breaks


@patient_time
async def test_while_prefect_is_away_resuming_is_tried_again(tmp_path: Path) -> None:
    async with town("mindee", tmp_path) as place:
        await place.suspended("run-1")
        place.runs.away = True
        async with place.watched():
            await asyncio.sleep(100)
            assert not place.runs.resumed
            place.runs.away = False
            await place.until_resumed("run-1", within=61.0)


@patient_time
async def test_a_block_that_is_gone_has_its_run_resumed_to_fail_visibly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with town("mindee", tmp_path) as place:
        await place.suspended("run-1", job="toy-job/gone")
        await place.suspended("run-2")
        async with place.watched():
            await place.until_resumed("run-1", within=2.0)
            await place.until_resumed("run-2")
    assert "'toy-job/gone' cannot be loaded" in caplog.text


@patient_time
async def test_that_no_push_tells_of_jobs_which_end_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with town("mindee", tmp_path) as place:
        await place.suspended("run-1", 5)
        async with place.watched():
            for number in range(2, 7):  # there is always a job that is waited for
                await asyncio.sleep(6)
                await place.suspended(f"run-{number}", 1)
            await asyncio.sleep(10)
    assert "5 jobs in a row have ended and no push reported it" in caplog.text


@patient_time
async def test_a_wait_that_breaks_is_begun_again_and_holds_up_no_other(tmp_path: Path) -> None:
    async with town("mindee", tmp_path) as place:
        await place.suspended("run-1")
        await place.suspended("run-2")
        healthy, failures = place.load, iter(range(5))

        class Odd(Exception):
            pass

        async def load(job: str) -> object:
            if next(failures, None) is not None:
                raise Odd("a bug")
            return await healthy(job)

        place.load = load  # type: ignore[method-assign, assignment]
        await watched_until_resumed(place, "run-1", "run-2")


@patient_time
async def test_a_heart_beats_once_a_minute(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tests.watching")
    async with town("mindee", tmp_path, stuck_share=1.0) as place:
        await place.suspended("run-1", 3)
        async with place.watched():
            await asyncio.sleep(125)
    beats = [record.message for record in caplog.records if record.message.startswith("Watching")]
    assert beats[1:] == ["Watching 1 run with 3 jobs of 1 account; 0 runs resumed so far"] * 2


# ------------------------------------------------------------------------------------- several, and restarted


@patient_time
async def test_a_watcher_that_stops_gives_its_waits_back(tmp_path: Path) -> None:
    async with town("mindee", tmp_path) as place:
        wait = await place.suspended("run-1")
        async with place.watched():
            await asyncio.sleep(2)
        (free,) = await place.ledger.suspensions.claim("another", 15.0, 10)
        assert free.id == wait.id


@patient_time
async def test_after_a_kill_another_goes_on_and_asks_for_nothing_that_is_known(tmp_path: Path) -> None:
    async with town("mindee", tmp_path) as place:
        await place.suspended("run-1", 5)
        async with place.another_ledger() as killed:
            await killed.suspensions.claim(killed.owner, 15.0, 10)
            async with place.watched():
                await asyncio.sleep(30)
                assert not place.runs.resumed
                assert not place.looks()
                await leases_run_out(place)
                await place.until_resumed("run-1")
            seen = place.looks()
            again = await place.registered("run-2", (await place.ledger.suspensions.find("run-1"))[0].refs)
            place.runs.suspend("run-2", again.id)
            await watched_until_resumed(place, "run-2", within=3.0)
            assert place.looks() == seen


@patient_time
async def test_a_kill_between_the_end_and_the_resumption_loses_no_run(tmp_path: Path) -> None:
    async with town("mindee", tmp_path) as place:
        wait = await place.suspended("run-1")
        await place.ledger.suspensions.claim("killed", 15.0, 10)
        await place.ledger.suspensions.end(wait.id)
        await leases_run_out(place)
        await watched_until_resumed(place, "run-1", within=2.0)
        assert not place.looks()


@patient_time
async def test_two_watchers_share_the_runs_and_resume_each_once(tmp_path: Path) -> None:
    async with town("mindee", tmp_path) as place, place.another_ledger() as other:
        run_ids = await suspended_each(place, 30)
        async with place.watched() as first, place.watched(other) as second:
            await place.until_resumed(*run_ids)
        assert set(place.runs.resumed.values()) == {1}
        assert first.resumed + second.resumed == 30


# ---------------------------------------------------------------------------------------------------- streams


@patient_time
async def test_the_last_jobs_at_numind_are_heard_on_streams_within_a_bound(tmp_path: Path) -> None:
    async with town("numind", tmp_path) as place:
        await place.suspended("run-1", 1)
        await watched_until_resumed(place, "run-1")
        streams = [request for request in place.requests if "stream" in request.url.path]
        assert len(streams) == 1
        assert place.runs.resumed_at["run-1"] == pytest.approx(10.0, abs=1.0)


@patient_time
async def test_however_many_jobs_there_are_streams_stay_within_the_bound(tmp_path: Path) -> None:
    async with town("numind", tmp_path) as place:
        run_ids = await suspended_each(place, 20)
        await watched_until_resumed(place, *run_ids)
        assert sum("stream" in request.url.path for request in place.requests) <= WaitLimits().streams
