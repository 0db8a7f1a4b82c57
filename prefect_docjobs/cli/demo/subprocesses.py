"""The demo's other processes, a Prefect server among them; all of them end with this one, however it ends."""

from __future__ import annotations

import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import IO

import httpx

from prefect_docjobs.cli.errors import CommandFailed, debugging
from prefect_docjobs.cli.prefect_api import QUIET

_STOP_WITHIN = 5.0
_START_WITHIN = 120.0
_HOST = "127.0.0.1"


@dataclass(frozen=True)
class Subprocess:
    """A process that runs one of our modules.

    Attributes:
        process: It, with pipes at standard input and output.
        log: Its standard error; None when that goes to the terminal.
    """

    process: subprocess.Popen[bytes]
    log: Path | None

    def send(self, line: str) -> None:
        """Write a line to it, which `lines_from_parent` gives it."""
        assert self.process.stdin  # noqa: S101 (a pipe, see `start`)
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    @property
    def output(self) -> IO[bytes]:
        """Its standard output."""
        assert self.process.stdout  # noqa: S101 (a pipe, see `start`)
        return self.process.stdout

    def last_log_line(self) -> str:
        """The last line of its log, or how it ended."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log else ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[-1] if lines else f"it ended with code {self.process.poll()}"


@contextmanager
def start(
    module: str, *arguments: str, env: Mapping[str, str], folder: Path, log: Path | None
) -> Iterator[Subprocess]:
    """Run a module in a process that has ended, with all that it started, when the context has closed.

    Args:
        module: To run; it calls `lines_from_parent`, so that it also ends when this process is killed.
        arguments: On its command line.
        env: Its environment.
        folder: Its working directory.
        log: Where its standard error goes; None for the terminal.
    """
    with nullcontext() if log is None else log.open("wb") as errors:
        process = subprocess.Popen(  # noqa: S603 (our own module)
            [sys.executable, "-m", module, *arguments],
            env=env,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
    try:
        yield Subprocess(process, log)
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    try:
        _signal(process, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_WITHIN)
    finally:
        if sys.platform != "win32":
            _signal(process, signal.SIGKILL)
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream:
                with suppress(BrokenPipeError):
                    stream.close()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to the process and to all that it started."""
    if sys.platform == "win32":
        process.terminate()
    else:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)


def lines_from_parent() -> SimpleQueue[str]:
    """In a subprocess: the lines that its parent sends. When the parent is gone, this process ends.

    Call it before anything that takes time.
    """
    lines: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_listen, args=(lines,), daemon=True).start()
    return lines


def _listen(lines: SimpleQueue[str]) -> None:
    # Unbuffered, for a thread that waits in a buffered reader is in the way of the interpreter's exit.
    with open(0, "rb", buffering=0, closefd=False) as source:
        for line in source:
            lines.put(line.decode())
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_STOP_WITHIN)
    os._exit(1)


# ------------------------------------------------------------------------------------------ a Prefect server


@dataclass(frozen=True)
class PrefectServer:
    """A Prefect server with a home of its own, and a place to run its clients.

    Attributes:
        url: Its origin, which also serves Prefect's UI.
    """

    url: str
    _home: Path
    _env: Mapping[str, str]
    _server: Subprocess

    def start_client(self, module: str) -> AbstractContextManager[Subprocess]:
        """Run a module that uses this server, see `start`."""
        return start(module, env=self._env, folder=self._home, log=_log(self._home, "client"))

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
                        f"The local Prefect server did not start: {self._server.last_log_line()}"
                    )
                if time.monotonic() > deadline:
                    raise CommandFailed(f"The local Prefect server gave no answer in {_START_WITHIN:.0f} s.")
                time.sleep(0.1)


def _is_healthy(client: httpx.Client) -> bool:
    try:
        return client.get("/api/health").is_success
    except httpx.HTTPError:
        return False


@contextmanager
def prefect_server() -> Iterator[PrefectServer]:
    """Start a server; it has ended when the context has closed, and its folder is gone.

    What the user has set up for Prefect is neither used nor changed.

    Yields:
        The server, which is not ready yet.
    """
    with tempfile.TemporaryDirectory(prefix="docjobs-demo-", ignore_cleanup_errors=True) as folder:
        home, port = Path(folder), _free_port()
        env = _environment(home, port)
        with start(__name__, _HOST, str(port), env=env, folder=home, log=_log(home, "server")) as server:
            yield PrefectServer(f"http://{_HOST}:{port}", home, env, server)


def _environment(home: Path, port: int) -> dict[str, str]:
    """This process's environment, without what the user has set for Prefect."""
    others = {name: setting for name, setting in os.environ.items() if not name.startswith("PREFECT_")}
    own = {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://{_HOST}:{port}/api",
        # The UI asks port 4200 unless this is set.
        "PREFECT_UI_API_URL": f"http://{_HOST}:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
        "PYTHONWARNINGS": "ignore",
        # No proxy between processes of one machine.
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


def _serve_prefect(host: str, port: str) -> None:
    """`prefect server start` as a subprocess: `python -m prefect_docjobs.cli.demo.subprocesses HOST PORT`."""
    lines_from_parent()
    os.dup2(2, 1)  # the welcome
    sys.argv = ["prefect", "server", "start", "--host", host, "--port", port]
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _serve_prefect(*sys.argv[1:])
