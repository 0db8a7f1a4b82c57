"""Processes that work with the Prefect server of the tests, and what they cost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
from prefect.settings import PREFECT_API_URL

_TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def _own(directory: Path) -> dict[str, str]:
    """Settings of a process of the tests: their server, and a home in its directory."""
    return {"PREFECT_API_URL": PREFECT_API_URL.value() or "", "PREFECT_HOME": str(directory / "home")}


@contextmanager
def process(name: str, *command: str, cwd: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process; what it prints is in `cwd`/`name`.txt, behind what was there.

    Args:
        name: For the file.
        command: Behind `python`.
        cwd: Where it runs.
        environment: Beside that of the tests.
    """
    quick = {"PREFECT_RUNNER_POLL_FREQUENCY": "1", "PREFECT_WORKER_QUERY_SECONDS": "1"}
    with (cwd / f"{name}.txt").open("a", encoding="utf-8") as printed:
        running = subprocess.Popen(
            [sys.executable, *command],
            env={**os.environ, **_own(cwd), **quick, **environment},
            cwd=cwd,
            stdout=printed,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield running
        finally:
            running.terminate()
            try:
                running.wait(timeout=60)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()


def prefect(directory: Path, *arguments: str) -> str:
    """Run Prefect's command line in a directory, with the server of the tests; give its output."""
    return printed_by("-m", "prefect", *arguments, cwd=directory)


def printed_by(*command: str, cwd: Path, **environment: str) -> str:
    """What a Python process prints that ends well; all as with `process`."""
    ended = subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env={**os.environ, **_own(cwd), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=200,
    )
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


async def until(condition: Callable[[], Awaitable[bool]], *, within: float, every: float = 0.5) -> None:
    """Wait for what other processes do."""
    with anyio.fail_after(within):
        is_so = await condition()
        while not is_so:
            await anyio.sleep(every)
            is_so = await condition()


@dataclass(frozen=True)
class Usage:
    """What a process has used so far.

    Attributes:
        cpu: Seconds, of its own.
        memory: Bytes that are resident.
        children: Commands of the processes that it has started and that run, but for Python's own.
    """

    cpu: float
    memory: int
    children: tuple[str, ...]

    @classmethod
    def of(cls, pid: int) -> Usage:
        """As Linux tells it."""
        times = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
        pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
        cpu = (int(times[11]) + int(times[12])) / _TICK
        return cls(cpu, pages * os.sysconf("SC_PAGE_SIZE"), tuple(_children(pid)))


def _children(pid: int) -> Iterator[str]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text("ascii").split():
            command = Path(f"/proc/{child}/cmdline").read_text("utf-8").replace("\0", " ")
            if "multiprocessing.resource_tracker" not in command:
                yield command
