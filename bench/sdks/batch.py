"""What the scripts share: the batch's documents, and how a script tells what the batch took."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Batch:
    """Where the simulator is, its key, and the documents to submit all at once."""

    base_url: str
    key: str
    paths: Sequence[Path]


def told(run: Callable[[Batch], None]) -> None:
    """Run a batch, and print its CPU time in milliseconds for each document."""
    base_url, key, folder = sys.argv[1:]
    batch = Batch(base_url, key, sorted(Path(folder).iterdir()))
    started = time.process_time()
    run(batch)
    print(json.dumps({"cpu": (time.process_time() - started) * 1e3 / len(batch.paths)}))
