"""The simulator in process, on a clock that a test moves by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import httpx

from prefect_docjobs.simulator.backend import Backend
from prefect_docjobs.simulator.pushes import Pushes
from prefect_docjobs.simulator.server import SimulatorTransport, create_app
from prefect_docjobs.simulator.settings import Duration, Settings

ORIGIN = "http://simulator.test"
KEY = "simulator"


class HandClock:
    """A clock in seconds that only `advance` moves."""

    def __init__(self) -> None:
        self._now = 1000.0

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds


@dataclass(frozen=True)
class Simulated:
    """A simulator and a client that calls it in process."""

    client: httpx.AsyncClient
    backend: Backend
    clock: HandClock
    pushes: Pushes


@asynccontextmanager
async def simulated(
    settings: Settings | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    push_transport: httpx.AsyncBaseTransport | None = None,
) -> AsyncIterator[Simulated]:
    """A simulator whose jobs take 8 seconds, two of them queued, unless the settings say otherwise."""
    clock = HandClock()
    app = create_app(settings or settled(), clock=clock, push_transport=push_transport)
    async with httpx.AsyncClient(
        transport=SimulatorTransport(app), base_url=ORIGIN, headers=headers, trust_env=False
    ) as client:
        yield Simulated(client, app.state.backend, clock, app.state.pushes)


def settled(**changes: Any) -> Settings:
    """Settings without chance: every job takes 8 seconds, the first two of them queued."""
    return Settings(duration=Duration(law="fixed", seconds=8.0, queue_share=0.25)).merged(changes)


def sample(name: str) -> bytes:
    """The bytes of a sample document that ships with the package."""
    return (files("prefect_docjobs.simulator") / "samples" / name).read_bytes()
