"""The policy table: how a document without a result may be retried, reason by reason."""

from __future__ import annotations

import pytest

from prefect_docjobs.errors import (
    RETRY_POLICY,
    ConfigurationError,
    InvalidDocument,
    Reason,
    Retry,
    Throttled,
    allowed_retry,
    how_to_retry,
    retry_advice,
)

PAID = [Reason.FAILED, Reason.EXPIRED, Reason.LOST_JOB, Reason.LOST_RESULT]
NEVER = [Reason.REJECTED, Reason.INVALID_DOCUMENT, Reason.CANCELLED]
NOT_SENT = [Reason.UNAUTHORIZED, Reason.QUOTA, Reason.BUDGET]


def retry(reason: Reason | None, *, has_job: bool = False, resubmit: bool = False) -> Retry:
    return allowed_retry(reason, has_job=has_job, resubmit=resubmit, on_uncertain="fail")


def test_the_table_has_every_reason() -> None:
    assert set(RETRY_POLICY) == set(Reason)


@pytest.mark.parametrize("reason", [Reason.THROTTLED, Reason.UNAVAILABLE, Reason.TIMEOUT, *NOT_SENT])
def test_without_a_job_it_is_submitted_and_a_known_job_is_waited_for(reason: Reason) -> None:
    assert retry(reason) is Retry.SUBMIT
    assert retry(reason, has_job=True) is Retry.WAIT


@pytest.mark.parametrize("reason", PAID)
def test_what_is_paid_for_is_bought_again_only_with_resubmit(reason: Reason) -> None:
    assert allowed_retry(reason, has_job=True, resubmit=False, on_uncertain="resubmit") is Retry.NO
    assert retry(reason, has_job=True) is Retry.NO
    assert retry(reason, has_job=True, resubmit=True) is Retry.RESUBMIT


def test_an_uncertain_submit_is_repeated_only_as_on_uncertain_says() -> None:
    assert retry(Reason.UNCERTAIN) is retry(Reason.UNCERTAIN, resubmit=True) is Retry.NO
    again = allowed_retry(Reason.UNCERTAIN, has_job=False, resubmit=False, on_uncertain="resubmit")
    assert again is Retry.RESUBMIT


@pytest.mark.parametrize("has_job", [True, False])
@pytest.mark.parametrize("reason", [*NEVER, None])
def test_what_has_to_be_fixed_first_is_never_retried(reason: Reason | None, has_job: bool) -> None:
    assert allowed_retry(reason, has_job=has_job, resubmit=True, on_uncertain="resubmit") is Retry.NO
    assert how_to_retry(reason, has_job=has_job) is Retry.NO


def test_an_unreadable_result_is_fetched_again() -> None:
    assert retry(Reason.UNREADABLE, has_job=True) is Retry.WAIT


@pytest.mark.parametrize("reason", [Reason.UNAUTHORIZED, Reason.QUOTA])
def test_a_refusal_says_whether_there_is_a_job(reason: Reason) -> None:
    assert "nothing was sent" in retry_advice(reason, has_job=False)
    advice = retry_advice(reason, has_job=True)
    assert "nothing was sent" not in advice
    assert "its job is waited for again, and nothing is bought" in advice


def test_each_way_to_retry_has_a_sentence_of_its_own() -> None:
    advice = {reason: retry_advice(reason, has_job=reason is Reason.TIMEOUT) for reason in Reason}
    assert "resubmit=True" in advice[Reason.FAILED]
    assert "on_uncertain='resubmit'" in advice[Reason.UNCERTAIN]
    assert "waited for" in advice[Reason.TIMEOUT]
    assert "submitted again" in advice[Reason.THROTTLED]
    assert len({advice[reason] for reason in NEVER}) == len(NEVER)


def test_a_wrong_call_exits_with_2_and_a_failure_with_1() -> None:
    errors = ConfigurationError("no"), InvalidDocument("no"), Throttled("no")
    assert [error.exit_code for error in errors] == [2, 2, 1]
