"""What the scripts of this folder share: where the simulator is, and how they tell what an SDK did.

The scripts run in environments of their own, with nothing of this project installed. Each makes its SDK's
calls at the same time, for every SDK waits a second or two between two looks, and prints one JSON object.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BROKEN_PDF = b"%PDF-1.4 and no more"
"""A PDF by its first bytes, which services accept and then fail to read."""
WRONG_KEY = "not-the-key"
REMOTE_URL = "https://documents.example/remote-invoice.pdf"
"""A document that the simulator knows by its URL."""


@dataclass(frozen=True)
class Target:
    """The simulator's address and key, and the folder of the sample documents."""

    base_url: str
    key: str
    samples: Path

    def path(self, name: str) -> Path:
        """Where a sample is."""
        return self.samples / name

    def read(self, name: str) -> bytes:
        """What a sample holds."""
        return self.path(name).read_bytes()


def print_outcomes(calls_for: Callable[[Target], Mapping[str, Callable[[], Any]]]) -> None:
    """Make all calls for the target of the command line, and print their outcomes by name.

    An outcome is ``{"returned": …}`` or ``{"raised": {"type": …, "text": …, …}}`` with the error's own
    attributes as far as they are plain.
    """
    base_url, key, samples = sys.argv[1:]
    calls = calls_for(Target(base_url, key, Path(samples)))
    with ThreadPoolExecutor(len(calls)) as threads:
        running = {name: threads.submit(_outcome, call) for name, call in calls.items()}
    print(json.dumps({name: future.result() for name, future in running.items()}))


def _outcome(call: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"returned": call()}
    except Exception as error:  # noqa: BLE001  (what an SDK raises is what the test asks for)
        plain = {name: value for name, value in vars(error).items() if isinstance(value, str | int)}
        return {"raised": {**plain, "type": type(error).__name__, "text": str(error)}}
