"""Every transition of a record, as a function on a connection; its condition stands in its WHERE clause.

A record carries a claim that only its holder knows, and a version that goes up by one with each write. So a
transition that is made again, because the answer to the commit was lost, is recognised by the row itself.
"""

from __future__ import annotations

import functools
import json
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
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
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Row

from prefect_docjobs.errors import Reason
from prefect_docjobs.ledger.errors import ClaimLost, JobKnown
from prefect_docjobs.ledger.queries import RECORD_COLUMNS, record_of, select_records
from prefect_docjobs.ledger.records import Entry, Record, State
from prefect_docjobs.ledger.schema import MAX_ALIAS, jobs, now
from prefect_docjobs.models import JobRef

Values = dict[str, Any]

_LEASE = now() + bindparam("lease_seconds", type_=Float(53))
_HELD = and_(jobs.c.id == bindparam("row_id"), jobs.c.claim == bindparam("row_claim"))
_AS_READ = and_(_HELD, jobs.c.version == bindparam("row_version"))
_FREE = jobs.c.lease_until <= now()
_IS_OPEN = jobs.c.state.in_([state.value for state in State if state.is_open])
_NEXT: Mapping[str, ColumnElement[Any]] = {"version": jobs.c.version + 1, "updated_at": now()}
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")  # what PostgreSQL, or UTF-8, does not take


@dataclass(frozen=True, slots=True)
class Holder:
    """Who writes: the ledger's owner and the seconds that its leases last."""

    owner: str
    lease: float


def new_claim() -> str:
    """A token that nobody else has."""
    return secrets.token_hex(8)


# -- intents


def claim(connection: Connection, holder: Holder, entry: Entry, token: str) -> Record | None:
    """Add an intent; the record is mine, or that of whoever was first. None: it was deleted meanwhile."""
    row = _inserted(connection, holder, _new_row(entry, token, holder))
    return record_of(row, mine=row.claim == token) if row is not None else None


def renew(connection: Connection, holder: Holder, record: Record, entry: Entry, token: str) -> Record | None:
    """Add an intent in the place of a record that nobody holds, which becomes history; None: it was changed.

    The claim and the version of the old row stay: should its former holder still live, it writes what it
    bought to that row.
    """
    history = {**_as_read(record), "row_key": record.key, "key": f"{record.key}#{record.id}"}
    if connection.execute(_RETIRE, writable(history)).rowcount:
        row = _inserted(connection, holder, {**_new_row(entry, token, holder), "attempt": record.attempt + 1})
    else:
        row = _by_key(connection, entry.key)
    return record_of(row, mine=True) if row is not None and row.claim == token else None


_RETIRE = update(jobs).where(_AS_READ, _FREE, jobs.c.key == bindparam("row_key")).values(lease_until=0.0)


def take_over(connection: Connection, holder: Holder, record: Record, token: str) -> Record | None:
    """Go on with a record that nobody holds; one that had failed is open again. None: it was changed."""
    values = {
        **_as_read(record),
        "row_key": record.key,
        "claim": token,
        "owner": holder.owner,
        "lease_seconds": holder.lease,
    }
    row = _changed(connection, _TAKE_OVER, values) or _by_id(connection, record.id)
    return record_of(row, mine=True) if row is not None and row.claim == token else None


