"""Dead letters: what is written for a document without a result, and read again."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from support.blocks import make_job
from support.ledgers import ref
from support.pages import ROOT, column, table

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.errors import ConfigurationError, Reason, Retry
from prefect_docjobs.flows._output import DeadLetter, LetterWriter, ResultFiles, read_dead_letters
from prefect_docjobs.flows._report import Tally
from prefect_docjobs.flows._run import too_many
from prefect_docjobs.ledger import entry_for
from prefect_docjobs.ledger.setting import open_ledger
from prefect_docjobs.models import Batch, Document, Outcome, Phase

LOG = logging.getLogger("test")


def row(reason: Reason, *, with_job: bool = False) -> Outcome:
    job = ref() if with_job else None
    return Outcome(document="a.pdf", ref=job, phase=Phase.WAIT, reason=reason, error="Said.")


@pytest.fixture
def job() -> DocJob:
    return make_job("mindee", "http://127.0.0.1:9")


async def letter_of(job: DocJob, document: Document, outcome: Outcome) -> DeadLetter:
    writer = LetterWriter(job, "the-run", LOG)
    (letter,) = await writer.letters([document], Batch((outcome,)))
    return letter


async def test_a_letter_says_which_document_where_it_was_going_and_what_may_be_done(
    job: DocJob, tmp_path: Path
) -> None:
    (tmp_path / "a.pdf").write_bytes(b"content")
    document = Document.from_path(tmp_path / "a.pdf")
    letter = await letter_of(job, document, row(Reason.THROTTLED))
    assert letter.path == str(tmp_path / "a.pdf")
    assert letter.sha256 == document.sha256
    assert (letter.provider, letter.product, letter.base_url) == (
        "mindee",
        "extraction",
        "http://127.0.0.1:9",
    )
    assert letter.tenant == job.credentials.tenant_id
    assert (letter.again, letter.reason, letter.flow_run_id) == (
        Retry.SUBMIT,
        Reason.THROTTLED,
        "the-run",
    )
    assert letter.source() == document


async def test_a_letter_keeps_the_job_and_the_content_that_was_submitted(job: DocJob, tmp_path: Path) -> None:
    submitted = ref(document_sha256="0" * 64)
    outcome = row(Reason.TIMEOUT).model_copy(update={"ref": submitted})
    letter = await letter_of(job, Document.from_path(tmp_path / "gone.pdf"), outcome)
    assert (letter.job_id, letter.ref, letter.sha256) == ("job-a", submitted, "0" * 64)
    assert letter.again is Retry.WAIT


async def test_a_document_that_cannot_be_read_has_a_letter_without_a_digest(
    job: DocJob, tmp_path: Path
) -> None:
    letter = await letter_of(job, Document.from_path(tmp_path / "missing.pdf"), row(Reason.INVALID_DOCUMENT))
    assert letter.sha256 is None
    assert letter.path is not None


async def test_the_candidates_of_an_uncertain_submit_come_from_the_ledger(
    job: DocJob, tmp_path: Path
) -> None:
    (tmp_path / "a.pdf").write_bytes(b"content")
    document = Document.from_path(tmp_path / "a.pdf")
    entry = entry_for(
        job.provider(),
        base_url=job.credentials.base_url,
        tenant=job.credentials.tenant_id,
        name="a.pdf",
        sha256=document.sha256,
        size=document.size,
    )
    async with open_ledger() as ledger:
        assert ledger
        record = await ledger.claim(entry)
        await ledger.failed(record, Reason.UNCERTAIN, "Lost.", candidates=["job-7", "job-8"])
    letter = await letter_of(job, document, row(Reason.UNCERTAIN))
    assert letter.candidates == ("job-7", "job-8")
    assert letter.again is Retry.RESUBMIT


def test_a_letter_is_read_as_it_was_written_and_gives_the_row_and_the_document(tmp_path: Path) -> None:
    outcome = row(Reason.TIMEOUT, with_job=True)
    letter = DeadLetter.of(outcome, url="https://example.com/a.pdf")
    (tmp_path / "failures.jsonl").write_text(f"{letter.model_dump_json()}\n\n", "utf-8")
    (read,) = read_dead_letters(tmp_path / "failures.jsonl")
    assert read == letter
    assert read.outcome() == outcome
    assert read.source() == Document.from_url("https://example.com/a.pdf", name="a.pdf")


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x1c"])
async def test_a_text_may_hold_what_unicode_calls_the_end_of_a_line(tmp_path: Path, separator: str) -> None:
    failed = row(Reason.FAILED).model_copy(update={"error": f"no page 2{separator}of 3"})
    files = ResultFiles(tmp_path, "run")
    with files.written():
        letter = DeadLetter.of(failed)
        await files.append(Batch((failed,)), [letter])
    assert read_dead_letters(tmp_path / "failures.jsonl") == [letter]


def test_bytes_that_were_in_memory_only_are_not_to_be_had_again() -> None:
    assert DeadLetter.of(row(Reason.THROTTLED)).source() is None


def test_names_and_messages_that_are_no_utf_8_are_written_all_the_same() -> None:
    odd = row(Reason.INVALID_DOCUMENT).model_copy(update={"error": "in/\udcff.pdf is missing."})
    letter = DeadLetter.of(odd)
    assert DeadLetter.model_validate_json(letter.model_dump_json()) == letter


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('{"document": "a.pdf"}', "line 2.*phase, reason"),
        ("no json", "line 2"),
        (
            json.dumps({**DeadLetter.of(row(Reason.FAILED)).model_dump(mode="json"), "version": 2}),
            "version 1: version",
        ),
    ],
)
def test_a_line_that_is_no_dead_letter_is_named(tmp_path: Path, line: str, named: str) -> None:
    good = DeadLetter.of(row(Reason.FAILED)).model_dump_json()
    (tmp_path / "failures.jsonl").write_text(f"{good}\n{line}\n", "utf-8")
    with pytest.raises(ConfigurationError, match=named):
        read_dead_letters(tmp_path / "failures.jsonl")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.jsonl"):
        read_dead_letters(tmp_path / "nowhere.jsonl")


def test_the_page_explains_every_attribute_of_a_dead_letter_in_its_order() -> None:
    page = ROOT / "docs" / "batches-and-failures.md"
    assert column(table(page, "Dead letters")) == list(DeadLetter.model_fields)


@pytest.mark.parametrize(
    ("documents", "failed", "limit", "expected"),
    [
        (0, 0, None, False),
        (3, 2, None, False),
        (3, 3, None, True),
        (100, 7, 0.07, False),
        (100, 8, 0.07, True),
        (10, 1, 0.0, True),
        (10, 0, 0.0, False),
        (10, 1, 1.0, False),
        (10, 2, 1.0, True),
        (10, 10, 10.0, False),
    ],
)
def test_more_failures_than_allowed_fail_a_run(
    documents: int, failed: int, limit: float | None, expected: bool
) -> None:
    tally = Tally(documents=documents, delivered=documents - failed)
    assert too_many(tally, limit) is expected
