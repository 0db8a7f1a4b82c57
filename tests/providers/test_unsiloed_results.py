"""Unsiloed's results in the one model: every documented shape of every product."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from support.unsiloed import JOB_ID, answer, job, ref

from prefect_docjobs.errors import JobCancelled, JobFailed, Unavailable, Unreadable
from prefect_docjobs.models import Field, Location, Page, Result, Usage
from prefect_docjobs.providers.unsiloed.fields import read_field, read_fields, relative_polygon

QUARTER = ((0.25, 0.5), (0.5, 0.5), (0.5, 0.75), (0.25, 0.75))


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


def boxed(*box: float, **changes: Any) -> dict[str, Any]:
    return {"bbox": list(box), "type": "segment", "page_width": 100.0, "page_height": 200.0, **changes}


# ----------------------------------------------------------------------------------------------- extract


def test_a_field_with_bboxes_has_its_score_and_every_place() -> None:
    field = read_field(
        {
            "score": 0.98,
            "value": "02-0624253",
            "bboxes": [boxed(25, 100, 50, 150), boxed(25, 100, 50, 150), boxed(0, 0, 100, 200)],
            "page_no": 2,
        }
    )

    assert (field.value, field.confidence) == ("02-0624253", 0.98)
    assert field.locations == (
        Location(page=2, polygon=QUARTER),
        Location(page=2, polygon=((0, 0), (1, 0), (1, 1), (0, 1))),
    )


def test_a_field_with_a_citation_has_the_extraction_score_and_its_place() -> None:
    field = read_field(
        {
            "value": "ACME",
            "score": {"grounding_score": 0.99, "extraction_score": 0.97},
            "citation": {"bbox": [25, 100, 50, 150], "page": 1, "page_width": 100, "page_height": 200},
        }
    )

    assert field == Field(value="ACME", confidence=0.97, locations=(Location(page=1, polygon=QUARTER),))


@pytest.mark.parametrize(
    ("citation", "confidence"),
    [({"bbox": [1, 2, 3, 4], "page": 1}, 0.8), (None, None)],
    ids=["cited", "not cited"],
)
def test_the_grounding_score_stands_in_only_where_there_is_a_citation(
    citation: Any, confidence: float | None
) -> None:
    score = {"grounding_score": 0.8, "extraction_score": None}

    assert read_field({"value": 1, "score": score, "citation": citation}).confidence == confidence


def test_a_legacy_field_has_its_score() -> None:
    assert read_field({"value": 12.5, "score": 0.98}) == Field(value=12.5, confidence=0.98)


def test_a_field_without_citations_keeps_its_page() -> None:
    field = read_field({"value": "INV-2025-001", "page_no": 1, "score": 0.97})

    assert field == Field(value="INV-2025-001", confidence=0.97, locations=(Location(page=1),))


def test_a_box_without_a_page_size_keeps_its_page_only() -> None:
    field = read_field(
        {"value": "10.57", "score": 1, "bboxes": [{"bbox": [79, 381, 524, 565]}], "page_no": 2}
    )

    assert field.locations == (Location(page=2),)


def test_wrapped_strings_of_an_array_are_unwrapped() -> None:
    wrapped = {
        "__value__": {
            "value": "blue",
            "score": {"grounding_score": 0, "extraction_score": 0.7},
            "citation": None,
        }
    }

    assert read_field([wrapped, {"__value__": "red"}]) == Field(
        items=[Field(value="blue", confidence=0.7), Field(value="red")]
    )


def test_rows_of_plain_values_keep_the_places_of_the_row() -> None:
    field = read_field(
        {
            "score": 0.98,
            "value": [{"bboxes": [boxed(25, 100, 50, 150)], "page_no": 7, "Officers": "KIMBERLY TROGGIO"}],
            "page_no": 8,
        }
    )

    assert field.value == [{"Officers": "KIMBERLY TROGGIO"}]
    assert (field.confidence, field.locations) == (0.98, (Location(page=8),))
    assert field.items is not None
    assert field.items[0].locations == (Location(page=7, polygon=QUARTER),)


def test_rows_of_annotated_values_are_line_items() -> None:
    cell = {"score": {"grounding_score": 0.9, "extraction_score": 0.8}, "citation": None}
    lines = [{"sku": {"value": "A-1", **cell}, "price": {"value": 2, **cell}}]

    for rows in (lines, {"value": lines, "score": 0.5}):
        result = read(extraction({"lines": rows}))
        assert result.line_items() == [{"list": "lines", "index": 0, "sku": "A-1", "price": 2}]
        items = result.fields["lines"].items
        assert items is not None
        assert items[0].fields is not None
        assert items[0].fields["sku"].confidence == 0.8


def test_nested_objects_become_dotted_columns() -> None:
    revenue = {"score": 0.9876, "value": "1250000", "bboxes": [{"bbox": [150, 250, 300, 280]}], "page_no": 1}

    result = read(extraction({"financial_data": {"revenue": revenue}}))

    assert result.row() == {"financial_data.revenue": "1250000"}


@pytest.mark.parametrize(
    "node",
    [
        {"value": {"value": 1, "score": 0.9}, "score": {"value": 2, "score": 0.8}},
        {"value": {"value": 1, "score": 0.9}, "score": {"value": 2, "score": 0.8}, "name": {"value": "x"}},
        {"name": "x", "value": 5, "score": 3},
        {"value": 5},
        {},
    ],
)
def test_properties_that_a_schema_calls_value_and_score_are_not_lost(node: dict[str, Any]) -> None:
    assert set(read_field(node).fields or {}) == set(node)


def test_page_no_is_a_property_of_the_schema_where_there_are_no_boxes() -> None:
    assert read_field({"page_no": 7, "name": "x"}).value == {"page_no": 7, "name": "x"}


def test_the_lowest_score_is_no_field_unless_the_schema_asks_for_it() -> None:
    assert read_fields({"min_confidence_score": 0.9}) == {}
    assert read_fields({"min_confidence_score": {"value": 3, "score": 1}})["min_confidence_score"].value == 3


@pytest.mark.parametrize("node", [None, True, 0, "x", [], [1, None], {"score": 1}, {"citation": []}])
def test_what_has_no_documented_shape_is_kept_as_it_is(node: Any) -> None:
    assert read_field(node).value == node


@pytest.mark.parametrize(
    "score",
    [1.01, -0.1, float("nan"), float("inf"), "0.9", True, None, [], {}, {"extraction_score": 2}, 10**400],
)
def test_a_score_that_is_no_share_is_no_confidence(score: Any) -> None:
    field = read_field({"value": "x", "score": score, "citation": None})

    assert (field.value, field.confidence) == ("x", None)


@pytest.mark.parametrize(
    ("box", "width", "height"),
    [
        ([1, 2, 3], 10, 10),
        ([1, 2, 3, None], 10, 10),
        ([1, 2, 3, float("nan")], 10, 10),
        ([1, 2, 3, True], 10, 10),
        ([1, 2, 3, 1e308], 10, 1e-300),
        ({"x1": 1, "y1": 2, "x2": 3, "y2": 4}, 10, 10),
        ([1, 2, 3, 4], None, 10),
        ([1, 2, 3, 4], 10, 0),
        ([1, 2, 3, 4], -10, 10),
        (None, 10, 10),
    ],
)
def test_a_box_that_cannot_be_made_relative_is_no_polygon(box: Any, width: Any, height: Any) -> None:
    assert relative_polygon(box, width, height) is None


def test_a_box_beyond_the_page_is_not_clamped() -> None:
    assert relative_polygon([-10, 0, 20, 10], 10, 10) == ((-1, 0), (2, 0), (2, 1), (-1, 1))


@pytest.mark.parametrize("page", [0, -1, 1.5, "1", True, None])
def test_a_page_that_is_no_page_number_is_no_location(page: Any) -> None:
    citation = {"bbox": [1, 2, 3, 4], "page": page, "page_width": 10, "page_height": 10}

    assert read_field({"value": "x", "score": 1, "citation": citation}).locations == ()


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
    result = read(parse([None, {"segments": [None, {"markdown": "loose"}]}, {"embed": "chunk"}]), "parse")

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
