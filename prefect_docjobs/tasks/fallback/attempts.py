"""What became of documents that went from job to job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from prefect_docjobs.comparison import Doubt, sentence_of
from prefect_docjobs.errors import Reason
from prefect_docjobs.models import Batch, JobRef, Outcome, Phase
from prefect_docjobs.models.jobs import Frozen

Billed: TypeAlias = Literal["no", "maybe", "yes"]
"""Whether a job costs money: a service may bill what failed, and what may have been accepted."""

_BILLED: Mapping[Reason, Billed] = MappingProxyType(
    {
        Reason.THROTTLED: "no",
        Reason.UNAVAILABLE: "no",
        Reason.TIMEOUT: "yes",
        Reason.UNREADABLE: "yes",
        Reason.FAILED: "maybe",
        Reason.EXPIRED: "maybe",
        Reason.LOST_JOB: "maybe",
        Reason.LOST_RESULT: "yes",
        Reason.UNCERTAIN: "maybe",
        Reason.REJECTED: "no",
        Reason.INVALID_DOCUMENT: "no",
        Reason.UNAUTHORIZED: "no",
        Reason.QUOTA: "no",
        Reason.CANCELLED: "maybe",
        Reason.BUDGET: "no",
    }
)

_REFUSED = (Reason.THROTTLED, Reason.UNAVAILABLE, Reason.UNAUTHORIZED, Reason.QUOTA, Reason.BUDGET)

FALL_BACK_ON: frozenset[Reason] = frozenset(Reason) - {Reason.BUDGET, Reason.CANCELLED}
"""The reasons after which a document goes on to the next job, unless told otherwise.

Not after `budget`, which holds for all services, nor after `cancelled`, which somebody wanted.
"""


class Attempt(Frozen):
    """What became of a document at one job.

    Attributes:
        job: The job's label.
        reason: Why there is no result; None where there is one.
        error: The same as a sentence.
        doubts: What is not good enough about the result.
        billed: Whether it costs money.
        ref: The job at the service, where there is one.
        seconds: It took.
    """

    job: str
    reason: Reason | None = None
    error: str | None = None
    doubts: tuple[Doubt, ...] = ()
    billed: Billed = "yes"
    ref: JobRef | None = None
    seconds: float | None = None

    def __str__(self) -> str:
        """Such as `mindee-job/invoices: timeout, billed`, or `numind-job/invoices: delivered`."""
        what = str(self.reason or "delivered")
        quality = f" with doubts ({sentence_of(self.doubts)})" if self.doubts else ""
        bill = {"no": "", "maybe": ", perhaps billed", "yes": ", billed"}[self.billed]
        return f"{self.job}: {what}{quality}{bill if self.reason or self.doubts else ''}"


@dataclass(frozen=True)
class FallbackBatch:
    """Documents that went from job to job.

    Attributes:
        batch: One outcome for each document, in the order in which they were given.
        tried: For each of them the jobs that were tried, in order; the outcome is one of theirs.
    """

    batch: Batch
    tried: tuple[tuple[Attempt, ...], ...]

    def __len__(self) -> int:
        return len(self.batch)

    def rows(self) -> list[dict[str, Any]]:
        """One flat row per document as `Outcome.row` makes it, with `tried`, a text for each job."""
        return [
            {**outcome.row(), "tried": [str(attempt) for attempt in tried]}
            for outcome, tried in zip(self.batch, self.tried, strict=True)
        ]


def billed(outcome: Outcome, *, is_cancelled: bool = False) -> Billed:
    """Whether an outcome costs money.

    Args:
        outcome: Of one document at one job.
        is_cancelled: Its job was cancelled because it took too long.
    """
    if outcome.reason is None:
        return "yes"
    if outcome.reason is Reason.TIMEOUT:
        if outcome.ref is None:
            return "no"  # it was never submitted
        return "maybe" if is_cancelled else "yes"
    if outcome.ref is not None and outcome.phase in (Phase.WAIT, Phase.FETCH) and outcome.reason in _REFUSED:
        return "yes"  # a later question about a job that was accepted
    return _BILLED[outcome.reason]
