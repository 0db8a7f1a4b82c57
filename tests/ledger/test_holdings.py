"""Being sure of a record: from before the write, for as long as a lease, and no longer."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

import pytest

from prefect_docjobs.ledger import Record, State
from prefect_docjobs.ledger.holdings import Holdings

BEGAN = datetime(2026, 2, 3, tzinfo=timezone.utc)
RECORD = Record(
    key="k",
    provider="toy",
    base_url="https://toy.test",
    tenant="acme",
    product="extraction",
    document_name="a.pdf",
    id=1,
    state=State.INTENDED,
    attempt=1,
    claim="c",
    version=0,
    owner="me",
    mine=True,
    lease_left=60.0,
    age=0.0,
    intended_at=BEGAN,
    updated_at=BEGAN,
)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def holdings(clock: Clock) -> Holdings:
    return Holdings(60.0, clock)


def test_a_lease_is_counted_from_before_the_write(holdings: Holdings, clock: Clock) -> None:
    asked_at = holdings.now()
    clock.now += 10.0  # the database took its time
    holdings.note(RECORD, asked_at)
    clock.now = asked_at + 59.9
    assert RECORD in holdings
    clock.now = asked_at + 60.0
    assert RECORD not in holdings


def test_an_extension_makes_sure_again(holdings: Holdings, clock: Clock) -> None:
    holdings.note(RECORD, holdings.now())
    clock.now += 100.0
    holdings.extended([1, 2], {1, 2}, holdings.now())
    assert RECORD in holdings
    assert holdings.ids == [1]


def test_what_could_not_be_extended_is_lost(holdings: Holdings) -> None:
    holdings.note(RECORD, holdings.now())
    holdings.extended([1], set(), holdings.now())
    assert RECORD not in holdings
    assert holdings.ids == []


def test_a_record_under_another_claim_is_not_the_one_in_hand(holdings: Holdings) -> None:
    holdings.note(RECORD, holdings.now())
    assert replace(RECORD, claim="another") not in holdings


@pytest.mark.parametrize(
    "written",
    [{"state": State.FETCHED}, {"state": State.FAILED}, {"claim": "another", "mine": False}],
    ids=["fetched", "failed", "taken over"],
)
def test_what_has_ended_or_was_taken_over_is_no_longer_held(
    holdings: Holdings, written: dict[str, object]
) -> None:
    holdings.note(RECORD, holdings.now())
    holdings.note(replace(RECORD, **written), holdings.now())  # type: ignore[arg-type]
    assert RECORD not in holdings
    assert holdings.records == []


def test_a_second_caller_with_the_same_document_leaves_the_record_to_the_first(holdings: Holdings) -> None:
    holdings.note(RECORD, holdings.now())
    holdings.note(replace(RECORD, mine=False), holdings.now())
    assert RECORD in holdings
    assert holdings.records == [RECORD]
