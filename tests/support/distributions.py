"""The files that would be published, and an environment that they are installed in."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Built:
    """The two files that would be published.

    Attributes:
        sdist: The source distribution.
        wheel: The wheel that was built from it.
    """

    sdist: Path
    wheel: Path


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel, and a folder for what its programs write.

    Attributes:
        scripts: Folder of the environment's programs.
        home: The folder.
    """

    scripts: Path
    home: Path

    def environment(self, **more: str) -> dict[str, str]:
        """Variables of a process that knows nothing of this checkout."""
        own = ("PREFECT_", "PYTHON", "VIRTUAL_ENV", "COV_", "PYTEST_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        return {
            **kept,
            "HOME": str(self.home),
            "PREFECT_HOME": str(self.home / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_DOCJOBS_LEDGER": str(self.home / "ledger.db"),
            "PREFECT_DOCJOBS_DURATIONS": "",
            "COLUMNS": "80",
            **more,
        }

    def run(self, program: str, *arguments: str, **more: str) -> str:
        """What a program of the environment prints; it has to succeed."""
        done = subprocess.run(
            [self.scripts / program, *arguments],
            env=self.environment(**more),
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def run(*command: str) -> None:
    """Run a command that has to succeed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
