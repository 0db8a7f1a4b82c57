"""What can be asked of the ledger. Reads use connections of their own and wait for no write."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy
from datetime import datetime
from typing import Any

from sqlalchemy import URL, Select, select
from sqlalchemy.engine import Row

from prefect_docjobs.errors import Reason
from prefect_docjobs.ledger import rows
from prefect_docjobs.ledger.database import Database
from prefect_docjobs.ledger.errors import LedgerUnavailable
from prefect_docjobs.ledger.records import Record, State, Totals
from prefect_docjobs.ledger.schema import jobs


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
        for some in rows.chunks(ids):
            for row in await self._read(rows.select_records().where(jobs.c.id.in_(some))):
                found[row.id] = rows.record_of(row)
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
        fits = rows.matching(
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
        for listed in rows.in_lists({"key": keys, "job_id": job_ids}):
            page = rows.select_records().where(fits, listed, jobs.c.id > after_id).order_by(order)
            found += map(rows.record_of, await self._read(page.limit(limit)))
        return sorted(found, key=lambda record: record.id, reverse=newest_first)[:limit]

    async def known_jobs(self, provider: str, base_url: str, tenant: str, job_ids: Iterable[str]) -> set[str]:
        """Which of a service's jobs the ledger knows."""
        account = rows.matching(provider=provider, base_url=base_url, tenant=tenant)
        known: set[str] = set()
        for some in rows.chunks(job_ids):
            found = await self._read(select(jobs.c.job_id).where(account, jobs.c.job_id.in_(some)))
            known.update(row.job_id for row in found)
        return known

    async def totals(self, flow_run_id: str) -> Totals:
        """What a flow run bought."""
        groups = await self._read(rows.select_totals(flow_run_id))
        quota = await self._read(rows.select_quota(flow_run_id))
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
