"""The inbox of pushes: what services said by themselves, kept before the service is answered.

A push whose job has a record brings the result into that record at once. Any other, such as one that comes
before its submit is written down, waits here for whoever waits for the job, until it expires.
"""

from __future__ import annotations

import json
import re
import secrets
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from typing import Any

from sqlalchemy import Connection, Float, Integer, bindparam, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Row

from prefect_docjobs.ledger.bodies import INLINE, Bodies, compress, decompress
from prefect_docjobs.ledger.database import Database
from prefect_docjobs.ledger.errors import ClaimLost, LedgerUnavailable
from prefect_docjobs.ledger.jobs import Values, deliver
from prefect_docjobs.ledger.queries import matching, record_of, select_records
from prefect_docjobs.ledger.records import Record, State
from prefect_docjobs.ledger.schema import MAX_ALIAS, jobs, now, pushes
from prefect_docjobs.models import JobState, Problem

OUT_OF_ORDER = 2000
"""Ids before the last known one among which a push may still appear, on PostgreSQL."""

_NOBODY = ""  # whose probes are; no account's key is empty
_ACCOUNT = 512  # characters that the table takes
_PRUNED_AT_ONCE = 200  # rows, so that no transaction holds others up
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")  # what PostgreSQL, or UTF-8, does not take
_JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Account:
    """Whose pushes.

    Attributes:
        provider: Registry name of the service.
        base_url: Scheme, host and port of the service.
        tenant: The account, as in its refs.
    """

    provider: str
    base_url: str
    tenant: str

    @property
    def key(self) -> str:
        """The account in one text, as long as the tables take."""
        return f"{self.provider} {self.base_url} {self.tenant}"[:_ACCOUNT]


@dataclass(frozen=True, slots=True)
class ReceivedPush:
    """One push, without its body.

    Attributes:
        id: Its number in the inbox.
        job_id: The service's id of the job, where the push has it.
        alias: The key that was sent with the document, where the push has it.
        state: What became of the job; None for a hint to look, which proves nothing.
        raw_state: The service's own word, where it gave one.
        error: What the service said, for a failed job.
        has_body: Whether `Inbox.body` has the whole result. A success without is in its job's record.
        received_at: When it was kept (UTC, by the database's clock).
    """

    id: int
    job_id: str | None
    alias: str | None
    state: JobState | None
    raw_state: str | None
    error: Problem | None
    has_body: bool
    received_at: datetime


@dataclass(frozen=True, slots=True)
class PushReceipt:
    """What became of a push.

    Attributes:
        is_new: False for a replay, which changes nothing.
        record: The record of its job as it now is, where there is one and the push is new.
    """

    is_new: bool
    record: Record | None = None


@dataclass(frozen=True, slots=True)
class _Push:
    """A push on its way into the database; a body is compressed, and may have been put elsewhere."""

    account: Account
    row: Values
    body: Values

    @property
    def brings_result(self) -> bool:
        return bool(self.body) and self.row["state"] == JobState.SUCCEEDED.value

    @property
    def body_here(self) -> Values:
        return {name: self.body.get(name) for name in ("body", "body_size")}


