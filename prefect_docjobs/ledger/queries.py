"""Rows of the ledger as records, and all that can be asked of it. Reads wait for no write."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy
from datetime import datetime, timezone
from itertools import product
from typing import Any, TypeVar

from pydantic import ValidationError
from sqlalchemy import URL, ColumnElement, Select, and_, case, func, select, true
from sqlalchemy.engine import Row

from prefect_docjobs.errors import Reason
from prefect_docjobs.ledger.database import Database
from prefect_docjobs.ledger.errors import LedgerUnavailable
from prefect_docjobs.ledger.records import Record, State, Totals
from prefect_docjobs.ledger.schema import jobs, now
from prefect_docjobs.models import JobRef

# ----------------------------------------------------------------------------------------------------- rows

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


# -------------------------------------------------------------------------------------------------- queries


class Reader:
    """The questions. All raise `LedgerUnavailable` when the database cannot answer."""

    _database: Database

    def __init__(self, url: URL | None) -> None:
        self._url = url
        self._keys: dict[str, list[asyncio.Future[Record | None]]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def record(self, id: int) -> Record | None:  # noqa: A002 (it is the record's id)
        """One record as it is now, or None."""
        return (await self.records([id])).get(id)

    async def by_key(self, key: str) -> Record | None:
        """The record of an entry as it is now, or None; all who ask at the same moment share one question."""
        answer: asyncio.Future[Record | None] = asyncio.get_running_loop().create_future()
        self._keys.setdefault(key, []).append(answer)
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read_keys(), name="docjobs-ledger-keys")
        return await answer

    async def _read_keys(self) -> None:
        while self._keys:
            await asyncio.sleep(0)  # everybody who is ready now comes along
            asked, self._keys = self._keys, {}
            try:
                found = {record.key: record for record in await self.find(keys=asked, limit=len(asked))}
            except LedgerUnavailable as problem:
                for answer in _open(asked.values()):
                    answer.set_exception(copy(problem))
                continue
            except Exception:  # noqa: BLE001 (one row that cannot be read must not take the others with it)
                found = await self._one_by_one(asked)
            for key, answers in asked.items():
                for answer in _open([answers]):
                    answer.set_result(found.get(key))

    async def _one_by_one(
        self, asked: Mapping[str, Iterable[asyncio.Future[Record | None]]]
    ) -> dict[str, Record]:
        found: dict[str, Record] = {}
        for key, answers in asked.items():
            try:
                found.update((record.key, record) for record in await self.find(keys=[key], limit=1))
            except Exception as problem:  # noqa: BLE001, PERF203 (whatever it is, its callers must hear of it)
                for answer in _open([answers]):
                    answer.set_exception(copy(problem))
        return found

    async def records(self, ids: Iterable[int]) -> dict[int, Record]:
        """Records as they are now, by id; those that are not there are left out."""
        found: dict[int, Record] = {}
        for some in chunks(ids):
            for row in await self._read(select_records().where(jobs.c.id.in_(some))):
                found[row.id] = record_of(row)
        return found

    async def find(
        self,
        *,
        keys: Collection[str] | None = None,
        job_ids: Collection[str] | None = None,
        provider: str | None = None,
        base_url: str | None = None,
        tenant: str | None = None,
        flow_run_id: str | None = None,
        states: Collection[State] | None = None,
        reasons: Collection[Reason] | None = None,
        since: datetime | None = None,
        limit: int = 1000,
        after_id: int = 0,
        newest_first: bool = False,
    ) -> list[Record]:
        """Records that fit all that is given, in the order of their ids.

        Args:
            keys: Of entries; history rows have other keys.
            job_ids: The service's ids.
            provider: Registry name.
            base_url: Of the service.
            tenant: The account.
            flow_run_id: The flow run that intended to buy.
            states: Any of these.
            reasons: Any of these.
            since: Intended then or later.
            limit: At most so many.
            after_id: Only those with a greater id; for the next page, the last id of this one.
            newest_first: In the opposite order, so that `limit` leaves out the oldest.
        """
        fits = matching(
            provider=provider,
            base_url=base_url,
            tenant=tenant,
            flow_run_id=flow_run_id,
            states=states,
            reasons=reasons,
            since=since,
        )
        order = jobs.c.id.desc() if newest_first else jobs.c.id
        found: list[Record] = []
        for listed in in_lists({"key": keys, "job_id": job_ids}):
            page = select_records().where(fits, listed, jobs.c.id > after_id).order_by(order)
            found += map(record_of, await self._read(page.limit(limit)))
        return sorted(found, key=lambda record: record.id, reverse=newest_first)[:limit]

    async def known_jobs(self, provider: str, base_url: str, tenant: str, job_ids: Iterable[str]) -> set[str]:
        """Which of a service's jobs the ledger knows."""
        account = matching(provider=provider, base_url=base_url, tenant=tenant)
        known: set[str] = set()
        for some in chunks(job_ids):
            found = await self._read(select(jobs.c.job_id).where(account, jobs.c.job_id.in_(some)))
            known.update(row.job_id for row in found)
        return known

    async def totals(self, flow_run_id: str) -> Totals:
        """What a flow run bought."""
        groups = await self._read(select_totals(flow_run_id))
        quota = await self._read(select_quota(flow_run_id))
        return Totals(
            documents={State(row.state): row.documents for row in groups if row.documents},
            pages=sum(int(row.pages) for row in groups),
            credits=sum(float(row.credits) for row in groups),
            quota_remaining=quota[0].quota_remaining if quota else None,
        )

    async def _read(self, question: Select[Any]) -> Sequence[Row[Any]]:
        return await self._database.run(lambda connection: connection.execute(question).all())


def _open(
    groups: Iterable[Iterable[asyncio.Future[Record | None]]],
) -> Iterator[asyncio.Future[Record | None]]:
    return (answer for answers in groups for answer in answers if not answer.done())
