"""(d) What a document costs in a Prefect flow, in CPU and memory, and (e) how that grows."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.documents import written
from bench.figures import Row, find, medians
from bench.prefect_server import PrefectServer, own_prefect_server
from bench.processes import measured_apart
from bench.simulator import Simulator, own_simulator
from prefect_docjobs.simulator.settings import Duration, Settings

BATCH = "ours: extract_documents, one task run"
RECORDED = "ours: the same, with the ledger"
FOLDER = "ours: extract_folder, chunks of 100"
TASK_EACH = "a task run for each document"
MAPPED = ".map of three tasks"
OVER_HTTP = "CPU ms/document over HTTP"
PEAK = "memory peak, MiB"
TOTAL = "CPU ms/document"
GROWTH = "a document among 10,000, one among 1,000 being 1"
_HTTP, _SERVER = "of it HTTP", "server CPU ms/document"
_PATIENCE = {MAPPED: 150.0}
_JOBS_TAKE = Duration(law="uniform", low=1.0, high=3.0)


def case_of(documents: int) -> str:
    """The case of so many documents."""
    return f"{documents:,} documents, jobs of 1-3 s"


@dataclass(frozen=True)
class _Bench:
    simulator: Simulator
    server: PrefectServer
    folder: Path

    def run(self, way: str, documents: int) -> dict[str, Any]:
        """One flow run in a process of its own, and then only its requests in another."""
        self.simulator.reset(Settings(duration=_JOBS_TAKE))
        before = self.server.cpu()
        question = {
            "way": way,
            "base_url": self.simulator.base_url,
            "folder": str(self.folder),
            "documents": documents,
        }
        patience = _PATIENCE.get(way, 900.0)
        with tempfile.TemporaryDirectory() as home:
            # A ledger of its own: what one run bought would be free for the next.
            env = {
                **self.server.env,
                "PREFECT_DOCJOBS_LEDGER": f"{home}/ledger.db" if way == RECORDED else "",
            }
            told = measured_apart("extraction_process", question, env=env, timeout=patience)
        if "error" in told:
            return told
        seen = self.simulator.report()
        serving = 1e3 * (self.server.cpu() - before) / documents
        http = self._only_requests(documents, round(seen["requests"]["status"]), told["listed"])
        over = told["cpu"] - http
        return {
            "ok": told["ok"],
            TOTAL: told["cpu"],
            _HTTP: http,
            OVER_HTTP: over,
            "seconds": told["seconds"],
            PEAK: told["peak"],
            _SERVER: serving,
            "requests/document": sum(seen["requests"].values()) / documents,
        }

    def _only_requests(self, documents: int, looks: int, listed: bool) -> float:
        self.simulator.reset(Settings(duration=Duration(law="fixed", seconds=0.0)))
        question = {
            "base_url": self.simulator.base_url,
            "folder": str(self.folder),
            "documents": documents,
            "looks": looks,
            "listed": listed,
        }
        return float(measured_apart("requests_process", question)["cpu"])


def measure(sizes: Sequence[int], others: Sequence[int], runs: int) -> Iterator[Row]:
    """Ours by number of documents, and what people do instead.

    Args:
        sizes: Numbers of documents for ours.
        others: Numbers of documents for the other ways.
        runs: Runs of those with at most 1,000 documents; medians are shown.
    """
    with (
        own_simulator() as simulator,
        own_prefect_server() as server,
        tempfile.TemporaryDirectory() as folder,
    ):
        written(max(*sizes, *others), Path(folder))
        bench = _Bench(simulator, server, Path(folder))
        bench.run(BATCH, 10)  # the first run of a home has more to do
        rows = [_row(bench, BATCH, size, runs if size <= 1000 else 1) for size in sizes]
        yield from rows
        yield _row(bench, RECORDED, max(sizes), 1)
        yield _row(bench, FOLDER, max(sizes), 1)
        for way in (TASK_EACH, MAPPED):
            for size in others:
                yield _row(bench, way, size, 1)
    yield from _growth(rows)


def _row(bench: _Bench, way: str, documents: int, runs: int) -> Row:
    return Row("d", case_of(documents), way, medians([bench.run(way, documents) for _ in range(runs)]))


def _growth(rows: Sequence[Row]) -> Iterator[Row]:
    many, few = (find(rows, "d", case_of(number), BATCH) for number in (10_000, 1_000))
    if many and few:
        ratios = {name: _ratio(many, few, name) for name in (TOTAL, OVER_HTTP, _SERVER)}
        yield Row("e", GROWTH, BATCH, ratios)


def _ratio(many: Row, few: Row, name: str) -> float | None:
    above, below = many.number(name), few.number(name)
    return above / below if above and below else None
