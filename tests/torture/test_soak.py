"""A process that runs batch after batch holds no more memory after many of them than after a few.

`make soak` runs the long form: 2,000 batches of each kind, compared with the first 500.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("soak_process.py")
EACH = 5  # documents of a batch
BATCHES = int(os.environ.get("DOCJOBS_SOAK_BATCHES", "16"))
SOME = BATCHES // 4
# The JSON parser keeps up to 16,384 short texts that it has read, durations are 200 of each kind and size.
BOUNDED = {"http/messages.py", "waiting/durations.py"}


def soak(scenario: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is held after some of the batches, and after all."""
    command = [sys.executable, str(SCRIPT), str(SOME), str(BATCHES), scenario]
    where = os.pathsep.join([str(SCRIPT.parents[2]), str(SCRIPT.parents[1])])
    environment = {**os.environ, "PYTHONPATH": where}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == 0, ended.stderr
    before, after = json.loads(ended.stdout)
    return before, after


@pytest.mark.timeout(3600 if BATCHES > 100 else 120)
@pytest.mark.parametrize("scenario", ["plain", "ledger", "pushes", "watching"])
def test_memory_is_flat(scenario: str) -> None:
    before, after = soak(scenario)
    for figure in ("objects", "blocks", "resident"):
        print(f"{scenario}, {SOME} and {BATCHES} batches: {figure} {before[figure]:,} and {after[figure]:,}")
    documents = EACH * (BATCHES - SOME)
    grown = {file: count - before["files"].get(file, 0) for file, count in after["files"].items()}
    assert {
        file: more for file, more in grown.items() if more > 0.8 * documents and file not in BOUNDED
    } == {}
    if BATCHES < 500:  # until then caches fill, the simulator's among them
        return
    assert after["objects"] < 1.02 * before["objects"]
    assert after["blocks"] < 1.02 * before["blocks"]
    assert after["resident"] < 1.1 * before["resident"]
