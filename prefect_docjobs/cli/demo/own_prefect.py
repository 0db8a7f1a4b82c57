"""A Prefect of one's own: in a folder and on a port that nobody else uses, gone at the end."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from prefect_docjobs.cli.demo.companions import Companion, companion
from prefect_docjobs.cli.exits import CommandFailed
from prefect_docjobs.cli.quiet import QUIET, debugging

_HOST = "127.0.0.1"
_START_WITHIN = 120.0


@dataclass(frozen=True)
class OwnPrefect:
    """A Prefect server that has been started, and a place to run its clients.

    Attributes:
        url: Origin of the server, which also serves Prefect's UI.
    """

    url: str
    _home: Path
    _env: Mapping[str, str]
    _server: Companion

    def client(self, module: str) -> AbstractContextManager[Companion]:
        """Run a module whose Prefect is this one."""
        return companion(module, env=self._env, folder=self._home, log=_log(self._home, "client"))

    def wait_until_ready(self) -> None:
        """Return when the server answers.

        Raises:
            CommandFailed: It has ended, or does not answer within two minutes.
        """
        deadline = time.monotonic() + _START_WITHIN
        with httpx.Client(base_url=self.url, trust_env=False, timeout=5.0) as client:
            while not _is_healthy(client):
                if self._server.process.poll() is not None:
                    raise CommandFailed(
                        f"The local Prefect server did not start: {self._server.last_words()}"
                    )
                if time.monotonic() > deadline:
                    raise CommandFailed(f"The local Prefect server gave no answer in {_START_WITHIN:.0f} s.")
                time.sleep(0.1)


@contextmanager
def own_prefect() -> Iterator[OwnPrefect]:
    """Start a server; it has ended when the context has closed, and its folder is gone.

    What the user has set up for Prefect is neither used nor changed.

    Yields:
        The server, which is not ready yet.
    """
    with tempfile.TemporaryDirectory(prefix="docjobs-demo-", ignore_cleanup_errors=True) as folder:
        home, port = Path(folder), _free_port()
        env = _environment(home, port)
        module = "prefect_docjobs.cli.demo.server_process"
        with companion(module, _HOST, str(port), env=env, folder=home, log=_log(home, "server")) as server:
            yield OwnPrefect(f"http://{_HOST}:{port}", home, env, server)


def _environment(home: Path, port: int) -> dict[str, str]:
    """This process's environment, without what the user has set for Prefect."""
    others = {name: setting for name, setting in os.environ.items() if not name.startswith("PREFECT_")}
    own = {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://{_HOST}:{port}/api",
        # The UI of a server asks port 4200 unless it is told otherwise.
        "PREFECT_UI_API_URL": f"http://{_HOST}:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
        "PYTHONWARNINGS": "ignore",
        # A proxy has no business between processes of one machine.
        "NO_PROXY": ",".join(filter(None, (os.environ.get("NO_PROXY"), _HOST, "localhost"))),
    }
    return {**others, **({} if debugging.get() else QUIET), **own}


def _log(home: Path, name: str) -> Path | None:
    return None if debugging.get() else home / f"{name}.log"


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind((_HOST, 0))
        port: int = taken.getsockname()[1]
        return port


def _is_healthy(client: httpx.Client) -> bool:
    try:
        return client.get("/api/health").is_success
    except httpx.HTTPError:
        return False
