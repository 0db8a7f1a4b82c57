"""Waits of suspended flow runs: registered once, watched by one at a time, resumed in the end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text
from support.ledgers import ref

from prefect_docjobs.ledger import Ledger, Suspension, SuspensionState

SOON = 0.5  # seconds that the statements themselves may take on a busy machine
REFS = [ref("job-a"), ref("job-b", result_url="https://toy.test/b")]


async def register(ledger: Ledger, suspension_id: str = "run-1.0", **facts: Any) -> Suspension:
    known = {"flow_run_id": suspension_id.partition(".")[0], "job": "toy-job/x", "refs": REFS}
    return await ledger.suspensions.register(suspension_id, **{**known, **facts})


async def later(ledger: Ledger, seconds: float) -> None:
    """Turn the clock of all suspensions."""
    columns = ("deadline", "lease_until", "created_at", "ended_at")
    earlier = ", ".join(f"{name} = {name} - {seconds}" for name in columns)
    backdate = text(f"UPDATE docjobs_suspensions SET {earlier}")
    await ledger._database.run(lambda connection: connection.execute(backdate), writes=True)


def ids(suspensions: list[Suspension]) -> list[str]:
    return [suspension.id for suspension in suspensions]


async def test_a_suspension_comes_back_as_it_was_registered(ledger: Ledger, other: Ledger) -> None:
    await register(ledger, timeout=60.0)
    (suspension,) = await other.suspensions.find("run-1")
    assert (suspension.id, suspension.flow_run_id, suspension.job, suspension.refs) == (
        "run-1.0",
        "run-1",
        "toy-job/x",
        tuple(REFS),
    )
    assert (suspension.state, suspension.is_over) == (SuspensionState.OPEN, False)
    assert suspension.left == pytest.approx(60.0, abs=SOON)
    assert suspension.age == pytest.approx(0.0, abs=SOON)


async def test_what_is_not_registered_is_not_there(ledger: Ledger) -> None:
    assert await ledger.suspensions.get("run-1.0") is None
    assert await ledger.suspensions.find("run-1") == []


async def test_a_suspension_without_limits_has_none(ledger: Ledger) -> None:
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
    await ledger.suspensions.end("run-1.0")
    assert (await register(ledger)).state is SuspensionState.ENDED


async def test_a_claimed_wait_is_nobody_elses(ledger: Ledger, other: Ledger) -> None:
    await register(ledger)
    assert ids(await ledger.suspensions.claim("me", 60.0, 10)) == ["run-1.0"]
    assert await other.suspensions.claim("you", 60.0, 10) == []
    assert await ledger.suspensions.claim("me", 60.0, 10) == []


async def test_watchers_that_claim_at_once_share_the_suspensions(ledger: Ledger, other: Ledger) -> None:
    for number in range(20):
        await register(ledger, f"run-{number}.0")
    claims = [(one, f"{who}-{turn}") for turn in range(4) for who, one in (("a", ledger), ("b", other))]
    took = await asyncio.gather(*(one.suspensions.claim(owner, 60.0, 3) for one, owner in claims))
    rest = await ledger.suspensions.claim("rest", 60.0, 100)
    every = [found for suspensions in (*took, rest) for found in ids(suspensions)]
    assert sorted(every) == sorted(f"run-{number}.0" for number in range(20))


async def test_the_oldest_are_claimed_first(ledger: Ledger) -> None:
    for number in (3, 1, 2):
        await register(ledger, f"run-{number}.0")
        await later(ledger, 10.0)
    assert ids(await ledger.suspensions.claim("me", 60.0, 1)) == ["run-3.0"]
    assert ids(await ledger.suspensions.claim("me", 60.0, 1)) == ["run-1.0"]


async def test_what_a_dead_watcher_held_goes_to_another(ledger: Ledger, other: Ledger) -> None:
    await register(ledger)
    await ledger.suspensions.claim("dead", 15.0, 10)
    await later(ledger, 16.0)
    assert ids(await other.suspensions.claim("you", 15.0, 10)) == ["run-1.0"]
    assert await ledger.suspensions.renew("dead", 15.0) == set()


async def test_a_renewed_lease_goes_on(ledger: Ledger, other: Ledger) -> None:
    await register(ledger)
    await ledger.suspensions.claim("me", 15.0, 10)
    await later(ledger, 10.0)
    assert await ledger.suspensions.renew("me", 15.0) == {"run-1.0"}
    await later(ledger, 10.0)
    assert await other.suspensions.claim("you", 15.0, 10) == []


async def test_what_is_released_may_be_claimed_at_once(ledger: Ledger, other: Ledger) -> None:
    for number in range(3):
        await register(ledger, f"run-{number}.0")
    await ledger.suspensions.claim("me", 60.0, 10)
    await ledger.suspensions.release("you")
    assert await other.suspensions.claim("you", 60.0, 10) == []
    await ledger.suspensions.release("me", ["run-1.0"])
    assert ids(await other.suspensions.claim("you", 60.0, 10)) == ["run-1.0"]
    await ledger.suspensions.release("me")
    assert sorted(ids(await other.suspensions.claim("you", 60.0, 10))) == ["run-0.0", "run-2.0"]


async def test_an_ended_wait_is_watched_until_its_run_has_gone_on(ledger: Ledger, other: Ledger) -> None:
    await register(ledger)
    await ledger.suspensions.claim("dead", 15.0, 10)
    await ledger.suspensions.end("run-1.0")
    await later(ledger, 16.0)
    (suspension,) = await other.suspensions.claim("you", 15.0, 10)
    assert (suspension.state, suspension.is_over) == (SuspensionState.ENDED, True)
    await ledger.suspensions.resumed("run-1.0")
    assert await other.suspensions.renew("you", 15.0) == set()
    assert await other.suspensions.claim("you", 15.0, 10) == []


async def test_a_replay_finds_what_it_was_told_before(ledger: Ledger) -> None:
    await register(ledger)
    await ledger.suspensions.end("run-1.0")
    await ledger.suspensions.resumed("run-1.0")
    await ledger.suspensions.end("run-1.0")  # a watcher that is late takes nothing back
    assert (await register(ledger)).state is SuspensionState.RESUMED


async def test_the_suspensions_of_a_run_that_has_ended_are_forgotten(ledger: Ledger) -> None:
    for suspension_id in ("run-1.0", "run-1.1", "run-2.0"):
        await register(ledger, suspension_id)
    await ledger.suspensions.forget(["run-1"])
    assert ids(await ledger.suspensions.claim("me", 60.0, 10)) == ["run-2.0"]


async def test_old_suspensions_whose_runs_have_gone_on_are_forgotten(ledger: Ledger) -> None:
    for suspension_id in ("run-1.0", "run-2.0", "run-3.0"):
        await register(ledger, suspension_id)
    await ledger.suspensions.resumed("run-1.0")
    await later(ledger, 100.0)
    await ledger.suspensions.resumed("run-2.0")
    await ledger.suspensions.forget_resumed(older_than=50.0)
    assert [bool(await ledger.suspensions.get(f"run-{number}.0")) for number in (1, 2, 3)] == [
        False,
        True,
        True,
    ]


async def test_thousands_of_refs_are_one_small_row(ledger: Ledger) -> None:
    many = [
        ref(f"0f0e0d0c-0000-4000-8000-{number:012}", document_name=f"{number}.pdf") for number in range(3000)
    ]
    assert (await register(ledger, refs=many)).refs == tuple(many)
    size = text("SELECT length(refs) FROM docjobs_suspensions")
    assert await ledger._database.run(lambda connection: connection.execute(size).scalar_one()) < 60_000
