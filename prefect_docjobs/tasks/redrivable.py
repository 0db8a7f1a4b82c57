"""What may be done for a document that has no result: one closed table, by reason."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from prefect_docjobs.errors import Reason
from prefect_docjobs.extraction import OnUncertain
from prefect_docjobs.models import Outcome


class Again(str, Enum):
    """What may be done again.

    `submit`: it was not accepted, so submit it. `wait`: it was, so wait for the same job. `resubmit`: it
    was, or may have been, so submit it only when told to. `no`: something has to be mended first.
    """

    SUBMIT = "submit"
    WAIT = "wait"
    RESUBMIT = "resubmit"
    NO = "no"

    def __str__(self) -> str:
        return self.value


AGAIN: Mapping[Reason, Again] = MappingProxyType(
    {
        Reason.THROTTLED: Again.SUBMIT,
        Reason.UNAVAILABLE: Again.SUBMIT,
        Reason.TIMEOUT: Again.WAIT,
        Reason.UNREADABLE: Again.WAIT,
        Reason.FAILED: Again.RESUBMIT,
        Reason.EXPIRED: Again.RESUBMIT,
        Reason.LOST_JOB: Again.RESUBMIT,
        Reason.LOST_RESULT: Again.RESUBMIT,
        Reason.UNCERTAIN: Again.RESUBMIT,
        Reason.REJECTED: Again.NO,
        Reason.INVALID_DOCUMENT: Again.NO,
        Reason.UNAUTHORIZED: Again.SUBMIT,
        Reason.QUOTA: Again.SUBMIT,
        Reason.BUDGET: Again.SUBMIT,
        Reason.CANCELLED: Again.NO,
    }
)
"""What each reason allows."""

_SUBMIT = "Redrive it: the service did not accept it, so it is submitted again."
_WAIT = "Redrive it: its job is waited for again, and nothing is bought."
_PAID = "Redrive it with resubmit=True, at the price of a second bill."
_MEND: Mapping[Reason, str] = MappingProxyType(
    {
        Reason.UNCERTAIN: "Look for it in the service's account; if it is not there, redrive it with "
        "on_uncertain='resubmit'.",
        Reason.REJECTED: "Mend the request or the plan, then run the flow again.",
        Reason.INVALID_DOCUMENT: "Mend the document, then run the flow again.",
        Reason.UNREADABLE: "Redrive it: the result is fetched again, and nothing is bought.",
        Reason.UNAUTHORIZED: "Correct the credentials block, then run the flow again: {fate}.",
        Reason.QUOTA: "Raise the quota of the account, then run the flow again: {fate}.",
        Reason.CANCELLED: "Run the flow again if it is wanted after all.",
        Reason.BUDGET: "Raise the limit on spending, then run the flow again.",
    }
)
_BY_STEP: Mapping[Again, str] = MappingProxyType(
    {Again.SUBMIT: _SUBMIT, Again.WAIT: _WAIT, Again.RESUBMIT: _PAID, Again.NO: "There is nothing to do."}
)


def what_again(outcome: Outcome) -> Again:
    """What may be done for an outcome; `no` for one that is well.

    A job that is known is waited for before anything is submitted, and a timeout without one is a document
    that was never submitted.
    """
    if outcome.reason is None:
        return Again.NO
    again = AGAIN[outcome.reason]
    if again in (Again.SUBMIT, Again.WAIT):
        return Again.WAIT if outcome.ref is not None else Again.SUBMIT
    return again


def how_again(outcome: Outcome) -> str:
    """The same as a sentence for the person who decides."""
    told = _MEND.get(outcome.reason) if outcome.reason else None
    return told.format(fate=fate_of(outcome)) if told else _BY_STEP[what_again(outcome)]


def fate_of(outcome: Outcome) -> str:
    """What a refusal means for the money: it may have come when the job was accepted already."""
    if outcome.ref is None:
        return "nothing was sent"
    return "its job is waited for again, and nothing is bought"


def allowed(outcome: Outcome, *, resubmit: bool, on_uncertain: OnUncertain) -> Again:
    """What a redrive does with an outcome.

    Args:
        outcome: A row of an earlier batch.
        resubmit: Whether what is paid for and has no result may be bought again.
        on_uncertain: Whether what may have been accepted is submitted again.
    """
    again = what_again(outcome)
    if again is not Again.RESUBMIT:
        return again
    told = on_uncertain == "resubmit" if outcome.reason is Reason.UNCERTAIN else resubmit
    return Again.RESUBMIT if told else Again.NO
