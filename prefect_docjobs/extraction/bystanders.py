"""Standing by: somebody else is at work on the same document, and his result will do."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from prefect_docjobs.cancellation import cancelled
from prefect_docjobs.errors import JobTimeout
from prefect_docjobs.ledger import Record

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Ledger

_log = logging.getLogger(__name__)
_EVERY = 0.5  # seconds between two questions, each for all records that are stood by for
_LOGGED_EVERY = 60.0


class Bystanders:
    """Tells when records were written, or their holders' leases ran out: one question for all of them."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._waiting: dict[asyncio.Event, Record] = {}
        self._asking: asyncio.Task[None] | None = None

    async def wait(self, record: Record, until: float = math.inf) -> None:
        """Return when `record` is no longer as it is here.

        Args:
            record: As it was read.
            until: On the loop's clock.

        Raises:
            JobTimeout: It is then.
        """
        news = asyncio.Event()
        self._waiting[news] = record
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(), name="docjobs-bystanders")
        left = None if until == math.inf else max(0.0, until - asyncio.get_running_loop().time())
        try:
            await asyncio.wait_for(news.wait(), left)
        except (asyncio.TimeoutError, TimeoutError):
            raise JobTimeout(
                f"{record.document_name}: {record.owner} is at work on the same document, and took too long.",
                ref=record.ref,
            ).about(record.document_name) from None
        finally:
            self._waiting.pop(news, None)

    async def aclose(self) -> None:
        """Stop asking."""
        if self._asking is not None:
            await cancelled(self._asking)

    async def _ask(self) -> None:
        clock = asyncio.get_running_loop().time
        log_at = clock() + _LOGGED_EVERY
        while self._waiting:
            await asyncio.sleep(_EVERY)
            if clock() >= log_at:
                log_at += _LOGGED_EVERY
                self._log_owners()
            try:
                now = await self._ledger.records({record.id for record in self._waiting.values()})
            except Exception as problem:  # noqa: BLE001 (whoever waits must not wait for ever)
                _log.debug("The ledger cannot be asked: %s", problem)
                continue  # the database is away; those who wait have their own patience
            for news, record in self._waiting.items():
                if _has_changed(record, now):
                    news.set()

    def _log_owners(self) -> None:
        """Say, once a minute, who is waited for."""
        owners = Counter(record.owner for record in self._waiting.values())
        for owner, number in owners.items():
            example = next(it.document_name for it in self._waiting.values() if it.owner == owner)
            _log.info("Waiting for %s, which is at work on %s (%d in all)", owner, example, number)


def _has_changed(record: Record, now: Mapping[int, Record]) -> bool:
    seen = now.get(record.id)
    return seen is None or seen.version != record.version or seen.lease_left <= 0.0
