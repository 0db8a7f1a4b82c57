"""Turns of a shared budget: nobody has another's, unused ones come back, a refusal pauses all."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from prefect_docjobs.ledger import Ledger
from prefect_docjobs.ledger.tokens import Lease

SOON = 0.5  # seconds that the statements themselves may take on a busy machine


async def lease(ledger: Ledger, *, account: str = "toy", want: int = 12, rate: float = 1.0) -> Lease:
    return await ledger.tokens.lease(account, "status", rate, want)


async def test_the_first_lease_begins_now(ledger: Ledger) -> None:
    first = await lease(ledger)
    assert (first.tokens, first.every) == (12, 1.0)
    assert first.starts_in == pytest.approx(0.0, abs=SOON)
    assert first.valid_for == pytest.approx(12.0, abs=SOON)


async def test_leases_follow_each_other_without_gap_or_overlap(ledger: Ledger, other: Ledger) -> None:
    leases = await asyncio.gather(*(lease(one) for one in (ledger, other) for _ in range(5)))
    ends = sorted(it.ends_at for it in leases)
    assert [later - earlier for earlier, later in pairwise(ends)] == pytest.approx([12.0] * 9)


async def test_accounts_and_kinds_have_budgets_of_their_own(ledger: Ledger) -> None:
    await lease(ledger)
    assert (await lease(ledger, account="another")).starts_in < SOON
    assert (await ledger.tokens.lease("toy", "submit", 1.0)).starts_in < SOON


async def test_a_rate_may_change_from_lease_to_lease(ledger: Ledger) -> None:
    slow = await lease(ledger, rate=1.0)
    fast = await lease(ledger, rate=6.0)
    assert fast.every == pytest.approx(1 / 6)
    assert fast.ends_at - slow.ends_at == pytest.approx(2.0)


async def test_unused_turns_come_back_unless_others_are_behind_them(ledger: Ledger, other: Ledger) -> None:
    first = await lease(ledger)
    await ledger.tokens.give_back("toy", "status", first, unused=10)
    second = await lease(other)
    assert second.ends_at - first.ends_at == pytest.approx(2.0)
    await ledger.tokens.give_back("toy", "status", first, unused=2)
    assert (await lease(ledger)).ends_at - second.ends_at == pytest.approx(12.0)


async def test_a_refusal_pauses_everybodys_next_lease(ledger: Ledger, other: Ledger) -> None:
    await lease(ledger, want=1)
    await ledger.tokens.refused("toy", "status", 60.0)
    await ledger.tokens.refused("toy", "status", 5.0)  # a shorter pause does not end a longer one
    assert (await lease(other)).starts_in == pytest.approx(60.0, abs=SOON)


async def test_a_refusal_before_any_lease_counts_too(ledger: Ledger) -> None:
    await ledger.tokens.refused("toy", "status", 60.0)
    assert (await lease(ledger)).starts_in == pytest.approx(60.0, abs=SOON)


async def test_nobody_stands_in_line_longer_than_he_will(ledger: Ledger, other: Ledger) -> None:
    first = await lease(ledger)
    none = await other.tokens.lease("toy", "status", 1.0, within=5.0)
    assert none.tokens == 0
    assert none.starts_in == none.valid_for == pytest.approx(12.0, abs=SOON)
    second = await other.tokens.lease("toy", "status", 1.0, within=13.0)
    assert second.ends_at - first.ends_at == pytest.approx(12.0)


async def test_who_takes_none_is_told_of_a_pause(ledger: Ledger) -> None:
    await ledger.tokens.refused("toy", "status", 60.0)
    none = await ledger.tokens.lease("toy", "status", 1.0, within=5.0)
    assert none.tokens == 0
    assert none.starts_in == pytest.approx(60.0, abs=SOON)
