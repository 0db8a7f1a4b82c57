"""What stands in front of every service route: faults, the API key, rate limits; each is counted.

The order is that of the real way: a connection breaks, or a proxy answers 502, before the service checks
the key; the service checks the key before it counts the request against a rate limit.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from datetime import timedelta
from email.utils import format_datetime
from enum import Enum

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prefect_docjobs.simulator.backend import Backend
from prefect_docjobs.simulator.service import Service, ServiceError
from prefect_docjobs.simulator.settings import FaultShares, Kind, RateLimit

_BAD_GATEWAY = (
    "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n"
    "<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n"
)


class Fault(Enum):
    """A fault of one request, named like its setting; the values are the names that reports use."""

    UNAVAILABLE = "503"
    BAD_GATEWAY = "502"
    DROPPED = "dropped"
    LOST = "lost"
    GARBLED = "garbled"


class ConnectionDropped(Exception):
    """Stands for a cut connection where there is none to cut: the app is called in process."""


class TokenBucket:
    """A token bucket that is filled by the clock; it starts full."""

    def __init__(self) -> None:
        self._tokens: float | None = None
        self._filled_at = 0.0

    def take(self, limit: RateLimit, now: float) -> float:
        """Take one token.

        Args:
            limit: The limit in force now; it may change between two calls.
            now: The clock's time in seconds.

        Returns:
            0.0 when a token was taken, else the seconds until there will be one.
        """
        if limit.per_second is None:
            self._tokens = None
            return 0.0
        tokens = float(limit.burst) if self._tokens is None else self._tokens
        tokens = min(float(limit.burst), tokens + (now - self._filled_at) * limit.per_second)
        self._filled_at = now
        wait = 0.0 if tokens >= 1.0 else (1.0 - tokens) / limit.per_second
        self._tokens = tokens if wait else tokens - 1.0
        return wait


class FaultSource:
    """Draws the faults and keeps the token buckets of one simulator; a reset starts both again."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._begin()
        backend.on_reset.append(self._begin)

    def _begin(self) -> None:
        self._seed = self._backend.settings.seed
        self._rngs: dict[Kind, random.Random] = {}
        self._buckets: dict[tuple[str, Kind], TokenBucket] = {}

    def draw(self, kind: Kind) -> Fault | None:
        """The fault of this request, or None. Draws one number for each request of a kind."""
        shares: FaultShares = getattr(self._backend.settings.faults, kind)
        if kind not in self._rngs:
            self._rngs[kind] = random.Random(f"{self._seed}/requests/{kind}")  # noqa: S311  (repeatable)
        point = self._rngs[kind].random()
        for fault in Fault:
            share: float = getattr(shares, fault.name.lower())
            if point < share:
                return fault
            point -= share
        return None

    def throttle(self, service: str, kind: Kind) -> float:
        """Seconds that this request came too early for its rate limit; 0.0 when it may pass."""
        bucket = self._buckets.setdefault((service, kind), TokenBucket())
        limit: RateLimit = getattr(self._backend.settings.rates, kind)
        return bucket.take(limit, self._backend.now())


class Guard:
    """ASGI middleware of one service route.

    Args:
        app: The endpoint.
        backend: Its settings and counters are used.
        faults: Of the simulator.
        service: The service that the route belongs to.
        kind: Kind of request; None: only the key is checked.
    """

    def __init__(
        self, app: ASGIApp, backend: Backend, faults: FaultSource, service: Service, kind: Kind | None
    ) -> None:
        self._app = app
        self._backend = backend
        self._faults = faults
        self._service = service
        self._kind = kind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer it here."""
        fault = None
        if self._kind is not None:
            self._backend.stats.requests[self._kind] += 1
            fault = self._faults.draw(self._kind)
        if fault is Fault.DROPPED:
            self._count(fault)
            await _drop_connection(scope, receive)
        elif (answer := self._refusal(Request(scope), fault)) is not None:
            # Unread, the rest of the body may reset the connection before the client has the answer.
            while (message := await receive())["type"] == "http.request" and message.get("more_body", False):
                pass
            await answer(scope, receive, send)
        elif fault is Fault.LOST:
            await self._answer_and_lose(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _count(self, fault: Fault) -> None:
        self._backend.stats.given[fault.value] += 1

    def _refusal(self, request: Request, fault: Fault | None) -> Response | None:
        if fault is Fault.BAD_GATEWAY:
            self._count(fault)
            return HTMLResponse(_BAD_GATEWAY, status_code=502)
        if fault is Fault.GARBLED:
            self._count(fault)
            return JSONResponse({"message": "Endpoint request timed out"})
        if not self._service.admits(request, self._backend.settings.api_key):
            self._backend.stats.given["unauthorized"] += 1
            return self._service.error_response(request, ServiceError(401))
        wait = 0.0 if self._kind is None else self._faults.throttle(self._service.name, self._kind)
        if wait > 0.0:
            return self._try_later(request, 429, wait)
        return self._try_later(request, 503, 1.0) if fault is Fault.UNAVAILABLE else None

    def _try_later(self, request: Request, status: int, wait: float) -> Response:
        """A 429 or 503 in the service's own shape, with the Retry-After header that the settings ask for."""
        self._backend.stats.given[str(status)] += 1
        header = self._backend.settings.retry_after
        if header.form == "none":
            return self._service.error_response(request, ServiceError(status))
        seconds = math.ceil(wait if header.seconds is None else header.seconds)
        answer = self._service.error_response(request, ServiceError(status, retry_after=seconds))
        answer.headers["Retry-After"] = str(seconds) if header.form == "seconds" else self._http_date(seconds)
        return answer

    def _http_date(self, seconds: int) -> str:
        # HTTP dates know whole seconds only: round up, so that the client does not come back too early.
        date = self._backend.wall(self._backend.now()) + timedelta(seconds=seconds, microseconds=999_999)
        return format_datetime(date.replace(microsecond=0), usegmt=True)

    async def _answer_and_lose(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Act on the request, then cut the connection; a refusal of the endpoint is sent as it is."""
        messages: list[Message] = []

        async def keep(message: Message) -> None:
            messages.append(message)

        await self._app(scope, receive, keep)
        if messages[0]["status"] < 400:
            self._count(Fault.LOST)
            await _drop_connection(scope, receive)
            return
        for message in messages:
            await send(message)


async def _drop_connection(scope: Scope, receive: Receive) -> None:
    """Cut the client's connection without an answer.

    Raises:
        ConnectionDropped: The app is not run by ``simulator.server``, so there is no connection to cut.
    """
    abort: Callable[[Scope], None] | None = getattr(scope["app"].state, "abort_connection", None)
    if abort is None:
        raise ConnectionDropped
    abort(scope)
    # The server must have noticed before the endpoint returns, or it would complain about a missing answer.
    while (await receive())["type"] != "http.disconnect":
        pass
