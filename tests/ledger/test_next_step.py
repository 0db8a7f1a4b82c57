"""The decision table, cell by cell."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, Literal

import pytest

from prefect_docjobs.errors import Reason
from prefect_docjobs.ledger import Record, State, Step, next_step

BEGAN = datetime(2026, 2, 3, tzinfo=timezone.utc)
OPEN = [State.INTENDED, State.SUBMITTED, State.DONE]
PAID = {Reason.FAILED, Reason.EXPIRED, Reason.LOST_JOB, Reason.LOST_RESULT}
OTHERS = sorted(set(Reason) - PAID - {Reason.UNCERTAIN, Reason.CANCELLED})


def record(state: State, **facts: Any) -> Record:
    known = {
        "key": "k",
        "provider": "toy",
        "base_url": "https://toy.test",
        "tenant": "acme",
        "product": "extraction",
        "document_name": "a.pdf",
        "id": 1,
        "state": state,
        "attempt": 1,
        "claim": "c",
        "version": 0,
        "owner": "somebody",
        "lease_left": 0.0,
        "age": 100.0,
        "intended_at": BEGAN,
        "updated_at": BEGAN,
    }
    return Record(**{**known, **facts})


def step(
    record: Record,
    *,
    mine: bool = False,
    reuse_for: float | None = 1000.0,
    on_uncertain: Literal["fail", "resubmit"] = "fail",
) -> Step:
    return next_step(record, mine=mine, reuse_for=reuse_for, on_uncertain=on_uncertain)


@pytest.mark.parametrize(
    ("reuse_for", "expected"),
    [(None, Step.USE), (100.1, Step.USE), (100.0, Step.SUBMIT), (0.0, Step.SUBMIT)],
)
def test_a_result_is_used_again_while_it_is_young_enough(reuse_for: float | None, expected: Step) -> None:
    assert step(record(State.FETCHED), reuse_for=reuse_for) is expected


@pytest.mark.parametrize("state", [*OPEN, State.FAILED])
def test_somebody_elses_work_is_left_to_him_while_his_lease_runs(state: State) -> None:
    failed = {"reason": Reason.TIMEOUT} if state is State.FAILED else {}
    assert step(record(state, lease_left=0.1, **failed), reuse_for=0.0) is Step.STAND_BY


@pytest.mark.parametrize("lease_left", [30.0, 0.0])
@pytest.mark.parametrize(
    ("state", "expected"),
    [(State.INTENDED, Step.SUBMIT), (State.SUBMITTED, Step.WAIT), (State.DONE, Step.FETCH)],
)
def test_my_own_work_goes_on(state: State, expected: Step, lease_left: float) -> None:
    assert step(record(state, lease_left=lease_left), mine=True) is expected


@pytest.mark.parametrize("reuse_for", [None, 0.0])
@pytest.mark.parametrize(
    ("state", "expected"),
    [(State.INTENDED, Step.RECONCILE), (State.SUBMITTED, Step.WAIT), (State.DONE, Step.FETCH)],
)
def test_work_whose_holder_is_gone_is_taken_up_at_any_age(
    state: State, expected: Step, reuse_for: float | None
) -> None:
    assert step(record(state, lease_left=-5.0), reuse_for=reuse_for) is expected


@pytest.mark.parametrize("job_id", [None, "j"])
def test_an_uncertain_submit_is_bought_again_only_when_told(job_id: str | None) -> None:
    uncertain = record(State.FAILED, reason=Reason.UNCERTAIN, job_id=job_id)
    assert step(uncertain) is Step.FAIL
    assert step(uncertain, on_uncertain="resubmit") is Step.SUBMIT


@pytest.mark.parametrize("on_uncertain", ["fail", "resubmit"])
@pytest.mark.parametrize("job_id", [None, "j"])
@pytest.mark.parametrize("reason", sorted(PAID))
def test_what_is_paid_for_and_lost_is_not_bought_again(
    reason: Reason, job_id: str | None, on_uncertain: Literal["fail", "resubmit"]
) -> None:
    assert step(record(State.FAILED, reason=reason, job_id=job_id), on_uncertain=on_uncertain) is Step.FAIL


@pytest.mark.parametrize("job_id", [None, "j"])
def test_a_cancelled_job_was_given_up_and_is_bought_anew(job_id: str | None) -> None:
    assert step(record(State.FAILED, reason=Reason.CANCELLED, job_id=job_id)) is Step.SUBMIT


@pytest.mark.parametrize("reason", OTHERS)
def test_without_a_job_nothing_was_bought_so_it_is_submitted(reason: Reason) -> None:
    assert step(record(State.FAILED, reason=reason)) is Step.SUBMIT


@pytest.mark.parametrize("reason", OTHERS)
def test_with_a_job_it_is_paid_for_and_waited_for(reason: Reason) -> None:
    assert step(record(State.FAILED, reason=reason, job_id="j")) is Step.WAIT


def test_a_history_row_says_so() -> None:
    assert record(State.FETCHED, key="k#7").retired
    assert not record(State.FETCHED).retired
