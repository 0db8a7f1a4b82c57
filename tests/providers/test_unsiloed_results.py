"""Unsiloed's results in the one model: every documented shape of every product."""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import Any

import pytest
from support.unsiloed import JOB_ID, job, ref
from support.wire import answer

from prefect_docjobs.errors import DocJobsError, JobCancelled, JobFailed, Unavailable, Unreadable
from prefect_docjobs.models import Field, Location, Page, Result, Usage


def read(payload: Any, product: str = "extract", routes: str = "product") -> Result:
    return job(product, routes=routes).read_result(ref(product), answer(payload))


def extraction(result: Any, **changes: Any) -> dict[str, Any]:
    return {
        "job_id": JOB_ID,
        "status": "completed",
        "metadata": {"order": [], "schema": {}, "page_count": 27},
        "result": result,
        "error": None,
        **changes,
    }


# ----------------------------------------------------------------------------------------------- extract


def test_an_extraction_tells_its_pages_quota_and_raw_answer() -> None:
    payload = extraction({"supplier": {"value": "ACME", "score": 0.9}}, quota_remaining=997, credit_used=27)
    before = copy.deepcopy(payload)

    result = read(payload)

    assert (result.row(), result.raw) == ({"supplier": "ACME"}, before)
    assert result.usage == Usage(pages=27, credits=27, quota_remaining=997)
    assert (result.text, result.warnings) == (None, ())


def test_a_result_to_review_is_a_result_with_a_warning() -> None:
    result = read(extraction({"supplier": {"value": "ACME", "score": 0.4}}, status="review"))

    assert result.row() == {"supplier": "ACME"}
    assert [word for word in result.warnings if "review" in word]


def test_the_generic_route_gives_the_fields_as_data() -> None:
    payload = {
        "data": {
            "company_name": {
                "score": 0.99,
                "value": "Acme",
                "bboxes": [{"bbox": [72, 100, 400, 140]}],
                "page_no": 1,
            },
            "min_confidence_score": 0.9654,
        },
        "processing_time": 15.7,
        "detections": [{"class": "Title", "confidence": 0.95, "bbox": [72, 100, 400, 140], "page": 1}],
        "citations": [{"field": "company_name", "text": "Acme", "page": 1, "bbox": [72, 100, 400, 140]}],
    }

    result = read(payload, routes="jobs")

    assert result.fields == {
        "company_name": Field(value="Acme", confidence=0.99, locations=(Location(page=1),))
    }
    assert result.raw == payload


# ------------------------------------------------------------------------------------------------- parse


def parse(chunks: Any, **changes: Any) -> dict[str, Any]:
    return {
        "job_id": JOB_ID,
        "id": "record-1",
        "status": "Succeeded",
        "total_chunks": 1,
        "page_count": 2,
        "chunks": chunks,
        "credit_used": 2,
        "message": None,
        **changes,
    }


def test_a_parse_is_the_markdown_of_its_segments_in_order_and_by_page() -> None:
    segments = [
        {
            "segment_type": "Title",
            "page_number": 1,
            "content": "Acme",
            "markdown": "# Acme",
            "html": "<h1>Acme</h1>",
        },
        {"segment_type": "Text", "page_number": 1, "content": "plain", "markdown": None},
        {"segment_type": "Picture", "page_number": 1, "content": "", "markdown": ""},
    ]
    slim = {"segment_type": "Table", "page_number": 2, "html": "<table></table>"}

    result = read(parse([{"segments": segments, "embed": "not this"}, {"segments": [slim]}]), "parse")

    assert result.text == "# Acme\n\nplain\n\n<table></table>"
    assert result.pages == (Page(number=1, text="# Acme\n\nplain"), Page(number=2, text="<table></table>"))
    assert result.usage == Usage(pages=2, credits=2)
    assert result.fields == {}


