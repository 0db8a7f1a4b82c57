"""Waiting for another worker that is at work on the same document: its result will do."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from typing import TYPE_CHECKING

from prefect_docjobs.cancellation import cancelled
from prefect_docjobs.errors import JobTimeout
from prefect_docjobs.ledger import Record

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Ledger

_log = logging.getLogger(__name__)
_READ_EVERY = 0.5  # seconds between two reads, each of all records that are waited for
_LOG_EVERY = 60.0


class OwnerWait:
    """Waits until records are written by their owners, or their leases run out: one read for all of them."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._waiting: dict[asyncio.Event, Record] = {}
        self._reading: asyncio.Task[None] | None = None

    async def wait(self, record: Record, until: float = math.inf) -> None:
        """Return when the owner of `record` has written it, or has lost it.

        Args:
            record: As it was read.
            until: On the loop's clock.

        Raises:
            JobTimeout: `until` has passed.
        """
        changed = asyncio.Event()
        self._waiting[changed] = record
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read(), name="docjobs-owners")
        left = None if until == math.inf else max(0.0, until - asyncio.get_running_loop().time())
        try:
            await asyncio.wait_for(changed.wait(), left)
        except (asyncio.TimeoutError, TimeoutError):
            raise JobTimeout(
                f"{record.document_name}: {record.owner} is at work on the same document, and took too long.",
                ref=record.ref,
            ).about(record.document_name) from None
        finally:
            del self._waiting[changed]

    async def aclose(self) -> None:
        """Stop reading."""
        if self._reading is not None:
            await cancelled(self._reading)

    async def _read(self) -> None:
        clock = asyncio.get_running_loop().time
        log_at = clock() + _LOG_EVERY
        while self._waiting:
            await asyncio.sleep(_READ_EVERY)
            if clock() >= log_at:
                log_at += _LOG_EVERY
                self._log_owners()
            try:
                now = await self._ledger.records({record.id for record in self._waiting.values()})
            except Exception as problem:  # noqa: BLE001 (each who waits has a limit of its own)
                _log.debug("The ledger cannot be read: %s", problem)
                continue
            for changed, record in self._waiting.items():
                seen = now.get(record.id)
                if seen is None or seen.version != record.version or seen.lease_left <= 0.0:
                    changed.set()

    def _log_owners(self) -> None:
        owners = Counter(record.owner for record in self._waiting.values())
        for owner, number in owners.items():
            example = next(it.document_name for it in self._waiting.values() if it.owner == owner)
            _log.info("Waiting for %s, which is at work on %s (%d in all)", owner, example, number)
