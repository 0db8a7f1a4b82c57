"""What can become of a push, and the HTTP status that tells the service so."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType


class Outcome(str, Enum):
    """What became of one push. Services send again what gets no 2xx."""

    KEPT = "kept"
    REPLAYED = "replayed"
    MALFORMED = "malformed"
    REFUSED = "refused"
    TOO_SLOW = "too_slow"
    TOO_LARGE = "too_large"
    DISCONNECTED = "disconnected"
    BUSY = "busy"
    UNAVAILABLE = "unavailable"

    @property
    def status(self) -> int:
        """The HTTP status of the answer."""
        return _STATUS[self]

    @property
    def is_final(self) -> bool:
        """Whether the push is durable, so that the service need not send it again."""
        return self in (Outcome.KEPT, Outcome.REPLAYED)

    def __str__(self) -> str:
        return self.value


_STATUS: Mapping[Outcome, int] = MappingProxyType(
    {
        Outcome.KEPT: 200,
        Outcome.REPLAYED: 200,
        Outcome.MALFORMED: 400,
        Outcome.REFUSED: 401,
        Outcome.TOO_SLOW: 408,
        Outcome.TOO_LARGE: 413,
        Outcome.DISCONNECTED: 400,  # nobody reads it
        Outcome.BUSY: 503,
        Outcome.UNAVAILABLE: 503,
    }
)


class Declined(Exception):
    """A push that is not kept.

    Args:
        outcome: Why.
    """

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.value)
        self.outcome = outcome
