"""The intent to buy one document: committed right before a request leaves, withdrawn when it was refused."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import anyio

from prefect_docjobs.errors import DocJobsError, Reason, SubmitUncertain
from prefect_docjobs.extraction.finishing import retry_write
from prefect_docjobs.ledger import AccountPaused, ClaimLost, Entry, LedgerUnavailable, Record, State

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Account, Ledger

_log = logging.getLogger(__name__)
_SOON = 2.0  # seconds that a document waits for what is written of its submit


class Intents:
    """The intents of one document, one for each attempt to submit it.

    A slot and a turn come first, then the intent, then the request: a worker that is killed while it waits
    leaves nothing behind. While a refused request pauses, the record says that nothing was accepted.

    Attributes:
        sha256: Of the content that is bought; None for a document given by URL.
        lost: The record of a submit in this call whose answer was lost.
        record: The intent of the attempt under way, or what the last one left.
        may_be_accepted: Whether the service may have the whole document.
        writing: What is still to be written of the last attempt, while the database is away.
    """

    def __init__(self, ledger: Ledger, entry: Entry, account: Account) -> None:
        self._ledger = ledger
        self._entry = entry
        self._account = account
        self.sha256 = entry.document_sha256
        self._tokens: set[str] = set()
        self._refused = False
        self.record: Record | None = None
        self.lost: Record | None = None
        self.may_be_accepted = False
        self.writing: asyncio.Task[Record | None] | None = None

    def begin(self, record: Record | None) -> None:
        """Buy in the place of `record`: our intent, one that is bought again, or None for a new key."""
        self.record = record
        self._refused = self.may_be_accepted = False

    async def look_up(self) -> Record | None:
        """What the ledger knows of the document; mine where it is a claim of ours whose answer was lost."""
        record = await self._ledger.by_key(self._entry.key)
        if record is None or record.mine or record.claim not in self._tokens:
            return record
        return (await self._ledger.resume(record) or record) if record.state is State.INTENDED else record

    def check_seen_pause(self) -> None:
        """Raise `AccountPaused` where it was read a moment ago that nobody may submit to the account."""
        if pause := self._ledger.pauses.seen(self._account):
            raise AccountPaused(f"Nothing was sent. {pause}")

    async def check_pause(self) -> None:
        """The same, read anew where it was so a moment ago."""
        if self._ledger.pauses.seen(self._account):
            await self._ledger.paused(self._account)
        self.check_seen_pause()

    @asynccontextmanager
    async def attempt(self) -> AsyncGenerator[None]:
        """One request: the intent before it, and what is known after it.

        Raises:
            ClaimLost: Somebody else was faster; nothing was sent.
            LedgerUnavailable: No intent could be written; nothing was sent.
            AccountPaused: Nothing was sent.
        """
        self.may_be_accepted = False
        await self._ledger.paused(self._account)
        self.check_seen_pause()
        intent = self.record = await self._claimed()
        self._refused = False
        try:
            async with self._ledger.pauses.followed():
                yield
        except (SubmitUncertain, ClaimLost):
            raise
        except AccountPaused:
            await self.withdraw()
            raise
        except DocJobsError as error:
            self.may_be_accepted = False
            reason, told = error.reason, str(error)
            if self.lost is not None:  # this call has sent it before
                reason, told = Reason.UNCERTAIN, self.lost.error or told
            self.record = await self._written(partial(self._ledger.failed, intent, reason, told)) or intent
            self._refused = True
            raise

    def note(self, in_doubt: bool) -> None:
        """Note whether the document may have been accepted; without a lease its last piece is not sent.

        Raises:
            ClaimLost: Somebody else may have taken the record over.
            AccountPaused: Nothing more may be submitted to the account.
        """
        if in_doubt and (self.record is None or not self._ledger.holds(self.record)):
            raise ClaimLost(f"{self._entry.document_name}: the lease ran out before it was sent.")
        if in_doubt:
            self.check_seen_pause()
        self.may_be_accepted = in_doubt

    async def withdraw(self) -> None:
        """Delete the intent, which surely was not sent."""
        record = self.record
        if record is not None and record.mine and record.state is State.INTENDED and self.writing is None:

            async def released() -> None:
                await self._ledger.released(record)

            await self._written(released)

    async def _written(self, write: Callable[[], Awaitable[Record | None]]) -> Record | None:
        """Write, soon; where the database is away, go on trying beside the document."""
        until = anyio.current_time() + self._ledger.wait
        writing = asyncio.create_task(best_effort(retry_write(write, until=until)), name="docjobs-intents")
        self.writing = writing
        with anyio.CancelScope(shield=True):
            await asyncio.wait([writing], timeout=_SOON)
        if not writing.done():
            return None
        self.writing = None
        return writing.result()

    async def _claimed(self) -> Record:
        if self.writing is not None:  # of the attempt before
            await asyncio.wait([self.writing])
            self.record, self.writing = self.writing.result() or self.record, None
        before, token = self.record, new_token()
        self._tokens.add(token)
        if before is None:
            intent: Record | None = await self._ledger.claim(self._entry, token=token)
        elif before.mine and before.state is State.INTENDED:
            intent = await self._ledger.resume(before)
        else:
            again = not self._refused
            intent = await self._ledger.take_over(before, as_new=again, entry=self._entry, token=token)
        if intent is None or not intent.mine or intent.state is not State.INTENDED:
            raise ClaimLost(f"{self._entry.document_name}: somebody else was faster.")
        return intent


def new_token() -> str:
    """A token that nobody else has, by which a claim whose answer was lost is recognised."""
    return secrets.token_hex(8)


async def best_effort(writing: Awaitable[Record | None]) -> Record | None:
    """A note that may be missing: it can be found out again, and no fault of it costs a document."""
    try:
        return await writing
    except (ClaimLost, LedgerUnavailable) as problem:
        _log.warning("Not written down: %s", problem)
    except Exception:  # whatever it is
        _log.exception("Not written down")
    return None
