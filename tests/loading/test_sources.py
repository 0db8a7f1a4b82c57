"""Folders that documents come from: on a disk, in memory, and at a server that speaks S3."""

from __future__ import annotations

import os
from pathlib import Path

import fsspec  # type: ignore[import-untyped]
import pytest

from prefect_docjobs.errors import ConfigurationError, InvalidDocument
from prefect_docjobs.loading import SourceFolder
from prefect_docjobs.models import Document

pytestmark = pytest.mark.xdist_group("s3")


def test_files_of_a_folder_are_listed_by_name_without_hidden_ones(tmp_path: Path) -> None:
    for name in ["b.pdf", "a.pdf", ".hidden.pdf", "note.txt", "sub/c.pdf", ".git/d.pdf"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    folder = SourceFolder(str(tmp_path))
    assert [file.name for file in folder.files("*.pdf")] == ["a.pdf", "b.pdf"]
    assert [file.name for file in folder.files("*.pdf", recursive=True)] == ["a.pdf", "b.pdf", "sub/c.pdf"]
    first = folder.files()[0]
    assert (first.source, first.size) == (f"file://{tmp_path}/a.pdf", 5)
    assert first.source.startswith(folder.address)


def test_a_link_to_a_file_is_a_document_and_one_to_a_folder_or_to_nothing_is_none(tmp_path: Path) -> None:
    inbox, elsewhere = tmp_path / "inbox", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "real.pdf").write_text("linked")
    (inbox / "sub").mkdir(parents=True)
    (inbox / "a.pdf").write_text("a")
    (inbox / "sub" / "link.pdf").symlink_to(elsewhere / "real.pdf")
    (inbox / "folder.pdf").symlink_to(elsewhere)
    (inbox / "nothing.pdf").symlink_to(tmp_path / "missing")
    (inbox / "loop.pdf").symlink_to("loop.pdf")
    folder = SourceFolder(str(inbox))
    files = folder.files("*.pdf", recursive=True)
    assert [file.name for file in files] == ["a.pdf", "sub/link.pdf"]
    assert [file.name for file in files] == [
        document.name for document in Document.from_folder(inbox, "*.pdf", recursive=True)
    ]
    link = files[1]
    assert (link.source, link.size) == (f"file://{inbox}/sub/link.pdf", 6)
    fetched = folder.fetch(link, tmp_path)
    assert fetched.document is not None
    assert fetched.document.read() == b"linked"


def test_a_version_changes_with_what_a_link_leads_to(tmp_path: Path) -> None:
    real = tmp_path / ".real"
    real.write_text("old")
    (tmp_path / "link.pdf").symlink_to(real)
    folder = SourceFolder(str(tmp_path))
    (before,) = folder.files()
    assert folder.files() == [before]
    real.write_text("newer")
    (after,) = folder.files()
    assert after.version != before.version


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_text("a")
    with pytest.raises(InvalidDocument, match="is a file, not a folder"):
        SourceFolder(str(tmp_path / "a.pdf")).files()
    with pytest.raises(InvalidDocument, match="does not exist"):
        SourceFolder(str(tmp_path / "b.pdf")).files()


@pytest.mark.parametrize("pattern", ["", "."])
def test_a_pattern_that_names_nothing_is_refused(pattern: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidDocument, match="pattern"):
        SourceFolder(str(tmp_path)).files(pattern)


def test_a_version_changes_with_the_file_and_only_then(tmp_path: Path) -> None:
    file = tmp_path / "a.pdf"
    file.write_text("old")
    folder = SourceFolder(f"file://{tmp_path}")
    (before,) = folder.files()
    assert folder.files() == [before]
    times = file.stat()
    file.write_text("new")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # the same size and time, as cp -p makes it
    assert folder.files()[0].version != before.version


def test_a_file_of_this_machine_is_read_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(b"content")
    folder = SourceFolder(str(tmp_path))
    fetched = folder.fetch(folder.files()[0], tmp_path / "not-needed")
    assert fetched.document is not None
    assert fetched.document.path == tmp_path / "a.pdf"
    assert fetched.sha256 == fetched.document.sha256


def test_a_file_that_is_gone_is_an_error_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(b"content")
    folder = SourceFolder(str(tmp_path))
    (file,) = folder.files()
    (tmp_path / "a.pdf").unlink()
    assert "does not exist" in (folder.fetch(file, tmp_path).error or "")


def test_documents_of_a_bucket_have_names_sizes_and_contents(s3: str, tmp_path: Path) -> None:
    storage = fsspec.filesystem("s3")
    storage.pipe("bucket/inbox/2026/a.pdf", b"first")
    folder = SourceFolder("s3://bucket/inbox")
    (file,) = folder.files("*.pdf", recursive=True)
    assert (file.name, file.source, file.size) == ("2026/a.pdf", "s3://bucket/inbox/2026/a.pdf", 5)
    assert file.modified_at is not None
    fetched = folder.fetch(file, tmp_path)
    assert fetched.document is not None
    assert (fetched.document.name, fetched.document.size, fetched.document.read()) == (
        "2026/a.pdf",
        5,
        b"first",
    )
    assert fetched.document.media_type == "application/pdf"
    storage.pipe("bucket/inbox/2026/a.pdf", b"later")
    (changed,) = folder.files("*.pdf", recursive=True)
    assert changed.version != file.version


def test_an_empty_place_in_a_bucket_is_well_and_a_missing_bucket_is_not(s3: str) -> None:
    assert SourceFolder("s3://bucket/nothing-here").files() == []
    fsspec.filesystem("s3").pipe("bucket/marked/", b"")  # as consoles make folders
    assert SourceFolder("s3://bucket/marked").files() == []
    with pytest.raises(InvalidDocument):
        SourceFolder("s3://no-such-bucket/inbox").files()


def test_an_object_is_no_folder(s3: str) -> None:
    fsspec.filesystem("s3").pipe("bucket/single/a.pdf", b"a")
    with pytest.raises(InvalidDocument, match="is a file, not a folder"):
        SourceFolder("s3://bucket/single/a.pdf").files()


@pytest.mark.parametrize("address", ["s3://key:secret@bucket/inbox", "nothing://x"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        SourceFolder(address)
    assert "secret@" not in str(refused.value)
