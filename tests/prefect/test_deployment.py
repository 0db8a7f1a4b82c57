"""`prefect.yaml`: everything in it is deployed, started through the API, and run by one worker."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from prefect import flow
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling
from prefect.utilities.callables import parameter_schema
from prefect.utilities.importtools import import_object
from support.blocks import make_job
from support.pages import block_run_by, column, table
from support.processes import prefect, process, until

from prefect_docjobs.errors import ConfigurationError, Reason
from prefect_docjobs.flows import DeadLetter, JobParameter
from prefect_docjobs.models import Document, Outcome
from prefect_docjobs.simulator.samples import SAMPLES
from prefect_docjobs.simulator.server import Running
from prefect_docjobs.tasks._run import resolve_job

ROOT = Path(__file__).parents[2]
TOTALS = {"invoice-brightwater.pdf": 1452.17, "rechnung-bergmann.pdf": 1432.4}
DEPLOYMENTS: dict[str, dict[str, Any]] = {
    each["name"]: each for each in yaml.safe_load((ROOT / "prefect.yaml").read_text("utf-8"))["deployments"]
}

CHANGED: dict[str, dict[str, Any]] = {
    "nightly": {},
    "by-hand": {"failures": "failures.jsonl"},
    "deferred": {},
    "load-to-database": {"modified_since": "2020-01-01T00:00:00+00:00"},
    "compare-services": {"max_documents": 1},
    "review": {"min_confidence": None},
    "reconcile": {"hours": 1},
}
"""What a person changes in the run form; of every deployment that comes to an end."""


@pytest.fixture
def directory(tmp_path: Path, simulator: Running) -> Path:
    """A directory as the how-to describes it: `prefect.yaml`, a folder of invoices; and the saved jobs."""
    for name in ("mindee", "numind"):
        make_job(name, simulator.base_url).save("invoices", overwrite=True)
    shutil.copy(ROOT / "prefect.yaml", tmp_path)
    (tmp_path / "invoices").mkdir()
    for name in [*TOTALS, "order-alpine-tools.txt"]:
        shutil.copy(SAMPLES / name, tmp_path / "invoices")
    return tmp_path


@pytest.fixture
async def deployed(directory: Path) -> AsyncIterator[PrefectClient]:
    """A client of the server on which all is deployed, as the how-to says."""
    async with get_client() as client:
        await client.create_work_pool(WorkPoolCreate(name="docjobs", type="process"), overwrite=True)
        await asyncio.to_thread(prefect, directory, "--no-prompt", "deploy", "--all")
        yield client


# ------------------------------------------------------------------------------------------------ one worker


@pytest.mark.timeout(900)
async def test_one_worker_runs_every_deployment(directory: Path, deployed: PrefectClient) -> None:
    await _check_schedules(deployed)
    _leave_a_failure(directory)
    few = ("--limit", "3")  # the server on SQLite answers 503 when all report at once
    with process("worker", "-m", "prefect", "worker", "start", "--pool", "docjobs", *few, cwd=directory):
        started = {name: await _start(deployed, name, changed) for name, changed in CHANGED.items()}
        mistaken = await _start(deployed, "deferred", {"job": "mindee-job/nowhere"})
        await until(lambda: _have_ended(deployed, [*started.values(), mistaken]), within=400, every=2)
        ended = {name: await deployed.read_flow_run(run_id) for name, run_id in started.items()}
        printed = (directory / "worker.txt").read_text("utf-8")
        assert {name: _word(run) for name, run in ended.items()} == dict.fromkeys(CHANGED, "Completed"), (
            printed
        )
        watcher = await _start(deployed, "watcher", {})
        await until(lambda: _is(deployed, watcher, "RUNNING"), within=100)
        await deployed.set_flow_run_state(watcher, Cancelling(), force=True)
        await until(lambda: _is(deployed, watcher, "CANCELLED"), within=100)
        told = _word(await deployed.read_flow_run(mistaken))
        assert "ConfigurationError: 'mindee-job/nowhere' cannot be loaded: Unable to find block" in told
    _check_what_they_left(directory, ended)


@pytest.mark.timeout(180)
async def test_a_process_serves_the_flow_by_the_clock_as_the_how_to_says(directory: Path) -> None:
    block = block_run_by(__file__, "docs/how-to/schedule.md")
    (directory / "serve.py").write_text(block.code, "utf-8")
    name = "extract-folder/weeknights"
    async with get_client() as client:
        with process("serve", "serve.py", cwd=directory) as serving:

            async def is_served() -> bool:
                assert serving.poll() is None, (directory / "serve.txt").read_text("utf-8")
                with suppress(ObjectNotFound):
                    return bool((await client.read_deployment_by_name(name)).schedules)
                return False

            await until(is_served, within=100)
            found = await client.read_deployment_by_name(name)
    (schedule,) = found.schedules
    assert (getattr(schedule.schedule, "cron", None), schedule.active) == ("0 2 * * 1-5", True)
    assert found.parameters["output"] == "/data/out/{date}"


async def _check_schedules(client: PrefectClient) -> None:
    """The nightly run is on, the hourly one waits for somebody to switch it on."""
    (nightly,) = (await client.read_deployment_by_name(_full_name("nightly"))).schedules
    (hourly,) = (await client.read_deployment_by_name(_full_name("load-to-database"))).schedules
    assert (getattr(nightly.schedule, "cron", None), nightly.active) == ("0 2 * * *", True)
    assert (getattr(hourly.schedule, "cron", None), hourly.active) == ("0 * * * *", False)


def _leave_a_failure(directory: Path) -> None:
    """A document that the service was not there for on an earlier night."""
    document = Document.from_path(directory / "invoices" / "rechnung-bergmann.pdf")
    failed = Outcome(document=document.name, phase="submit", reason=Reason.UNAVAILABLE)
    letter = DeadLetter.of(failed, path=str(document.path))
    (directory / "failures.jsonl").write_text(letter.model_dump_json() + "\n", "utf-8")


async def _start(client: PrefectClient, name: str, changed: dict[str, Any]) -> UUID:
    """Start a run with changed parameters, as the UI's run form does."""
    deployment = await client.read_deployment_by_name(_full_name(name))
    return (await client.create_flow_run_from_deployment(deployment.id, parameters=changed)).id


