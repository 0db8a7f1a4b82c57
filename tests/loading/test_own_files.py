"""A destination in the folder with the documents knows its own files, however they are called."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.loads import chunk

from prefect_docjobs.loading import SourceFolder, Store, open_store


@pytest.fixture
def inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one document, which is also where the process is."""
    folder = tmp_path / "inbox"
    folder.mkdir()
    (folder / "a.pdf").write_text("a document")
    monkeypatch.chdir(folder)
    return folder


async def loaded(address: str) -> Store:
    store = open_store(address)
    await store.prepare()
    await store.write(chunk({"a": {"x": 1, "items": [{"n": 1}]}}))
    return store


def documents(store: Store, folder: Path) -> list[str]:
    """What is left of a folder without the destination's own."""
    files = SourceFolder(str(folder)).files(recursive=True)
    return [file.name for file in files if not store.owns(file.source)]


@pytest.mark.parametrize(
    "address",
    ["duckdb:rows", "duckdb:sub/../rows.dat", "duckdb:///rows.x", "delta:lake", "delta:./sub/../lake/"],
)
async def test_what_a_load_writes_is_none_of_its_documents(address: str, inbox: Path) -> None:
    (inbox / "sub").mkdir()
    store = await loaded(address)
    assert len(SourceFolder(str(inbox)).files(recursive=True)) > 1
    assert documents(store, inbox) == ["a.pdf"]


async def test_the_address_may_be_absolute_or_a_url(inbox: Path) -> None:
    assert documents(await loaded(f"delta:file://{inbox}/lake"), inbox) == ["a.pdf"]
    assert documents(await loaded(f"delta:{inbox}/lake"), inbox) == ["a.pdf"]


@pytest.mark.parametrize("address", ["duckdb:rows.dat", "delta:lake"])
async def test_a_link_to_the_folder_changes_nothing(address: str, inbox: Path) -> None:
    link = inbox.parent / "link"
    link.symlink_to(inbox)
    kind, _, name = address.partition(":")
    assert documents(await loaded(f"{kind}:{link / name}"), inbox) == ["a.pdf"]
    assert documents(await loaded(f"{kind}:{inbox / name}"), link) == ["a.pdf"]


def test_a_link_to_a_database_is_the_database(inbox: Path) -> None:
    real = inbox.parent / "real.dat"
    real.write_text("rows")
    (inbox / "rows.dat").symlink_to(real)
    (inbox / "rows.dat.wal").write_text("beside the link, where DuckDB keeps it")
    (inbox / "another.pdf").symlink_to(real)
    assert documents(open_store("duckdb:rows.dat"), inbox) == ["a.pdf"]
    assert documents(open_store(f"duckdb:{real}"), inbox) == ["a.pdf", "rows.dat.wal"]


def test_a_database_owns_its_log_and_what_it_has_spilled(inbox: Path) -> None:
    (inbox / "rows.dat.tmp").mkdir()
    for name in ["rows.dat", "rows.dat.wal", "rows.dat.tmp/duckdb_temp_1", "rows.data", "rows.pdf"]:
        (inbox / name).write_text("x")
    assert documents(open_store("duckdb:rows.dat"), inbox) == ["a.pdf", "rows.data", "rows.pdf"]


def test_beside_a_database_without_an_ending_documents_may_be_called_like_it(inbox: Path) -> None:
    for name in ["invoice", "invoice.wal", "invoice.pdf"]:
        (inbox / name).write_text("x")
    assert documents(open_store("duckdb:invoice"), inbox) == ["a.pdf", "invoice.pdf"]


def test_a_lake_owns_its_folder_so_that_documents_in_it_can_be_refused(inbox: Path) -> None:
    store = open_store(f"delta:{inbox}")
    assert store.owns(SourceFolder(".").address)
    assert store.owns(SourceFolder(f"file://{inbox}/sub").address)
    assert not store.owns(SourceFolder("..").address)
    assert not store.owns(f"file://{inbox}-2/a.pdf")


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("duckdb:rows.dat", "s3://bucket/rows.dat"),
        ("delta:lake", "s3://bucket/lake/_manifest.json"),
        ("postgresql://me@db.example.com/warehouse", "file:///a.pdf"),
    ],
)
def test_what_is_elsewhere_is_not_owned(address: str, source: str, inbox: Path) -> None:
    assert not open_store(address).owns(source)
