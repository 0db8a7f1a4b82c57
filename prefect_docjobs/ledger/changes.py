"""Changes of existing rows: what each sets, and on which condition."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import ClassVar

from sqlalchemy import (
    Delete,
    String,
    Text,
    Update,
    and_,
    bindparam,
    case,
    delete,
    func,
    or_,
    select,
    update,
)
from typing_extensions import override

from prefect_docjobs.errors import Reason
from prefect_docjobs.ledger.errors import JobKnown
from prefect_docjobs.ledger.records import Record, State
from prefect_docjobs.ledger.rows import record_of
from prefect_docjobs.ledger.schema import MAX_ALIAS, jobs, now
from prefect_docjobs.ledger.writes import (
    AS_READ,
    FREE,
    HELD,
    LEASE,
    NEXT,
    After,
    Change,
    Holder,
    OfRecord,
    Values,
    lost,
    new_claim,
)
from prefect_docjobs.models import JobRef


@dataclass(frozen=True, slots=True)
class Advance(OfRecord, Change):
    """The next state of a record that the caller holds."""

    target: State
    news: Values

    @property
    @override
    def statement(self) -> Update:
        return _advance(self.target)

    @override
    def values(self, holder: Holder) -> Values:
        lease = {"lease_seconds": holder.lease} if self.target.is_open else {}
        return {**self.as_read(), **lease, **self.news}

    @override
    def judge(self, after: After) -> Record:
        row, record = after.by_id.get(self.record.id), self.record
        if row is None or (row.claim, row.version) != (record.claim, record.version + 1):
            raise lost(record)
        if row.state != self.target:
            raise lost(record)
        return record_of(row, mine=True)


@cache
def _advance(target: State) -> Update:
    stamp = {} if target is State.FAILED else {f"{target}_at": now()}
    lease = {"lease_until": LEASE if target.is_open else 0.0}
    return update(jobs).where(AS_READ).values(state=target.value, **NEXT, **stamp, **lease)


@dataclass(frozen=True, slots=True)
class Submitted(Advance):
    """The job of a record that the caller holds, unless another document has that job."""

    @property
    @override
    def statement(self) -> Update:
        return _SUBMITTED

    @override
    def values(self, holder: Holder) -> Values:
        record = self.record
        account = {
            "row_provider": record.provider,
            "row_base_url": record.base_url,
            "row_tenant": record.tenant,
        }
        content = {"row_sha256": record.document_sha256, "row_name": record.document_name}
        return {**Advance.values(self, holder), **account, **content, "row_job_id": self.news["job_id"]}

    @override
    def judge(self, after: After) -> Record:
        row, record = after.by_id.get(self.record.id), self.record
        as_read = (record.claim, record.version, record.state)
        if row is not None and (row.claim, row.version, row.state) == as_read:
            raise JobKnown(f"The service answered with the job of another document, {self.news['job_id']}.")
        return Advance.judge(self, after)


_other = jobs.alias("other")
_ANOTHER_HAS_THE_JOB = (
    select(_other.c.id)
    .where(
        _other.c.job_id == bindparam("row_job_id", type_=Text),
        _other.c.id != jobs.c.id,
        _other.c.provider == bindparam("row_provider"),
        _other.c.base_url == bindparam("row_base_url"),
        _other.c.tenant == bindparam("row_tenant"),
        or_(
            _other.c.document_sha256 != bindparam("row_sha256", type_=String),
            # A document that the service fetches from a URL has no hash here; its name has to do.
            and_(
                func.coalesce(_other.c.document_sha256, bindparam("row_sha256", type_=String)).is_(None),
                _other.c.document_name != bindparam("row_name", type_=Text),
            ),
        ),
    )
    .exists()
)
_SUBMITTED = _advance(State.SUBMITTED).where(~_ANOTHER_HAS_THE_JOB)


@dataclass(frozen=True, slots=True)
class TakeOver(OfRecord, Change):
    """Go on with a record that nobody holds. One that had failed is open again."""

    withdrawable: ClassVar[bool] = True
    claim: str = field(default_factory=new_claim)

    @property
    @override
    def statement(self) -> Update:
        return _TAKE_OVER

    @override
    def values(self, holder: Holder) -> Values:
        return {
            **self.as_read(),
            "row_key": self.record.key,
            "claim": self.claim,
            "owner": holder.owner,
            "lease_seconds": holder.lease,
        }

    @override
    def judge(self, after: After) -> Record | None:
        row = after.by_id.get(self.record.id)
        return record_of(row, mine=True) if row is not None and row.claim == self.claim else None


_TAKE_OVER = (
    update(jobs)
    # A row that became history since it was read has its claim and its version still.
    .where(AS_READ, FREE, jobs.c.key == bindparam("row_key"), jobs.c.state != State.FETCHED.value)
    .values(
        **NEXT,
        lease_until=LEASE,
        state=case(
            (jobs.c.state != State.FAILED.value, jobs.c.state),
            (jobs.c.body_size.is_not(None), State.DONE.value),
            (jobs.c.job_id.is_(None), State.INTENDED.value),
            else_=State.SUBMITTED.value,
        ),
        reason=None,
        error=None,
    )
)


@dataclass(frozen=True, slots=True)
class Resume(OfRecord, Change):
    """Extend the lease of a record that nobody has taken over, even where it had run out."""

    @property
    @override
    def statement(self) -> Update:
        return _RESUME

    @override
    def values(self, holder: Holder) -> Values:
        held = {"row_id": self.record.id, "row_claim": self.record.claim}
        return {**held, "lease_seconds": holder.lease}

    @override
    def judge(self, after: After) -> Record | None:
        row = after.by_id.get(self.record.id)
        if row is None or row.claim != self.record.claim:
            return None
        return record_of(row, mine=State(row.state).is_open)


_RESUME = (
    update(jobs)
    .where(HELD, jobs.c.state.in_([state.value for state in State if state.is_open]))
    .values(lease_until=LEASE)
)


@dataclass(frozen=True, slots=True)
class SetAside(OfRecord, Change):
    """A result that cannot be read: its bytes stay, the job is still done, and anybody may fetch again."""

    error: str

    @property
    @override
    def statement(self) -> Update:
        return _SET_ASIDE

    @override
    def values(self, holder: Holder) -> Values:
        return {**self.as_read(), "reason": Reason.UNREADABLE.value, "error": self.error}

    @override
    def judge(self, after: After) -> Record:
        row = after.by_id.get(self.record.id)
        if row is None or (row.claim, row.version) != (self.record.claim, self.record.version + 1):
            raise lost(self.record)
        return record_of(row)


_SET_ASIDE = update(jobs).where(AS_READ).values(state=State.DONE.value, **NEXT, lease_until=0.0)


@dataclass(frozen=True, slots=True)
class Deliver(OfRecord, Change):
    """A result that came although the record is not held: it may be the only one to be had.

    Whoever holds the record goes on holding it, and finds the result there.
    """

    job_id: str
    news: Values

    @property
    @override
    def statement(self) -> Update:
        return _DELIVER

    @override
    def values(self, holder: Holder) -> Values:
        return {"row_id": self.record.id, "row_job_id": self.job_id, **self.news}

    @override
    def judge(self, after: After) -> Record:
        row = after.by_id.get(self.record.id)
        if row is None or row.job_id != self.job_id or row.state not in (State.DONE, State.FETCHED):
            raise lost(self.record)
        return record_of(row, mine=self.record.mine and row.claim == self.record.claim)


_DELIVER = (
    update(jobs)
    .where(
        jobs.c.id == bindparam("row_id"),
        jobs.c.job_id == bindparam("row_job_id"),
        jobs.c.state != State.FETCHED.value,
        # Bytes that came before are not replaced: their record may be about to be called fetched.
        or_(jobs.c.body_size.is_(None), jobs.c.reason == Reason.UNREADABLE.value),
    )
    .values(
        # By two: one more is what the holder's own write makes, by which it recognises it.
        version=jobs.c.version + 2,
        updated_at=now(),
        state=State.DONE.value,
        done_at=func.coalesce(jobs.c.done_at, now()),
        reason=None,
        error=None,
    )
)


@dataclass(frozen=True, slots=True)
class LetGo(OfRecord, Change):
    """Give the lease back; the state stays, and anybody may go on at once."""

    @property
    @override
    def statement(self) -> Update:
        return _LET_GO

    @override
    def values(self, holder: Holder) -> Values:
        return {"row_id": self.record.id, "row_claim": self.record.claim}

    @override
    def judge(self, after: After) -> None:
        return None


_LET_GO = update(jobs).where(HELD).values(lease_until=0.0)


@dataclass(frozen=True, slots=True)
class Beat(Change):
    """Extend the leases of records that are still being worked on."""

    ids: tuple[int, ...]

    @property
    @override
    def statement(self) -> Update:
        # Not of a row that has ended since: its lease would hold up everybody, and nobody would extend it.
        is_open = jobs.c.state.in_([state.value for state in State if state.is_open])
        mine = and_(jobs.c.id.in_(self.ids), jobs.c.owner == bindparam("row_owner"), is_open)
        return update(jobs).where(mine).values(lease_until=LEASE)

    @override
    def values(self, holder: Holder) -> Values:
        return {"row_owner": holder.owner, "lease_seconds": holder.lease}

    @override
    def judge(self, after: After) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Release(OfRecord, Change):
    """Strike an intent that surely was not sent."""

    @property
    @override
    def statement(self) -> Delete:
        return _RELEASE

    @override
    def values(self, holder: Holder) -> Values:
        return self.as_read()

    @override
    def judge(self, after: After) -> None:
        if self.record.id in after.by_id:
            raise lost(self.record)


_RELEASE = delete(jobs).where(AS_READ, jobs.c.state == State.INTENDED.value)


def ref_values(ref: JobRef) -> Values:
    """The columns that tell of a job."""
    alias = ref.alias if ref.alias and len(ref.alias) <= MAX_ALIAS else None
    return {"job_id": ref.job_id, "alias": alias, "ref": ref.model_dump_json(exclude_none=True)}


def failure_values(reason: Reason, error: str, ref: JobRef | None, candidates: Sequence[str]) -> Values:
    """The columns that tell of a failure; a known job stays known."""
    told = {
        "reason": reason.value,
        "error": error,
        "candidates": json.dumps(candidates) if candidates else None,
    }
    return {**told, **ref_values(ref)} if ref else told
