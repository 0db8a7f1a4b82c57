"""Processes that end with this one, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import IO

_STOP_WITHIN = 5.0


@dataclass(frozen=True)
class Companion:
    """A process that runs one of our modules.

    Attributes:
        process: It, with pipes at standard input and output.
        log: What it wrote to standard error; None when that went to the terminal.
    """

    process: subprocess.Popen[bytes]
    log: Path | None

    def tell(self, line: str) -> None:
        """Write a line to it, which `lines_from_parent` gives it."""
        assert self.process.stdin  # noqa: S101 (a pipe, see `companion`)
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    @property
    def output(self) -> IO[bytes]:
        """Its standard output."""
        assert self.process.stdout  # noqa: S101 (a pipe, see `companion`)
        return self.process.stdout

    def last_words(self) -> str:
        """The last thing that it wrote to its log, or how it ended."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log else ""
        said = [line.strip() for line in text.splitlines() if line.strip()]
        return said[-1] if said else f"it ended with code {self.process.poll()}"


@contextmanager
def companion(
    module: str, *arguments: str, env: Mapping[str, str], folder: Path, log: Path | None
) -> Iterator[Companion]:
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
        yield Companion(process, log)
    finally:
        _stop(process)


def lines_from_parent() -> SimpleQueue[str]:
    """For a companion: the lines that its parent writes. When the parent is gone, this process ends.

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


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the process to end, then make it."""
    try:
        _send(process, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_WITHIN)
    finally:
        if sys.platform != "win32":
            _send(process, signal.SIGKILL)
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream:
                with suppress(BrokenPipeError):
                    stream.close()


def _send(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to the process and to all that it started."""
    if sys.platform == "win32":
        process.terminate()
    else:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