def test_the_generic_route_gives_a_parse_as_chunks_of_text() -> None:
    payload = {
        "file_type": "pdf",
        "total_chunks": 2,
        "chunks": [
            {
                "chunk_id": 1,
                "text": "Summary\n\nThis quarter",
                "page_number": 1,
                "bbox": {"x1": 72},
                "confidence": 0.9,
            },
            {"chunk_id": 2, "text": "Outlook", "page_number": 2},
        ],
    }

    result = read(payload, "parse", "jobs")

    assert result.text == "Summary\n\nThis quarter\n\nOutlook"
    assert [page.number for page in result.pages] == [1, 2]


def test_text_without_a_page_is_in_the_text_and_on_no_page() -> None:
    segments = [None, {"markdown": "loose", "page_number": 0}]

    result = read(parse([None, {"segments": segments}, {"embed": "chunk"}]), "parse")

    assert (result.text, result.pages) == ("loose\n\nchunk", ())


# ---------------------------------------------------------------------------------------------- classify

CLASSIFIED = {
    "success": True,
    "classification": "contract",
    "confidence": 0.89,
    "page_results": [
        {
            "page": 1,
            "success": True,
            "confidence": 0.92,
            "raw_result": "contract",
            "classification": "contract",
        },
        {"page": 2.0, "success": False, "classification": None, "error": "unreadable page"},
    ],
    "categories": [{"category": "contract", "pages": [1], "page_count": 1, "confidence": 0.92}],
    "total_pages": 2,
    "processed_pages": 1,
}


@pytest.mark.parametrize("routes", ["product", "jobs"])
def test_a_classification_is_a_label_with_rows_by_page_and_category(routes: str) -> None:
    whole = {"job_id": JOB_ID, "status": "completed", "progress": "done", "error": None, "result": CLASSIFIED}

    result = read(whole if routes == "product" else CLASSIFIED, "classify", routes)

    assert result.fields["classification"] == Field(value="contract", confidence=0.89)
    assert result.row() == {"classification": "contract"}
    assert result.line_items() == [
        {"list": "page_results", "index": 0, "page": 1, "classification": "contract"},
        {"list": "page_results", "index": 1, "page": 2, "classification": None, "error": "unreadable page"},
        {"list": "categories", "index": 0, "category": "contract", "pages": [1], "page_count": 1},
    ]
    pages = result.fields["page_results"].items
    assert pages is not None
    assert (pages[0].confidence, pages[0].locations) == (0.92, (Location(page=1),))
    assert (result.usage.pages, result.warnings) == (2, ("Only 1 of 2 pages were processed.",))


def test_a_classification_of_all_pages_has_no_warning() -> None:
    assert read({**CLASSIFIED, "processed_pages": 2}, "classify", "jobs").warnings == ()


def test_a_classification_that_is_not_successful_says_so() -> None:
    body = {"job_id": JOB_ID, "status": "completed", "result": {"success": False, "classification": None}}

    result = read(body, "classify")

    assert result.warnings == ("The service calls its own result not successful.",)
    assert set(result.fields) == {"classification"}


# ------------------------------------------------------------------------------------------------- split


def test_a_split_has_one_row_per_file_with_its_category_and_confidence() -> None:
    files = [
        {
            "name": "Invoice.pdf",
            "path": "Invoice.pdf",
            "type": "file",
            "fileId": "580e091d",
            "full_path": "https://files.example/invoice",
            "confidence_score": 0.999,
        },
        {"name": "c.pdf", "type": "contract", "confidence_score": 2, "pages": [3, 4]},
        {"fileId": "only"},
    ]
    payload = {"job_id": JOB_ID, "status": "completed", "result": {"success": True, "files": files}}

    result = read({**payload, "quota_remaining": 450}, "split")

    assert result.line_items() == [
        {
            "list": "splits",
            "index": 0,
            "document_type": "Invoice",
            "name": "Invoice.pdf",
            "path": "Invoice.pdf",
            "fileId": "580e091d",
            "full_path": "https://files.example/invoice",
        },
        {"list": "splits", "index": 1, "document_type": "contract", "name": "c.pdf", "pages": [3, 4]},
        {"list": "splits", "index": 2, "document_type": None, "fileId": "only"},
    ]
    items = result.fields["splits"].items
    assert items is not None
    assert [item.confidence for item in items] == [0.999, None, None]
    assert result.usage.quota_remaining == 450


