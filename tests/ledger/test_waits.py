"""Waits of suspended flow runs: registered once, watched by one at a time, resumed in the end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text
from support.ledgers import ref

from prefect_docjobs.ledger import Ledger, Wait, WaitState

SOON = 0.5  # seconds that the statements themselves may take on a busy machine
REFS = [ref("job-a"), ref("job-b", result_url="https://toy.test/b")]


async def register(ledger: Ledger, wait_id: str = "run-1.0", **facts: Any) -> Wait:
    known = {"flow_run_id": wait_id.partition(".")[0], "job": "toy-job/x", "refs": REFS}
    return await ledger.waits.register(wait_id, **{**known, **facts})


async def later(ledger: Ledger, seconds: float) -> None:
    """Turn the clock of all waits."""
    columns = ("deadline", "lease_until", "created_at", "ended_at")
    earlier = ", ".join(f"{name} = {name} - {seconds}" for name in columns)
    backdate = text(f"UPDATE docjobs_waits SET {earlier}")
    await ledger._database.run(lambda connection: connection.execute(backdate), writes=True)


def ids(waits: list[Wait]) -> list[str]:
    return [wait.id for wait in waits]


async def test_a_wait_comes_back_as_it_was_registered(ledger: Ledger, other: Ledger) -> None:
    await register(ledger, timeout=60.0)
    (wait,) = await other.waits.find("run-1")
    assert (wait.id, wait.flow_run_id, wait.job, wait.refs) == ("run-1.0", "run-1", "toy-job/x", tuple(REFS))
    assert (wait.state, wait.is_over) == (WaitState.OPEN, False)
    assert wait.left == pytest.approx(60.0, abs=SOON)
    assert wait.age == pytest.approx(0.0, abs=SOON)


async def test_what_is_not_registered_is_not_there(ledger: Ledger) -> None:
    assert await ledger.waits.get("run-1.0") is None
    assert await ledger.waits.find("run-1") == []


async def test_a_wait_without_limits_has_none(ledger: Ledger) -> None:
    assert (await register(ledger)).left is None


async def test_of_two_limits_the_earlier_counts(ledger: Ledger) -> None:
    assert (await register(ledger, timeout=60, document_timeout=5)).left == pytest.approx(5.0, abs=SOON)
    again = await register(ledger, "run-2.0", timeout=5, document_timeout=60)
    assert again.left == pytest.approx(5.0, abs=SOON)


async def test_registering_again_changes_nothing(ledger: Ledger) -> None:
    await register(ledger, timeout=60.0)
    await later(ledger, 20.0)
    again = await register(ledger, timeout=60.0, refs=[ref("another")])
    assert again.refs == tuple(REFS)
    assert again.left == pytest.approx(40.0, abs=SOON)
    await ledger.waits.end("run-1.0")
    assert (await register(ledger)).state is WaitState.ENDED


async def test_a_claimed_wait_is_nobody_elses(ledger: Ledger, other: Ledger) -> None:
    await register(ledger)
    assert ids(await ledger.waits.claim("me", 60.0, 10)) == ["run-1.0"]
    assert await other.waits.claim("you", 60.0, 10) == []
    assert await ledger.waits.claim("me", 60.0, 10) == []


async def test_watchers_that_claim_at_once_share_the_waits(ledger: Ledger, other: Ledger) -> None:
    for number in range(20):
        await register(ledger, f"run-{number}.0")
    claims = [(one, f"{who}-{turn}") for turn in range(4) for who, one in (("a", ledger), ("b", other))]
    took = await asyncio.gather(*(one.waits.claim(owner, 60.0, 3) for one, owner in claims))
    rest = await ledger.waits.claim("rest", 60.0, 100)
    every = [found for waits in (*took, rest) for found in ids(waits)]
    assert sorted(every) == sorted(f"run-{number}.0" for number in range(20))


async def test_the_oldest_are_claimed_first(ledger: Ledger) -> None:
    for number in (3, 1, 2):
        await register(ledger, f"run-{number}.0")
        await later(ledger, 10.0)
    assert ids(await ledger.waits.claim("me", 60.0, 1)) == ["run-3.0"]
    assert ids(await ledger.waits.claim("me", 60.0, 1)) == ["run-1.0"]


async def test_what_a_dead_watcher_held_goes_to_another(ledger: Ledger, other: Ledger) -> None:
    await register(ledger)
    await ledger.waits.claim("dead", 15.0, 10)
    await later(ledger, 16.0)
    assert ids(await other.waits.claim("you", 15.0, 10)) == ["run-1.0"]
    assert await ledger.waits.renew("dead", 15.0) == set()


async def test_a_renewed_lease_goes_on(ledger: Ledger, other: Ledger) -> None:
    await register(ledger)
    await ledger.waits.claim("me", 15.0, 10)
    await later(ledger, 10.0)
    assert await ledger.waits.renew("me", 15.0) == {"run-1.0"}
    await later(ledger, 10.0)
    assert await other.waits.claim("you", 15.0, 10) == []


async def test_what_is_released_may_be_claimed_at_once(ledger: Ledger, other: Ledger) -> None:
    for number in range(3):
        await register(ledger, f"run-{number}.0")
    await ledger.waits.claim("me", 60.0, 10)
    await ledger.waits.release("you")
    assert await other.waits.claim("you", 60.0, 10) == []
    await ledger.waits.release("me", ["run-1.0"])
    assert ids(await other.waits.claim("you", 60.0, 10)) == ["run-1.0"]
    await ledger.waits.release("me")
    assert sorted(ids(await other.waits.claim("you", 60.0, 10))) == ["run-0.0", "run-2.0"]


async def test_an_ended_wait_is_watched_until_its_run_has_gone_on(ledger: Ledger, other: Ledger) -> None:
    await register(ledger)
    await ledger.waits.claim("dead", 15.0, 10)
    await ledger.waits.end("run-1.0")
    await later(ledger, 16.0)
    (wait,) = await other.waits.claim("you", 15.0, 10)
    assert (wait.state, wait.is_over) == (WaitState.ENDED, True)
    await ledger.waits.resumed("run-1.0")
    assert await other.waits.renew("you", 15.0) == set()
    assert await other.waits.claim("you", 15.0, 10) == []


async def test_a_replay_finds_what_it_was_told_before(ledger: Ledger) -> None:
    await register(ledger)
    await ledger.waits.end("run-1.0")
    await ledger.waits.resumed("run-1.0")
    await ledger.waits.end("run-1.0")  # a watcher that is late takes nothing back
    assert (await register(ledger)).state is WaitState.RESUMED


async def test_the_waits_of_a_run_that_has_ended_are_forgotten(ledger: Ledger) -> None:
    for wait_id in ("run-1.0", "run-1.1", "run-2.0"):
        await register(ledger, wait_id)
    await ledger.waits.forget(["run-1"])
    assert ids(await ledger.waits.claim("me", 60.0, 10)) == ["run-2.0"]


async def test_old_waits_whose_runs_have_gone_on_are_forgotten(ledger: Ledger) -> None:
    for wait_id in ("run-1.0", "run-2.0", "run-3.0"):
        await register(ledger, wait_id)
    await ledger.waits.resumed("run-1.0")
    await later(ledger, 100.0)
    await ledger.waits.resumed("run-2.0")
    await ledger.waits.forget_resumed(older_than=50.0)
    assert [bool(await ledger.waits.get(f"run-{number}.0")) for number in (1, 2, 3)] == [False, True, True]


async def test_thousands_of_refs_are_one_small_row(ledger: Ledger) -> None:
    many = [
        ref(f"0f0e0d0c-0000-4000-8000-{number:012}", document_name=f"{number}.pdf") for number in range(3000)
    ]
    assert (await register(ledger, refs=many)).refs == tuple(many)
    size = text("SELECT length(refs) FROM docjobs_waits")
    assert await ledger._database.run(lambda connection: connection.execute(size).scalar_one()) < 60_000
