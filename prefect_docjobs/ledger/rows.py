"""Rows of the table as records, and the questions that are asked of it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from itertools import product
from typing import Any, TypeVar

from pydantic import ValidationError
from sqlalchemy import ColumnElement, Select, and_, case, func, select, true
from sqlalchemy.engine import Row

from prefect_docjobs.errors import Reason
from prefect_docjobs.ledger.records import Record, State
from prefect_docjobs.ledger.schema import jobs, now
from prefect_docjobs.models import JobRef

CHUNK = 500
"""Values in one IN list: far below what the databases take in one statement."""

_T = TypeVar("_T")
_UNREAD = ("body", "body_place", "alias")  # the alias is in the ref, too
_FACTS = tuple(
    column.name
    for column in jobs.columns
    if column.name not in (*_UNREAD, "lease_until", "ref", "candidates", "state", "reason")
    and not column.name.endswith("_at")
)
_TIMES = ("intended_at", "submitted_at", "done_at", "fetched_at", "updated_at")


RECORD_COLUMNS = (*(column for column in jobs.columns if column.name not in _UNREAD), now().label("now"))
"""All that a record says; the result's body stays where it is."""


def select_records() -> Select[Any]:
    """Rows for `record_of`."""
    return select(*RECORD_COLUMNS)


def record_of(row: Row[Any], *, mine: bool = False) -> Record:
    """One row as a record."""
    values = row._mapping  # noqa: SLF001 (SQLAlchemy's public accessor, so named to spare column names)
    ref, candidates, reason = values["ref"], values["candidates"], values["reason"]
    facts: dict[str, Any] = {name: values[name] for name in _FACTS}
    times: dict[str, Any] = {name: _date(values[name]) for name in _TIMES}
    return Record(
        **facts,
        **times,
        state=State(values["state"]),
        mine=mine,
        lease_left=values["lease_until"] - values["now"],
        age=max(0.0, values["now"] - values["intended_at"]),
        ref=ref_of(ref) if ref else None,
        reason=_reason(reason) if reason else None,
        candidates=tuple(json.loads(candidates)) if candidates else (),
        has_body=values["body_size"] is not None,
    )


def ref_of(text: str) -> JobRef:
    """A ref as it was written down, perhaps by a newer version that knows more about jobs."""
    try:
        return JobRef.model_validate_json(text)
    except ValidationError:
        facts = json.loads(text)
        return JobRef.model_validate({name: facts[name] for name in JobRef.model_fields if name in facts})


def _reason(word: str) -> Reason:
    """A reason of a newer version counts as `failed`: then nothing is bought again without being told to."""
    try:
        return Reason(word)
    except ValueError:
        return Reason.FAILED


def matching(
    *,
    provider: str | None = None,
    base_url: str | None = None,
    tenant: str | None = None,
    flow_run_id: str | None = None,
    states: Collection[State] | None = None,
    reasons: Collection[Reason] | None = None,
    since: datetime | None = None,
) -> ColumnElement[bool]:
    """The condition for rows that fit all that is given."""
    equal = {"provider": provider, "base_url": base_url, "tenant": tenant, "flow_run_id": flow_run_id}
    conditions = [jobs.c[name] == value for name, value in equal.items() if value is not None]
    if states is not None:
        conditions.append(jobs.c.state.in_([state.value for state in states]))
    if reasons is not None:
        conditions.append(jobs.c.reason.in_([reason.value for reason in reasons]))
    if since is not None:
        conditions.append(jobs.c.intended_at >= since.timestamp())
    return and_(true(), *conditions)


def select_totals(flow_run_id: str) -> Select[Any]:
    """By state, the documents of a flow run, and pages and credits; those of history rows were bought too."""
    return (
        select(
            jobs.c.state,
            func.count(case((jobs.c.key.not_like("%#%"), 1))).label("documents"),
            func.coalesce(func.sum(jobs.c.pages), 0).label("pages"),
            func.coalesce(func.sum(jobs.c.credits), 0.0).label("credits"),
        )
        .where(jobs.c.flow_run_id == flow_run_id)
        .group_by(jobs.c.state)
    )


def select_quota(flow_run_id: str) -> Select[Any]:
    """What the account had left at the last result of a flow run that tells."""
    told = and_(jobs.c.flow_run_id == flow_run_id, jobs.c.quota_remaining.is_not(None))
    return select(jobs.c.quota_remaining).where(told).order_by(jobs.c.fetched_at.desc()).limit(1)


def chunks(values: Iterable[_T]) -> Iterator[Sequence[_T]]:
    """The distinct values, `CHUNK` at a time."""
    distinct = list(dict.fromkeys(values))
    return (distinct[start : start + CHUNK] for start in range(0, len(distinct), CHUNK))


def in_lists(lists: Mapping[str, Collection[str] | None]) -> Iterator[ColumnElement[bool]]:
    """Conditions, of a size that databases take, that together say: each column has a value of its list."""
    given = {name: list(chunks(values)) for name, values in lists.items() if values is not None}
    for some in product(*given.values()):
        yield and_(true(), *(jobs.c[name].in_(part) for name, part in zip(given, some, strict=True)))


def _date(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)
