"""Measurements in a process of their own: nobody else's memory, and nobody else's CPU time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_MIB = 1 << 20


def measured_apart(
    module: str, question: Mapping[str, Any], *, env: Mapping[str, str] | None = None, timeout: float = 900.0
) -> dict[str, Any]:
    """Run a module of this package that answers with `answer`.

    Args:
        module: Its name below `bench`.
        question: What `answer` gives to its function.
        env: Environment variables beside this process's own.
        timeout: Seconds.

    Returns:
        What the function returned; `{"error": …}` with the last line of what it wrote if it failed, or took
        longer.
    """
    try:
        ended = subprocess.run(  # noqa: S603 (our own module)
            [sys.executable, "-m", f"bench.{module}", json.dumps(question)],
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {timeout:.0f} s"}
    if ended.returncode:
        lines = ended.stderr.strip().splitlines() or [f"ended with code {ended.returncode}"]
        return {"error": lines[-1][:200]}
    told: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return told


def answer(measure: Callable[..., Mapping[str, Any]]) -> None:
    """For the module: call `measure` with the question of the command line, and print what it returns."""
    told = measure(**json.loads(sys.argv[1]))
    print(json.dumps(told), flush=True)


def memory_now() -> float:
    """MiB of memory that this process holds (resident); NaN where the system does not tell."""
    return _status("VmRSS")


def memory_peak() -> float:
    """MiB that it held at most. Not `ru_maxrss`, in which Linux counts what the parent held at the fork."""
    return _status("VmHWM")


def _status(name: str) -> float:
    try:
        lines = Path("/proc/self/status").read_text("ascii").splitlines()
    except OSError:
        return float("nan")
    kib = next(line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return int(kib) * 1024 / _MIB


def cpu_of_session(leader: int) -> float:
    """Seconds of CPU that a session's running processes have used; NaN where the system does not tell."""
    tick = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
    rows = [_stat(path) for path in Path("/proc").glob("[0-9]*/stat")]
    # Fields after the name (man 5 proc_pid_stat): 3 session, 11 and 12 user and system time in ticks.
    ticks = [int(row[11]) + int(row[12]) for row in rows if row and int(row[3]) == leader]
    return sum(ticks) / tick if ticks else float("nan")


def _stat(path: Path) -> list[str]:
    try:
        return path.read_text("ascii", "replace").rpartition(")")[2].split()
    except OSError:  # it has ended meanwhile
        return []
