"""Ways to run the simulator: as an ASGI app, in process behind a client, on a port in a thread."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass

import anyio
import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Scope

from prefect_docjobs.simulator.backend import Backend
from prefect_docjobs.simulator.control import control_routes
from prefect_docjobs.simulator.faults import ConnectionDropped, FaultSource, Guard
from prefect_docjobs.simulator.mindee import routes as mindee
from prefect_docjobs.simulator.mindee_v1 import routes as mindee_v1
from prefect_docjobs.simulator.numind import routes as numind
from prefect_docjobs.simulator.pushes import Pushes
from prefect_docjobs.simulator.service import Service, ServiceError
from prefect_docjobs.simulator.settings import Settings
from prefect_docjobs.simulator.unsiloed import routes as unsiloed

SERVICES: Sequence[Callable[[Backend], Service]] = (
    mindee.service,
    mindee_v1.service,
    numind.service,
    unsiloed.service,
)

_SHUTDOWN_SECONDS = 5
_BACKLOG = 2048


def create_app(
    settings: Settings | None = None,
    *,
    clock: Callable[[], float] | None = None,
    push_transport: httpx.AsyncBaseTransport | None = None,
    services: Sequence[Callable[[Backend], Service]] = SERVICES,
) -> Starlette:
    """The simulator: Mindee V2, Mindee V1, NuMind and Unsiloed on one origin.

    Args:
        settings: How it behaves from the start; see ``simulator.settings``.
        clock: Seconds, never going back; ``time.monotonic`` when left out. Under a server it must run by
            itself; in process it may be a virtual one, see ``Pushes.deliver_due``.
        push_transport: Where webhook calls go instead of the network.
        services: What makes each service, such as ``simulator.mindee.routes.service``; all four by default.

    Returns:
        An app with ``app.state.backend`` (a ``Backend``) and ``app.state.pushes`` (a ``Pushes``). It is
        served by ``run_in_thread``, or called in process through ``SimulatorTransport``.
    """
    backend = Backend(settings, clock=clock or time.monotonic)
    faults = FaultSource(backend)
    running = [service(backend) for service in services]
    pushes = Pushes(backend, running, push_transport)

    async def answer_error(request: Request, error: Exception) -> Response:
        """A refusal, one of Starlette's own too (unknown path, broken form), in the shape of its service."""
        owner = next((service for service in running if service.owns(request.url.path)), None)
        if isinstance(error, ServiceError) and owner is not None:
            return owner.error_response(request, error)
        if not isinstance(error, HTTPException):
            raise error
        if owner is None:
            return JSONResponse({"detail": error.detail}, error.status_code, headers=error.headers)
        refusal = ServiceError(error.status_code, error.detail if error.status_code == 400 else None)
        response = owner.error_response(request, refusal)
        response.headers.update(error.headers or {})
        return response

    @contextlib.asynccontextmanager
    async def push_while_running(_app: Starlette) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pushes.run)
            yield
            tasks.cancel_scope.cancel()

    app = Starlette(
        routes=[
            *(
                Route(
                    endpoint.path,
                    endpoint.call,
                    methods=[endpoint.method],
                    middleware=[Middleware(Guard, backend, faults, service, endpoint.kind)],
                )
                for service in running
                for endpoint in service.endpoints
            ),
            *control_routes(backend, pushes),
        ],
        exception_handlers={ServiceError: answer_error, HTTPException: answer_error},
        lifespan=push_while_running,
    )
    # A slash too many is another path for the services, not a reason to redirect.
    app.router.redirect_slashes = False
    app.state.backend = backend
    app.state.pushes = pushes
    return app


class SimulatorTransport(httpx.AsyncBaseTransport):
    """Calls the simulator in process, showing a client what it would see on a network.

    A dropped connection becomes ``httpx.RemoteProtocolError``, as over TCP. Bodies are buffered whole.

    Args:
        app: The simulator, from ``create_app``.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._inner = httpx.ASGITransport(app=app)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        await request.aread()
        try:
            return await self._inner.handle_async_request(request)
        except ConnectionDropped as dropped:
            message = "Server disconnected without sending a response."
            raise httpx.RemoteProtocolError(message, request=request) from dropped


@dataclass(frozen=True, slots=True)
class Running:
    """A simulator that runs in a thread.

    Attributes:
        base_url: Its origin, such as ``http://127.0.0.1:49152``.
        backend: Its backend. Only read from it in another thread; change it through the control routes.
    """

    base_url: str
    backend: Backend


@contextlib.contextmanager
def run_in_thread(
    settings: Settings | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    app: Starlette | None = None,
) -> Iterator[Running]:
    """Serve the simulator in a thread while the context is open.

    The server has stopped, and its port is free, when the context has closed.

    Args:
        settings: How it behaves.
        host: Address to listen on.
        port: TCP port; 0 takes a free one.
        app: What to serve, from ``create_app``; by default one with these settings.

    Yields:
        Its address and its backend.

    Raises:
        OSError: The port is taken.
        RuntimeError: The server did not start.
    """
    app = app or create_app(settings)
    with contextlib.closing(_listen(host, port)) as listener:
        server = _server(app)
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listener]}, name="simulator", daemon=True
        )
        thread.start()
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("The simulator did not start.")
            time.sleep(0.005)
        shown = f"[{host}]" if ":" in host else host
        try:
            yield Running(f"http://{shown}:{listener.getsockname()[1]}", app.state.backend)
        finally:
            server.should_exit = True
            thread.join()


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket, which asyncio gives TCP_NODELAY: it does so only if the protocol is named.

    Without it every answer waits 40 ms, for uvicorn writes head and body apart.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # elsewhere it would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _server(app: Starlette) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        log_level="critical",
        access_log=False,
        lifespan="on",
        ws="none",
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        # Clients must meet as many requests as they can send; their idle connections outlive a poll interval.
        timeout_keep_alive=75,
        backlog=_BACKLOG,
    )
    server = uvicorn.Server(config)

    def abort_connection(scope: Scope) -> None:
        client = tuple(scope["client"])
        for connection in server.server_state.connections:
            if getattr(connection, "client", None) == client:
                connection.transport.abort()
                return

    app.state.abort_connection = abort_connection
    return server
