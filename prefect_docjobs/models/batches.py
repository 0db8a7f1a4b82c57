"""Batches: one outcome per document, through all phases; large ones with their results on the disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import AfterValidator
from pydantic_core import SchemaSerializer, core_schema

from prefect_docjobs.errors import DocJobsError, JobError, Reason
from prefect_docjobs.models.jobs import Frozen, JobRef, JobStatus
from prefect_docjobs.models.results import Result, joined
from prefect_docjobs.models.spool import Lazy, Spool, Stored, packed, stub, unpacked

_KEPT = 200
_KEPT_BYTES = 16 << 20


class Phase(str, Enum):
    """How far a document came."""

    SUBMIT = "submit"
    WAIT = "wait"
    FETCH = "fetch"
    DONE = "done"

    def __str__(self) -> str:
        return self.value


Billed: TypeAlias = Literal["no", "maybe", "yes"]
"""Whether a job costs money: a service may bill what failed, and what may have been accepted."""


class Attempt(Frozen):
    """What became of a document at one of several jobs.

    Attributes:
        job: The job's label.
        reason: Why there is no result; None where there is one.
        error: The same as a sentence.
        doubts: Fields of the result that are not good enough, with what is wrong.
        billed: Whether it costs money.
        ref: The job at the service, where there is one.
        seconds: It took.
    """

    job: str
    reason: Reason | None = None
    error: str | None = None
    doubts: tuple[str, ...] = ()
    billed: Billed = "yes"
    ref: JobRef | None = None
    seconds: float | None = None

    def __str__(self) -> str:
        """Such as `mindee-job/invoices: timeout, billed`, or `numind-job/invoices: succeeded`."""
        what = str(self.reason or "succeeded")
        quality = f" with doubts ({', '.join(self.doubts)})" if self.doubts else ""
        bill = {"no": "", "maybe": ", perhaps billed", "yes": ", billed"}[self.billed]
        return f"{self.job}: {what}{quality}{bill if self.reason or self.doubts else ''}"


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
        reused: Nothing was bought for it by this call: the ledger knew the job, or the result itself.
        tried: The jobs that were tried, in order, where there were several.
    """

    document: str
    ref: JobRef | None = None
    phase: Phase = Phase.SUBMIT
    status: JobStatus | None = None
    result: Result | None = None
    reason: Reason | None = None
    error: str | None = None
    seconds: float | None = None
    reused: bool = False
    tried: tuple[Attempt, ...] = ()

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
        reason = _reason_in(phase, error.reason)
        changes = {"phase": phase, "reason": reason, "error": str(error), "ref": ref}
        return self.model_copy(update={**changes, "seconds": seconds})

    def row(self) -> dict[str, Any]:
        """One flat row: the document, its job, its state, then the fields of its result."""
        ref = self.ref
        head: dict[str, Any] = {
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
        if self.tried:
            head["tried"] = [str(attempt) for attempt in self.tried]
        return joined(head, self.result.row() if self.result else {})


def _reason_in(phase: Phase, reason: Reason) -> Reason:
    """What an error's reason means in a phase: only a result is `unreadable`."""
    if phase is not Phase.SUBMIT and reason in {Reason.THROTTLED, Reason.UNAVAILABLE}:
        return Reason.TIMEOUT
    if reason is Reason.UNREADABLE and phase is Phase.WAIT:
        return Reason.TIMEOUT
    return Reason.UNAVAILABLE if reason is Reason.UNREADABLE and phase is Phase.SUBMIT else reason


class LazyOutcomes(Lazy[Outcome]):
    """The outcomes of a batch, whose results are on the disk where `stored` says so.

    No list, tuple or dataclass, so Prefect takes it for one thing: looking for futures in every value of
    every result, as it does with those, costs up to 30 ms of CPU for a result of 50 KB.

    Attributes:
        heads: All outcomes; the result of one on the disk has only its ref and usage.
        stored: For each outcome where the rest of its result is, or None where nothing is missing.
    """

    __slots__ = ("__weakref__", "heads", "stored")

    __pydantic_serializer__: ClassVar = SchemaSerializer(
        core_schema.any_schema(serialization=core_schema.plain_serializer_function_ser_schema(list))
    )  # where a batch becomes JSON, as with Prefect's JSON serializer

    def __init__(self, heads: tuple[Outcome, ...], stored: tuple[Stored | None, ...]) -> None:
        self.heads = heads
        self.stored = stored

    def __len__(self) -> int:
        return len(self.heads)

    def _item(self, index: int) -> Outcome:
        head, stored = self.heads[index], self.stored[index]
        if stored is None or head.result is None:
            return head
        return head.model_copy(update={"result": unpacked(head.result, stored.read())})

    def _part(self, part: slice) -> LazyOutcomes:
        return LazyOutcomes(self.heads[part], self.stored[part])

    def __hash__(self) -> int:  # type: ignore[override]  # as of a tuple, which it may be equal to
        return hash(tuple(self))

    def __repr__(self) -> str:
        return super().__repr__() if any(self.stored) else repr(self.heads)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled with what is on the disk, so that another process can read it."""
        return _restored, (self.heads, tuple(stored and stored.read() for stored in self.stored))

    def __deepcopy__(self, memo: dict[int, Any]) -> LazyOutcomes:
        return LazyOutcomes(deepcopy(self.heads, memo), self.stored)  # nobody changes what is on the disk


def _restored(heads: tuple[Outcome, ...], bodies: tuple[bytes | None, ...]) -> LazyOutcomes:
    """Unpickled outcomes, with a spool of this process."""
    spool = Spool()
    rows = [_restored_row(head, body, spool) for head, body in zip(heads, bodies, strict=True)]
    return LazyOutcomes(tuple(head for head, _ in rows), tuple(stored for _, stored in rows))


def _restored_row(head: Outcome, body: bytes | None, spool: Spool) -> tuple[Outcome, Stored | None]:
    if body is None or head.result is None:
        return head, None
    if stored := spool.write(body):
        return head, stored
    return head.model_copy(update={"result": unpacked(head.result, body)}), None


class Results(Lazy[Result]):
    """The results among outcomes.

    Args:
        outcomes: All outcomes.
        delivered: The positions of those that have a result.
    """

    __slots__ = ("_delivered", "_outcomes")

    def __init__(self, outcomes: Sequence[Outcome], delivered: Sequence[int]) -> None:
        self._outcomes = outcomes
        self._delivered = delivered

    def __len__(self) -> int:
        return len(self._delivered)

    def _item(self, index: int) -> Result:
        result = self._outcomes[self._delivered[index]].result
        if result is None:
            raise LookupError("The outcome at this position has no result.")
        return result

    def _part(self, part: slice) -> Results:
        return Results(self._outcomes, self._delivered[part])


@dataclass(frozen=True, slots=True)
class Batch(Sequence[Outcome]):
    """The outcomes of many documents, in the order in which the documents were given.

    Of a large batch most results are in a temporary file: each access reads one and does not keep it. Go
    through such a batch once (`for outcome in batch`) rather than by index again and again. Copies and
    slices share the file; a pickled batch carries its results.

    Attributes:
        outcomes: One for each document: what was given, or `LazyOutcomes` as `BatchBuilder` makes them.
    """

    outcomes: Annotated[Sequence[Outcome], AfterValidator(tuple)] = ()  # a tuple again when read from JSON

    @classmethod
    def of(cls, outcomes: Iterable[Outcome]) -> Batch:
        """A batch of any iterable of outcomes, which are taken one by one; see `BatchBuilder`."""
        builder = BatchBuilder()
        for index, outcome in enumerate(outcomes):
            builder.add(index, outcome)
        return builder.build()

    def __len__(self) -> int:
        return len(self.outcomes)

    def __getitem__(self, index: Any) -> Any:
        return self.outcomes[index]

    def __iter__(self) -> Iterator[Outcome]:
        return iter(self.outcomes)

    @property
    def heads(self) -> Sequence[Outcome]:
        """The outcomes without a look at the disk: a result on it has only its `ref` and `usage`."""
        return self.outcomes.heads if isinstance(self.outcomes, LazyOutcomes) else self.outcomes

    @property
    def results(self) -> Sequence[Result]:
        """The results of the documents that have one, in input order; each is read when it is asked for."""
        return Results(self.outcomes, [i for i, head in enumerate(self.heads) if head.result is not None])

    @property
    def failures(self) -> list[Outcome]:
        """The outcomes that ended with a reason, in input order."""
        return [head for head in self.heads if not head.ok]

    @property
    def refs(self) -> list[JobRef]:
        """The jobs that exist, in input order."""
        return [head.ref for head in self.heads if head.ref is not None]

    def rows(self) -> list[dict[str, Any]]:
        """One flat row per document, failures included; see `Outcome.row`."""
        return list(self.iter_rows())

    def iter_rows(self) -> Iterator[dict[str, Any]]:
        """The same as `rows`, one at a time."""
        return (outcome.row() for outcome in self.outcomes)

    def line_items(self) -> list[dict[str, Any]]:
        """One row per line item of every result, with `document`, `list` and `index`."""
        return list(self.iter_line_items())

    def iter_line_items(self) -> Iterator[dict[str, Any]]:
        """The same as `line_items`, one document's at a time."""
        for outcome in self.outcomes:
            if outcome.result:
                for item in outcome.result.line_items():
                    yield {"document": outcome.document, **item}

    @property
    def totals(self) -> dict[str, Any]:
        """Documents, delivered, failed by reason, pages and credits as the services report them."""
        reasons: dict[str, int] = {}
        for failure in self.failures:
            reasons[str(failure.reason)] = reasons.get(str(failure.reason), 0) + 1
        usages = [head.result.usage for head in self.heads if head.result is not None]
        return {
            "documents": len(self.outcomes),
            "delivered": len(usages),
            "failed": len(self.failures),
            "reasons": dict(sorted(reasons.items())),
            "pages": sum(usage.pages or 0 for usage in usages),
            "credits": sum(usage.credits or 0 for usage in usages),
        }


class BatchBuilder:
    """Makes a batch of outcomes that come in any order, without holding all of their results in memory.

    The first results stay in memory; later ones go to a temporary file as they come. A result that cannot,
    for the disk is full or it holds something else than JSON, stays in memory, too: none is lost.

    Args:
        results: Results that stay in memory, at most.
        size: Bytes of those results, as they would be on the disk, at most.
        folder: Where the temporary file is; None for the system's temporary folder (`TMPDIR`).
    """

    def __init__(self, *, results: int = _KEPT, size: int = _KEPT_BYTES, folder: Path | None = None) -> None:
        self._room = results
        self._room_bytes = size
        self._spool = Spool(folder)
        self._rows: dict[int, tuple[Outcome, Stored | None]] = {}

    def add(self, index: int, outcome: Outcome) -> None:
        """Take the outcome at position `index` of the batch.

        Raises:
            ValueError: There is one at this position.
        """
        if index in self._rows:
            raise ValueError(f"There are two outcomes at position {index}.")
        self._rows[index] = self._row(outcome)

    def build(self, total: int | None = None) -> Batch:
        """The batch of all outcomes.

        Args:
            total: How many there must be; None for as many as came.

        Raises:
            ValueError: Some position from 0 to the end has no outcome, or there are too many.
        """
        if self._rows.keys() != set(range(len(self._rows) if total is None else total)):
            raise ValueError(f"{len(self._rows)} outcomes came, and they are not the positions from 0 on.")
        heads = tuple(self._rows[index][0] for index in range(len(self._rows)))
        stored = tuple(self._rows[index][1] for index in range(len(self._rows)))
        return Batch(LazyOutcomes(heads, stored))

    def _row(self, outcome: Outcome) -> tuple[Outcome, Stored | None]:
        if outcome.result is None or not outcome.ok:
            return outcome, None
        try:
            data = packed(outcome.result)
        except ValueError:  # it is nothing that a service answers
            return outcome, None
        if self._stays(len(data)):
            return outcome, None
        stored = self._spool.write(data)
        return (outcome.model_copy(update={"result": stub(outcome.result)}) if stored else outcome), stored

    def _stays(self, size: int) -> bool:
        """Whether a result of `size` bytes has room in memory; from the first that has none, none has."""
        if not self._room or size > self._room_bytes:
            self._room = 0
            return False
        self._room -= 1
        self._room_bytes -= size
        return True
