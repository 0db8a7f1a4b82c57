"""The flow that loads documents into tables: once each, at the price of once, wherever they go."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]
import pytest
from prefect import State
from prefect.blocks.system import Secret
from support.blocks import make_job
from support.postgres import server_for_tests
from support.processes import process, until
from support.warehouses import KINDS, Warehouse, new_warehouse

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.errors import ConfigurationError, InvalidDocument
from prefect_docjobs.flows import load_documents
from prefect_docjobs.simulator.samples import SAMPLES
from prefect_docjobs.simulator.server import Running, run_in_thread
from prefect_docjobs.simulator.settings import Duration, Settings

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


def counts(told: Mapping[str, Any]) -> dict[str, int]:
    """The numbers that are not zero."""
    return {name: told[name] for name in COUNTS if told[name]}


def submits(simulator: Running) -> int:
    return int(simulator.world.report()["submits"]["total"])


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
    told = load(inbox, read_by, file, pattern="*.pdf")
    assert counts(told) == {"found": 3, "unchanged": 1, "loaded": 2}
    assert submits(simulator) == before + 2
    # What the file held before stays: it was a document, too.
    ((names,),) = file.rows("SELECT count(*) FROM {documents} WHERE document = 'invoice-brightwater.pdf'")
    assert names == 2


def test_files_can_be_left_out_by_their_date(inbox: Path, read_by: DocJob, file: Warehouse) -> None:
    os.utime(inbox / "invoice-brightwater.pdf", (1_000_000_000, 1_000_000_000))
    told = load(inbox, read_by, file, pattern="*.pdf", modified_since="2020-01-01T00:00:00Z")
    assert counts(told) == {"found": 1, "loaded": 1}


def test_two_jobs_over_the_same_documents_do_not_meet(
    inbox: Path, jobs: Mapping[str, DocJob], file: Warehouse
) -> None:
    for name in ("mindee", "mindee_v1"):
        assert load(inbox, jobs[name], file, pattern="*.pdf")["loaded"] == 2
    assert file.rows("SELECT count(*), count(DISTINCT job), count(DISTINCT sha256) FROM {documents}") == [
        (4, 2, 2)
    ]


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


def test_what_failed_after_it_was_paid_for_is_bought_again_only_when_told_to(
    inbox: Path, file: Warehouse
) -> None:
    with run_in_thread(Settings(duration=Duration(law="fixed", seconds=0), failed_share=1.0)) as failing:
        job = make_job("mindee_v1", failing.base_url)
        assert load(inbox, job, file, pattern="invoice-b*")["reasons"] == {"failed": 1}
        assert counts(load(inbox, job, file, pattern="invoice-b*")) == {"found": 1, "left": 1}
        assert submits(failing) == 1
        told = load(inbox, job, file, pattern="invoice-b*", resubmit=True)
        assert counts(told) == {"found": 1, "failed": 1}
        assert submits(failing) == 2


def test_documents_of_an_object_storage_are_loaded_and_keep_their_addresses(
    read_by: DocJob, file: Warehouse
) -> None:
    storage = fsspec.filesystem("memory")
    for name in INVOICES:
        storage.pipe(f"/inbox/2026/{name}", (SAMPLES / name).read_bytes())
    told = load("memory://inbox", read_by, file, recursive=True)
    assert counts(told) == {"found": 2, "loaded": 2}
    assert told["watermark"] is not None
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
    told = load(inbox, read_by, file, pattern="*.pdf", max_documents=1)  # the new one has its turn
    assert counts(told) == {"found": 4, "unchanged": 2, "loaded": 1}
    ((error,),) = file.rows("SELECT error FROM {files} WHERE sha256 IS NULL")
    assert "is empty" in error


def test_chunks_side_by_side_load_all_and_a_load_of_nothing_is_well(
    inbox: Path, read_by: DocJob, warehouse: Warehouse
) -> None:
    for number in range(12):
        content = (SAMPLES / "invoice-brightwater.pdf").read_bytes() + b"%" * number
        (inbox / f"copy-{number:02}.pdf").write_bytes(content)
    told = load(inbox, read_by, warehouse, pattern="copy-*.pdf", chunk_size=2)
    assert counts(told) == {"found": 12, "loaded": 12}
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
        told = load(inbox, "mindee-v1-job/killed", file, pattern="copy-*", chunk_size=1)
        assert counts(told) == {"found": 6, "loaded": 6}
        assert submits(simulator) == 6
    assert file.rows("SELECT count(*), count(DISTINCT sha256) FROM {documents} WHERE reason IS NULL") == [
        (6, 6)
    ]


@pytest.mark.parametrize(
    ("destination", "says"),
    [
        ("postgresql://me:hunter2@127.0.0.1/db", "password"),
        ("postgresql://me@127.0.0.1/db?password=hunter2", "password"),
        ("parquet:s3://key:hunter2@bucket/lake", "password"),
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
