"""`prefect.yaml`, deployed and run by a worker."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.settings import PREFECT_API_URL
from support.blocks import make_job

from prefect_docjobs.flows import redrive_failures
from prefect_docjobs.simulator.samples import SAMPLES
from prefect_docjobs.simulator.server import Running

ROOT = Path(__file__).parents[2]
DEPLOYMENT = "extract-folder/nightly"
TOTALS = {"invoice-brightwater.pdf": 1452.17, "rechnung-bergmann.pdf": 1432.4}


@pytest.fixture
def directory(tmp_path: Path, simulator: Running) -> Path:
    """A directory as the how-to describes it: `prefect.yaml`, a folder of invoices; and the saved job."""
    make_job("mindee", simulator.base_url).save("invoices", overwrite=True)
    shutil.copy(ROOT / "prefect.yaml", tmp_path)
    (tmp_path / "invoices").mkdir()
    for name in [*TOTALS, "order-alpine-tools.txt"]:
        shutil.copy(SAMPLES / name, tmp_path / "invoices")
    return tmp_path


def prefect(directory: Path, *arguments: str) -> str:
    """Run Prefect's command line in a directory, with the server of the tests; give its output."""
    server = {"PREFECT_API_URL": PREFECT_API_URL.value() or "", "PREFECT_HOME": str(directory / "home")}
    ended = subprocess.run(
        [sys.executable, "-m", "prefect", *arguments],
        cwd=directory,
        env={**os.environ, **server},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=100,
    )
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


async def test_the_nightly_deployment_is_run_by_a_process_worker(directory: Path) -> None:
    async with get_client() as client:
        await client.create_work_pool(WorkPoolCreate(name="docjobs", type="process"))
        await asyncio.to_thread(prefect, directory, "--no-prompt", "deploy", "--all")
        run_id = await _scheduled(client)
        worker = ("worker", "start", "--pool", "docjobs", "--type", "process", "--run-once")
        printed = await asyncio.to_thread(prefect, directory, *worker)
        run = await client.read_flow_run(run_id)
    assert run.state, printed
    assert run.state.is_completed(), printed
    assert str(run.state.message).startswith("2 of 2 documents delivered.")
    assert run.expected_start_time
    (night,) = (directory / "docjobs-out").iterdir()
    assert night.name == run.expected_start_time.date().isoformat()
    rows = [json.loads(line) for line in (night / "rows.jsonl").read_text("utf-8").splitlines()]
    assert {row["document"]: row["total_amount"] for row in rows} == TOTALS


def test_failures_can_be_redriven_by_hand(directory: Path) -> None:
    """The parameters in the file are those of the flow, and the form asks for a job's name."""
    (written,) = [
        each
        for each in yaml.safe_load((directory / "prefect.yaml").read_text("utf-8"))["deployments"]
        if each["name"] == "by-hand"
    ]
    assert written["entrypoint"] == "prefect_docjobs.flows.redrive_failures"
    assert redrive_failures.validate_parameters(written["parameters"])["job"] == "mindee-job/invoices"


async def _scheduled(client: PrefectClient) -> Any:
    """A run of the deployment, now; the deployment is as the file says."""
    deployment = await client.read_deployment_by_name(DEPLOYMENT)
    (schedule,) = deployment.schedules
    assert getattr(schedule.schedule, "cron", None) == "0 2 * * *"
    assert deployment.entrypoint == "prefect_docjobs.flows.extract_folder"
    assert deployment.parameters["job"] == "mindee-job/invoices"
    return (await client.create_flow_run_from_deployment(deployment.id)).id
