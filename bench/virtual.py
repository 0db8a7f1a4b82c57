"""The simulator in process, in virtual time: waiting costs nothing, and every run is exact."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from bench.services import client
from prefect_docjobs.http import AccountLimits, Http
from prefect_docjobs.simulator.backend import Backend
from prefect_docjobs.simulator.server import SimulatorTransport, create_app
from prefect_docjobs.simulator.settings import Settings
from prefect_docjobs.simulator.virtual_time import VirtualLoop

T = TypeVar("T")

_ORIGIN = "http://localhost"


def in_virtual_time(work: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T, str]:
    """Run a coroutine in virtual time.

    Returns:
        What it returns, and the ratio of virtual to real seconds, such as `85:1`.
    """
    loop, started = VirtualLoop(), time.perf_counter()
    try:
        outcome = loop.run_until_complete(work())
        loop.run_until_complete(loop.shutdown_asyncgens())
        return outcome, f"{loop.time() / (time.perf_counter() - started):,.0f}:1"
    finally:
        loop.close()


@asynccontextmanager
async def simulated(
    name: str,
    settings: Settings,
    account_limits: Callable[[Callable[[], float]], AccountLimits] = lambda clock: AccountLimits(clock=clock),
) -> AsyncIterator[tuple[Http, Backend]]:
    """A client of one service, and the backend that answers it, on the running loop's clock.

    Args:
        name: Registry name of the service.
        settings: How the simulator behaves.
        account_limits: Makes the client's rate limits for a clock; without limits by default.
    """
    clock = asyncio.get_running_loop().time
    app = create_app(settings, clock=clock)
    backend: Backend = app.state.backend
    async with client(
        name, _ORIGIN, transport=SimulatorTransport(app), account_limits=account_limits(clock)
    ) as http:
        yield http, backend
