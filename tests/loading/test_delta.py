"""Delta tables: commits that others overtake, rows that no document has, and tables in an object storage."""

from __future__ import annotations

import asyncio
import itertools
from datetime import datetime
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]
import pytest
from arro3.core import Array, DataType, Table
from deltalake import DeltaTable, Field, QueryBuilder, Schema, write_deltalake
from deltalake.exceptions import CommitFailedError
from deltalake.schema import PrimitiveType
from support.loads import AT, JOB, chunk, sha256
from support.warehouses import Warehouse, delta_table

from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.loading import DestinationUnavailable, SourceFolder, open_store
from prefect_docjobs.loading.delta import DeltaStore

pytestmark = pytest.mark.xdist_group("s3")


@pytest.fixture(params=["disk", "s3"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Warehouse:
    if request.param == "disk":
        return Warehouse("delta", f"delta:{tmp_path / 'lake'}")
    request.getfixturevalue("s3")
    return Warehouse("delta", f"delta:s3://bucket/{tmp_path.name}")


async def test_a_load_that_another_overtakes_in_each_of_its_commits_loses_nothing(lake: Warehouse) -> None:
    calls: list[datetime] = []

    def overtaken() -> datetime:
        """Between the version that a commit is made for and the commit itself."""
        calls.append(AT)
        if len(calls) % 2:
            other = chunk({"a": {"x": "text", "items": [{"n": 2}]}, f"b{len(calls)}": {"x": 1}})
            asyncio.run(lake.store().write(other))
        return AT

    await lake.store().prepare()
    store = open_store(lake.address, clock=overtaken)
    await store.write(chunk({"a": {"x": 1, "items": [{"n": 1}, {"n": 1}]}}))
    assert len(calls) == 8  # each of the four tables twice
    assert lake.rows("SELECT count(*), count(DISTINCT sha256), count(x) FROM {documents}") == [(5, 5, 0)]
    assert lake.rows("SELECT DISTINCT x__number_ FROM {documents}") == [(1.0,)]
    assert lake.rows("SELECT n FROM {line_items}") == [(1.0,), (1.0,)]
    assert lake.rows("SELECT count(*) FROM {files}") == [(5,)]


async def test_a_load_that_is_overtaken_for_too_long_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    other = DeltaStore(str(tmp_path))
    await other.prepare()

    def overtaken() -> datetime:
        asyncio.run(other.write(chunk({"a": {"x": 1}})))
        return AT

    with pytest.raises(DestinationUnavailable, match="cannot be used"):
        await DeltaStore(str(tmp_path), wait=0.0, clock=overtaken).write(chunk({"b": {"x": 1}}))
    assert list(await other.loaded(JOB.key, [sha256("a"), sha256("b")])) == [sha256("a")]


async def test_an_append_whose_answer_is_lost_is_not_made_twice(
    lake: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    appends = []

    def losing_answers(table: DeltaTable, *args: Any, **options: Any) -> None:
        write_deltalake(table, *args, **options)
        appends.append(table)
        raise CommitFailedError("the answer was lost")

    await lake.store().prepare()
    with monkeypatch.context() as patch:
        patch.setattr("deltalake.write_deltalake", losing_answers)
        await lake.store().write(chunk({"a": {"x": 1, "items": [{"n": 1}]}}))
    assert len(appends) == 2
    assert lake.rows("SELECT path FROM {fields} ORDER BY 1") == [("items.0.n",), ("x",)]
    assert lake.rows("SELECT n FROM {line_items}") == [(1.0,)]


@pytest.mark.parametrize("commit", [1, 2, 3, 4])
async def test_a_load_that_dies_before_one_of_its_commits_leaves_what_was(
    commit: int, tmp_path: Path
) -> None:
    lake = Warehouse("delta", f"delta:{tmp_path}")
    await lake.store().prepare()
    await lake.store().write(chunk({"a": {"x": 1, "items": [{"n": 1}]}}))
    calls = itertools.count(1)

    def dying() -> datetime:
        if next(calls) == commit:
            raise SystemExit
        return AT

    changed = chunk({"a": {"x": 2, "items": [{"n": 2}, {"n": 3}]}})
    with pytest.raises(SystemExit):
        await open_store(lake.address, clock=dying).write(changed)
    assert lake.rows("SELECT x, n FROM {documents} JOIN {line_items} USING (sha256)") == [(1.0, 1.0)]
    assert lake.rows("SELECT value_number FROM {fields} ORDER BY 1") == [(1.0,), (1.0,)]
    await lake.store().write(changed)
    rows = lake.rows("SELECT x, n FROM {documents} JOIN {line_items} USING (sha256) ORDER BY 2")
    assert rows == [(2.0, 2.0), (2.0, 3.0)]


async def test_rows_that_no_document_has_are_deleted_once_no_load_can_be_about_to_take_them(
    lake: Warehouse,
) -> None:
    await lake.store().prepare()
    await lake.store().write(chunk({"a": {"x": 1}}))

    def loads() -> set[str]:
        builder = QueryBuilder().register("fields", delta_table(lake.address, "fields"))
        return set(builder.execute("SELECT _load FROM fields").read_all().column("_load").to_pylist())

    (kept,) = loads()
    replaced, dead = "0000000000001-of-what-a-reader-may-still-see", "0000000000001-of-a-load-that-died"
    young = f"{int(kept[:13]) - 1:013}-of-a-load-that-goes-on"
    for name, load in (("a", replaced), ("b", dead), ("b", young)):
        row = {"sha256": sha256(name), "job": JOB.key, "path": "x", "_load": load}
        data = Table.from_pydict({name: Array([value], DataType.utf8()) for name, value in row.items()})
        write_deltalake(delta_table(lake.address, "fields"), data, mode="append", schema_mode="merge")
    assert len(loads()) == 4
    await lake.store().prepare()
    assert loads() == {kept, replaced, young}
    assert lake.rows("SELECT path, value_number FROM {fields}") == [("x", 1.0)]


async def test_many_small_files_become_one(lake: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefect_docjobs.loading.delta._MOST_FILES", 3)
    await lake.store().prepare()
    for number in range(4):
        await lake.store().write(chunk({f"d{number}": {"x": number}}))
    await lake.store().prepare()
    assert len(delta_table(lake.address, "documents").file_uris()) == 1
    assert lake.rows("SELECT count(*), sum(x) FROM {documents}") == [(4, 6.0)]


async def test_tables_of_another_program_are_not_touched(tmp_path: Path) -> None:
    DeltaTable.create(tmp_path / "documents", Schema([Field("id", PrimitiveType("long"))]))
    with pytest.raises(ConfigurationError, match="no table of this flow"):
        await open_store(f"delta:{tmp_path}").prepare()


async def test_a_folder_that_cannot_be_written_is_an_error_before_anything_is_paid(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DestinationUnavailable):
        await open_store(f"delta:{tmp_path / 'file' / 'lake'}").prepare()


async def test_a_lake_in_a_bucket_knows_its_own_objects(s3: str) -> None:
    store = open_store("delta:s3://bucket/mixed/lake/")
    await store.prepare()
    await store.write(chunk({"a": {"x": 1}}))
    for name in ["lake-notes.pdf", "inbox/lake/a.pdf"]:
        fsspec.filesystem("s3").pipe(f"bucket/mixed/{name}", b"a document")
    files = SourceFolder("s3://bucket/mixed").files(recursive=True)
    assert [file.name for file in files if not store.owns(file.source)] == [
        "inbox/lake/a.pdf",
        "lake-notes.pdf",
    ]
    assert {file.name for file in files} > {"lake/documents/_delta_log/00000000000000000000.json"}
    assert store.owns(SourceFolder("s3://bucket/mixed/lake").address)
    assert not store.owns(SourceFolder("s3://bucket/mixed").address)
    assert not store.owns("gs://bucket/mixed/lake/a.pdf")
    assert not store.owns("file:///bucket/mixed/lake/a.pdf")
