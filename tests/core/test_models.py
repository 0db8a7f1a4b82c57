"""The nouns, without network."""

from __future__ import annotations

import errno
import os
import pickle
import resource
from collections.abc import Callable
from datetime import datetime, timezone
from operator import attrgetter
from pathlib import Path

import pytest

from prefect_docjobs.errors import InvalidDocument, JobFailed, Reason, ServiceError, Throttled, Unavailable
from prefect_docjobs.models import (
    Batch,
    Document,
    Field,
    JobRef,
    JobState,
    Location,
    Outcome,
    Phase,
    Result,
    Usage,
)

REF = JobRef(
    provider="mindee",
    base_url="https://api-v2.mindee.net",
    tenant="acme",
    product="extraction",
    job_id="j-1",
    document_name="a.pdf",
    document_sha256="0" * 64,
    submitted_at=datetime(2026, 2, 3, tzinfo=timezone.utc),
)


def test_a_document_reads_its_file_when_asked_and_not_before(tmp_path: Path) -> None:
    document = Document.from_path(tmp_path / "late.pdf")
    (tmp_path / "late.pdf").write_bytes(b"%PDF-1.4")

    assert document.media_type == "application/pdf"
    assert document.size == 8
    assert document.read() == b"%PDF-1.4"
    assert document.sha256 == Document.from_bytes(b"%PDF-1.4", name="x").sha256


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (Document.from_path("/nowhere/a.pdf"), "does not exist"),
        (Document.from_path("/"), "is a folder"),
        (Document.from_bytes(b"", name="empty.pdf"), "is empty"),
        (Document.from_url("http://example.org/a.pdf"), "https"),
        (Document.from_url("https://"), "https"),
        (Document.from_url("https://["), "https"),
        (Document.from_path("/tmp/\0"), "cannot be read"),
        (Document(name="nothing"), "exactly one"),
        (Document.from_bytes(b"x", name="a", media_type="a/b\r\nX-Evil: 1"), "media type"),
        (Document.from_bytes(b"x", name="a", media_type="pdf"), "media type"),
    ],
)
def test_a_document_that_cannot_be_sent_says_why(document: Document, says: str) -> None:
    with pytest.raises(InvalidDocument, match=says) as caught:
        document.check()
    assert caught.value.reason is Reason.INVALID_DOCUMENT


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_document_without_permission_says_so(tmp_path: Path) -> None:
    path = tmp_path / "secret.pdf"
    path.write_bytes(b"x")
    path.chmod(0)
    with pytest.raises(InvalidDocument, match="permission"):
        Document.from_path(path).sha256  # noqa: B018


def test_a_document_is_not_at_fault_when_too_many_files_are_open(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(b"x")
    document, held = Document.from_path(path), list[int]()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 5, hard))
    try:
        with pytest.raises(OSError, match="Too many"):  # noqa: PT012 (until there is none left)
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        with pytest.raises(Unavailable, match=r"cannot be read now: .*; nothing was sent"):
            document.read()
    finally:
        for one in held:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert document.read() == b"x"


PASSING = [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN]
LASTING = [
    errno.ENOENT,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.EACCES,
    errno.EPERM,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EINVAL,
]


@pytest.mark.parametrize("number", [*PASSING, *LASTING], ids=errno.errorcode.get)
@pytest.mark.parametrize(
    "ask",
    [Document.check, Document.read, Document.pinned, attrgetter("size"), attrgetter("sha256")],
    ids=["check", "read", "pinned", "size", "sha256"],
)
def test_what_may_pass_is_unavailable_and_what_lasts_is_the_documents_fault(
    ask: Callable[[Document], object], number: int
) -> None:
    class Broken(type(Path())):  # type: ignore[misc]
        def stat(self, **_: object) -> os.stat_result:
            raise OSError(number, os.strerror(number))

        def open(self, *_: object, **__: object) -> None:
            raise OSError(number, os.strerror(number))

    document = Document(name="a.pdf", path=Broken("/a.pdf"))
    with pytest.raises(Unavailable if number in PASSING else InvalidDocument):
        ask(document)


