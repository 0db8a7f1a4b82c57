"""A Prefect server that is a process of its own, and processes that work with it."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
from prefect.settings import PREFECT_API_URL, temporary_settings
from support.processes import process


@dataclass(frozen=True)
class PrefectServer:
    """A Prefect server of its own.

    Attributes:
        url: Where its UI is; the API is below it.
        folder: Where it was started, and what is started beside it.
    """

    url: str
    folder: Path

    def api(self) -> httpx.AsyncClient:
        """A client of its API."""
        return httpx.AsyncClient(base_url=f"{self.url}/api", trust_env=False, timeout=30)

    def start(self, stack: ExitStack, name: str, *command: str) -> subprocess.Popen[str]:
        """Start a Python process that works with this server, until the stack is closed."""
        with temporary_settings({PREFECT_API_URL: f"{self.url}/api"}):
            return stack.enter_context(process(name, *command, cwd=self.folder))
