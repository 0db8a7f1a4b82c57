"""The services' official SDKs, in an environment and a process of their own."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

from bench.services import KEY

PYTHON = Path(__file__).parents[1] / ".venv-sdks" / "bin" / "python"
NAMES = {"numind": "numind 0.4.2", "unsiloed": "unsiloed-sdk 0.1.7", "mindee": "mindee 5.4.0, threads"}
"""Each service's SDK as `tests/sdks/requirements.txt` pins it."""

_STEERING = ("MINDEE_", "NUMIND_", "PYTHON", "VIRTUAL_ENV")


def installed() -> bool:
    """Whether `make bench` has built the SDKs' environment."""
    return PYTHON.exists()


async def run_sdk(name: str, base_url: str, folder: Path) -> float:
    """Let a service's SDK extract from all files of a folder at once.

    Returns:
        Milliseconds of CPU for each document.

    Raises:
        RuntimeError: The script failed; the last line of what it wrote.
    """
    process = await asyncio.create_subprocess_exec(
        PYTHON,
        *("-m", f"bench.sdks.{name}_batch", base_url, KEY, str(folder)),
        cwd=Path(__file__).parents[1],
        env=_environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{NAMES[name]}: {errors.decode(errors='replace').strip().splitlines()[-1]}")
    cpu: float = json.loads(out)["cpu"]
    return cpu


def _environment() -> dict[str, str]:
    """The environment without anything that steers an SDK or brings this project's packages in."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_STEERING)}
    return {**kept, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "PYTHONUTF8": "1"}