def test_a_split_without_files_is_an_empty_list() -> None:
    payload = {"job_id": JOB_ID, "status": "completed", "result": {"success": True, "files": []}}

    assert read(payload, "split").fields["splits"].value == []


# ------------------------------------------------------------------------------------- what is no result

FINISHED = {
    "extract": extraction({"supplier": {"value": "ACME", "score": 1}}),
    "parse": parse([]),
    "classify": {"job_id": JOB_ID, "status": "completed", "result": CLASSIFIED},
    "split": {"job_id": JOB_ID, "status": "completed", "result": {"files": []}},
}


@pytest.mark.parametrize("product", FINISHED)
@pytest.mark.parametrize("word", ["queued", "Processing", "Starting", "Archived"])
def test_a_job_that_is_not_finished_has_no_result_yet(product: str, word: str) -> None:
    with pytest.raises(Unavailable, match="yet") as caught:
        read({**FINISHED[product], "status": word}, product)

    assert caught.value.provider == "unsiloed"


def test_a_failed_job_has_no_result_and_says_why() -> None:
    with pytest.raises(JobFailed, match="corrupted") as caught:
        read(parse([], status="Failed", message="corrupted"), "parse")

    assert caught.value.ref == ref("parse")


def test_a_cancelled_job_has_no_result() -> None:
    with pytest.raises(JobCancelled):
        read(parse([], status="Cancelled"), "parse")


@pytest.mark.parametrize("product", FINISHED)
def test_a_result_of_another_job_is_refused(product: str) -> None:
    with pytest.raises(Unreadable, match="another job"):
        read({**FINISHED[product], "job_id": "other"}, product)


@pytest.mark.parametrize("routes", ["product", "jobs"])
def test_a_result_of_another_document_is_refused(routes: str) -> None:
    with pytest.raises(Unreadable, match="another document"):
        read({**FINISHED["extract"], "pdf_hash": "sha256:" + "cd" * 32}, routes=routes)


@pytest.mark.parametrize(
    ("product", "gone"),
    [
        *((product, "status") for product in FINISHED),
        *((p, "result") for p in FINISHED if p != "parse"),
        ("parse", "chunks"),
    ],
)
def test_a_result_without_what_it_must_have_is_unreadable(product: str, gone: str) -> None:
    payload = dict(FINISHED[product])
    del payload[gone]

    with pytest.raises(Unreadable):
        read(payload, product)


@pytest.mark.parametrize("result", [None, [], "x", 7])
def test_a_result_that_is_no_object_is_unreadable(result: Any) -> None:
    for product in ("extract", "classify", "split"):
        with pytest.raises(Unreadable):
            read({**FINISHED[product], "result": result}, product)


@pytest.mark.parametrize("files", [None, {}, "x"])
def test_files_that_are_no_list_are_unreadable(files: Any) -> None:
    with pytest.raises(Unreadable):
        read({**FINISHED["split"], "result": {"files": files}}, "split")


@pytest.mark.parametrize("chunks", [None, {}, "x"])
def test_chunks_that_are_no_list_are_unreadable(chunks: Any) -> None:
    with pytest.raises(Unreadable):
        read(parse(chunks), "parse")


def test_nesting_that_json_takes_and_the_model_does_not_is_a_typed_error() -> None:
    deep: Any = "x"
    for _ in range(400):
        deep = {"value": [deep], "score": 1}

    with suppress(DocJobsError):
        result = read({"job_id": JOB_ID, "status": "completed", "result": {"deep": deep}}, "extract")
        assert isinstance(result.row(), dict)
