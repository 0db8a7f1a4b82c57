"""Several calls on one opened ledger: each has leases of its own, all share the connections."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from support.ledgers import ON_POSTGRESQL, entry, ref

from prefect_docjobs.ledger import Ledger, LedgerUnavailable, State


async def test_a_view_that_is_closed_gives_its_own_leases_back_and_no_others(ledger: Ledger) -> None:
    async with ledger.view() as stays:
        kept = await stays.submitted(await stays.claim(entry("a")), ref("job-a"))
        async with ledger.view() as leaves:
            assert len({ledger.owner, stays.owner, leaves.owner}) == 3
            left = await leaves.submitted(await leaves.claim(entry("b")), ref("job-b"))
            assert not (await leaves.claim(entry("a"))).mine
        now = await ledger.records([kept.id, left.id])
        assert now[kept.id].lease_left > 0.0
        assert now[left.id].lease_left <= 0.0
        assert stays.holds(kept)
        assert not leaves.holds(left)
        assert (await stays.done(kept, ref("job-a"))).state is State.DONE


async def test_a_view_that_is_closed_does_not_wait_for_the_writes_of_others(ledger: Ledger) -> None:
    async def write(number: int) -> None:
        while not is_closed.is_set():
            await ledger.delete_intent(await ledger.claim(entry(f"{number}")))

    is_closed = asyncio.Event()
    writing = [asyncio.create_task(write(number)) for number in range(5)]
    async with ledger.view() as view:
        record = await view.claim(entry("a"))
    is_closed.set()
    await asyncio.gather(*writing)
    now = await ledger.record(record.id)
    assert now is not None
    assert now.lease_left <= 0.0


async def test_a_cancelled_claim_in_a_view_leaves_nothing(ledger: Ledger) -> None:
    async with ledger.view() as view:
        claim = asyncio.create_task(view.claim(entry()))
        await asyncio.sleep(0)
        claim.cancel()
    assert await ledger.find() == []


async def test_two_callers_with_one_document_leave_it_held_by_the_first(ledger: Ledger) -> None:
    first, second = await asyncio.gather(ledger.claim(entry()), ledger.claim(entry()))
    assert (first.mine, second.mine) == (True, False)
    assert ledger.holds(first)


async def test_a_ledger_closes_when_its_writes_were_cancelled(ledger: Ledger) -> None:
    async with ledger.view() as view:
        claim = asyncio.create_task(view.claim(entry()))
        await asyncio.sleep(0)
        (writing,) = (task for task in asyncio.all_tasks() if "_drain" in repr(task))
        writing.cancel()
    with pytest.raises(LedgerUnavailable, match="cancelled"):
        await claim


@ON_POSTGRESQL
@pytest.mark.parametrize("connections", [2, 4])
async def test_many_views_use_no_more_connections_than_are_set(url: str, connections: int) -> None:
    async def work(number: int) -> None:
        async with ledger.view() as view:
            await view.submitted(await view.claim(entry(f"{number}")), ref(f"job-{number}"))
            await view.by_key(entry(f"{number}").key)

    async with Ledger(url, connections=connections) as ledger:
        await asyncio.gather(*(work(number) for number in range(200)))
        admin = create_async_engine(make_url(url).set(drivername="postgresql+asyncpg"))
        async with admin.connect() as connection:
            question = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            found = (await connection.execute(text(question))).scalar_one()
        await admin.dispose()
    assert found - 1 <= connections
