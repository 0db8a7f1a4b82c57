"""Several ledgers that claim, release, renew and finish the same few keys in any order, all at once."""

from __future__ import annotations

import asyncio
import random

from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from support.ledgers import entry, ref

from prefect_docjobs.errors import Reason
from prefect_docjobs.ledger import Ledger, Record, State

KEYS = 12


async def held(ledger: Ledger, chance: random.Random) -> Record | None:
    record = await ledger.claim(entry(f"{chance.randrange(KEYS)}"))
    if record.mine:
        return record
    go_on = ledger.renew if chance.random() < 0.6 else ledger.take_over
    return await go_on(record)


async def work(ledger: Ledger, chance: random.Random, bought: list[str]) -> None:
    """Whatever may be done with a record in hand; any error fails the test."""
    for _ in range(25):
        record = await held(ledger, chance)
        if record is None:
            continue
        if record.state is State.INTENDED and chance.random() < 0.3:
            await ledger.delete_intent(record)
        elif chance.random() < 0.3:
            await ledger.release_lease(record)
        else:
            if record.state is State.INTENDED:
                bought.append(f"job-{chance.random()}")
                record = await ledger.submitted(record, ref(bought[-1]))
            await ledger.failed(record, Reason.TIMEOUT, "our patience ended")


async def deadlocks(url: str) -> int:
    if not url.startswith("postgresql"):
        return 0
    engine = create_async_engine(make_url(url).set(drivername="postgresql+asyncpg"))
    async with engine.connect() as connection:
        question = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        found = int((await connection.execute(text(question))).scalar() or 0)
    await engine.dispose()
    return found


async def test_records_stay_whole_and_nobody_deadlocks(url: str) -> None:
    bought: list[str] = []
    async with Ledger(url) as one, Ledger(url) as two:
        ledgers = [one, two] * 4
        await asyncio.gather(*(work(it, random.Random(seed), bought) for seed, it in enumerate(ledgers)))
        rows = await one.find(limit=10_000)
        assert {record.job_id for record in rows if record.job_id} == set(bought)
        assert len({record.key for record in rows if not record.retired}) <= KEYS
        assert one._holdings.ids == two._holdings.ids == []
    assert await deadlocks(url) == 0