@pytest.mark.parametrize("name", ["x" * 300, "file/a.pdf", "loop"])
def test_a_path_that_leads_nowhere_is_the_documents_fault(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(InvalidDocument):
        Document.from_path(tmp_path / name).check()


def test_a_url_has_no_size_and_no_hash_and_its_name_has_no_query() -> None:
    document = Document.from_url("https://example.org/files/my%20bill.pdf?token=abc")

    assert (document.name, document.size, document.sha256) == ("my bill.pdf", None, None)
    assert "abc" not in repr(document)


def test_a_file_name_that_is_no_text_can_still_be_written_down() -> None:
    document = Document.from_path(os.fsdecode(b"/tmp/caf\xe9.pdf"))

    assert REF.model_copy(update={"document_name": document.name}).model_dump_json()
    assert document.name == "caf_.pdf"


def test_a_folder_is_listed_in_a_stable_order_without_hidden_files(tmp_path: Path) -> None:
    for name in ["b.pdf", "a.pdf", ".hidden.pdf", "sub/c.pdf", ".git/d.pdf", "notes.txt"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")

    assert [d.name for d in Document.from_folder(tmp_path, "*.pdf")] == ["a.pdf", "b.pdf"]
    assert [d.name for d in Document.from_folder(tmp_path, "*.pdf", recursive=True)] == [
        "a.pdf",
        "b.pdf",
        "sub/c.pdf",
    ]


def test_a_folder_that_is_none_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InvalidDocument, match="is a file"):
        Document.from_folder(tmp_path / "file")
    with pytest.raises(InvalidDocument, match="does not exist"):
        Document.from_folder(tmp_path / "gone")


def test_a_ref_survives_json() -> None:
    assert JobRef.model_validate_json(REF.model_dump_json()) == REF


def test_only_ended_states_are_terminal() -> None:
    assert {state for state in JobState if state.is_terminal} == {
        JobState.SUCCEEDED,
        JobState.FAILED,
        JobState.CANCELLED,
    }


def invoice() -> Result:
    line = Field(fields={"sku": Field(value="A-1"), "amount": Field(value=5.0)})
    fields = {
        "total": Field(value=118.5, confidence=0.9, locations=(Location(page=1),)),
        "supplier": Field(fields={"name": Field(value="ACME"), "tags": Field(items=[Field(value="x")])}),
        "lines": Field(items=[line, line]),
        "document": Field(value="an invoice"),
    }
    return Result(ref=REF, fields=fields, usage=Usage(pages=2, credits=1.5), raw={"a": 1})


def test_a_row_is_flat_and_leaves_tables_to_line_items() -> None:
    assert invoice().row() == {
        "total": 118.5,
        "supplier.name": "ACME",
        "supplier.tags": ["x"],
        "document": "an invoice",
    }
    assert invoice().line_items() == [
        {"list": "lines", "index": 0, "sku": "A-1", "amount": 5.0},
        {"list": "lines", "index": 1, "sku": "A-1", "amount": 5.0},
    ]


def test_a_field_that_is_called_like_a_head_column_does_not_overwrite_it() -> None:
    row = Outcome(document="a.pdf", ref=REF, phase=Phase.DONE, result=invoice()).row()

    assert row["document"] == "a.pdf"
    assert row["fields.document"] == "an invoice"


def test_a_result_survives_json() -> None:
    result = invoice()
    assert Result.model_validate_json(result.model_dump_json()) == result


def test_a_batch_counts_what_it_holds() -> None:
    done = Outcome(document="a.pdf", ref=REF, phase=Phase.DONE, result=invoice())
    failed = Outcome(document="b.pdf").failed(Phase.SUBMIT, Throttled("slow down"))
    batch = Batch.of([done, failed])

    assert batch.totals == {
        "documents": 2,
        "delivered": 1,
        "failed": 1,
        "reasons": {"throttled": 1},
        "pages": 2,
        "credits": 1.5,
    }
    assert [row["document"] for row in batch.rows()] == ["a.pdf", "b.pdf"]
    assert [item["document"] for item in batch.line_items()] == ["a.pdf", "a.pdf"]


@pytest.mark.parametrize("phase", [Phase.WAIT, Phase.FETCH])
def test_an_unreachable_service_after_the_submit_never_allows_a_second_submit(phase: Phase) -> None:
    outcome = Outcome(document="a.pdf", ref=REF).failed(phase, Throttled("slow down"))
    assert outcome.reason is Reason.TIMEOUT


def test_errors_survive_pickling_with_all_they_know() -> None:
    error = ServiceError("no", provider="mindee", status=422, code="422-001", details=[{"pointer": "#/a"}])
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.details) == (str(error), error.details)

    failed = pickle.loads(pickle.dumps(JobFailed("no", ref=REF)))
    assert (failed.ref, str(failed)) == (REF, "a.pdf: no")
