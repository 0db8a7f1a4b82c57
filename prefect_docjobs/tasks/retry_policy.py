"""What may be done for a document that has no result: one closed table, by reason."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from prefect_docjobs.errors import Reason
from prefect_docjobs.extraction import OnUncertain
from prefect_docjobs.models import Outcome


class RetryStep(str, Enum):
    """What may be done again.

    `submit`: it was not accepted, so submit it. `wait`: it was, so wait for the same job. `resubmit`: it
    was, or may have been, so submit it only when told to. `no`: something has to be fixed first.
    """

    SUBMIT = "submit"
    WAIT = "wait"
    RESUBMIT = "resubmit"
    NO = "no"

    def __str__(self) -> str:
        return self.value


RETRY_STEPS: Mapping[Reason, RetryStep] = MappingProxyType(
    {
        Reason.THROTTLED: RetryStep.SUBMIT,
        Reason.UNAVAILABLE: RetryStep.SUBMIT,
        Reason.TIMEOUT: RetryStep.WAIT,
        Reason.UNREADABLE: RetryStep.WAIT,
        Reason.FAILED: RetryStep.RESUBMIT,
        Reason.EXPIRED: RetryStep.RESUBMIT,
        Reason.LOST_JOB: RetryStep.RESUBMIT,
        Reason.LOST_RESULT: RetryStep.RESUBMIT,
        Reason.UNCERTAIN: RetryStep.RESUBMIT,
        Reason.REJECTED: RetryStep.NO,
        Reason.INVALID_DOCUMENT: RetryStep.NO,
        Reason.UNAUTHORIZED: RetryStep.SUBMIT,
        Reason.QUOTA: RetryStep.SUBMIT,
        Reason.BUDGET: RetryStep.SUBMIT,
        Reason.CANCELLED: RetryStep.NO,
    }
)
"""What each reason allows."""

_SUBMIT = "Retry it: the service did not accept it, so it is submitted again."
_WAIT = "Retry it: its job is waited for again, and nothing is bought."
_PAID = "Retry it with resubmit=True, at the price of a second bill."
_REMEDIES: Mapping[Reason, str] = MappingProxyType(
    {
        Reason.UNCERTAIN: "Look for it in the service's account; if it is not there, retry it with "
        "on_uncertain='resubmit'.",
        Reason.REJECTED: "Change the request or the plan, then run the flow again.",
        Reason.INVALID_DOCUMENT: "Fix the document, then run the flow again.",
        Reason.UNREADABLE: "Retry it: the result is fetched again, and nothing is bought.",
        Reason.UNAUTHORIZED: "Correct the credentials block, then run the flow again: {cost}.",
        Reason.QUOTA: "Raise the quota of the account, then run the flow again: {cost}.",
        Reason.CANCELLED: "Run the flow again if it is wanted after all.",
        Reason.BUDGET: "Raise the limit on spending, then run the flow again.",
    }
)
_BY_STEP: Mapping[RetryStep, str] = MappingProxyType(
    {
        RetryStep.SUBMIT: _SUBMIT,
        RetryStep.WAIT: _WAIT,
        RetryStep.RESUBMIT: _PAID,
        RetryStep.NO: "There is nothing to do.",
    }
)


def retry_step(outcome: Outcome) -> RetryStep:
    """What may be done for an outcome; `no` for one that succeeded.

    A job that is known is waited for before anything is submitted, and a timeout without one is a document
    that was never submitted.
    """
    if outcome.reason is None:
        return RetryStep.NO
    again = RETRY_STEPS[outcome.reason]
    if again in (RetryStep.SUBMIT, RetryStep.WAIT):
        return RetryStep.WAIT if outcome.ref is not None else RetryStep.SUBMIT
    return again


def remedy_for(outcome: Outcome) -> str:
    """The same as a sentence for the person who decides."""
    sentence = _REMEDIES.get(outcome.reason) if outcome.reason else None
    return sentence.format(cost=cost_of_retry(outcome)) if sentence else _BY_STEP[retry_step(outcome)]


def cost_of_retry(outcome: Outcome) -> str:
    """What a refusal means for the money: it may have come when the job was accepted already."""
    if outcome.ref is None:
        return "nothing was sent"
    return "its job is waited for again, and nothing is bought"


def allowed_step(outcome: Outcome, *, resubmit: bool, on_uncertain: OnUncertain) -> RetryStep:
    """What a retry does with an outcome.

    Args:
        outcome: A row of an earlier batch.
        resubmit: Whether what is paid for and has no result may be bought again.
        on_uncertain: Whether what may have been accepted is submitted again.
    """
    again = retry_step(outcome)
    if again is not RetryStep.RESUBMIT:
        return again
    may = on_uncertain == "resubmit" if outcome.reason is Reason.UNCERTAIN else resubmit
    return RetryStep.RESUBMIT if may else RetryStep.NO
