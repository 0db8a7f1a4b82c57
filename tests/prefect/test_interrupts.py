"""Ctrl-C in a flow that calls the plain tasks: what is being submitted is not lost."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from support.pages import ROOT
from support.processes import process, until

from bench.slow_service import slow_simulator
from prefect_docjobs.ledger import Ledger, State

SCRIPT = Path(__file__).with_name("interrupted_process.py")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("task", ["submit", "extract"])
async def test_an_interrupt_loses_no_submit_of_a_plain_task(task: str, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.db"
    environment = {
        "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}",
        "PREFECT_DOCJOBS_LEDGER": str(ledger),
    }
    with slow_simulator(1.5, 1.5, methods=("POST",)) as simulator:
        command = (str(SCRIPT), simulator.base_url, task)

        async def accepted() -> bool:
            return bool(simulator.report()["submits"]["total"] == 8)

        with process("interrupted", *command, cwd=tmp_path, **environment) as running:
            await until(accepted, within=120.0, every=0.05)  # none is answered yet
            running.send_signal(signal.SIGINT)
            running.wait(timeout=120)
        async with Ledger(str(ledger)) as opened:
            assert {record.state for record in await opened.find()} == {State.SUBMITTED}

        with process("again", *command, cwd=tmp_path, **environment) as running:
            assert running.wait(timeout=120) == 0
        assert "reasons: ['None'] 8" in (tmp_path / "again.txt").read_text("utf-8")
        assert simulator.report()["submits"]["total"] == 8
