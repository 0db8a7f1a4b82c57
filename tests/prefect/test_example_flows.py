"""The flows that people copy: called, run as scripts, and served."""

from __future__ import annotations

import asyncio
import inspect
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
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
from prefect_docjobs.simulator.server import Running, run_in_thread
from prefect_docjobs.simulator.settings import Duration, Settings

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


@pytest.fixture
def slow() -> Iterator[Running]:
    """A simulator whose jobs take longer than a test is patient."""
    with run_in_thread(Settings(duration=Duration(law="fixed", seconds=2.5))) as running:
        yield running


def test_services_are_compared_side_by_side(inbox: Path, jobs: Mapping[str, DocJob]) -> None:
    rows = run("compare_services", str(inbox), tuple(jobs.values()))
    told = {(row["document"], row["field"]): list(row.values())[2:] for row in rows}
    for name, (number, total, _) in INVOICES.items():
        assert told[name, "number"] == [*[number] * 4, "4 of 4"]
        assert told[name, "total"] == [*[str(total)] * 4, "4 of 4"]
    text = told["order-alpine-tools.txt", "total"]
    assert text == ["not offered", "not offered", "2659.14", "2659.14", "2 of 2"]


def test_values_agree_that_mean_the_same() -> None:
    agreement = named("compare_services", "agreement")
    assert agreement([25.5, "25.50", None]) == "2 of 2"
    assert agreement(["ACME  Ltd", "Acme Ltd", "Other"]) == "2 of 3"
    assert agreement([None, None]) == ""


def test_invoices_are_loaded_once(inbox: Path, jobs: Mapping[str, DocJob], simulator: Running) -> None:
    database, job = inbox.parent / "invoices.duckdb", jobs["mindee_v1"]
    shutil.copy(inbox / "invoice-brightwater.pdf", inbox / "the same under another name.pdf")
    first = run("invoices_to_duckdb", str(inbox), job, database=str(database))
    assert first == {"known": 0, "loaded": 2, "failed": 1, "left": 0}
    submits = simulator.world.report()["submits"]["total"]
    second = run("invoices_to_duckdb", str(inbox), job, database=str(database))
    assert second == {"known": 2, "loaded": 0, "failed": 0, "left": 1}
    assert simulator.world.report()["submits"]["total"] == submits
    documents = table(database, "SELECT document, invoice_number, total FROM documents WHERE reason IS NULL")
    items = dict(
        table(
            database,
            "SELECT document, count(*) FROM documents JOIN line_items USING (sha256, job) GROUP BY ALL",
        )
    )
    assert {name: (number, total, items[name]) for name, number, total in documents} == INVOICES
    assert table(database, "SELECT sum(amount) FROM line_items WHERE description LIKE 'Flow sensor%'") == [
        (345,)
    ]


def test_a_job_that_took_too_long_is_waited_for_again_and_not_paid_for_again(
    inbox: Path, slow: Running
) -> None:
    database, job = str(inbox.parent / "invoices.duckdb"), make_job("mindee_v1", slow.base_url)
    settings = {"database": database, "pattern": "invoice-b*"}
    first = run("invoices_to_duckdb", str(inbox), job, document_timeout=1, **settings)
    assert first == {"known": 0, "loaded": 0, "failed": 1, "left": 0}
    second = run("invoices_to_duckdb", str(inbox), job, **settings)
    assert second == {"known": 0, "loaded": 1, "failed": 0, "left": 0}
    assert slow.world.report()["submits"]["total"] == 1


@pytest.mark.parametrize("name", ["compare_services", "invoices_to_duckdb"])
def test_examples_explain_themselves(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        named(name, "main")(["--help"])
    assert ended.value.code == 0
    assert f"python flows/{name}.py --simulator" in capsys.readouterr().out


def test_an_example_runs_as_a_script_without_a_key(inbox: Path, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, str(FLOWS / "compare_services.py"), str(inbox), "--simulator"],
        env=environment(tmp_path / "home"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    lines = [line for line in ended.stdout.splitlines() if "4177.38" in line]
    assert lines[0].count("4177.38") == 4
    assert "not offered" in ended.stdout
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
    loaded = table(database, "SELECT document, job FROM documents WHERE reason IS NULL ORDER BY document")
    assert loaded == [(name, "mindee-v1-job/served") for name in INVOICES]


async def _run_of(deployment: str, parameters: dict[str, Any]) -> Any:
    async with get_client() as client:
        found = await client.read_deployment_by_name(deployment)
        run = await client.create_flow_run_from_deployment(found.id, parameters=parameters)
        await wait_for_flow_run(run.id, timeout=100, client=client)
        ended = await client.read_flow_run(run.id)
    return ended.state
