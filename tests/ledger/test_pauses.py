"""Pauses of accounts in the ledger; what they do to documents is tested with the pipeline."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import anyio
from support.ledgers import entry

from prefect_docjobs.ledger import Account, Ledger

ACME = Account("toy", "https://toy.test", "acme")
OTHER = Account("toy", "https://toy.test", "other")


async def test_a_pause_is_seen_by_another_worker_within_a_second(ledger: Ledger, other: Ledger) -> None:
    assert await other.paused(ACME) is None
    paused = await ledger.pauses.pause(ACME, seconds=60, by="ann", reason="why", name="toy-job/a")
    assert await ledger.paused(ACME) == paused
    assert (paused.by, paused.reason, paused.name) == ("ann", "why", "toy-job/a")
    assert paused.until is not None
    assert abs(paused.until - paused.at - timedelta(seconds=60)) < timedelta(milliseconds=5)
    async with other.pauses.followed():
        with anyio.fail_after(30):
            while other.pauses.seen(ACME) is None:  # noqa: ASYNC110 (what another process wrote)
                await anyio.sleep(0.05)
    assert other.pauses.seen(ACME) == paused
    assert (await other.paused(OTHER), await other.pauses.all()) == (None, [paused])


async def test_the_last_word_counts(ledger: Ledger, other: Ledger) -> None:
    await asyncio.gather(
        *(each.pauses.pause(ACME, reason=f"{i}") for i in range(5) for each in (ledger, other))
    )
    again = await other.pauses.pause(ACME, reason="at last")
    assert await ledger.pauses.all() == [again]
    assert await ledger.pauses.resume(ACME)
    assert not await other.pauses.resume(ACME)


async def test_what_no_database_takes_is_replaced(ledger: Ledger) -> None:
    paused = await ledger.pauses.pause(ACME, reason="a\x00b\ud800")
    assert paused.reason == "a_b_"


async def test_the_accounts_of_the_ledger_are_told_apart(ledger: Ledger) -> None:
    for name, facts in (
        ("1", {"block": "toy-job/a"}),
        ("2", {"block": "toy-job/b"}),
        ("3", {"tenant": "other"}),
    ):
        await ledger.claim(entry(name, **facts))
    known = await ledger.pauses.known_accounts()
    assert [(each.account, each.jobs, each.blocks) for each in known] == [
        (ACME, 2, ("toy-job/a", "toy-job/b")),
        (OTHER, 1, ()),
    ]
