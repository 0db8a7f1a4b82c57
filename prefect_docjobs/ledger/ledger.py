"""The ledger: what was intended, submitted, done and fetched, so that a document is paid for once."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import zlib
from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from pathlib import Path
from types import TracebackType

import anyio
from sqlalchemy import Connection, and_, select
from typing_extensions import Self

from prefect_docjobs.errors import Reason
from prefect_docjobs.ledger import jobs as transitions
from prefect_docjobs.ledger.bodies import (
    INLINE,
    Bodies,
    FileBodies,
    SpooledBodies,
    compress,
    decompress,
    read_body,
)
from prefect_docjobs.ledger.database import CONNECTIONS, open_database, parse_address, shown
from prefect_docjobs.ledger.errors import ClaimLost, LedgerUnavailable
from prefect_docjobs.ledger.group_commit import GroupCommit, Result, Transition
from prefect_docjobs.ledger.holdings import Holdings
from prefect_docjobs.ledger.inbox import Account, Inbox
from prefect_docjobs.ledger.jobs import Holder, Values, new_claim
from prefect_docjobs.ledger.migrate import migrate
from prefect_docjobs.ledger.pauses import Pause, Pauses
from prefect_docjobs.ledger.queries import Reader, chunks
from prefect_docjobs.ledger.records import Entry, Record
from prefect_docjobs.ledger.schema import jobs
from prefect_docjobs.ledger.suspensions import Suspensions
from prefect_docjobs.ledger.tokens import Tokens
from prefect_docjobs.models import JobRef

_log = logging.getLogger(__name__)
_FOR_EVER = 1e9  # seconds
_CLAIMS = 5  # tries, should the holder of a key release it at the same moment each time


class Ledger(Reader):
    """One opened ledger, an async context manager that belongs to one event loop.

    What a write returns is durable: committed, and with SQLite synced to the disk. Writes that wait at the
    same moment share one transaction. A record is held by a lease, which is extended while the ledger is
    open and given back when it is closed; leases and times are of the database's clock.

    Args:
        url: A path or `sqlite:///path` for one machine, `postgresql://…` for a fleet. SQLite's locks and its
            write-ahead log do not work on network filesystems (NFS, SMB): use PostgreSQL there. None for a
            ledger in memory, which nobody else sees and which ends with the context.
        lease: Seconds after which the work of a process that died may be taken over.
        wait: Seconds that a submit waits for a database that is away, before its document has no result.
        bodies: Where results go that are larger than 256 KiB, compressed. By default, with SQLite, a folder
            beside the file; with PostgreSQL they stay in their rows.
        readable: Where results may be as well, because other processes put theirs there. That folder and
            the rows are read in any case.
        connections: To the database, at most; with SQLite also threads.

    Attributes:
        owner: Host, process id and a random part, new with each `Ledger` and each view of one.
        in_memory: Nothing of it outlives the context.
        pauses: The accounts that are paused; there once it is opened.

    Raises:
        ConfigurationError: An address that is neither, or (when opened) a database of a newer version that
            this one cannot work with.
        LedgerUnavailable: When opened: the database cannot be reached or made.
    """

    pauses: Pauses

    def __init__(
        self,
        url: str | None,
        *,
        lease: float = 60.0,
        wait: float = 30.0,
        bodies: Bodies | None = None,
        readable: Sequence[Bodies] = (),
        connections: int = CONNECTIONS,
    ) -> None:
        super().__init__(parse_address(url) if url is not None else None)
        self.in_memory = self._url is None
        self._connections = connections
        self._beside: list[Bodies] = []
        if self._url is None:
            lease, wait, bodies = _FOR_EVER, 0.0, SpooledBodies()
        elif self._url.get_backend_name() == "sqlite":
            path = Path(self._url.database or "")
            self._beside.append(FileBodies(path.with_name(f"{path.name}.bodies")))
        self._lease = lease
        self.wait = wait
        self._is_view = False
        self._commits: GroupCommit
        self._become_holder()
        self._set_bodies(bodies, readable)

    def view(self, *, bodies: Bodies | None = None, readable: Sequence[Bodies] = ()) -> Ledger:
        """This opened ledger for one call: on the same connections, with an owner and leases of its own.

        Use it as an async context manager, on the same loop, while this one is open. Leaving it gives back
        its own leases, and nothing that others hold.

        Args:
            bodies: See `Ledger`; without both as in this one.
            readable: See `Ledger`.
        """
        view = copy(self)
        view._is_view = True  # noqa: SLF001 (of this class)
        view._become_holder()  # noqa: SLF001
        if bodies or readable:
            view._set_bodies(bodies, readable)  # noqa: SLF001
        return view

    def _become_holder(self) -> None:
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._holder = Holder(self.owner, self._lease)
        self._holdings = Holdings(self._lease)
        self._heart: asyncio.Task[None] | None = None
        self._unfinished = 0  # transitions
        self._idle = asyncio.Event()
        self._idle.set()
        self._keys, self._reading = {}, None

    def _set_bodies(self, bodies: Bodies | None, readable: Sequence[Bodies]) -> None:
        self._bodies = bodies or next(iter(self._beside), None)
        self._readable: list[Bodies] = [*([bodies] if bodies else ()), *self._beside, *readable]

    def __repr__(self) -> str:
        return f"Ledger({shown(self._url) if self._url else 'in memory'!r})"

    async def __aenter__(self) -> Self:
        if not self._is_view:
            self._database = open_database(self._url, self._connections)
            try:
                if not self.in_memory:
                    await migrate(self._database)
            except BaseException:
                await self._database.aclose()
                raise
            self.pauses = Pauses(self._database)
            self._commits = GroupCommit(self._database)
        self._heart = asyncio.create_task(self._beat()) if not self.in_memory else None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            if self._heart is not None:
                self._heart.cancel()
            if tasks := [task for task in (self._heart, self._reading) if task is not None]:
                await asyncio.wait(tasks)
            await self._idle.wait()
            for record in self._holdings.records:
                self._holdings.drop(record.id)
                self._post(partial(transitions.release_lease, record=record), record)
            await self._idle.wait()
            if not self._is_view:
                await self.pauses.aclose()
                await self._commits.flush()
                await self._database.aclose()

    # -- intents

    async def claim(self, entry: Entry, *, token: str | None = None) -> Record:
        """Commit the intent to submit, or learn who did.

        Of all callers, in this process and others, one gets a record that is `mine`: the key's first. It has
        to end in `submitted`, `failed` or `delete_intent`. For the others `next_step` says what to do. A
        caller who is cancelled while waiting leaves nothing behind.

        Args:
            entry: What is submitted.
            token: From `new_claim`, the `claim` of the record; with it a claim whose answer was lost is
                recognised when it is made again.

        Raises:
            LedgerUnavailable: Nothing may be submitted.
        """
        for _ in range(_CLAIMS):
            run = partial(transitions.claim, holder=self._holder, entry=entry, token=token or new_claim())
            if record := await self._make(run, adds_key=True, is_intent=True):
                return record
        raise LedgerUnavailable(f"{entry.document_name}: others claim and release its key all the time.")

    def holds(self, record: Record) -> bool:
        """Whether nobody can have taken my record over yet; ask right before a request that costs.

        It does not ask the database: false when the last answer to an extension of the lease is too long ago,
        as after the process was stopped or its machine slept. Then read the record again.
        """
        return record in self._holdings

    async def take_over(self, record: Record, *, token: str | None = None) -> Record | None:
        """Go on with a record that nobody holds, exactly as it was read.

        The state stays, but a failed record is open again (SUBMITTED with a job, INTENDED without).

        Args:
            record: As it was read; not one that is FETCHED.
            token: As for `claim`.

        Returns:
            The record that is now `mine`, or None when somebody else holds it, was faster, or wrote it since.
        """
        token = token or new_claim()
        run = partial(transitions.take_over, holder=self._holder, record=record, token=token)
        return await self._make(run, record, withdrawable=True)

    async def renew(
        self, record: Record, entry: Entry | None = None, *, token: str | None = None
    ) -> Record | None:
        """Submit again in the place of a record that nobody holds, exactly as it was read.

        The record is retired (kept as history, under `<key>#<id>`), and the key gets a new intent in the same
        transaction.

        Args:
            record: As it was read.
            entry: Who submits now, and for which name; by default as in `record`.
            token: As for `claim`.

        Returns:
            The intent, which is `mine`; None as for `take_over`.

        Raises:
            ValueError: The record is history, or `entry` has another key.
        """
        entry = entry or record
        if record.retired or entry.key != record.key:
            raise ValueError(f"Record {record.id} cannot be submitted again under that key.")
        token = token or new_claim()
        run = partial(transitions.renew, holder=self._holder, record=record, entry=entry, token=token)
        return await self._make(run, record, is_intent=True)

    async def resume(self, record: Record) -> Record | None:
        """Go on with a record of mine whose lease may have run out meanwhile, as `holds` says.

        Returns:
            The record as it now is, with a fresh lease; None when somebody else has taken it over.
        """
        return await self._make(partial(transitions.resume, holder=self._holder, record=record), record)

    async def delete_intent(self, record: Record) -> None:
        """Delete an intent of mine that surely was not sent.

        Raises:
            ClaimLost: It is no longer mine, or no intent any more.
        """
        self._holdings.drop(record.id)
        await self._make(partial(transitions.delete_intent, record=record), record)

    async def release_lease(self, record: Record) -> None:
        """Give the lease back without an end: the state stays, and anybody may go on at once."""
        self._holdings.drop(record.id)
        await self._make(partial(transitions.release_lease, record=record), record)

    # -- the job. All raise `ClaimLost` and `LedgerUnavailable`, and return the record as it now is.

    async def submitted(self, record: Record, ref: JobRef) -> Record:
        """The service accepted the document: the job is paid for.

        When the record was taken over meanwhile, the job is kept in a history row of its own (`retired`),
        which is returned and is mine: the caller goes on with it.

        Raises:
            JobKnown: The job is another document's. The intent stays as it is.
        """
        try:
            run = partial(transitions.submitted, holder=self._holder, record=record, ref=ref)
            return _sure(await self._make(run, record))
        except ClaimLost:
            now = await self.record(record.id)
            if now is not None and now.job_id == ref.job_id:
                raise  # somebody found the job and goes on with it
        keep = partial(transitions.keep_job, holder=self._holder, record=record, ref=ref)
        return _sure(await self._make(keep, record, adds_key=True))

    async def done(self, record: Record, ref: JobRef) -> Record:
        """The job has succeeded; `ref` is complete."""
        run = partial(transitions.done, holder=self._holder, record=record, ref=ref)
        return _sure(await self._make(run, record))

    async def kept(
        self, record: Record, ref: JobRef, body: bytes, *, content_type: str | None = None
    ) -> Record:
        """The result's bytes, durable before they are read: `fetched` or `set_aside` says what they are.

        What was fetched after somebody took the record over is kept all the same, for the service may give it
        only once; whoever holds the record finds it there.
        """
        columns = {**await self._body_values(record, body), "content_type": content_type}

        def keep(record: Record) -> Callable[[Connection], Record]:
            return partial(transitions.done, holder=self._holder, record=record, ref=ref, body=columns)

        try:
            return _sure(await self._make(keep(record), record))
        except ClaimLost:
            now = await self.resume(record)
            if now is not None and now.mine and now.job_id == ref.job_id:  # only a push came in between
                return _sure(await self._make(keep(now), now))
            news = {**transitions.ref_values(ref), **columns}
            deliver = partial(transitions.deliver, record=record, job_id=ref.job_id, news=news)
            return _sure(await self._make(deliver, record))

    async def set_aside(self, record: Record, error: str) -> Record:
        """The bytes that are kept cannot be read as the job's result: the job is still done, and not mine."""
        run = partial(transitions.set_aside, record=record, error=error)
        return _sure(await self._make(run, record))

    async def fetched(
        self,
        record: Record,
        ref: JobRef,
        *,
        pages: int | None = None,
        credits: float | None = None,  # noqa: A002 (the services' own word)
        quota_remaining: float | None = None,
    ) -> Record:
        """The result, which is `kept`, was read as that of this job. The record ends with it.

        Args:
            record: Mine.
            ref: The job.
            pages: Pages that were billed.
            credits: Credits that were billed.
            quota_remaining: What the account has left.
        """
        figures = {"pages": pages, "credits": credits, "quota_remaining": quota_remaining}
        run = partial(transitions.fetched, holder=self._holder, record=record, ref=ref, figures=figures)
        return _sure(await self._make(run, record))

    async def failed(
        self,
        record: Record,
        reason: Reason,
        error: str,
        *,
        ref: JobRef | None = None,
        candidates: Sequence[str] = (),
    ) -> Record:
        """There is no result. The record ends with it, until somebody takes it over.

        Args:
            record: Mine.
            reason: Why.
            error: The message, for people.
            ref: The job, where it is known now and was not before.
            candidates: Ids of jobs that may be this document's.
        """
        run = partial(
            transitions.failed,
            holder=self._holder,
            record=record,
            reason=reason,
            error=error,
            ref=ref,
            candidates=candidates,
        )
        return _sure(await self._make(run, record))

    # -- questions

    async def body(self, record: Record) -> bytes:
        """The result's body, as it was fetched.

        Raises:
            LedgerUnavailable: There is none, or what was kept is damaged or gone.
        """
        found = await self._read(select(jobs.c.body, jobs.c.body_place).where(jobs.c.id == record.id))
        if not found or (found[0].body is None and found[0].body_place is None):
            raise _no_body(record, "is not there")
        try:
            data = await self._kept(found[0].body, found[0].body_place)
            return data if self.in_memory else await decompress(data)
        except (OSError, zlib.error, ValueError) as problem:
            raise _no_body(record, f"cannot be read: {problem}") from problem

    async def paused(self, account: Account) -> Pause | None:
        """Why nothing may be submitted to an account now, or None; what was read is used for a second."""
        return await self.pauses.of(account)

    @property
    def tokens(self) -> Tokens:
        """The request budget that all processes with this ledger share."""
        return Tokens(self._database)

    @property
    def suspensions(self) -> Suspensions:
        """The flow runs that wait for jobs without a process."""
        return Suspensions(self._database)

    @property
    def inbox(self) -> Inbox:
        """The pushes that were received."""
        return Inbox(self._database, self._bodies)

    # -- how it is done

    async def _make(
        self,
        run: Callable[[Connection], Record | None],
        record: Record | None = None,
        *,
        adds_key: bool = False,
        withdrawable: bool = False,
        is_intent: bool = False,
    ) -> Record | None:
        """Have a transition made; one that says that a job is paid for is made in any case."""
        transition = self._post(
            run, record, adds_key=adds_key, withdrawable=withdrawable, is_intent=is_intent
        )
        answer = transition.answer
        try:
            return await answer
        except asyncio.CancelledError:
            if not (answer.cancelled() or answer.exception()) and (made := answer.result()):
                self._unclaimed(made, is_intent)  # between the answer and its receipt
            raise

    def _post(
        self,
        run: Callable[[Connection], Record | None],
        record: Record | None = None,
        *,
        adds_key: bool = False,
        withdrawable: bool = False,
        is_intent: bool = False,
    ) -> Transition:
        asked_at = self._holdings.now()

        def ended(transition: Transition, result: Result) -> None:
            if isinstance(result, Record):
                self._holdings.note(result, asked_at)
                if transition.answer.cancelled():
                    self._unclaimed(result, is_intent)
            elif isinstance(result, ClaimLost) and record is not None:
                self._holdings.drop(record.id)
            self._unfinished -= 1
            if not self._unfinished:
                self._idle.set()

        row_id = record.id if record else 0
        transition = Transition(run, row_id, adds_key, withdrawable or is_intent, ended)
        self._unfinished += 1
        self._idle.clear()
        self._commits.post(transition)
        return transition

    def _unclaimed(self, record: Record, is_intent: bool) -> None:
        """The caller is gone: an intent that it never saw was not sent, anything else is for others."""
        if record.mine and record.state.is_open:
            self._holdings.drop(record.id)
            leave = transitions.delete_intent if is_intent else transitions.release_lease
            self._post(partial(leave, record=record), record)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._lease / 3.0)
            await self._extend_leases()

    async def _extend_leases(self) -> None:
        for some in chunks(self._holdings.ids):
            asked_at = self._holdings.now()
            kept = and_(jobs.c.id.in_(some), jobs.c.owner == self.owner)
            try:
                await self._make(partial(transitions.extend_leases, holder=self._holder, ids=tuple(some)))
                rows = await self._read(select(jobs.c.id).where(kept))
            except Exception as error:  # noqa: BLE001 (the heart must go on)
                _log.warning("Leases could not be extended: %s", error)
            else:
                self._holdings.extended(some, {row.id for row in rows}, asked_at)

    async def _kept(self, inline: bytes | None, place: str | None) -> bytes:
        if inline is not None:
            return inline
        return await read_body(place or "", self._readable)

    async def _body_values(self, record: Record, body: bytes) -> Values:
        data = body if self.in_memory else await compress(body)
        if self._bodies is None or (len(data) <= INLINE and not self.in_memory):
            return {"body": data, "body_place": None, "body_size": len(body)}
        try:
            place = await self._bodies.write(f"{record.id}-{record.claim}", data)
        except OSError as problem:
            raise LedgerUnavailable(
                f"{record.document_name}: the result could not be kept: {problem}."
            ) from problem
        return {"body": None, "body_place": place, "body_size": len(body)}


def _sure(record: Record | None) -> Record:
    if record is None:
        raise LedgerUnavailable("The ledger took a row and does not show it. Run again.")
    return record


def _no_body(record: Record, what: str) -> LedgerUnavailable:
    return LedgerUnavailable(
        f"{record.document_name}: the kept result of record {record.id} {what}. "
        "Restore it, or run with reuse_days=0, which buys the document again."
    )
