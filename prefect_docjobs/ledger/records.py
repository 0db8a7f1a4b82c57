"""What the ledger knows about one document's bill, and what follows from it. Pure: no database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Literal

from prefect_docjobs.errors import RETRY_POLICY, Reason, Retry
from prefect_docjobs.models import JobRef


class State(str, Enum):
    """How far a document is known, durably, to have come."""

    INTENDED = "intended"
    SUBMITTED = "submitted"
    DONE = "done"
    FETCHED = "fetched"
    FAILED = "failed"

    @property
    def is_open(self) -> bool:
        """Whether somebody has to go on with it; only open records are held by a lease."""
        return self not in (State.FETCHED, State.FAILED)

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a bill is for. `entry_for` builds the key.

    Attributes:
        key: What must not be bought twice; unique in the ledger.
        provider: Registry name of the service.
        base_url: Scheme, host and port of the service.
        tenant: Whose account it is.
        product: What is asked for.
        document_name: Name of the document.
        document_sha256: Hex digest of its content; None for a document given by URL.
        document_size: Bytes, where known.
        flow_run_id: The flow run that intends to buy, where there is one.
        task_run_id: The task run likewise.
        block: Name of the saved job block, such as `mindee-job/invoices`, by which another process can find
            the account; None where it is not saved.
    """

    key: str
    provider: str
    base_url: str
    tenant: str
    product: str
    document_name: str
    document_sha256: str | None = None
    document_size: int | None = None
    flow_run_id: str | None = None
    task_run_id: str | None = None
    block: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record(Entry):
    """One row as it was read. `key` of a retired row is `<key>#<id>`: it is history.

    Attributes:
        id: Row number; never used again.
        state: How far it has come.
        attempt: 1 for the first submit under this key, one more for each further one.
        claim: Token of the call that holds the record; every write is conditional on it.
        version: Number of writes so far; every write is conditional on it.
        owner: Which opened ledger holds it: host, process id, random.
        mine: Whether the call that returned this record holds it, and may write.
        lease_left: Seconds that the holder has left, by the database's clock; not above 0: nobody holds it.
        age: Seconds since the intent, by the database's clock.
        job_id: The service's id, once known.
        ref: The job, once known.
        reason: Why there is no result, for FAILED.
        error: The message that goes with it.
        candidates: Ids of jobs that may be this document's, for an uncertain submit.
        pages: Pages that the service billed, where it tells.
        credits: Credits that the service billed, where it tells.
        quota_remaining: What the account has left, where the service tells.
        intended_at: When the intent was written. All times are UTC, by the database's clock.
        submitted_at: When the job's id was written.
        done_at: When it was written that the job is done.
        fetched_at: When the result was written.
        updated_at: When the row was written last; heartbeats do not count.
        has_body: Whether there is a result to read.
        body_size: Bytes of the result, uncompressed.
        content_type: Media type of the result.
    """

    id: int
    state: State
    attempt: int
    claim: str
    version: int
    owner: str
    mine: bool = False
    lease_left: float
    age: float
    job_id: str | None = None
    ref: JobRef | None = None
    reason: Reason | None = None
    error: str | None = None
    candidates: tuple[str, ...] = ()
    pages: int | None = None
    credits: float | None = None
    quota_remaining: float | None = None
    intended_at: datetime
    submitted_at: datetime | None = None
    done_at: datetime | None = None
    fetched_at: datetime | None = None
    updated_at: datetime
    has_body: bool = False
    body_size: int | None = None
    content_type: str | None = None

    @property
    def retired(self) -> bool:
        """Whether another submit took the key over; this row is its history."""
        return "#" in self.key


@dataclass(frozen=True, slots=True)
class Totals:
    """What one flow run bought.

    Attributes:
        documents: Number of records in each state that occurs.
        pages: As far as the service tells; also of failed documents where it bills them.
        credits: Likewise.
        quota_remaining: What the account had left at the last result that tells.
    """

    documents: Mapping[State, int] = field(default_factory=dict)
    pages: int = 0
    credits: float = 0.0
    quota_remaining: float | None = None


class Step(str, Enum):
    """What to do with a record next."""

    SUBMIT = "submit"
    WAIT = "wait"
    FETCH = "fetch"
    USE = "use"
    STAND_BY = "stand_by"
    RECONCILE = "reconcile"
    FAIL = "fail"

    def __str__(self) -> str:
        return self.value


def next_step(
    record: Record,
    *,
    mine: bool,
    reuse_for: float | None,
    on_uncertain: Literal["fail", "resubmit"],
) -> Step:
    """What to do with a record; the first line that fits counts.

    | state | and | step |
    |---|---|---|
    | FETCHED | younger than `reuse_for` | USE |
    | FETCHED | older | SUBMIT |
    | any other | somebody else's lease runs | STAND_BY |
    | INTENDED | mine | SUBMIT |
    | INTENDED | its holder is gone | RECONCILE |
    | SUBMITTED | | WAIT |
    | DONE | | FETCH |
    | FAILED | `uncertain` | FAIL, or SUBMIT with `on_uncertain="resubmit"` |
    | FAILED | `failed` `expired` `lost_job` `lost_result` | FAIL: it is paid for |
    | FAILED | `cancelled`, or no job is known | SUBMIT: nothing was bought, or it was given up |
    | FAILED | any other reason, with a job | WAIT: it is paid for, and may still be had |

    A step on a record that is not mine begins with `Ledger.renew` for SUBMIT, else with `Ledger.take_over`.

    Args:
        record: As it was read just now; its lease and its age are those of that moment.
        mine: Whether the caller holds it (`Record.mine`). That the same process does is not enough: another
            call in it may be at work on the same document.
        reuse_for: Seconds after the intent during which a result is used again; None means for ever, 0 never.
            Work in flight is always taken up.
        on_uncertain: Whether an uncertain submit is an end, or is bought again.
    """
    if record.state is State.FETCHED:
        return Step.USE if reuse_for is None or record.age < reuse_for else Step.SUBMIT
    if record.lease_left > 0.0 and not mine:
        return Step.STAND_BY
    match record.state:
        case State.INTENDED:
            return Step.SUBMIT if mine else Step.RECONCILE
        case State.SUBMITTED:
            return Step.WAIT
        case State.DONE:
            return Step.FETCH
    return _after_failure(record, on_uncertain)


def _after_failure(record: Record, on_uncertain: Literal["fail", "resubmit"]) -> Step:
    if record.reason is Reason.UNCERTAIN:
        return Step.SUBMIT if on_uncertain == "resubmit" else Step.FAIL
    if record.reason is not None and RETRY_POLICY[record.reason].retry is Retry.RESUBMIT:
        return Step.FAIL  # it is paid for
    if record.reason is Reason.CANCELLED or record.job_id is None:
        return Step.SUBMIT
    return Step.WAIT
