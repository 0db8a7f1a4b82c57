"""The simulated services, slowed down, in a process of their own."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bench.simulator import Simulator, free_port, wait_until_it_answers
from prefect_docjobs.simulator.server import create_app, run_in_thread


class Held:
    """ASGI middleware that holds requests up on both sides of what they do.

    Args:
        app: The services.
        low: Least seconds for each side.
        high: Most seconds.
        methods: HTTP methods that are held up.
    """

    def __init__(self, app: ASGIApp, low: float, high: float, methods: tuple[str, ...]) -> None:
        self._app = app
        self._between = (low, high)
        self._methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; those for the control routes are never held up."""
        held = scope["type"] == "http" and scope["method"] in self._methods
        if not held or scope["path"].startswith("/_simulator"):
            await self._app(scope, receive, send)
            return

        async def send_late(message: Message) -> None:
            if message["type"] == "http.response.start":
                await self._hold()
            await send(message)

        await self._hold()
        await self._app(scope, receive, send_late)

    async def _hold(self) -> None:
        await asyncio.sleep(random.uniform(*self._between))  # noqa: S311 (not for security)


@contextmanager
def slow_simulator(
    low: float, high: float, methods: tuple[str, ...] = ("GET", "POST")
) -> Iterator[Simulator]:
    """Run a slow simulator in another process; see `Held`."""
    port = free_port()
    command = [sys.executable, "-m", "bench.slow_service", str(port), str(low), str(high), *methods]
    process = subprocess.Popen(command)  # noqa: S603 (our own module)
    base_url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=base_url, trust_env=False, timeout=60.0) as control:
            wait_until_it_answers(control, "/_simulator", process, 30.0)
            yield Simulator(base_url, control)
    finally:
        process.kill()
        process.wait()


def main(port: int, low: float, high: float, methods: tuple[str, ...]) -> None:
    """Serve until the process is ended."""
    app = create_app()
    app.add_middleware(Held, low=low, high=high, methods=methods)
    with run_in_thread(port=port, app=app):
        threading.Event().wait()


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), tuple(sys.argv[4:]))