class Inbox:
    """The pushes in one database. All methods raise `LedgerUnavailable` when it cannot answer.

    Args:
        database: Of a migrated ledger.
        bodies: Where large results go, as for the ledger's own.
    """

    def __init__(self, database: Database, bodies: Bodies | None) -> None:
        self._database = database
        self._bodies = bodies

    async def keep(
        self,
        account: Account,
        *,
        job_id: str | None,
        alias: str | None,
        state: JobState | None,
        raw_state: str | None,
        error: Problem | None,
        digest: str,
        body: bytes | None,
        keep_for: float,
    ) -> PushReceipt:
        """Keep a push durably. One transaction; when this returns the service may be answered.

        A success with a body whose job has a record that is not FETCHED fetches it: the body is the record's,
        and whoever held it finds that out with his next write. A failure changes no record: whoever waits for
        the job hears of it here, and decides.

        Args:
            account: Whose push.
            job_id: The service's id of the job.
            alias: The key that was sent with the document. A record is found by it only where there is no
                job id, and only where one record alone has it.
            state: What became of the job; None for a hint.
            raw_state: The service's own word.
            error: What the service said.
            digest: 64 characters that are the same for a replay, and for nothing else.
            body: The whole result, as the service's result route would give it; else None.
            keep_for: Seconds until it is dropped.
        """
        row = {
            "account": account.key,
            "job_id": _text(job_id),
            "alias": _text(alias),
            "state": state.value if state else None,
            "raw_state": _text(raw_state),
            "error": _problem_text(error),
            "digest": digest,
            "keep_for": keep_for,
        }
        if await self._database.run(partial(_knows, digest=digest)):
            return PushReceipt(is_new=False)
        data = {} if body is None else {"body": await compress(body), "body_size": len(body)}
        push = await self._placed(_Push(account, row, data))
        return await self._database.run(partial(_keep, push=push), writes=True)

    async def newest(self, account: Account) -> int:
        """The greatest id of an account's pushes; 0 where there are none."""
        question = select(func.max(pushes.c.id)).where(pushes.c.account == account.key)
        return int(await self._database.run(lambda connection: connection.execute(question).scalar()) or 0)

    async def received(
        self, account: Account, *, within: float, limit: int = 1000, after: int = 0
    ) -> list[ReceivedPush]:
        """The pushes of an account, the oldest first, without their bodies.

        On PostgreSQL ids are given before the commit, so a push may appear behind one that was seen already.
        Hence those of the last `within` seconds come again, and the caller drops what he knows; 15 seconds
        are more than a transaction takes. SQLite has one writer, and needs no second look.

        Args:
            account: Whose.
            within: Seconds for which pushes up to `after` come again.
            limit: At most so many after `after`.
            after: The greatest id that was seen; 0 to begin with the oldest that is kept.
        """
        what = {"account": account.key, "after": after, "since": after - OUT_OF_ORDER}
        asked = partial(_received, what={**what, "within": within, "most": limit})
        return [_received_push(row) for row in await self._database.run(asked)]

    async def body(self, push_id: int) -> bytes | None:
        """The whole result that a push brought; None where there is none, or it is its record's."""
        question = select(pushes.c.body).where(pushes.c.id == push_id)
        data = await self._database.run(lambda connection: connection.execute(question).scalar())
        try:
            return None if data is None else await decompress(data)
        except zlib.error as damage:
            raise LedgerUnavailable(f"Push {push_id} of the inbox cannot be read: {damage}.") from damage

    async def probe(self, size: int) -> None:
        """Write `size` bytes durably, as a push would be, and drop them again.

        Raises:
            LedgerUnavailable: A push of that size could not be kept now.
        """
        nothing = dict.fromkeys(("job_id", "alias", "state", "raw_state", "error"))
        row = {**nothing, "account": _NOBODY, "digest": secrets.token_hex(32), "keep_for": -1.0}
        row |= {"body": secrets.token_bytes(size), "body_size": size}
        await self._database.run(
            lambda connection: connection.execute(_INSERT[connection.dialect.name], row), writes=True
        )
        await self.prune()

    async def prune(self) -> int:
        """Drop what has expired; returns how many pushes those were."""
        total = 0
        while dropped := await self._database.run(_prune, writes=True):
            total += dropped
        return total

    async def _placed(self, push: _Push) -> _Push:
        """With a large body put beside the database, where a record is there to refer to it."""
        data = push.body.get("body")
        if self._bodies is None or data is None or len(data) <= INLINE or not push.brings_result:
            return push
        if not await self._database.run(partial(_records, push=push)):
            return push
        try:
            place = await self._bodies.write(f"push-{push.row['digest']}", data)
        except OSError as problem:
            raise LedgerUnavailable(f"A pushed result could not be kept: {problem}.") from problem
        return _Push(push.account, push.row, {**push.body, "body_place": place})


# ---------------------------------------------------------------------------------- inside a transaction

