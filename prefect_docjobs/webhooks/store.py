"""Where the receiver keeps pushes: the ledger, opened when it is first needed, and its housekeeping."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

import anyio

from prefect_docjobs.errors import DocJobsError
from prefect_docjobs.ledger import Account, Ledger, LedgerUnavailable, PushReceipt
from prefect_docjobs.ledger.setting import lease
from prefect_docjobs.webhooks.accounts import WebhookAccount
from prefect_docjobs.webhooks.calls import Call

_log = logging.getLogger(__name__)
_PRUNE_EVERY = 60.0
_READY_FOR = 1.0  # seconds for which an answer holds: whoever asks more often learns no more
_PROBE = 4 << 10  # bytes that are written to know whether a push could be kept
_LARGEST_PROBE = 4 << 20


class Store:
    """The inbox of one ledger, for one event loop.

    Args:
        ledger: Its address, to be opened and closed here; or one that is open already, and stays so.
        keep_for: Seconds for which a push is kept.
        within: Seconds that the database has for an answer.
    """

    def __init__(self, ledger: str | Ledger, *, keep_for: float, within: float) -> None:
        self._given = ledger
        self._keep_for = keep_for
        self._within = within
        self._opened: Ledger | None = None
        self._opening = asyncio.Lock()
        self._pruning: asyncio.Task[None] | None = None
        self._writing: set[asyncio.Task[PushReceipt]] = set()
        self._probing = asyncio.Lock()
        self._ready = False
        self._ready_until = 0.0
        self._unkept = 0  # bytes of the last push that could not be kept

    def begin(
        self, account: WebhookAccount, call: Call, then: Callable[[PushReceipt], None]
    ) -> asyncio.Task[PushReceipt]:
        """Begin to keep a push; `then` is told as soon as it is durable, even where nobody waits any more."""
        task = asyncio.create_task(self._keep(account, call, then), name="docjobs-push")
        self._writing.add(task)
        task.add_done_callback(self._written)
        return task

    async def answer(self, writing: asyncio.Task[PushReceipt]) -> PushReceipt:
        """What became of a push.

        A write that takes too long is not withdrawn. Should it still succeed, what is sent again is a replay.

        Raises:
            LedgerUnavailable: It is not known to be durable in time.
        """
        done, _ = await asyncio.wait([writing], timeout=self._within)
        if not done:
            self._failed(0)
            raise LedgerUnavailable(f"The ledger gave no answer within {self._within:g} seconds.")
        return writing.result()

    async def is_ready(self) -> bool:
        """Whether a push could be kept now: something of the size of one that could not be is written."""
        async with self._probing:
            if time.monotonic() >= self._ready_until:
                self._ready = await self._probe(max(_PROBE, min(self._unkept, _LARGEST_PROBE)))
                self._ready_until = time.monotonic() + _READY_FOR
            return self._ready

    async def open(self) -> None:
        """Open the ledger now; where it cannot be reached yet, it is tried again with each push."""
        try:
            await self._ledger()
        except LedgerUnavailable as problem:
            _log.warning("Pushes are answered with 503 until the ledger can be reached: %s", problem)

    async def aclose(self) -> None:
        """Finish the writes, and close what was opened here."""
        while self._writing:
            await asyncio.wait(self._writing)
        if self._pruning is not None:
            self._pruning.cancel()
            with suppress(asyncio.CancelledError):
                await self._pruning
        if self._opened is not None and self._opened is not self._given:
            await self._opened.__aexit__(None, None, None)
        self._opened = self._pruning = None

    async def _ledger(self) -> Ledger:
        async with self._opening:
            if self._opened is None:
                given = self._given
                opened = await Ledger(given, lease=lease()).__aenter__() if isinstance(given, str) else given
                self._opened = opened
                self._pruning = asyncio.create_task(self._prune(opened), name="docjobs-prune")
            return self._opened

    async def _probe(self, size: int) -> bool:
        try:
            with anyio.fail_after(self._within):
                await (await self._ledger()).inbox.probe(size)
        except Exception as problem:  # noqa: BLE001 (as with a push, whatever it is)
            _log.warning("Not ready: %s", problem or "the ledger gives no answer")
            return False
        self._unkept = 0
        return True

    def _failed(self, size: int) -> None:
        """A push could not be kept, so nobody is told that it could, until something is."""
        self._ready, self._ready_until, self._unkept = False, 0.0, max(size, self._unkept)

    async def _keep(
        self, account: WebhookAccount, call: Call, then: Callable[[PushReceipt], None]
    ) -> PushReceipt:
        try:
            kept = await self._kept(account, call)
        except Exception:
            self._failed(len(call.body or b""))
            raise
        if kept.is_new:  # a replay writes nothing
            self._ready, self._ready_until, self._unkept = True, time.monotonic() + _READY_FOR, 0
        then(kept)
        return kept

    async def _kept(self, account: WebhookAccount, call: Call) -> PushReceipt:
        return await (await self._ledger()).inbox.keep(
            Account(account.provider, account.base_url, account.tenant),
            job_id=call.job_id,
            alias=call.alias,
            state=call.state,
            raw_state=call.raw_state,
            error=call.error,
            digest=call.digest,
            body=call.body,
            keep_for=self._keep_for,
        )

    def _written(self, task: asyncio.Task[PushReceipt]) -> None:
        self._writing.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked may be gone

    async def _prune(self, ledger: Ledger) -> None:
        while True:
            await asyncio.sleep(_PRUNE_EVERY)
            try:
                await ledger.inbox.prune()
            except DocJobsError as problem:
                _log.warning("Expired pushes could not be dropped: %s", problem)