def _full_name(name: str) -> str:
    return f"{import_object(DEPLOYMENTS[name]['entrypoint']).name}/{name}"


async def _have_ended(client: PrefectClient, run_ids: Any) -> bool:
    runs = [await client.read_flow_run(run_id) for run_id in run_ids]
    return all(run.state is not None and run.state.is_final() for run in runs)


async def _is(client: PrefectClient, run_id: UUID, kind: str) -> bool:
    state = (await client.read_flow_run(run_id)).state
    return state is not None and state.type.value == kind


def _word(run: FlowRun) -> str:
    assert run.state is not None
    told = "" if run.state.is_completed() else f": {run.state.message}"
    return f"{run.state.name}{told}"


def _check_what_they_left(directory: Path, runs: dict[str, FlowRun]) -> None:
    nightly = runs["nightly"]
    assert nightly.state is not None
    assert str(nightly.state.message).startswith("2 of 2 documents delivered.")
    assert nightly.expected_start_time is not None
    night = directory / "docjobs-out" / nightly.expected_start_time.date().isoformat()
    rows = [json.loads(line) for line in (night / "rows.jsonl").read_text("utf-8").splitlines()]
    assert {row["document"]: row["total_amount"] for row in rows} == TOTALS
    assert list(directory.glob("docjobs-deferred/*/results.jsonl"))
    assert list(directory.glob("docjobs-retried/*/results.jsonl"))
    assert list(directory.glob("docjobs-comparison/*/comparison.jsonl"))
    assert (directory / "invoices.duckdb").is_file()
    assert (directory / "docjobs-reviewed").is_dir()


# -------------------------------------------------------------------------------------------------- the file


def test_every_deployment_is_started_by_the_test_above() -> None:
    assert DEPLOYMENTS.keys() == CHANGED.keys() | {"watcher"}


def test_the_how_to_explains_every_deployment() -> None:
    explained = column(table(ROOT / "docs" / "how-to" / "deploy.md", "3. Deploy"))
    assert set(explained) == {_full_name(name) for name in DEPLOYMENTS}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_parameters_in_the_file_are_those_of_the_flow(name: str) -> None:
    written = DEPLOYMENTS[name]
    deployed_flow = import_object(written["entrypoint"])
    checked = deployed_flow.validate_parameters(written.get("parameters", {}))
    assert written.get("parameters", {}).items() <= checked.items()


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_the_run_form_has_a_type_and_a_description_for_each_parameter(name: str) -> None:
    schema = parameter_schema(import_object(DEPLOYMENTS[name]["entrypoint"]))
    for parameter, property_ in schema.properties.items():
        assert property_.get("description"), parameter
        assert property_.keys() & {"type", "anyOf", "enum"}, parameter
        assert "$ref" not in str(property_), parameter


@pytest.mark.parametrize("name", [name for name in DEPLOYMENTS if DEPLOYMENTS[name].get("schedules")])
def test_what_is_scheduled_does_not_overtake_itself(name: str) -> None:
    limit = DEPLOYMENTS[name]["concurrency_limit"]
    assert limit == {"limit": 1, "collision_strategy": "CANCEL_NEW"}


# ----------------------------------------------------------------------------------------------- wrong names


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("invoices", "'invoices' names no job block. Give type and name, such as 'mindee-job/invoices'."),
        ("mindee-job/nowhere", "Unable to find block document named nowhere for block type mindee-job"),
        ("mindee-jop/invoices", "'mindee-jop/invoices' cannot be loaded: "),
        (
            "mindee-credentials/account",
            "'mindee-credentials/account' is a MindeeCredentials, not a job block.",
        ),
    ],
)
async def test_a_wrong_name_of_a_job_is_told_in_a_sentence(
    name: str, sentence: str, simulator: Running
) -> None:
    account: Any = make_job("mindee", simulator.base_url)
    await account.credentials.asave("account", overwrite=True)
    with pytest.raises(ConfigurationError) as caught:
        await resolve_job(name)
    assert sentence in str(caught.value)


def test_a_flow_of_one_s_own_asks_for_a_job_by_name() -> None:
    @flow
    def own(job: JobParameter) -> None:
        """A flow."""

    assert parameter_schema(own).properties["job"]["type"] == "string"