_TAKE_OVER = (
    update(jobs)
    # A row that became history since it was read has its claim and its version still.
    .where(_AS_READ, _FREE, jobs.c.key == bindparam("row_key"), jobs.c.state != State.FETCHED.value)
    .values(
        **_NEXT,
        lease_until=_LEASE,
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


def resume(connection: Connection, holder: Holder, record: Record) -> Record | None:
    """Extend the lease of a record that nobody has taken over, even where it had run out."""
    held = {"row_id": record.id, "row_claim": record.claim, "lease_seconds": holder.lease}
    row = _changed(connection, _RESUME, held) or _by_id(connection, record.id)
    if row is None or row.claim != record.claim:
        return None
    return record_of(row, mine=State(row.state).is_open)


_RESUME = update(jobs).where(_HELD, _IS_OPEN).values(lease_until=_LEASE)


def delete_intent(connection: Connection, record: Record) -> None:
    """Delete an intent that surely was not sent."""
    if not connection.execute(_DELETE_INTENT, _as_read(record)).rowcount and _by_id(connection, record.id):
        raise _lost(record)


_DELETE_INTENT = delete(jobs).where(_AS_READ, jobs.c.state == State.INTENDED.value)


def release_lease(connection: Connection, record: Record) -> None:
    """Give the lease back; the state stays, and anybody may go on at once."""
    connection.execute(_RELEASE_LEASE, {"row_id": record.id, "row_claim": record.claim})


_RELEASE_LEASE = update(jobs).where(_HELD).values(lease_until=0.0)


def extend_leases(connection: Connection, holder: Holder, ids: Collection[int]) -> None:
    """Extend the leases of records that are still worked on, not of those that have ended since."""
    mine = and_(jobs.c.id.in_(ids), jobs.c.owner == holder.owner, _IS_OPEN)
    connection.execute(update(jobs).where(mine).values(lease_until=_LEASE), {"lease_seconds": holder.lease})


# -- the job


def submitted(connection: Connection, holder: Holder, record: Record, ref: JobRef) -> Record:
    """The service accepted the document, unless another document has that job."""
    values = {
        "row_job_id": ref.job_id,
        "row_provider": record.provider,
        "row_base_url": record.base_url,
        "row_tenant": record.tenant,
        "row_sha256": record.document_sha256,
        "row_name": record.document_name,
    }
    try:
        return _advance(connection, holder, record, State.SUBMITTED, {**values, **ref_values(ref)})
    except ClaimLost:
        row = _by_id(connection, record.id)
        as_read = (record.claim, record.version, record.state)
        if row is not None and (row.claim, row.version, row.state) == as_read:
            what = f"The service answered with the job of another document, {ref.job_id}."
            raise JobKnown(what) from None
        raise


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


def keep_job(connection: Connection, holder: Holder, record: Record, ref: JobRef) -> Record | None:
    """A job whose record was taken over before it could be recorded: a history row of its own, and mine."""
    key = f"{record.key.partition('#')[0]}#{record.id}.{record.claim}"
    row = _inserted(
        connection,
        holder,
        {
            **_new_row(record, record.claim, holder),
            **ref_values(ref),
            "key": key,
            "state": State.SUBMITTED.value,
            "attempt": record.attempt,
            "submitted_at": ref.submitted_at.timestamp(),
        },
    )
    return record_of(row, mine=True) if row is not None else None


def done(
    connection: Connection, holder: Holder, record: Record, ref: JobRef, body: Values | None = None
) -> Record:
    """The job has succeeded; `body` are the columns of its result, where that is kept by now."""
    return _advance(connection, holder, record, State.DONE, {**ref_values(ref), **(body or {})})


def set_aside(connection: Connection, record: Record, error: str) -> Record:
    """The result cannot be read: its bytes stay, the job is still done, and anybody may fetch again."""
    values = {**_as_read(record), "reason": Reason.UNREADABLE.value, "error": error}
    return record_of(_recognised(connection, record, _changed(connection, _SET_ASIDE, values)))


_SET_ASIDE = update(jobs).where(_AS_READ).values(state=State.DONE.value, **_NEXT, lease_until=0.0)


def deliver(connection: Connection, record: Record, job_id: str, news: Values) -> Record:
    """A result that came although the record is not held: it may be the only one to be had.

    Whoever holds the record goes on holding it, and finds the result there.
    """
    values = {"row_id": record.id, "row_job_id": job_id, **news}
    row = _changed(connection, _DELIVER, values) or _by_id(connection, record.id)
    if row is None or row.job_id != job_id or row.state not in (State.DONE, State.FETCHED):
        raise _lost(record)
    return record_of(row, mine=record.mine and row.claim == record.claim)


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


def fetched(
    connection: Connection, holder: Holder, record: Record, ref: JobRef, figures: Mapping[str, float | None]
) -> Record:
    """The result was read as that of this job. The record ends with it."""
    news = {**ref_values(ref), **figures, "reason": None, "error": None}
    return _advance(connection, holder, record, State.FETCHED, news)


def failed(
    connection: Connection,
    holder: Holder,
    record: Record,
    *,
    reason: Reason,
    error: str,
    ref: JobRef | None,
    candidates: Sequence[str],
) -> Record:
    """There is no result; a job that is known stays known."""
    news = {
        "reason": reason.value,
        "error": error,
        "candidates": json.dumps(candidates) if candidates else None,
        **(ref_values(ref) if ref else {}),
    }
    return _advance(connection, holder, record, State.FAILED, news)


# -- how it is done


def _advance(connection: Connection, holder: Holder, record: Record, target: State, news: Values) -> Record:
    """The next state of a record that the caller holds."""
    lease = {"lease_seconds": holder.lease} if target.is_open else {}
    row = _changed(connection, _advancing(target), {**_as_read(record), **lease, **news})
    row = _recognised(connection, record, row)
    if row.state != target:
        raise _lost(record)
    return record_of(row, mine=True)


@functools.cache
def _advancing(target: State) -> Update:
    stamp = {} if target is State.FAILED else {f"{target}_at": now()}
    lease = {"lease_until": _LEASE if target.is_open else 0.0}
    change = update(jobs).where(_AS_READ).values(state=target.value, **_NEXT, **stamp, **lease)
    return change.where(~_ANOTHER_HAS_THE_JOB) if target is State.SUBMITTED else change


def _recognised(connection: Connection, record: Record, row: Row[Any] | None) -> Row[Any]:
    """The row that was changed, now or when the same transition was made before."""
    row = row or _by_id(connection, record.id)
    if row is None or (row.claim, row.version) != (record.claim, record.version + 1):
        raise _lost(record)
    return row


def _changed(connection: Connection, statement: Update, values: Values) -> Row[Any] | None:
    """The row that a statement changed, or None where its condition did not hold."""
    values = writable(values)
    if connection.dialect.update_returning:  # SQLite from 3.35 on
        return connection.execute(_returning(statement), values).one_or_none()
    if not connection.execute(statement, values).rowcount:
        return None
    return _by_id(connection, values["row_id"])


# Built once: SQLAlchemy finds its SQL by the object, where a new one would cost 0.5 ms to recognise.
@functools.cache
def _returning(statement: Update) -> Any:
    return statement.returning(*RECORD_COLUMNS)


def _inserted(connection: Connection, holder: Holder, row: Values) -> Row[Any] | None:
    """The row of a key: the new one, or the one that has the key already."""
    values = writable({**row, "lease_seconds": holder.lease})
    connection.execute(_INSERT[connection.dialect.name], values)
    return _by_key(connection, row["key"])


_FILLED_IN = {"lease_until": _LEASE, "intended_at": now(), "updated_at": now()}
_INSERT = {
    "sqlite": sqlite.insert(jobs).values(_FILLED_IN).on_conflict_do_nothing(),
    "postgresql": postgresql.insert(jobs).values(_FILLED_IN).on_conflict_do_nothing(),
}


def _by_id(connection: Connection, row_id: int) -> Row[Any] | None:
    return connection.execute(_BY_ID, {"row_id": row_id}).one_or_none()


def _by_key(connection: Connection, key: str) -> Row[Any] | None:
    return connection.execute(_BY_KEY, {"row_key": key}).one_or_none()


_BY_ID = select_records().where(jobs.c.id == bindparam("row_id"))
_BY_KEY = select_records().where(jobs.c.key == bindparam("row_key"))


def writable(values: Values) -> Values:
    """What a file name or a service's message holds must not keep a paid job from being recorded."""
    return {
        name: _NO_TEXT.sub("_", value) if isinstance(value, str) else value for name, value in values.items()
    }


def _as_read(record: Record) -> Values:
    return {"row_id": record.id, "row_claim": record.claim, "row_version": record.version}


def ref_values(ref: JobRef) -> Values:
    """The columns of a job."""
    alias = ref.alias if ref.alias and len(ref.alias) <= MAX_ALIAS else None
    return {"job_id": ref.job_id, "alias": alias, "ref": ref.model_dump_json(exclude_none=True)}


_ENTRY = tuple(field.name for field in fields(Entry))


def _new_row(entry: Entry, token: str, holder: Holder) -> Values:
    return {
        **{name: getattr(entry, name) for name in _ENTRY},
        "state": State.INTENDED.value,
        "attempt": 1,
        "claim": token,
        "version": 0,
        "owner": holder.owner,
    }


def _lost(record: Record) -> ClaimLost:
    return ClaimLost(
        f"{record.document_name}: somebody else went on with record {record.id} of the ledger, or it was "
        "written since it was read. Read it again."
    )
