"""A Prefect server of the benchmark's own, in a temporary home."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.processes import cpu_of_session
from bench.simulator import free_port, wait_until_it_answers
from prefect_docjobs.cli.demo import subprocesses

_HOST = "127.0.0.1"
_START_WITHIN = 120.0


@dataclass(frozen=True)
class PrefectServer:
    """A running Prefect server.

    Attributes:
        env: Environment variables for processes that use it.
    """

    env: Mapping[str, str]
    _session: int

    def cpu(self) -> float:
        """Seconds of CPU that it has used so far."""
        return cpu_of_session(self._session)


@contextmanager
def own_prefect_server() -> Iterator[PrefectServer]:
    """Start a quiet server; it has ended when the context has closed, and its home is gone."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home, port = Path(folder), free_port()
        env = {
            "PREFECT_HOME": str(home),
            "PREFECT_API_URL": f"http://{_HOST}:{port}/api",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
            # Only the console is quiet: logs of runs go to the server, as they do by default.
            "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        }
        module, log = subprocesses.__name__, home / "server.log"
        with subprocesses.start(module, _HOST, str(port), env=_with(env), folder=home, log=log) as server:
            with httpx.Client(base_url=f"http://{_HOST}:{port}", trust_env=False) as client:
                wait_until_it_answers(client, "/api/health", server.process, _START_WITHIN)
            yield PrefectServer(env, server.process.pid)


def _with(env: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, **env}
