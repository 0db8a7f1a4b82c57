"""What one client allows itself, and which failures may be asked about again."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import tenacity

from prefect_docjobs.errors import ServiceError, Throttled, Unavailable, Unfinished
from prefect_docjobs.http.messages import Request


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client allows itself. Times in seconds, sizes in bytes.

    Attributes:
        in_flight: Requests at the same time; httpx slows down badly far above this.
        attempts: Requests per call, the first included; being throttled does not count.
        result_attempts: The same for a result: it is paid for, and asking again costs nothing.
        backoff: Longest pause before the second request; it doubles for each further one.
        patience: Longest single pause, Retry-After included; a service that asks for more gets no retry.
        throttled: How long one call may be throttled (HTTP 429) in all before it gives up.
        connect: To connect.
        idle: Between two pieces of a body, in either direction.
        total: For one request with its whole answer.
        answer_bytes: Largest answer that holds no result.
        result_bytes: Largest result; also of a status answer that may hold one.
    """

    in_flight: int = 20
    attempts: int = 6
    result_attempts: int = 12
    backoff: float = 0.5
    patience: float = 60.0
    throttled: float = 900.0
    connect: float = 10.0
    idle: float = 60.0
    total: float = 300.0
    answer_bytes: int = 8 << 20
    result_bytes: int = 32 << 20

    def largest(self, request: Request) -> int:
        """Bytes of the largest answer to this request."""
        return self.result_bytes if request.verbatim or request.large else self.answer_bytes


def may_repeat_read(error: BaseException) -> bool:
    """Whatever may pass by itself; a GET changes nothing when it is sent twice."""
    return isinstance(error, (Throttled, Unavailable)) and not isinstance(error, Unfinished)


def may_repeat_submit(error: BaseException) -> bool:
    """429, 503 and a request that did not get through; a submit that may have been accepted is neither."""
    return isinstance(error, Unavailable) or (isinstance(error, Throttled) and error.status == 429)


class Budget:
    """How often and how long one call may be repeated; tenacity asks it."""

    def __init__(self, limits: Limits, attempts: int, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._attempts = attempts
        self._clock = clock
        self._started = clock()
        self._failures = 0

    def is_spent(self, state: tenacity.RetryCallState) -> bool:
        """Whether the failure in `state` was the last one that is put up with."""
        error = _error_of(state)
        if (error.retry_after or 0.0) > self._limits.patience or self._attempts == 1:
            return True
        if isinstance(error, Throttled):
            return self._clock() - self._started > self._limits.throttled
        self._failures += 1
        return self._failures >= self._attempts

    def pause(self, state: tenacity.RetryCallState) -> float:
        """What the service asks for, and a growing pause with jitter on top so that callers spread out."""
        ceiling = min(self._limits.patience, self._limits.backoff * 2.0 ** min(state.attempt_number - 1, 10))
        return (_error_of(state).retry_after or 0.0) + ceiling * random.uniform(0.5, 1.0)  # noqa: S311 (jitter)


def _error_of(state: tenacity.RetryCallState) -> ServiceError:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, ServiceError)  # noqa: S101 (only ServiceErrors are repeated)
    return error


@contextmanager
def counted(number: int) -> Iterator[None]:
    """Have an error know the number of its attempt."""
    try:
        yield
    except ServiceError as error:
        error.attempts = number
        raise


def kind_of(problem: Exception) -> str:
    """An error's kind and text without its class path; some httpx errors have no text."""
    text = str(problem)
    return f"{type(problem).__name__} ({text})" if text else type(problem).__name__
