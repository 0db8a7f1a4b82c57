"""The flows that people copy: called, run as scripts, and served."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.flow_runs import wait_for_flow_run
from prefect.flows import load_flow_from_entrypoint
from prefect.settings import PREFECT_API_URL
from support.blocks import make_job

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.simulator.samples import SAMPLES
from prefect_docjobs.simulator.server import Running

FLOWS = Path(__file__).parents[2] / "flows"
INVOICES = {
    "invoice-brightwater.pdf": ("BW-10442", 1452.17, 3),
    "invoice-cascade-3-pages.pdf": ("CP/2026/00731", 4177.38, 60),
}
"""Number, total and line items of the sample invoices."""


def example(name: str) -> Flow[..., Any]:
    """A flow as a deployment loads it."""
    return load_flow_from_entrypoint(f"{FLOWS / name}.py:{name}")


def named(flow: str, function: str) -> Any:
    """A function from the file of a flow."""
    return vars(inspect.getmodule(example(flow).fn))[function]


def run(name: str, *parameters: Any, **more: Any) -> Any:
    async def ended() -> Any:
        return await example(name)(*parameters, **more)

    return asyncio.run(ended())


def environment(home: Path) -> dict[str, str]:
    """For a process that works with the server of the tests."""
    server = {"PREFECT_API_URL": PREFECT_API_URL.value() or "", "PREFECT_HOME": str(home)}
    quick = {"PREFECT_RUNNER_POLL_FREQUENCY": "1", "PREFECT_LOGGING_LEVEL": "WARNING", "COLUMNS": "160"}
    return {**os.environ, **server, **quick}


def table(database: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(duckdb.connect(str(database), read_only=True)) as db:
        return db.execute(query).fetchall()


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """The sample invoices, and a text."""
    (tmp_path / "inbox").mkdir()
    for name in [*INVOICES, "order-alpine-tools.txt"]:
        shutil.copy(SAMPLES / name, tmp_path / "inbox" / name)
    return tmp_path / "inbox"


def test_services_are_compared_side_by_side(inbox: Path, jobs: Mapping[str, DocJob]) -> None:
    compared = run("compare_services", str(inbox), tuple(jobs.values()), output=str(inbox.parent / "out"))
    lines = map(json.loads, Path(compared["files"][0]).read_text(encoding="utf-8").splitlines())
    told = {(line["document"], line["field"]): line for line in lines}
    for name, (number, total, _) in INVOICES.items():
        assert list(told[name, "number"]["values"].values()) == [number] * 4
        assert (told[name, "total"]["agreeing"], set(told[name, "total"]["values"].values())) == (4, {total})
    text = told["order-alpine-tools.txt", "total"]
    assert list(text["values"].values()) == [None, None, 2659.14, 2659.14]


def test_invoices_are_loaded_once(inbox: Path, jobs: Mapping[str, DocJob], simulator: Running) -> None:
    database, job = inbox.parent / "invoices.duckdb", jobs["mindee_v1"]
    first = run("invoices_to_duckdb", str(inbox), job, database=str(database))
    assert (first["loaded"], first["failed"]) == (2, 1)
    assert first["totals"] == {"GBP": 4177.38, "USD": 1452.17}
    submits = simulator.backend.report()["submits"]["total"]
    second = run("invoices_to_duckdb", str(inbox), job, database=str(database))
    assert (second["unchanged"], second["loaded"], second["left"]) == (2, 0, 1)
    assert second["totals"] == first["totals"]
    assert simulator.backend.report()["submits"]["total"] == submits
    invoices = table(database, "SELECT document, invoice_number, CAST(total AS DOUBLE), items FROM invoices")
    assert {name: tuple(facts) for name, *facts in invoices} == INVOICES


def test_a_folder_without_an_invoice_has_no_totals(tmp_path: Path, jobs: Mapping[str, DocJob]) -> None:
    given = {"database": str(tmp_path / "none.duckdb"), "pattern": "contract*.pdf"}
    told = run("invoices_to_duckdb", str(SAMPLES), jobs["mindee_v1"], **given)
    assert (told["loaded"], told["totals"]) == (1, {})


@pytest.mark.parametrize("name", ["compare_services", "invoices_to_duckdb"])
def test_examples_explain_themselves(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        named(name, "main")(["--help"])
    assert ended.value.code == 0
    assert f"python flows/{name}.py --simulator" in capsys.readouterr().out


def test_an_example_runs_as_a_script_without_a_key(inbox: Path, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, str(FLOWS / "compare_services.py"), str(inbox), "--simulator", "--output", "out"],
        env=environment(tmp_path / "home"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    lines = [line for line in ended.stdout.splitlines() if "4177.38" in line]
    assert lines[0].count("4177.38") == 4
    assert "invalid_document" in ended.stdout
    assert "Traceback" not in ended.stderr


def test_an_example_is_served_and_run(inbox: Path, tmp_path: Path, simulator: Running) -> None:
    make_job("mindee_v1", simulator.base_url).save("served", overwrite=True)
    database = tmp_path / "served.duckdb"
    parameters = {"folder": str(inbox), "job": "mindee-v1-job/served", "database": str(database)}
    served = subprocess.Popen(
        [sys.executable, str(FLOWS / "invoices_to_duckdb.py"), "--serve"],
        env=environment(tmp_path / "home"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert served.stdout
        assert any("is being served" in line for line in served.stdout)
        state = asyncio.run(_run_of("invoices-to-duckdb/by-hand", parameters))
    finally:
        served.terminate()
        served.communicate(timeout=60)
    assert state.is_completed()
    loaded = table(database, "SELECT document, block FROM documents WHERE reason IS NULL ORDER BY document")
    assert loaded == [(name, "mindee-v1-job/served") for name in INVOICES]


async def _run_of(deployment: str, parameters: dict[str, Any]) -> Any:
    async with get_client() as client:
        found = await client.read_deployment_by_name(deployment)
        run = await client.create_flow_run_from_deployment(found.id, parameters=parameters)
        await wait_for_flow_run(run.id, timeout=100, client=client)
        ended = await client.read_flow_run(run.id)
    return ended.state
