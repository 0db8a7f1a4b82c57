"""Tokens that are leased by the dozen from a source: how several processes share one account's budget.

A limiter answers at once, a shared database only later. So tokens are fetched ahead, in the background, while
some are left.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

Kind = Literal["submit", "status", "result"]
"""The kinds of request that services limit apart."""

_log = logging.getLogger(__name__)
_DOZEN = 12
_AHEAD = 0.5  # of a dozen: when fewer are left, the next ones are fetched
_SCARCE = 0.2  # seconds between two fetches where fewer are granted than wanted
_MOMENT = 0.02  # seconds until somebody who found no turn asks again
_OVERDUE = 5.0  # seconds after which a fetch is given up; its event loop may be gone
_UNCOUNTED = 1 << 30
_ALONE = 10.0  # seconds for which a process goes on by itself when the source fails


@dataclass(frozen=True, slots=True)
class Lease:
    """Turns that one process may take.

    Attributes:
        turns: How many; 0 when there are none now.
        until: When they lapse, or, where there are none, when to ask again; on the limiter's clock.
    """

    tokens: int
    until: float


Refill: TypeAlias = Callable[[Kind, int], Awaitable[Lease]]
"""Leases turns: called with the kind of request and the number that is wanted; may grant fewer."""


class Leases:
    """The turns of one kind that this process has leased. Safe to share between threads and event loops.

    Whoever asks for a turn does so on a running event loop, which fetches the next ones where they run out.
    A source that fails is worse than none: then the process goes on at its own limiter for a while.

    Args:
        kind: Of request.
        refill: Where turns come from.
        clock: Monotonic seconds.

    Attributes:
        refill: May be replaced by another for the same turns.
    """

    def __init__(self, kind: Kind, refill: Refill, clock: Callable[[], float]) -> None:
        self.refill = refill
        self._kind = kind
        self._clock = clock
        self._lock = threading.Lock()  # of all that follows: several loops ask, and any of them fetches
        self._held: deque[Lease] = deque()  # what is used up first stands first
        self._again_at = -math.inf
        self._task: asyncio.Task[None] | None = None
        self._asked_at = -math.inf
        self._alone = False

    def wait(self) -> float:
        """Seconds until it is worth while to ask for a turn; 0.0 when one is left."""
        with self._lock:
            return self._wait()

    def take(self) -> float:
        """Use up a turn and return 0.0; where none is left, the seconds as `wait` says them."""
        with self._lock:
            if (wait := self._wait()) > 0.0:
                return wait
            lease = self._held.popleft()
            self._held.appendleft(replace(lease, tokens=lease.tokens - 1))
            return 0.0

    def _wait(self) -> float:
        now = self._clock()
        while self._held and (self._held[0].tokens <= 0 or self._held[0].until <= now):
            self._held.popleft()
        left = sum(lease.tokens for lease in self._held)
        if left <= _DOZEN * _AHEAD and now >= self._again_at:
            self._fetch(now)
        return 0.0 if left else max(_MOMENT, self._again_at - now)

    def _fetch(self, now: float) -> None:
        # A loop that has stopped, in this thread or another, never ends what it has begun.
        task = self._task
        under_way = task is not None and not task.done() and task.get_loop().is_running()
        if under_way and now - self._asked_at < _OVERDUE:
            return
        self._asked_at = now
        self._task = asyncio.get_running_loop().create_task(self._fetched(), name="docjobs-leases")

    async def _fetched(self) -> None:
        try:
            lease = await self.refill(self._kind, _DOZEN)
            alone = False
        except Exception as problem:  # noqa: BLE001 (whatever a source does, the work goes on)
            if not self._alone:
                _log.warning("No shared turns for %s requests (%s): going on alone.", self._kind, problem)
            alone = True
            lease = Lease(tokens=_UNCOUNTED, until=self._clock() + _ALONE)
        with self._lock:
            self._alone = alone
            if lease.tokens > 0:
                self._held.append(lease)
            if lease.tokens < _DOZEN:
                # Not in step with other processes, or the same one would always come last.
                soon = self._clock() + _SCARCE * random.uniform(0.5, 1.5)  # noqa: S311
                self._again_at = soon if lease.tokens > 0 else max(lease.until, soon)
