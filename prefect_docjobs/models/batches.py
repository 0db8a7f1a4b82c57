"""Batches: one outcome per document, through all phases."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from prefect_docjobs.errors import DocJobsError, JobError, Reason
from prefect_docjobs.models.jobs import Frozen, JobRef, JobStatus
from prefect_docjobs.models.results import Result, joined


class Phase(str, Enum):
    """How far a document came."""

    SUBMIT = "submit"
    WAIT = "wait"
    FETCH = "fetch"
    DONE = "done"

    def __str__(self) -> str:
        return self.value


class Outcome(Frozen):
    """One document of a batch: how far it came, and its result or the reason why there is none.

    Attributes:
        document: Name of the document.
        ref: The job, once there is one; it is never lost by a later failure.
        phase: The phase that was reached (`done` with a result) or that failed.
        result: The result, or None.
        reason: Why there is no result, or None.
        error: A sentence for a person, or None.
        seconds: From the start of the submit to the end of this outcome.
    """

    document: str
    ref: JobRef | None = None
    phase: Phase = Phase.SUBMIT
    status: JobStatus | None = None
    result: Result | None = None
    reason: Reason | None = None
    error: str | None = None
    seconds: float | None = None

    @property
    def ok(self) -> bool:
        """Whether the phase that was asked for succeeded."""
        return self.reason is None

    def failed(self, phase: Phase, error: DocJobsError, *, seconds: float | None = None) -> Outcome:
        """This outcome, ended by `error` in `phase`; the ref that the error knows is kept.

        A service that cannot be reached after the submit is a matter of patience: the job is paid for
        and may be done, so the reason is `timeout` (wait again), never one that allows a second submit.
        """
        ref = (error.ref if isinstance(error, JobError) else None) or self.ref
        unreached = phase is not Phase.SUBMIT and error.reason in {Reason.THROTTLED, Reason.UNAVAILABLE}
        reason = Reason.TIMEOUT if unreached else error.reason
        changes = {"phase": phase, "reason": reason, "error": str(error), "ref": ref}
        return self.model_copy(update={**changes, "seconds": seconds})

    def row(self) -> dict[str, Any]:
        """One flat row: the document, its job, its state, then the fields of its result."""
        ref = self.ref
        head = {
            "document": self.document,
            "provider": ref.provider if ref else None,
            "product": ref.product if ref else None,
            "job_id": ref.job_id if ref else None,
            "sha256": ref.document_sha256 if ref else None,
            "phase": self.phase.value,
            "reason": self.reason.value if self.reason else None,
            "error": self.error,
            "seconds": self.seconds,
        }
        return joined(head, self.result.row() if self.result else {})


@dataclass(frozen=True, slots=True)
class Batch(Sequence[Outcome]):
    """The outcomes of many documents, in the order in which the documents were given."""

    outcomes: tuple[Outcome, ...] = ()

    @classmethod
    def of(cls, outcomes: Iterable[Outcome]) -> Batch:
        """A batch of any iterable of outcomes."""
        return cls(tuple(outcomes))

    def __len__(self) -> int:
        return len(self.outcomes)

    def __getitem__(self, index: Any) -> Any:
        return self.outcomes[index]

    def __iter__(self) -> Iterator[Outcome]:
        return iter(self.outcomes)

    @property
    def results(self) -> list[Result]:
        """The results of the documents that have one, in input order."""
        return [outcome.result for outcome in self.outcomes if outcome.result is not None]

    @property
    def failures(self) -> list[Outcome]:
        """The outcomes that ended with a reason, in input order."""
        return [outcome for outcome in self.outcomes if not outcome.ok]

    @property
    def refs(self) -> list[JobRef]:
        """The jobs that exist, in input order."""
        return [outcome.ref for outcome in self.outcomes if outcome.ref is not None]

    def rows(self) -> list[dict[str, Any]]:
        """One flat row per document, failures included; see `Outcome.row`."""
        return [outcome.row() for outcome in self.outcomes]

    def line_items(self) -> list[dict[str, Any]]:
        """One row per line item of every result, with `document`, `list` and `index`."""
        return [
            {"document": outcome.document, **item}
            for outcome in self.outcomes
            if outcome.result
            for item in outcome.result.line_items()
        ]

    @property
    def totals(self) -> dict[str, Any]:
        """Documents, delivered, failed by reason, pages and credits as the services report them."""
        reasons: dict[str, int] = {}
        for failure in self.failures:
            reasons[str(failure.reason)] = reasons.get(str(failure.reason), 0) + 1
        usages = [result.usage for result in self.results]
        return {
            "documents": len(self.outcomes),
            "delivered": len(usages),
            "failed": len(self.failures),
            "reasons": dict(sorted(reasons.items())),
            "pages": sum(usage.pages or 0 for usage in usages),
            "credits": sum(usage.credits or 0 for usage in usages),
        }
