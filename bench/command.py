"""The command: which parts, how long, and where the figures go."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from itertools import chain
from pathlib import Path

from bench import budget, crowd, detection, detection_virtual, extraction, ledger
from bench.figures import Row
from bench.goals import WAITERS, verdicts
from bench.table import say, show_rows, show_verdicts

_RESULTS = Path(__file__).parent / "results"

Part = Callable[[bool], Iterator[Row]]
"""Measures; told whether it must be quick."""


def _waiting(quick: bool) -> Iterator[Row]:
    in_virtual_time = detection_virtual.measure(1 if quick else 3)
    return in_virtual_time if quick else chain(detection.measure(), in_virtual_time)


def _budget(quick: bool) -> Iterator[Row]:
    return budget.measure(slow_ones=not quick)


def _crowd(quick: bool) -> Iterator[Row]:
    return crowd.measure(2_000, 10.0, 500) if quick else crowd.measure(WAITERS, 60.0, 1_000)


def _extraction(quick: bool) -> Iterator[Row]:
    if quick:
        return extraction.measure((100, 500), (), runs=1)
    return extraction.measure((100, 1_000, 10_000), (100, 500), runs=3)


def _ledger(quick: bool) -> Iterator[Row]:
    return ledger.measure(200, runs=1) if quick else ledger.measure(ledger.DOCUMENTS, runs=3)


PARTS: Mapping[str, tuple[str, Part]] = {
    "a": ("How soon an end is seen, and by how many requests (200 jobs)", _waiting),
    "b": ("Few status requests allowed", _budget),
    "c": ("Many waiters in one process", _crowd),
    "d": ("Cost of a document in a Prefect flow, and how it grows (e)", _extraction),
    "f": ("What it costs to pay once", _ledger),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print tables, and write JSON."""
    asked = _parser().parse_args(arguments)
    started, rows = datetime.now(timezone.utc), list[Row]()
    for part in asked.only:
        rows += _measured(part, asked.quick)
    goals = list(verdicts(rows))
    show_verdicts(goals)
    path = asked.output or _RESULTS / f"{started:%Y%m%dT%H%M%SZ}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "started": started.isoformat(timespec="seconds"),
        "quick": asked.quick,
        "machine": _machine(),
        "rows": [asdict(row) for row in rows],
        "goals": [asdict(goal) for goal in goals],
    }
    path.write_text(json.dumps(record, indent=1), "utf-8")
    say(f"Written to {path}")
    return 0


def _measured(part: str, quick: bool) -> list[Row]:
    title, measure = PARTS[part]
    say(f"({part}) {title} …")
    began = time.monotonic()
    rows = list(measure(quick))
    show_rows(f"({part}) {title}; {time.monotonic() - began:.0f} s", rows)
    return rows


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Benchmarks of waiting.")
    parser.add_argument(
        "--only", type=_parts, default=list(PARTS), metavar="a,b,c,d,f", help="only these parts"
    )
    parser.add_argument("--quick", action="store_true", help="about a minute: less of everything, no SDKs")
    parser.add_argument("--output", type=Path, help="where to write the figures; bench/results/ by default")
    return parser


def _parts(text: str) -> list[str]:
    # What (e) says comes out of (d).
    names = list(dict.fromkeys(name.replace("e", "d") for name in text.split(",")))
    if unknown := [name for name in names if name not in PARTS]:
        raise argparse.ArgumentTypeError(
            f"there is no part {', '.join(unknown)}: give some of {','.join(PARTS)}"
        )
    return names


def _machine() -> dict[str, str | int | None]:
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