_CONTENTS = [column for column in pushes.columns if column.name not in ("digest", "body", "expires_at")]
_NEW = {"received_at": now(), "expires_at": now() + bindparam("keep_for", type_=Float(53))}
_INSERT = {
    "sqlite": sqlite.insert(pushes).values(_NEW).on_conflict_do_nothing(index_elements=["digest"]),
    "postgresql": postgresql.insert(pushes).values(_NEW).on_conflict_do_nothing(index_elements=["digest"]),
}
_OF_ACCOUNT = select(*_CONTENTS).where(pushes.c.account == bindparam("account")).order_by(pushes.c.id)
_NEWER = _OF_ACCOUNT.where(pushes.c.id > bindparam("after")).limit(bindparam("most", type_=Integer()))
_AGAIN = _OF_ACCOUNT.where(
    pushes.c.id > bindparam("since"),
    pushes.c.id <= bindparam("after"),
    pushes.c.received_at >= now() - bindparam("within", type_=Float(53)),
)
_EXPIRED = select(pushes.c.id).where(pushes.c.expires_at <= now()).limit(_PRUNED_AT_ONCE)
_DROP = delete(pushes).where(pushes.c.id.in_(_EXPIRED))
_IS_OPEN = jobs.c.state.in_([State.SUBMITTED.value, State.DONE.value])


def _knows(connection: Connection, digest: str) -> bool:
    return connection.execute(select(pushes.c.id).where(pushes.c.digest == digest)).first() is not None


def _keep(connection: Connection, push: _Push) -> PushReceipt:
    records = _records(connection, push)
    delivers = push.brings_result and bool(records)
    row = {**push.row, **({"body": None, "body_size": None} if delivers else push.body_here)}
    if not connection.execute(_INSERT[connection.dialect.name], row).rowcount:
        return PushReceipt(is_new=False)
    if delivers:
        records = _deliver(connection, records, push.body)
    return PushReceipt(is_new=True, record=records[-1] if records else None)


def _deliver(connection: Connection, records: Sequence[Record], body: Values) -> Sequence[Record]:
    """Write the result into the records of its job, those that have none."""
    place = body.get("body_place")
    news = {**body, "body": None if place else body["body"], "body_place": place, "content_type": _JSON}
    delivered: list[Record] = []
    for record in records:
        with suppress(ClaimLost):
            delivered.append(deliver(connection, record, record.job_id or "", news))
    return delivered


def _records(connection: Connection, push: _Push) -> Sequence[Record]:
    """The records of the job: those with its id, which history may have too, or the one with its alias."""
    account, job_id, alias = push.account, push.row["job_id"], push.row["alias"]
    mine = matching(provider=account.provider, base_url=account.base_url, tenant=account.tenant)
    question = select_records().where(mine)
    if job_id is not None:
        named = connection.execute(question.where(jobs.c.job_id == job_id).order_by(jobs.c.id)).all()
        return [record_of(row) for row in named]
    if alias is None or len(alias) > MAX_ALIAS:
        return []
    # A failure is of interest to open jobs only; a result must fit one job of all.
    if not push.brings_result:
        question = question.where(_IS_OPEN)
    named = connection.execute(question.where(jobs.c.alias == alias)).all()
    if named:
        return [record_of(named[0])] if len(named) == 1 else []
    # A worker of an older version writes no alias beside the ref. Such rows are looked through while open.
    mentions = jobs.c.ref.contains(json.dumps(alias, ensure_ascii=False), autoescape=True)
    older = connection.execute(question.where(_IS_OPEN, jobs.c.alias.is_(None), mentions))
    found = [it for it in map(record_of, older) if it.ref is not None and it.ref.alias == alias]
    return found if len(found) == 1 else []


def _received(connection: Connection, what: Mapping[str, Any]) -> Sequence[Row[Any]]:
    newer = connection.execute(_NEWER, what).all()
    if connection.dialect.name == "sqlite" or not what["after"]:
        return newer
    return [*connection.execute(_AGAIN, what).all(), *newer]


def _prune(connection: Connection) -> int:
    return connection.execute(_DROP).rowcount


def _received_push(row: Row[Any]) -> ReceivedPush:
    return ReceivedPush(
        id=row.id,
        job_id=row.job_id,
        alias=row.alias,
        state=JobState(row.state) if row.state else None,
        raw_state=row.raw_state,
        error=Problem.model_validate(json.loads(row.error)) if row.error else None,
        has_body=row.body_size is not None,
        received_at=datetime.fromtimestamp(row.received_at, timezone.utc),
    )


def _text(text: str | None) -> str | None:
    return None if text is None else _NO_TEXT.sub("_", text)


def _problem_text(problem: Problem | None) -> str | None:
    """As JSON; what no database takes is replaced, for it must not keep a push from being kept."""
    return None if problem is None else _text(json.dumps(problem.model_dump(), ensure_ascii=False))
