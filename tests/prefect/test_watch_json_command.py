"""`prefect-docjobs watch --json` beside a Prefect server: a run that is suspended there, and what is said."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from typing import Any
from uuid import UUID

from prefect import flow, get_client
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_API_URL
from prefect.states import Suspended

from prefect_docjobs.ledger import Ledger

WATCH = (sys.executable, "-m", "prefect_docjobs.cli", "watch", "--json")


@flow
async def flow_that_waits() -> None:
    """Never runs: it is suspended from the start."""


async def suspended(wait_id: str) -> UUID:
    """A run of a deployment; it is suspended for a wait."""
    async with get_client() as client:
        flow_id = await client.create_flow(flow_that_waits)
        deployment = await client.create_deployment(flow_id, "watched")
        state: State[Any] = Suspended(pause_key=f"{wait_id}.0", timeout_seconds=3600)
        run = await client.create_flow_run_from_deployment(deployment, state=state)
    return run.id


async def test_a_run_that_is_resumed_in_prefect_is_a_line() -> None:
    run_id = str(await suspended("wait-1"))
    async with Ledger(os.environ["PREFECT_DOCJOBS_LEDGER"]) as ledger:
        # Its block is gone, so there is nothing to wait for.
        await ledger.suspensions.register("wait-1", flow_run_id=run_id, job="mindee-job/gone", refs=[])
    process = await asyncio.create_subprocess_exec(
        *WATCH,
        env={**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value())},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout
    told = [json.loads(await asyncio.wait_for(process.stdout.readline(), 110.0))]
    try:
        while told[-1]["event"] != "resumed":
            told.append(json.loads(await asyncio.wait_for(process.stdout.readline(), 110.0)))
    finally:
        process.send_signal(signal.SIGTERM)
        await process.communicate()
    assert told[0]["event"] == "watching"
    assert told[-1]["flow_run_id"] == run_id
    assert any(line["event"] == "log" and "mindee-job/gone" in line["message"] for line in told)
    async with get_client() as client:
        state = (await client.read_flow_run(UUID(run_id))).state
    assert state is not None
    assert state.is_scheduled()
    assert process.returncode == 128 + signal.SIGTERM
