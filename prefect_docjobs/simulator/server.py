"""The simulator on a port: blocking for a terminal, or in a thread for tests and demos."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette
from starlette.types import Scope

from prefect_docjobs.simulator.app import create_app
from prefect_docjobs.simulator.engine import World
from prefect_docjobs.simulator.settings import Settings

_SHUTDOWN_SECONDS = 5
_BACKLOG = 2048


@dataclass(frozen=True, slots=True)
class Running:
    """A simulator that runs in a thread.

    Attributes:
        base_url: Its origin, such as ``http://127.0.0.1:49152``.
        world: Its world. Only read from it in another thread; change it through the control routes.
    """

    base_url: str
    world: World


def serve(settings: Settings | None = None, host: str = "127.0.0.1", port: int = 4040) -> None:
    """Serve the simulator until interrupted.

    Args:
        settings: How it behaves.
        host: Address to listen on. It has a well-known key: keep it on loopback.
        port: TCP port; 0 takes a free one.

    Raises:
        OSError: The port is taken.
    """
    with contextlib.closing(_listen(host, port)) as listener:
        _server(create_app(settings), log_level="warning").run(sockets=[listener])


@contextlib.contextmanager
def run_in_thread(
    settings: Settings | None = None, host: str = "127.0.0.1", port: int = 0
) -> Iterator[Running]:
    """Serve the simulator in a thread while the context is open.

    The server has stopped, and its port is free, when the context has closed.

    Args:
        settings: How it behaves.
        host: Address to listen on.
        port: TCP port; 0 takes a free one.

    Yields:
        Its address and its world.

    Raises:
        OSError: The port is taken.
        RuntimeError: The server did not start.
    """
    app = create_app(settings)
    with contextlib.closing(_listen(host, port)) as listener:
        server = _server(app, log_level="critical")
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listener]}, name="simulator", daemon=True
        )
        thread.start()
        _wait_until_started(server, thread)
        try:
            yield Running(_origin(host, listener.getsockname()[1]), app.state.world)
        finally:
            server.should_exit = True
            thread.join()


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    while not server.started:
        if not thread.is_alive():
            raise RuntimeError("The simulator did not start.")
        time.sleep(0.005)


def _origin(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


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


def _server(app: Starlette, log_level: str) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        log_level=log_level,
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
