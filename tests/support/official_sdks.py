"""The services' official SDKs, each in an environment and a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from prefect_docjobs.simulator.samples import SAMPLES

TESTS = Path(__file__).parents[1]
PROJECT = TESTS.parent
KEY = "a-key-for-the-sdks"
ENVIRONMENTS: Mapping[str, str] = MappingProxyType(
    {
        "mindee_v2": ".venv-sdks",
        "mindee_v1": ".venv-sdks",
        "numind_0_4": ".venv-sdks",
        "unsiloed": ".venv-sdks",
        "numind_0_2": ".venv-sdks-2025",
    }
)
"""Each script of ``tests/sdks/scripts`` and the environment that its SDK is installed in."""

_PATIENCE = 100  # seconds for a script; each takes about 6 on an idle machine
_STEERING = ("MINDEE_", "NUMIND_", "PYTHON", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Outcomes:
    """What the calls of one script come to, as soon as it has ended."""

    by_name: Future[Mapping[str, Mapping[str, Any]]]

    def returned(self, call: str) -> Any:
        """What a call returned."""
        outcome = self.by_name.result()[call]
        assert "returned" in outcome, f"{call} raised {outcome['raised']}"
        return outcome["returned"]

    def raised(self, call: str) -> Mapping[str, Any]:
        """What a call raised: ``type``, ``text`` and the error's plain attributes."""
        outcome = self.by_name.result()[call]
        assert "raised" in outcome, f"{call} returned {outcome['returned']}"
        raised: Mapping[str, Any] = outcome["raised"]
        return raised


def run_script(name: str, base_url: str) -> Mapping[str, Mapping[str, Any]]:
    """Run a script with the Python of its SDK's environment, and read the outcomes that it prints."""
    python = PROJECT / ENVIRONMENTS[name] / "bin" / "python"
    assert python.exists(), f"There is no {ENVIRONMENTS[name]} for the official SDKs: run make test-sdks"
    finished = subprocess.run(
        [python, "-m", f"sdks.scripts.{name}", base_url, KEY, SAMPLES],
        cwd=TESTS,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    outcomes: Mapping[str, Mapping[str, Any]] = json.loads(finished.stdout)
    return outcomes


def _environment() -> dict[str, str]:
    """The environment without anything that steers an SDK or brings this project's packages in."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_STEERING)}
    return {**kept, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "PYTHONUTF8": "1"}
