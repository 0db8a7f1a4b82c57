"""OpenTelemetry in a process that runs flows: documents hang below Prefect's own spans."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.pages import ROOT
from support.processes import process
from support.services import KEY

from prefect_docjobs.simulator.server import Running

SCRIPT = Path(__file__).with_name("traced_run_process.py")
Span = dict[str, Any]


def above(span: Span, spans: list[Span]) -> Span:
    (found,) = [it for it in spans if it["id"] == span["parent"]]
    return found


@pytest.mark.timeout(300)
def test_documents_hang_below_the_task_run_on_its_loop_and_on_the_twins(
    simulator: Running, tmp_path: Path
) -> None:
    environment = {"PYTHONPATH": str(ROOT / "tests"), "PREFECT_DOCJOBS_LEDGER": ""}
    command = (str(SCRIPT), simulator.base_url)
    with process("traced", *command, cwd=tmp_path, **environment) as running:
        code = running.wait(timeout=240)
    printed = (tmp_path / "traced.txt").read_text("utf-8")
    assert code == 0, printed
    spans: list[Span] = json.loads(printed.partition("spans: ")[2])
    documents = [span for span in spans if span["name"] == "docjobs.document"]
    assert len(documents) == 4
    runs = []
    for document in documents:
        task = above(document, spans)
        assert task["facts"]["prefect.run.type"] == "task"
        run = above(task, spans)
        assert run["facts"]["prefect.run.type"] == "flow"
        assert document["trace"] == task["trace"] == run["trace"]
        runs.append(run["id"])
    assert sorted(runs.count(run) for run in set(runs)) == [2, 2]
    for phase in ("docjobs.submit", "docjobs.wait", "docjobs.fetch"):
        of_phase = [span for span in spans if span["name"] == phase]
        assert sorted(span["parent"] for span in of_phase) == sorted(span["id"] for span in documents)
    assert KEY not in printed
