"""The flow that loads documents into tables: once each, at the price of once, wherever they go."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]
import pytest
from prefect import State
from prefect.blocks.system import Secret
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from sqlalchemy import make_url
from support.blocks import make_job
from support.postgres import server_for_tests
from support.processes import process, until
from support.services import KEY
from support.shown import Shown
from support.warehouses import KINDS, Warehouse, new_warehouse

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.errors import ConfigurationError, InvalidDocument
from prefect_docjobs.flows import load_documents
from prefect_docjobs.flows._report import RunReport, asset_at
from prefect_docjobs.flows._run import publish_report
from prefect_docjobs.flows.load_documents import Destination
from prefect_docjobs.loading import open_store
from prefect_docjobs.models import Batch, Outcome
from prefect_docjobs.simulator.samples import SAMPLES
from prefect_docjobs.simulator.server import Running, run_in_thread
from prefect_docjobs.simulator.settings import Duration, Settings, Unsiloed

INVOICES = {"invoice-brightwater.pdf": (1452.17, 3), "invoice-cascade-3-pages.pdf": (4177.38, 60)}
"""Total and line items of the sample invoices."""

TEXT = "order-alpine-tools.txt"
COUNTS = ("found", "unchanged", "known", "loaded", "failed", "left")


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    with server_for_tests() as url:
        yield url


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """Two invoices, and a text that Mindee does not take."""
    (tmp_path / "inbox").mkdir()
    for name in [*INVOICES, TEXT]:
        shutil.copy(SAMPLES / name, tmp_path / "inbox" / name)
    return tmp_path / "inbox"


@pytest.fixture(params=KINDS)
def warehouse(request: pytest.FixtureRequest, tmp_path: Path) -> Warehouse:
    return new_warehouse(request.param, tmp_path, request)


@pytest.fixture
def file(tmp_path: Path, request: pytest.FixtureRequest) -> Warehouse:
    """Where any kind will do."""
    return new_warehouse("duckdb", tmp_path, request)


@pytest.fixture
def read_by(jobs: Mapping[str, DocJob]) -> DocJob:
    return jobs["mindee_v1"]


def load(folder: object, job: DocJob | str, warehouse: Warehouse, **more: Any) -> dict[str, Any]:
    """Run the flow; the address of a server, with its password, is in a Secret block."""
    destination = warehouse.address
    if warehouse.kind == "postgresql":
        Secret(value=destination).save("warehouse", overwrite=True)
        destination = "secret/warehouse"
    return asyncio.run(
        load_documents(str(folder), job, destination, table_schema=warehouse.schema, max_failures=100, **more)
    )


def counts(result: Mapping[str, Any]) -> dict[str, int]:
    """The numbers that are not zero."""
    return {name: result[name] for name in COUNTS if result[name]}


def submits(simulator: Running) -> int:
    return int(simulator.backend.report()["submits"]["total"])


def test_a_load_run_twice_loads_each_document_once_and_buys_nothing_the_second_time(
    inbox: Path, read_by: DocJob, simulator: Running, warehouse: Warehouse
) -> None:
    shutil.copy(inbox / "invoice-brightwater.pdf", inbox / "the same under another name.pdf")
    first = load(inbox, read_by, warehouse)
    assert counts(first) == {"found": 4, "known": 1, "loaded": 2, "failed": 1}
    bought = submits(simulator)
    second = load(inbox, read_by, warehouse)
    assert counts(second) == {"found": 4, "unchanged": 3, "left": 1}
    assert submits(simulator) == bought
    loaded = warehouse.rows(
        "SELECT document, total_amount, (SELECT count(*) FROM {line_items} AS item "
        "WHERE item.sha256 = d.sha256 AND item.job = d.job) FROM {documents} AS d WHERE reason IS NULL"
    )
    assert {name: facts for name, *facts in loaded} == {name: [*facts] for name, facts in INVOICES.items()}
    assert warehouse.rows("SELECT document, reason FROM {documents} WHERE reason IS NOT NULL") == [
        (TEXT, "invalid_document")
    ]
    ((paths, rows),) = warehouse.rows(
        "SELECT count(DISTINCT path), count(*) FROM {fields} WHERE path = 'total_amount'"
    )
    assert (paths, rows) == (1, 2)
    assert warehouse.rows("SELECT count(*) FROM {files}") == [(4,)]


def test_only_what_is_new_or_changed_is_looked_at_also_when_it_is_older(
    inbox: Path, read_by: DocJob, simulator: Running, file: Warehouse, tmp_path: Path
) -> None:
    late = tmp_path / "late.pdf"
    shutil.copy(SAMPLES / "rechnung-bergmann.pdf", late)
    os.utime(late, (1_000_000_000, 1_000_000_000))
    load(inbox, read_by, file, pattern="*.pdf")
    late.rename(inbox / "late.pdf")  # which keeps the time of its past
    (inbox / "invoice-brightwater.pdf").write_bytes((SAMPLES / "contract-northgate.pdf").read_bytes())
    before = submits(simulator)
    result = load(inbox, read_by, file, pattern="*.pdf")
    assert counts(result) == {"found": 3, "unchanged": 1, "loaded": 2}
    assert submits(simulator) == before + 2
    # What the file held before stays: it was a document, too.
    ((names,),) = file.rows("SELECT count(*) FROM {documents} WHERE document = 'invoice-brightwater.pdf'")
    assert names == 2


def test_files_can_be_left_out_by_their_date(inbox: Path, read_by: DocJob, file: Warehouse) -> None:
    os.utime(inbox / "invoice-brightwater.pdf", (1_000_000_000, 1_000_000_000))
    result = load(inbox, read_by, file, pattern="*.pdf", modified_since="2020-01-01T00:00:00Z")
    assert counts(result) == {"found": 1, "loaded": 1}


def test_two_jobs_over_the_same_documents_do_not_meet(
    inbox: Path, jobs: Mapping[str, DocJob], file: Warehouse
) -> None:
    for name in ("mindee", "mindee_v1"):
        assert load(inbox, jobs[name], file, pattern="*.pdf")["loaded"] == 2
    assert file.rows("SELECT count(*), count(DISTINCT job), count(DISTINCT sha256) FROM {documents}") == [
        (4, 2, 2)
    ]


@pytest.mark.parametrize("destination", ["duckdb:{}/rows.db", "duckdb:{}/rows", "delta:{}/lake"])
def test_a_load_takes_no_file_of_its_own_for_a_document(
    inbox: Path, jobs: Mapping[str, DocJob], destination: str
) -> None:
    run = partial(load_documents, str(inbox), jobs["unsiloed"], destination.format(inbox), recursive=True)
    assert counts(asyncio.run(run())) == {"found": 3, "loaded": 3}
    assert counts(asyncio.run(run())) == {"found": 3, "unchanged": 3}


def test_documents_in_the_folder_of_the_destination_are_refused(inbox: Path, read_by: DocJob) -> None:
    before = sorted(inbox.iterdir())
    with pytest.raises(ConfigurationError, match="its folder"):
        asyncio.run(load_documents(str(inbox), read_by, f"delta:{inbox}"))
    assert sorted(inbox.iterdir()) == before


def test_what_a_wrong_key_kept_out_is_loaded_with_the_right_one(
    inbox: Path, file: Warehouse, simulator: Running
) -> None:
    for key, counted in (("wrong", {"found": 1, "failed": 1}), (KEY, {"found": 1, "loaded": 1})):
        job = make_job("mindee_v1", simulator.base_url, key=key, tenant="acme")
        assert counts(load(inbox, job, file, pattern="invoice-b*")) == counted


def test_what_was_rejected_is_tried_again_only_with_resubmit(inbox: Path, file: Warehouse) -> None:
    with run_in_thread(Settings(unsiloed=Unsiloed(pii_blocked_share=1.0))) as blocking:
        job = make_job("unsiloed", blocking.base_url)
        assert load(inbox, job, file, pattern="invoice-b*")["reasons"] == {"rejected": 1}
    with run_in_thread(Settings()) as letting_through:
        job = make_job("unsiloed", letting_through.base_url)
        assert counts(load(inbox, job, file, pattern="invoice-b*")) == {"found": 1, "left": 1}
        result = load(inbox, job, file, pattern="invoice-b*", resubmit=True)
        assert counts(result) == {"found": 1, "loaded": 1}


def test_what_an_empty_quota_kept_out_is_tried_again(inbox: Path, file: Warehouse) -> None:
    with run_in_thread(Settings(unsiloed=Unsiloed(quota=0))) as without_credits:
        job = make_job("unsiloed", without_credits.base_url)
        assert load(inbox, job, file, pattern="invoice-b*")["reasons"] == {"quota": 1}
    with run_in_thread(Settings()) as with_credits:
        job = make_job("unsiloed", with_credits.base_url)
        assert counts(load(inbox, job, file, pattern="invoice-b*")) == {"found": 1, "loaded": 1}


def test_a_job_that_took_too_long_is_waited_for_again_and_not_paid_for_again(
    inbox: Path, file: Warehouse
) -> None:
    with run_in_thread(Settings(duration=Duration(law="fixed", seconds=2.5))) as slow:
        job = make_job("mindee_v1", slow.base_url)
        first = load(inbox, job, file, pattern="invoice-b*", document_timeout=1)
        assert counts(first) == {"found": 1, "failed": 1}
        assert first["reasons"] == {"timeout": 1}
        second = load(inbox, job, file, pattern="invoice-b*")
        assert counts(second) == {"found": 1, "loaded": 1}
        assert submits(slow) == 1
    assert file.rows("SELECT reason, total_amount FROM {documents}") == [(None, 1452.17)]


def test_what_failed_after_it_was_paid_for_is_bought_again_only_with_resubmit(
    inbox: Path, file: Warehouse
) -> None:
    with run_in_thread(Settings(duration=Duration(law="fixed", seconds=0), failed_share=1.0)) as failing:
        job = make_job("mindee_v1", failing.base_url)
        assert load(inbox, job, file, pattern="invoice-b*")["reasons"] == {"failed": 1}
        assert counts(load(inbox, job, file, pattern="invoice-b*")) == {"found": 1, "left": 1}
        assert submits(failing) == 1
        result = load(inbox, job, file, pattern="invoice-b*", resubmit=True)
        assert counts(result) == {"found": 1, "failed": 1}
        assert submits(failing) == 2


def test_documents_of_an_object_storage_are_loaded_and_keep_their_addresses(
    read_by: DocJob, file: Warehouse
) -> None:
    storage = fsspec.filesystem("memory")
    for name in INVOICES:
        storage.pipe(f"/inbox/2026/{name}", (SAMPLES / name).read_bytes())
    result = load("memory://inbox", read_by, file, recursive=True)
    assert counts(result) == {"found": 2, "loaded": 2}
    assert result["watermark"] is not None
    assert counts(load("memory://inbox", read_by, file, recursive=True)) == {"found": 2, "unchanged": 2}
    assert file.rows("SELECT document, source, size FROM {documents} ORDER BY 1") == [
        (f"2026/{name}", f"memory:///inbox/2026/{name}", (SAMPLES / name).stat().st_size) for name in INVOICES
    ]
    storage.rm("/inbox", recursive=True)


def test_a_file_that_cannot_be_read_fails_alone_and_is_looked_at_again(
    inbox: Path, read_by: DocJob, file: Warehouse
) -> None:
    (inbox / "a empty.pdf").touch()
    first = load(inbox, read_by, file, pattern="*.pdf")
    assert counts(first) == {"found": 3, "loaded": 2, "failed": 1}
    assert counts(load(inbox, read_by, file, pattern="*.pdf")) == {"found": 3, "unchanged": 2, "failed": 1}
    shutil.copy(SAMPLES / "rechnung-bergmann.pdf", inbox / "z new.pdf")
    result = load(inbox, read_by, file, pattern="*.pdf", max_documents=1)  # the new one has its turn
    assert counts(result) == {"found": 4, "unchanged": 2, "loaded": 1}
    ((error,),) = file.rows("SELECT error FROM {files} WHERE sha256 IS NULL")
    assert "is empty" in error


def test_chunks_side_by_side_load_all_and_a_load_of_nothing_is_well(
    inbox: Path, read_by: DocJob, warehouse: Warehouse
) -> None:
    for number in range(12):
        content = (SAMPLES / "invoice-brightwater.pdf").read_bytes() + b"%" * number
        (inbox / f"copy-{number:02}.pdf").write_bytes(content)
    result = load(inbox, read_by, warehouse, pattern="copy-*.pdf", chunk_size=2)
    assert counts(result) == {"found": 12, "loaded": 12}
    assert warehouse.rows("SELECT count(*), count(DISTINCT sha256) FROM {documents}") == [(12, 12)]
    assert counts(load(inbox, read_by, warehouse, pattern="none-*")) == {}


@pytest.mark.timeout(240)
def test_after_a_kill_each_document_is_loaded_once_and_paid_for_once(
    inbox: Path, file: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_DOCJOBS_LEDGER_LEASE", "2")
    for number in range(6):
        content = (SAMPLES / "invoice-brightwater.pdf").read_bytes() + b"%" * number
        (inbox / f"copy-{number}.pdf").write_bytes(content)
    with run_in_thread(Settings(duration=Duration(law="fixed", seconds=8))) as simulator:
        make_job("mindee_v1", simulator.base_url).save("killed", overwrite=True)
        given = (str(inbox), "mindee-v1-job/killed", file.address)
        run = f"asyncio.run(load_documents(*{given!r}, pattern='copy-*', chunk_size=1))"
        code = f"import asyncio; from prefect_docjobs.flows import load_documents; {run}"
        looks = [0]

        async def four_are_submitted() -> bool:
            """Chunks go four at a time; no answer is on its way any more when nothing has changed."""
            looks.append(submits(simulator))
            return looks[-1] == looks[-2] == 4

        with process("load", "-c", code, cwd=inbox.parent) as running:
            asyncio.run(until(four_are_submitted, within=100))
            running.kill()
        result = load(inbox, "mindee-v1-job/killed", file, pattern="copy-*", chunk_size=1)
        assert counts(result) == {"found": 6, "loaded": 6}
        assert submits(simulator) == 6
    assert file.rows("SELECT count(*), count(DISTINCT sha256) FROM {documents} WHERE reason IS NULL") == [
        (6, 6)
    ]


@pytest.mark.parametrize(
    ("destination", "says"),
    [
        ("postgresql://me:hunter2@127.0.0.1/db", "password"),
        ("postgresql://me@127.0.0.1/db?password=hunter2", "password"),
        ("delta:s3://key:hunter2@bucket/lake", "password"),
        ("env:NO_SUCH_VARIABLE", "NO_SUCH_VARIABLE is not set"),
        ("secret/no-such-block", "secret/no-such-block"),
        ("sqlite:x.db", "duckdb:FILE"),
    ],
)
def test_a_destination_that_is_none_is_refused_before_anything_is_sent(
    destination: str, says: str, inbox: Path, read_by: DocJob, simulator: Running
) -> None:
    before = submits(simulator)
    with pytest.raises(ConfigurationError, match=says) as refused:
        asyncio.run(load_documents(str(inbox), read_by, destination))
    assert "hunter2" not in str(refused.value)
    assert submits(simulator) == before


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path, read_by: DocJob, file: Warehouse) -> None:
    with pytest.raises(InvalidDocument, match="does not exist"):
        load(tmp_path / "nowhere", read_by, file)


def test_a_run_in_which_nothing_is_loaded_fails(inbox: Path, read_by: DocJob, file: Warehouse) -> None:
    async def ended() -> State[Any]:
        return await load_documents(str(inbox), read_by, file.address, pattern="*.txt", return_state=True)

    state = asyncio.run(ended())
    assert state.is_failed()
    assert "1 failed" in (state.message or "")
    (event,) = asyncio.run(Shown.of(state).events("docjobs.load.", number=1))
    assert event["event"] == "docjobs.load.failed"


# ------------------------------------------------------------------------------------- what a load shows


async def shown(folder: object, job: DocJob, destination: str, **more: Any) -> Shown:
    """Run the flow; what Prefect has of it."""
    state = await load_documents(
        str(folder), job, destination, return_state=True, **{"max_failures": 100, **more}
    )
    return Shown.of(state)


def lines_of(artifact: Any) -> list[str]:
    return str(artifact.data).splitlines()


async def test_a_load_shows_a_bar_two_tables_and_a_summary_with_its_counts(
    inbox: Path, read_by: DocJob, file: Warehouse
) -> None:
    shutil.copy(inbox / "invoice-brightwater.pdf", inbox / "the same under another name.pdf")
    run = await shown(inbox, read_by, file.address, price_per_page=0.5)
    artifacts = await run.artifacts()
    assert {name: each.type for name, each in artifacts.items()} == {
        "progress": "progress",
        "results": "table",
        "failures": "table",
        "summary": "markdown",
    }
    assert {each.key.split("-", 2)[2] for each in artifacts.values()} == {"load-mindee-v1-mindee-invoices-v4"}
    assert artifacts["progress"].data == 100.0
    assert artifacts["progress"].description == "Documents: 4 of 4"
    rows = json.loads(artifacts["results"].data)
    assert [(row["document"], row["state"], row["cost"]) for row in rows] == [
        (TEXT, "invalid_document", ""),
        ("invoice-brightwater.pdf", "delivered", 0.5),
        ("invoice-cascade-3-pages.pdf", "delivered", 1.5),
    ]
    (failure,) = json.loads(artifacts["failures"].data)
    assert (failure["document"], failure["where"]) == (TEXT, str(inbox / TEXT))
    assert failure["what to do"].startswith("Fix the document")
    lines = lines_of(artifacts["summary"])
    for line in (
        "| Found | 4 |",
        "| Unchanged since they were loaded | 0 |",
        "| Known: their content is loaded already, or that of another file | 1 |",
        "| Loaded | 2 |",
        "| Failed | 1 |",
        "| Left: failed before, and not tried again | 0 |",
        "| Failed: invalid_document | 1 |",
        "| Cost, at 0.5 a page | 2 |",
        "### Destination",
        f"- `{file.address.removeprefix('duckdb:')}`: the tables documents, fields, line_items and files",
    ):
        assert line in lines, line
    assert any(line.startswith("![Half of the documents") for line in lines)
    assert {tuple(tags) for tags in await run.tags()} == {("docjobs", "mindee_v1")}


async def test_the_tables_are_an_asset_made_of_the_folder_and_the_end_is_an_event(
    inbox: Path, read_by: DocJob, file: Warehouse
) -> None:
    run = await shown(inbox, read_by, file.address)
    (asset,) = await run.events("prefect.asset.materialization.", number=1)
    place = file.address.removeprefix("duckdb:")
    assert asset["resource"]["prefect.resource.id"] == f"file://{place}"
    assert (asset["payload"]["loaded"], asset["payload"]["failed"], asset["payload"]["pages"]) == (2, 1, 4)
    related = {each["prefect.resource.role"]: each["prefect.resource.id"] for each in asset["related"]}
    assert related["asset"] == f"file://{inbox}"
    (event,) = await run.events("docjobs.load.", number=1)
    assert event["event"] == "docjobs.load.completed"
    assert event["resource"]["docjobs.source"] == str(inbox)
    payload = event["payload"]
    assert counts(payload) == {"found": 3, "loaded": 2, "failed": 1}
    assert (payload["destination"], payload["reasons"]) == (place, {"invalid_document": 1})
    assert payload["message"] == "3 found, 0 unchanged, 0 known, 2 loaded, 1 failed, 0 left"


async def test_a_load_of_nothing_new_shows_what_was_left_and_materializes_nothing(
    inbox: Path, read_by: DocJob, file: Warehouse
) -> None:
    await shown(inbox, read_by, file.address)
    again = await shown(inbox, read_by, file.address)
    artifacts = await again.artifacts()
    assert set(artifacts) == {"progress", "failures", "summary"}
    lines = lines_of(artifacts["summary"])
    assert {"| Found | 3 |", "| Unchanged since they were loaded | 2 |", "| Loaded | 0 |"} <= set(lines)
    assert "| Left: failed before, and not tried again | 1 |" in lines
    (left,) = json.loads(artifacts["failures"].data)
    assert (left["document"], left["reason"], left["where"]) == (TEXT, "invalid_document", str(inbox / TEXT))
    assert "earlier load" in left["error"]
    await again.events("docjobs.load.", number=1)  # which comes after what is materialized
    assert await again.events("prefect.asset.", number=0) == []
    (inbox / "empty").mkdir()
    nothing = await (await shown(inbox / "empty", read_by, file.address)).artifacts()
    assert "| Found | 0 |" in lines_of(nothing["summary"])


async def test_documents_of_an_object_storage_are_shown_where_they_are_and_not_where_they_were_copied_to(
    read_by: DocJob, file: Warehouse
) -> None:
    storage = fsspec.filesystem("memory")
    for name in ("invoice-brightwater.pdf", TEXT):
        storage.pipe(f"/shown/{name}", (SAMPLES / name).read_bytes())
    storage.pipe("/shown/empty.pdf", b"")
    run = await shown("memory://shown", read_by, file.address)
    failures = json.loads((await run.artifacts())["failures"].data)
    assert {row["where"] for row in failures} == {f"memory:///shown/{TEXT}", "memory:///shown/empty.pdf"}
    (asset,) = await run.events("prefect.asset.materialization.", number=1)
    assert "memory://shown" in {each["prefect.resource.id"] for each in asset["related"]}
    storage.rm("/shown", recursive=True)


async def test_what_failed_after_it_was_paid_for_says_how_a_load_buys_it_again(
    inbox: Path, file: Warehouse
) -> None:
    with run_in_thread(Settings(duration=Duration(law="fixed", seconds=0), failed_share=1.0)) as failing:
        job = make_job("mindee_v1", failing.base_url)
        for error in ("", "earlier load"):
            run = await shown(inbox, job, file.address, pattern="invoice-b*")
            (row,) = json.loads((await run.artifacts())["failures"].data)
            assert row["what to do"] == "Load again with resubmit=True, at the price of a second bill."
            assert error in row["error"]


async def test_the_password_of_a_destination_is_in_no_artifact_asset_event_or_log(
    inbox: Path,
    read_by: DocJob,
    postgres_url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    address = make_url(postgres_url)
    assert isinstance(address.password, str)
    await Secret(value=postgres_url).save("with-password", overwrite=True)
    loggers = [logging.getLogger(f"prefect.{name}") for name in ("flow_runs", "task_runs", "docjobs")]
    for logger in loggers:
        logger.addHandler(caplog.handler)
    try:
        run = await shown(inbox, read_by, "secret/with-password", table_schema="shown", chunk_size=1)
    finally:
        for logger in loggers:
            logger.removeHandler(caplog.handler)
    await run.events("prefect.asset.materialization.", number=1)
    events = await run.events("docjobs.", "prefect.", number=6)  # two of each job, the asset, the end
    artifacts = await run.artifacts()
    shown_by_artifacts = [each.model_dump_json() for each in artifacts.values()]
    place = f"postgresql://{address.host}:{address.port}/{address.database}"
    assert f"- `{place}`: the tables documents" in artifacts["summary"].data
    (asset,) = [each for each in events if each["event"].startswith("prefect.asset.materialization.")]
    assert asset["resource"]["prefect.resource.id"] == f"{place}/shown"
    assert "are new, changed" in caplog.text
    everything = "\n".join([*shown_by_artifacts, *map(json.dumps, events), caplog.text])
    assert address.password not in everything


async def test_artifacts_that_prefect_refuses_cost_warnings_and_not_the_load(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    report, log = RunReport(), logging.getLogger("test")
    report.add(0, Batch.of([Outcome(document="a.pdf")]), [])
    nowhere = {PREFECT_API_URL: "http://127.0.0.1:9/api", PREFECT_CLIENT_MAX_RETRIES: 0}
    with temporary_settings(nowhere):
        await publish_report(
            report, Destination(str(tmp_path)), title="inbox", key="load-x", elapsed=1.0, log=log
        )
    said = [record.getMessage().split(":")[0] for record in caplog.records if record.name == "test"]
    assert said == ["The result table is not shown", "The summary is not shown"]


@pytest.mark.parametrize(
    ("address", "schema", "place", "asset"),
    [
        ("duckdb:/srv/a.duckdb", None, "/srv/a.duckdb", "file:///srv/a.duckdb"),
        ("duckdb:////srv/a.duckdb", "raw", "/srv/a.duckdb", "file:///srv/a.duckdb"),
        ("/srv/a.duckdb", None, "/srv/a.duckdb", "file:///srv/a.duckdb"),
        ("delta:/srv/lake", None, "/srv/lake", "file:///srv/lake"),
        ("delta:s3://key@bucket/lake/?x=1", None, "s3://bucket/lake", "s3://bucket/lake"),
        ("postgresql://me:p%40ss@db:5433/w?sslmode=require", None, *["postgresql://db:5433/w"] * 2),
        ("postgres://me:pass@db/w", "raw", "postgresql://db/w", "postgresql://db/w/raw"),
        ("postgresql:///w?host=db&password=pass", None, *["postgresql://db/w"] * 2),
        ("postgresql:///w?host=/run/postgresql", None, *["postgresql://localhost/w"] * 2),
    ],
)
def test_a_destination_is_shown_without_user_password_and_options(
    address: str, schema: str | None, place: str, asset: str
) -> None:
    found = open_store(address, schema).place
    assert found == place
    assert asset_at(Destination(found, schema).asset).key == asset
