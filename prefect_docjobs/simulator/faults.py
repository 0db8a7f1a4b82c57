"""What stands in front of every service route: faults, the API key, rate limits; each is counted.

The order is that of the real way: a connection breaks, or a proxy answers 502, before the service looks at
the key; the service checks the key before it counts the request against a rate limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from email.utils import format_datetime

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prefect_docjobs.simulator.backend import Backend
from prefect_docjobs.simulator.hazards import Fault
from prefect_docjobs.simulator.services import Refusal, Service
from prefect_docjobs.simulator.settings import Kind

_BAD_GATEWAY = (
    "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n"
    "<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n"
)


class ConnectionDropped(Exception):
    """Stands for a cut connection where there is none to cut: the app is called in process."""


class Guard:
    """ASGI middleware of one service route.

    Args:
        app: The endpoint.
        backend: The backend whose settings and counters are used.
        service: The service that the route belongs to.
        kind: Kind of request; None: only the key is checked.
    """

    def __init__(self, app: ASGIApp, backend: Backend, service: Service, kind: Kind | None) -> None:
        self._app = app
        self._backend = backend
        self._service = service
        self._kind = kind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer it here."""
        strike = self._strike()
        if strike is Fault.DROPPED:
            await drop_connection(scope, receive)
            return
        answer = self._refusal(Request(scope), strike)
        if answer is not None:
            await _read_to_the_end(receive)
            await answer(scope, receive, send)
        elif strike is Fault.LOST:
            await self._answer_and_lose(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _strike(self) -> Fault | None:
        if self._kind is None:
            return None
        backend = self._backend
        backend.stats.requests[self._kind] += 1
        strike = backend.hazards.strike(backend.settings, self._kind)
        if strike not in {None, Fault.LOST, Fault.UNAVAILABLE}:
            backend.stats.given[strike.value] += 1
        return strike

    def _refusal(self, request: Request, strike: Fault | None) -> Response | None:
        if strike is Fault.BAD_GATEWAY:
            return HTMLResponse(_BAD_GATEWAY, status_code=502)
        if strike is Fault.GARBLED:
            return JSONResponse({"message": "Endpoint request timed out"})
        if not self._service.admits(request, self._backend.settings.api_key):
            self._backend.stats.given["unauthorized"] += 1
            return self._service.refuse(request, Refusal(401))
        wait = self._throttle()
        if wait > 0.0:
            return self._try_later(request, 429, wait)
        if strike is Fault.UNAVAILABLE:
            return self._try_later(request, 503, 1.0)
        return None

    def _throttle(self) -> float:
        if self._kind is None:
            return 0.0
        return self._backend.hazards.throttle(self._backend.settings, self._service.name, self._kind)

    def _try_later(self, request: Request, status: int, wait: float) -> Response:
        """A 429 or 503 in the service's own shape, with the Retry-After header that the settings ask for."""
        self._backend.stats.given[str(status)] += 1
        wish = self._backend.settings.retry_after
        if wish.form == "none":
            return self._service.refuse(request, Refusal(status))
        seconds = math.ceil(wait if wish.seconds is None else wish.seconds)
        answer = self._service.refuse(request, Refusal(status, retry_after=seconds))
        answer.headers["Retry-After"] = str(seconds) if wish.form == "seconds" else self._http_date(seconds)
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
            self._backend.stats.given[Fault.LOST.value] += 1
            await drop_connection(scope, receive)
            return
        for message in messages:
            await send(message)


async def drop_connection(scope: Scope, receive: Receive) -> None:
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


async def _read_to_the_end(receive: Receive) -> None:
    """Take in a body that nobody wants, or the client may get a reset connection instead of the answer."""
    while (message := await receive())["type"] == "http.request" and message.get("more_body", False):
        pass
