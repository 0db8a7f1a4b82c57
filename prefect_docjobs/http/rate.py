"""How many requests per second an account may send, found out from what is refused.

A first refusal tells little: requests that happen to come together are refused at any rate. So the limit is
sought from there, doubling with every few answers (as the slow start of TCP does, RFC 5681), until the next
refusal: there it is. Each further refusal lowers the rate a little, and it recovers along the curve of CUBIC
(RFC 9438): quickly back to near the limit, then slowly past it, so that it is used and hardly ever hit. It
is not lowered below what the service did answer in the last minute: many services count by the minute, and
refuse everything in the rest of one that began with a burst.
"""

from __future__ import annotations

import math

_SLOWEST = 0.05  # requests per second
_DOUBLED_AFTER = 16  # answers, while the limit is sought
_DROP = 0.15  # of the refused rate
_SMALL_DROP = 0.08  # of a limit that is known
_DEEP_DROP = 0.5  # of a rate that was refused again at once: it is nowhere near the limit
_AT_ONCE = 10, 15.0  # turns, seconds
_BELOW = 0.97  # of the rate at which a known limit was hit: there it is not hit again soon
_SAME = 0.1  # two refused rates that differ by a smaller part are one limit, which stands still
_RECOVERY = 90.0  # seconds until a lowered rate is back at the one that was refused,
_RECOVERY_TURNS = 240  # and at least so many turns: each probe past the limit costs a refused request
_LONGEST_RECOVERY = 300.0


class Rate:
    """Requests per second that are allowed at a time; infinite before the first refusal.

    Args:
        most: A rate that is set, and never exceeded; infinite for none.
        documented: The rate that the service documents; where a first refusal leads to.
    """

    def __init__(self, most: float = math.inf, documented: float | None = None) -> None:
        self.most = most
        self._documented = documented
        self._refused = math.inf
        self._sought: float | None = None  # the rate while the limit is sought
        self._lowered_at = -math.inf
        self._drop = _DROP
        self._turns = 0

    def at(self, now: float) -> float:
        """The rate at a time."""
        if self._sought is not None:
            return min(self.most, self._sought)
        if self._refused == math.inf:
            return self.most
        past = (now - self._lowered_at) / self._recovery() - 1.0
        curve = (self._drop if past < 0.0 else _DROP) * past**3
        return min(self.most, max(_SLOWEST, self._refused * (1.0 + curve)))

    def taken(self) -> None:
        """Note a turn."""
        self._turns += 1

    def answered(self) -> None:
        """Note an answer to a request that had to wait for its turn: more of them might be answered."""
        if self._sought is not None:
            self._sought *= 2.0 ** (1.0 / _DOUBLED_AFTER)

    def lower(self, now: float, *, asked: float, answered: float) -> None:
        """Note a refusal.

        Args:
            now: When.
            asked: Requests per second that were just sent.
            answered: Those that were answered on average in the last minute.
        """
        rate, again = self.at(now), self._is_again(now)
        refused = max(min(rate, asked), answered, _SLOWEST)
        if self._refused == math.inf and rate == math.inf:
            self._begin(refused, answered)
        elif self._sought is not None and self._turns < _AT_ONCE[0]:
            self._sought = max((1.0 - _DEEP_DROP) * refused, answered, _SLOWEST)
        elif again and self._sought is None:
            self._refused, self._drop = refused, _DEEP_DROP
        elif self._sought is not None:  # all turns were as near together as this rate says
            self._refused, self._drop, self._sought = _BELOW * max(rate, answered), _SMALL_DROP, None
        elif abs(refused / self._refused - 1.0) < _SAME:
            self._refused, self._drop = max(_BELOW * refused, _SLOWEST), _SMALL_DROP
        else:
            self._refused, self._drop = refused, _DROP
        self._lowered_at, self._turns = now, 0

    def _recovery(self) -> float:
        """Seconds until the rate is back at the one that was refused."""
        if self._drop == _DEEP_DROP:  # that was no limit to be careful about
            return _RECOVERY
        return min(max(_RECOVERY, _RECOVERY_TURNS / self._refused), _LONGEST_RECOVERY)

    def _begin(self, refused: float, answered: float) -> None:
        """The first refusal, where no rate is set."""
        if self._documented is None:
            self._refused, self._sought = refused, max((1.0 - _DROP) * refused, answered, _SLOWEST)
        else:
            self._refused = max(min(refused, self._documented / (1.0 - _DROP)), answered)
            self._drop = _DROP

    def _is_again(self, now: float) -> bool:
        turns, seconds = _AT_ONCE
        return self._refused < math.inf and (self._turns < turns or now - self._lowered_at < seconds)
