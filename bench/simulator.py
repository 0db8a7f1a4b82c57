"""The simulator in a process of its own, so that its CPU time is not the client's."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from prefect_docjobs.simulator.settings import Settings

_START_WITHIN = 30.0


@dataclass(frozen=True)
class Simulator:
    """A running simulator and its control routes.

    Attributes:
        base_url: Its origin.
    """

    base_url: str
    _control: httpx.Client

    def reset(self, settings: Settings) -> None:
        """Forget all jobs and counters, and go on with these settings."""
        patch = settings.model_dump(mode="json")
        self._control.post("/_simulator/reset", json=patch).raise_for_status()

    def report(self) -> dict[str, Any]:
        """All counters since the last reset."""
        report: dict[str, Any] = self._control.get("/_simulator/report").raise_for_status().json()
        return report

    def jobs(self, service: str) -> list[dict[str, Any]]:
        """All jobs of a service with their counters."""
        query: dict[str, str | int] = {"service": service, "limit": 1_000_000}
        answer = self._control.get("/_simulator/jobs", params=query).raise_for_status()
        jobs: list[dict[str, Any]] = answer.json()["jobs"]
        return jobs


@contextmanager
def own_simulator() -> Iterator[Simulator]:
    """Run a simulator in another process; it has ended when the context has closed."""
    port = free_port()
    command = [sys.executable, "-m", "prefect_docjobs.cli", "simulate", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)  # noqa: S603 (ours)
    base_url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=base_url, trust_env=False, timeout=60.0) as control:
            wait_until_it_answers(control, "/_simulator", process, _START_WITHIN)
            yield Simulator(base_url, control)
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def wait_until_it_answers(
    client: httpx.Client, path: str, process: subprocess.Popen[bytes], seconds: float
) -> None:
    """Return when a server that is starting answers.

    Raises:
        RuntimeError: It has ended, or does not answer in time.
    """
    deadline = time.monotonic() + seconds
    while not _answers(client, path):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{client.base_url} does not answer.")
        time.sleep(0.1)


def _answers(client: httpx.Client, path: str) -> bool:
    try:
        return client.get(path).is_success
    except httpx.HTTPError:
        return False
