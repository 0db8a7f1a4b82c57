"""What may be done again, reason by reason."""

from __future__ import annotations

from typing import Literal

import pytest
from support.ledgers import ref

from prefect_docjobs.errors import Reason
from prefect_docjobs.models import Outcome, Phase
from prefect_docjobs.tasks.retry_policy import RETRY_STEPS, RetryStep, allowed_step, remedy_for, retry_step

PAID = [Reason.FAILED, Reason.EXPIRED, Reason.LOST_JOB, Reason.LOST_RESULT]
NEVER = [
    Reason.REJECTED,
    Reason.INVALID_DOCUMENT,
    Reason.CANCELLED,
]
NOT_SENT = [Reason.UNAUTHORIZED, Reason.QUOTA, Reason.BUDGET]


def row(reason: Reason | None, *, with_job: bool = False) -> Outcome:
    job = ref() if with_job else None
    return Outcome(document="a.pdf", ref=job, phase=Phase.WAIT, reason=reason, error="Said.")


def step(
    outcome: Outcome, *, resubmit: bool = False, on_uncertain: Literal["fail", "resubmit"] = "fail"
) -> RetryStep:
    return allowed_step(outcome, resubmit=resubmit, on_uncertain=on_uncertain)


def test_the_table_has_every_reason() -> None:
    assert set(RETRY_STEPS) == set(Reason)


@pytest.mark.parametrize("reason", [Reason.THROTTLED, Reason.UNAVAILABLE])
def test_what_was_not_accepted_is_submitted(reason: Reason) -> None:
    assert step(row(reason)) is RetryStep.SUBMIT


def test_what_took_too_long_is_waited_for_and_without_a_job_submitted() -> None:
    assert step(row(Reason.TIMEOUT, with_job=True)) is RetryStep.WAIT
    assert step(row(Reason.TIMEOUT)) is RetryStep.SUBMIT


@pytest.mark.parametrize("reason", [Reason.THROTTLED, Reason.UNAVAILABLE])
def test_a_job_that_is_known_is_never_submitted_a_second_time(reason: Reason) -> None:
    assert step(row(reason, with_job=True)) is RetryStep.WAIT


@pytest.mark.parametrize("reason", PAID)
def test_what_is_paid_for_is_bought_again_only_when_told(reason: Reason) -> None:
    outcome = row(reason, with_job=True)
    assert step(outcome) is step(outcome, on_uncertain="resubmit") is RetryStep.NO
    assert step(outcome, resubmit=True) is RetryStep.RESUBMIT


def test_an_uncertain_submit_is_repeated_only_as_on_uncertain_says() -> None:
    outcome = row(Reason.UNCERTAIN)
    assert step(outcome) is step(outcome, resubmit=True) is RetryStep.NO
    assert step(outcome, on_uncertain="resubmit") is RetryStep.RESUBMIT


@pytest.mark.parametrize("reason", NEVER)
def test_what_has_to_be_mended_is_never_driven_again(reason: Reason) -> None:
    for with_job in (True, False):
        outcome = row(reason, with_job=with_job)
        assert step(outcome, resubmit=True, on_uncertain="resubmit") is RetryStep.NO


@pytest.mark.parametrize("reason", NOT_SENT)
def test_what_was_not_sent_is_submitted_once_its_cause_is_removed(reason: Reason) -> None:
    assert step(row(reason)) is RetryStep.SUBMIT
    assert step(row(reason, with_job=True)) is RetryStep.WAIT


def test_an_unreadable_result_is_fetched_again() -> None:
    assert step(row(Reason.UNREADABLE, with_job=True)) is RetryStep.WAIT


@pytest.mark.parametrize("reason", [Reason.UNAUTHORIZED, Reason.QUOTA])
def test_a_refusal_says_whether_there_is_a_job(reason: Reason) -> None:
    assert "nothing was sent" in remedy_for(row(reason))
    told = remedy_for(row(reason, with_job=True))
    assert "nothing was sent" not in told
    assert "its job is waited for again, and nothing is bought" in told


def test_a_row_that_is_well_stays() -> None:
    assert step(row(None, with_job=True), resubmit=True, on_uncertain="resubmit") is RetryStep.NO
    assert retry_step(row(None)) is RetryStep.NO


def test_each_way_is_told_in_a_sentence_of_its_own() -> None:
    told = {reason: remedy_for(row(reason, with_job=reason is Reason.TIMEOUT)) for reason in Reason}
    assert "resubmit=True" in told[Reason.FAILED]
    assert "on_uncertain='resubmit'" in told[Reason.UNCERTAIN]
    assert "waited for" in told[Reason.TIMEOUT]
    assert "submitted again" in told[Reason.THROTTLED]
    assert len({told[reason] for reason in NEVER}) == len(NEVER)
