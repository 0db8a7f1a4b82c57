"""(f) What it costs to pay once: a run with the ledger, and the same without one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.figures import Figures, Row, medians
from bench.processes import measured_apart
from bench.slow_service import slow_simulator
from prefect_docjobs.simulator.settings import Settings

WITH, WITHOUT, OVERHEAD = "with the ledger", "without", "the ledger's share"
CPU, WALL = "CPU ms/document", "seconds"
MORE_WALL = "more wall time, %"
DOCUMENTS = 1_000
_JOBS = {"duration": {"law": "uniform", "low": 5.0, "high": 15.0}}
_SUBMIT = (0.05, 0.15)  # seconds on each side: 0.1 to 0.3 in all


def case_of(documents: int) -> str:
    """The case of so many documents."""
    return f"{documents:,} documents at NuMind, submits of 0.1-0.3 s, jobs of 5-15 s"


def measure(documents: int, runs: int) -> Iterator[Row]:
    """CPU and wall time of both ways (medians of `runs`, taken in turn), and what the ledger adds."""
    told: dict[str, list[dict[str, Any]]] = {WITH: [], WITHOUT: []}
    with slow_simulator(*_SUBMIT, methods=("POST",)) as simulator:
        for _ in range(runs):
            for way, results in told.items():
                simulator.reset(Settings().merged(_JOBS))
                with tempfile.TemporaryDirectory() as folder:
                    ledger = str(Path(folder) / "ledger.db") if way == WITH else ""
                    question = {"base_url": simulator.base_url, "documents": documents, "ledger": ledger}
                    results.append(measured_apart("ledger_process", question))
    for way, results in told.items():
        yield Row("f", case_of(documents), way, medians(results))
    yield Row("f", case_of(documents), OVERHEAD, _overhead(medians(told[WITH]), medians(told[WITHOUT])))


def _overhead(with_it: Figures, without: Figures) -> Figures:
    cpu = [figures.get(CPU) for figures in (with_it, without)]
    wall = [figures.get(WALL) for figures in (with_it, without)]
    match (*cpu, *wall):
        case (float() as more, float() as less, float() as longer, float() as shorter):
            return {CPU: more - less, MORE_WALL: 100.0 * (longer - shorter) / shorter}
    return {"error": "not measured"}
