"""What every destination does: replace, add columns, keep hostile values, be of use after a crash."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from support.loads import AT, JOB, chunk, outcome, sha256
from support.warehouses import Warehouse

from prefect_docjobs.errors import ConfigurationError, Reason
from prefect_docjobs.loading import DestinationUnavailable, Seen, export_parquet, open_store, source_sha256
from prefect_docjobs.loading.columns import MOST_COLUMNS
from prefect_docjobs.loading.sql import DuckDbStore

LOADER = Path(__file__).with_name("loader_process.py")

HOSTILE: dict[str, Any] = {
    "select": "😀",
    "Total Amount": 1,
    "total_amount": 2,
    "TOTAL_AMOUNT": 3,
    "x" * 200: "long",
    "é" * 200: "long, too",
    'quo"te; DROP TABLE documents': "'; --",
    ":colon %s {brace}": ":value %s {brace}",
    "nul\0": "a\0b",
    "lone\ud800": "\ud800",
    "nan": math.nan,
    "inf": math.inf,
    "huge": 10**40,
    "bigint": 2**62,
    "none": None,
    "nothing": [],
    "tags": ["a", "b"],
    "nested": {"deeper": {"still": {"value": 1}}},
    "sha256": "not ours",
    "a.b": 1,
    "a": {"b": 2},
    "": "empty",
}


async def test_a_document_is_replaced_and_never_there_twice(warehouse: Warehouse) -> None:
    store = warehouse.store()
    await store.prepare()
    await store.write(chunk({"a": {"items": [{"n": 1}, {"n": 2}], "x": 1, "y": 2}, "b": {"x": 5}}))
    await store.write(chunk({"a": {"items": [{"n": 3}], "x": 7}}))
    assert warehouse.rows("SELECT x, y FROM {documents} ORDER BY x") == [(5.0, None), (7.0, None)]
    assert warehouse.rows("SELECT n FROM {line_items}") == [(3.0,)]
    assert warehouse.rows("SELECT path FROM {fields} ORDER BY path") == [("items.0.n",), ("x",), ("x",)]
    assert warehouse.rows("SELECT count(*) FROM {files}") == [(2,)]


async def test_a_failure_is_a_row_until_the_document_is_loaded(warehouse: Warehouse) -> None:
    store, key = warehouse.store(), sha256("a")
    await store.prepare()
    await store.write(chunk(failed={"a": Reason.TIMEOUT}))
    before = (await store.loaded(JOB.key, [key, "unknown"]))[key].outcome()
    assert (before.reason, before.ref and before.ref.job_id) == (Reason.TIMEOUT, "job-1")
    seen = await store.seen(JOB.key, "file:///in/")
    assert seen == {source_sha256("file:///in/a.pdf"): Seen("1", is_loaded=True, reason="timeout")}
    await store.write(chunk({"a": {"x": 1}}))
    assert (await store.loaded(JOB.key, [key]))[key].outcome().ok
    assert warehouse.rows("SELECT reason, x FROM {documents}") == [(None, 1.0)]
    assert await store.seen(JOB.key, "file:///elsewhere/") == {}
    assert await store.loaded("another/job", [key]) == {}


async def test_a_new_field_becomes_a_column_and_old_rows_stay(warehouse: Warehouse) -> None:
    store = warehouse.store()
    await store.prepare()
    await store.write(chunk({"a": {"x": 1, "items": [{"n": 1}]}}))
    await store.write(
        chunk({"b": {"x": 2, "due": "2026-01-31", "paid": True, "items": [{"n": 1, "unit": "h"}]}})
    )
    await store.write(chunk({"c": {"x": "three"}}))
    assert warehouse.rows("SELECT x, x__text_, due, paid FROM {documents} ORDER BY sha256") == [
        (1.0, None, None, None),
        (2.0, None, datetime.fromisoformat("2026-01-31"), True),
        (None, "three", None, None),
    ]
    assert warehouse.rows("SELECT unit FROM {line_items} ORDER BY sha256") == [(None,), ("h",)]
    types = warehouse.columns("documents")
    assert [types[name].lower() for name in ("x", "x__text_", "due", "paid", "pages")] == {
        "postgresql": ["double precision", "text", "timestamp without time zone", "boolean", "bigint"],
        "duckdb": ["double", "varchar", "timestamp", "boolean", "bigint"],
        "delta": ["double", "string", "timestamp_ntz", "boolean", "long"],
    }[warehouse.kind]


async def test_hostile_names_and_values_are_all_there(warehouse: Warehouse) -> None:
    store = warehouse.store()
    await store.prepare()
    await store.write(chunk({"a": HOSTILE, "b": {"items": [HOSTILE]}}))
    await store.write(chunk({"a": HOSTILE}))
    assert warehouse.rows(
        'SELECT "select", total_amount, sha256_, tags, a__b FROM {documents} WHERE a__b > 0'
    ) == [("😀", 2.0, "not ours", '["a", "b"]', 2.0)]
    assert warehouse.rows(
        "SELECT nan, inf, huge, bigint, nested__deeper__still__value FROM {line_items}"
    ) == [("nan", "inf", str(10**40), str(2**62), 1.0)]
    values = dict(warehouse.rows("SELECT path, value_text FROM {fields} WHERE path NOT LIKE 'items%'"))
    assert values["nul\ufffd"] == "a\ufffdb"
    assert values['quo"te; DROP TABLE documents'] == "'; --"
    assert values[":colon %s {brace}"] == ":value %s {brace}"
    assert (values["none"], values["nothing"], values["tags.1"]) == (None, "[]", "b")
    assert warehouse.rows("SELECT value_integer FROM {fields} WHERE path = 'bigint'") == [(2**62,)]
    # Of the 22 fields a None and an empty list have no column; all others have their own.
    assert len(warehouse.columns("line_items")) == 5 + len(HOSTILE) - 2


async def test_more_fields_than_columns_are_still_fields(warehouse: Warehouse) -> None:
    store, many = warehouse.store(), {f"field_{number}": "x" * 100 for number in range(MOST_COLUMNS + 5)}
    await store.prepare()
    assert await store.write(chunk({"a": many})) == 5
    assert warehouse.rows("SELECT count(*) FROM {fields}") == [(MOST_COLUMNS + 5,)]


async def test_two_loads_at_once_both_arrive(warehouse: Warehouse) -> None:
    stores = [warehouse.store() for _ in range(4)]
    await asyncio.gather(*(store.prepare() for store in stores))
    chunks = [chunk({f"d{n}-{i}": {f"only_{n}": i, "x": i} for i in range(3)}) for n in range(4)]
    await asyncio.gather(*(store.write(some) for store, some in zip(stores, chunks, strict=True)))
    assert warehouse.rows("SELECT count(*), count(only_0), count(only_3) FROM {documents}") == [(12, 3, 3)]


def test_after_a_kill_each_document_is_there_as_a_whole_and_once(warehouse: Warehouse) -> None:
    for number in (1, 4):
        with _loader(warehouse) as loader:
            assert loader.stdout
            next(line for line in loader.stdout if line == f"chunk {number}\n")
            time.sleep(random.uniform(0, 0.05))  # anywhere in the next chunks
            loader.kill()
        assert loader.returncode == -signal.SIGKILL
        assert set(_parts_of_documents(warehouse)) == {(3, 1)}
    with _loader(warehouse) as loader:
        loader.communicate()
    assert loader.returncode == 0
    _assert_all_are_there_once(warehouse)


def test_two_processes_that_load_the_same_lose_nothing_and_double_nothing(warehouse: Warehouse) -> None:
    asyncio.run(warehouse.store().prepare())
    with _loader(warehouse) as first, _loader(warehouse) as second:
        while first.poll() is None or second.poll() is None:
            if warehouse.kind != "duckdb":  # which lets in no reader meanwhile
                assert set(_parts_of_documents(warehouse)) <= {(3, 1)}
            time.sleep(0.05)
        assert first.stdout
        assert second.stdout
        assert len([*first.stdout, *second.stdout]) == 16
    assert (first.returncode, second.returncode) == (0, 0)
    _assert_all_are_there_once(warehouse)


def _loader(warehouse: Warehouse) -> subprocess.Popen[str]:
    command = [sys.executable, str(LOADER), warehouse.address, warehouse.schema or "-"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _parts_of_documents(warehouse: Warehouse) -> list[tuple[int, int]]:
    """Of each document how many fields and line items it has."""
    return warehouse.rows(
        "SELECT f.n AS fields, i.n AS items FROM {documents} AS d "
        "LEFT JOIN (SELECT sha256, count(*) AS n FROM {fields} AS a GROUP BY sha256) AS f USING (sha256) "
        "LEFT JOIN (SELECT sha256, count(*) AS n FROM {line_items} AS b GROUP BY sha256) AS i USING (sha256)"
    )


def _assert_all_are_there_once(warehouse: Warehouse) -> None:
    for table, rows in {"documents": 80, "fields": 240, "line_items": 80, "files": 80}.items():
        assert warehouse.rows(f"SELECT count(*) FROM {{{table}}}") == [(rows,)], table
    assert warehouse.rows("SELECT count(DISTINCT sha256) FROM {documents}") == [(80,)]


async def test_rows_say_when_they_were_written_not_when_the_work_began(warehouse: Warehouse) -> None:
    begun_early = chunk({"a": {"x": 1}})
    await warehouse.store().prepare()
    at = [AT]
    store = open_store(warehouse.address, warehouse.schema, clock=lambda: at[0])
    await store.write(chunk({"b": {"x": 1}}))
    at[0] += timedelta(hours=1)
    await store.write(begun_early)
    assert warehouse.rows("SELECT loaded_at - min(loaded_at) OVER () FROM {documents} ORDER BY sha256") == [
        (timedelta(hours=1),),
        (timedelta(0),),
    ]
    assert warehouse.rows("SELECT max(seen_at), min(loaded_at) FROM {files}, {documents}") == [
        ((AT + timedelta(hours=1)).replace(tzinfo=None), AT.replace(tzinfo=None))
    ]


async def test_who_commits_later_has_read_the_clock_later(warehouse: Warehouse) -> None:
    committed_at: dict[datetime, int] = {}
    times = itertools.count()

    def clock() -> datetime:
        now = AT + timedelta(seconds=next(times))
        committed_at[now.replace(tzinfo=None)] = _committed(warehouse)
        return now

    await warehouse.store().prepare()
    await warehouse.store().write(chunk({"first": {"x": 1}}))
    stores = [open_store(warehouse.address, warehouse.schema, clock=clock) for _ in range(4)]
    await asyncio.gather(*(store.write(chunk({f"d{n}": {"x": 1}})) for n, store in enumerate(stores)))
    loaded = warehouse.rows("SELECT loaded_at FROM {documents} ORDER BY 1 LIMIT 4")
    assert [committed_at[at] for (at,) in loaded] == [1, 2, 3, 4]


def _committed(warehouse: Warehouse) -> int:
    """Documents that others see, also while this process has the file of DuckDB open to write."""
    if warehouse.kind == "duckdb":
        with duckdb.connect(warehouse.address.removeprefix("duckdb:")) as db:
            rows = db.execute("SELECT count(*) FROM documents").fetchall()
    else:
        rows = warehouse.rows("SELECT count(*) FROM {documents}")
    return int(rows[0][0])


# ---------------------------------------------------------------------------------------- of one kind


async def test_a_persons_column_that_differs_in_case_only_blocks_no_load_of_duckdb(tmp_path: Path) -> None:
    store = open_store(f"duckdb:{tmp_path / 'rows.duckdb'}")
    await store.prepare()
    with duckdb.connect(str(tmp_path / "rows.duckdb")) as db:
        db.execute('ALTER TABLE documents ADD COLUMN "Total" VARCHAR')
        db.execute('ALTER TABLE documents ADD COLUMN "Price" DECIMAL(18, 2)')
        db.execute('ALTER TABLE documents ADD COLUMN "\u212aind" VARCHAR')  # the sign for kelvins is no k
    await store.write(chunk({"a": {"total": 1, "price": 2, "kind": "invoice"}, "b": {"total": "three"}}))
    await store.write(chunk({"c": {"total": 4, "price": 5, "kind": "receipt"}}))
    with duckdb.connect(str(tmp_path / "rows.duckdb")) as db:
        rows = db.execute(
            'SELECT "Total", total__number_, "Price", price__number_, kind FROM documents ORDER BY sha256'
        ).fetchall()
    assert rows == [
        (None, 1.0, None, 2.0, "invoice"),
        ("three", None, None, None, None),
        (None, 4.0, None, 5.0, "receipt"),
    ]


async def test_a_duckdb_file_that_another_process_holds_is_waited_for_and_then_an_error(
    tmp_path: Path,
) -> None:
    path = tmp_path / "held.duckdb"
    hold = f"import duckdb; db = duckdb.connect({str(path)!r}); print('held', flush=True); input()"
    holder = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout
    assert holder.stdin
    with holder.stdout as lines, holder.stdin as end:
        assert lines.readline() == "held\n"
        with pytest.raises(DestinationUnavailable, match="open in another process"):
            await DuckDbStore(path, wait=0).prepare()
        waiting = asyncio.create_task(DuckDbStore(path).prepare())
        end.write("\n")
        end.flush()
        await waiting
    holder.wait()


async def test_a_file_that_is_no_database_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text.duckdb").write_text("no database, but a text that is long enough to be read " * 100)
    with pytest.raises(DestinationUnavailable, match="cannot be opened"):
        await open_store(f"duckdb:{tmp_path / 'text.duckdb'}").prepare()


async def test_somebody_elses_tables_are_not_touched(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "theirs.duckdb")) as db:
        db.execute("CREATE TABLE documents (id INTEGER)")
    with pytest.raises(ConfigurationError, match="no table of this flow"):
        await open_store(f"duckdb:{tmp_path / 'theirs.duckdb'}").prepare()
    await open_store(f"duckdb:{tmp_path / 'theirs.duckdb'}", "docjobs").prepare()


@pytest.mark.xdist_group("postgres")
async def test_no_password_is_in_an_error(postgres_url: str) -> None:
    wrong = postgres_url.replace("docjobs:", "docjobs:hunter2-")
    with pytest.raises(DestinationUnavailable) as refused:
        await open_store(wrong).prepare()
    assert "hunter2" not in str(refused.value)
    with pytest.raises(DestinationUnavailable, match=r"127\.0\.0\.1"):
        await open_store("postgresql://me:hunter2@127.0.0.1:9/db").prepare()
    with pytest.raises(ConfigurationError, match="%40") as unclear:
        open_store("postgresql://me:hun@ter2@127.0.0.1:9/db")
    assert "ter2" not in str(unclear.value)


async def test_an_option_that_the_driver_does_not_know_is_named(postgres_url: str) -> None:
    with pytest.raises(DestinationUnavailable, match="application_name"):
        await open_store(f"{postgres_url}?application_name=x").prepare()


def test_an_export_adds_parquet_files_and_replaces_none(tmp_path: Path) -> None:
    for _ in range(2):
        outcomes = [outcome({"x": 1, "items": [{"n": 1}]}), outcome(reason=Reason.TIMEOUT)]
        paths = export_parquet(outcomes, tmp_path)
        assert [path.parent.name for path in paths] == ["fields", "line_items", "documents"]
    with duckdb.connect() as db:
        documents = db.read_parquet(f"{tmp_path}/documents/*.parquet")
        rows = documents.aggregate("document, provider, reason, count(*), sum(x)").order("reason").fetchall()
    assert rows == [("a.pdf", "toy", "timeout", 2, None), ("a.pdf", "toy", None, 2, 2.0)]


@pytest.mark.parametrize("address", ["duckdb:///x.duckdb", "duckdb:x.duckdb", "x.duckdb"])
async def test_a_duckdb_file_has_three_spellings(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    await open_store(address).prepare()
    assert (tmp_path / "x.duckdb").exists()


@pytest.mark.parametrize(
    ("address", "schema"), [("x.csv", None), ("duckdb:", None), ("delta:x", "s"), ("x.duckdb", "a b")]
)
def test_what_is_no_destination_is_refused(address: str, schema: str | None) -> None:
    with pytest.raises(ConfigurationError):
        open_store(address, schema)
