"""What one opened ledger holds, and until when it can be sure of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from functools import partial

from prefect_docjobs.ledger.records import Record

# These go on while the machine sleeps, on Linux and macOS; on Windows the monotonic clock does.
_CLOCKS = ("CLOCK_BOOTTIME", "CLOCK_MONOTONIC_RAW")


def _clock_that_counts_sleep() -> Callable[[], float]:
    for name in _CLOCKS:
        if (clock := getattr(time, name, None)) is not None:
            return partial(time.clock_gettime, clock)
    return time.monotonic


class Holdings:
    """Open records in hand. Only for these are leases extended, so what is forgotten here becomes free.

    Args:
        lease: Seconds that a lease lasts.
        clock: Monotonic seconds, compared with themselves only; by default they count a sleep of the machine.
    """

    def __init__(self, lease: float, clock: Callable[[], float] | None = None) -> None:
        self._lease = lease
        self._clock = clock or _clock_that_counts_sleep()
        self._records: dict[int, Record] = {}
        self._sure_until: dict[int, float] = {}

    def __contains__(self, record: Record) -> bool:
        held = self._records.get(record.id)
        same = held is not None and held.claim == record.claim
        return same and self._clock() < self._sure_until[record.id]

    @property
    def ids(self) -> list[int]:
        """Of the records in hand."""
        return list(self._records)

    @property
    def records(self) -> list[Record]:
        """In hand, as they were written last."""
        return list(self._records.values())

    def now(self) -> float:
        """The moment before a write, from which its lease is counted: never longer than the database's."""
        return self._clock()

    def note(self, record: Record, asked_at: float) -> None:
        """Hold a record of mine that was written, until it has ended or is another worker's.

        A second caller with the same document reads it as not its own: it stays held for the first.
        """
        held = self._records.get(record.id)
        if record.mine and record.state.is_open:
            self._records[record.id] = record
            self._sure_until[record.id] = asked_at + self._lease
        elif held is not None and (record.claim != held.claim or not record.state.is_open):
            self.drop(record.id)

    def extended(self, ids: Collection[int], kept: Collection[int], asked_at: float) -> None:
        """Take note that the leases of `kept` were extended, and that the others of `ids` are lost."""
        for record_id in self._records.keys() & set(ids):
            if record_id in kept:
                self._sure_until[record_id] = asked_at + self._lease
            else:
                self.drop(record_id)

    def drop(self, record_id: int) -> None:
        """Put a record down."""
        self._records.pop(record_id, None)
        self._sure_until.pop(record_id, None)
