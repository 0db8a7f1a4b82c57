"""Mindee V1's predictions in the one model."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.wire import answer, ref_of

from prefect_docjobs.errors import JobFailed, Unreadable
from prefect_docjobs.models import Field, JobRef, Location, Page, Result
from prefect_docjobs.providers.mindee_v1 import MindeeV1

JOB = "aa11bb22-0000-4000-8000-000000000001"
DOCUMENT = "dd33ee44-0000-4000-8000-000000000002"
BOX = [[0.1, 0.2], [0.3, 0.2], [0.3, 0.25]]
PLACE = Location(page=1, polygon=((0.1, 0.2), (0.3, 0.2), (0.3, 0.25)))


def document(prediction: Any, **inference: Any) -> dict[str, Any]:
    """A fetched document; without `api_request` it is also a webhook call."""
    whole = {"is_rotation_applied": None, "extras": {}, "pages": [], "prediction": prediction, **inference}
    found = {"id": DOCUMENT, "name": "acme-0042.pdf", "n_pages": 2, "inference": whole}
    return {"document": found, "job": {"id": JOB, "status": "completed", "error": {}}}


def reference(**changes: Any) -> JobRef:
    facts = {"product": "mindee/invoices/v4", "job_id": JOB, "document_id": DOCUMENT, **changes}
    return ref_of(MindeeV1, **facts)


def read(payload: Any, ref: JobRef | None = None) -> Result:
    return MindeeV1(endpoint="invoices", version="4").read_result(ref or reference(), answer(payload))


def field(raw: Any) -> Field:
    return read(document({"it": raw})).fields["it"]


def test_an_invoice_becomes_a_tree_of_fields() -> None:
    payload = document(
        {
            "total_amount": {"value": 118.5, "confidence": 0.97, "page_id": 0, "polygon": BOX},
            "customer_id": {"value": None, "confidence": 0.0, "page_id": None, "polygon": []},
            "supplier_name": {
                "value": "ACME",
                "raw_value": "Acme",
                "confidence": 0.98,
                "page_id": 1,
                "polygon": [],
            },
            "taxes": [{"value": 2.75, "rate": 20, "confidence": 0.9, "page_id": 0, "polygon": BOX}],
            "line_items": [
                {
                    "confidence": 0.98,
                    "description": "Hosting",
                    "page_id": 0,
                    "polygon": BOX,
                    "quantity": 1.0,
                    "total_amount": 65.0,
                    "unit_price": None,
                }
            ],
        }
    )
    result = read(payload)
    assert result.fields["total_amount"] == Field(value=118.5, confidence=0.97, locations=(PLACE,))
    assert result.fields["customer_id"] == Field(value=None, confidence=0.0)
    assert result.fields["supplier_name"] == Field(
        value="ACME", confidence=0.98, locations=(Location(page=2),)
    )
    assert result.row() == {
        "total_amount": 118.5,
        "customer_id": None,
        "supplier_name": "ACME",
        "taxes": [2.75],
    }
    assert result.line_items() == [
        {
            "list": "line_items",
            "index": 0,
            "description": "Hosting",
            "quantity": 1.0,
            "total_amount": 65.0,
            "unit_price": None,
        }
    ]
    assert result.usage.pages == 2
    assert result.raw == payload


def test_the_columns_of_a_line_item_have_its_confidence_and_place() -> None:
    found = field([{"confidence": 0.5, "page_id": 0, "polygon": BOX, "description": "Hosting"}])
    (item,) = found.items or []
    assert (item.confidence, item.locations) == (0.5, (PLACE,))
    assert (item.fields or {})["description"] == Field(value="Hosting", confidence=0.5, locations=(PLACE,))


def test_a_doc_ti_field_is_a_list_of_its_contents() -> None:
    values = [{"confidence": 0.99, "content": "2020-12-17", "polygon": BOX, "page_id": 0}]
    found = field({"confidence": 0.9, "page_id": 0, "values": values})
    assert (found.value, found.confidence) == (["2020-12-17"], 0.9)
    assert (found.items or [])[0] == Field(value="2020-12-17", confidence=0.99, locations=(PLACE,))


def test_a_column_called_content_stays_a_column() -> None:
    assert field([{"content": "a", "title": "b"}]).value == [{"content": "a", "title": "b"}]


def test_nested_objects_and_plain_lists_are_kept_in_shape() -> None:
    assert field({"confidence": 1, "page_indexes": [1, 2]}).value == {"page_indexes": [1, 2]}
    assert field([{"deep": {"er": {"value": 1}}}]).value == [{"deep": {"er": 1}}]


@pytest.mark.parametrize("raw", ["text", 7, None, True])
def test_a_field_of_an_unknown_shape_is_kept_as_it_is(raw: Any) -> None:
    assert field(raw) == Field(value=raw)


@pytest.mark.parametrize(
    ("raw", "number"),
    [
        *[("0", 0.0), ("1", 1.0), ("0.25", 0.25), ("1.01", None), ("-1", None), ("NaN", None)],
        *[("Infinity", None), ("true", None), ('"High"', None), ("null", None), ("9" * 400, None)],
    ],
)
def test_a_confidence_counts_only_as_a_number_within_0_and_1(raw: str, number: float | None) -> None:
    body = json.dumps(document({"it": {"value": 1, "confidence": "?"}})).replace('"?"', raw)
    assert read(body.encode()).fields["it"].confidence == number


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ({"page_id": 1, "polygon": BOX}, (Location(page=2, polygon=PLACE.polygon),)),
        ({"page_id": 0, "polygon": [[None, None], [None, None]]}, (Location(page=1),)),
        ({"page_id": 0, "polygon": "odd"}, (Location(page=1),)),
        ({"page_id": 0, "polygon": [[0.1, 1e999]]}, (Location(page=1),)),
        ({"page_id": 0, "polygon": [[0.1]]}, (Location(page=1),)),
        ({"page_id": None, "polygon": BOX}, ()),
        ({"page_id": True, "polygon": BOX}, ()),
        ({"page_id": -1, "polygon": BOX}, ()),
        ({}, ()),
    ],
)
def test_a_location_is_1_based_and_has_a_polygon_of_finite_points_or_none(place: Any, expected: Any) -> None:
    assert field({"value": 1, **place}).locations == expected


@pytest.mark.parametrize("applied", [True, False, None])
def test_pages_tell_their_orientation_and_whether_boxes_are_turned(applied: bool | None) -> None:
    pages = [
        {"id": 0, "orientation": {"value": 90}, "extras": {}, "prediction": {}},
        {"id": 3, "orientation": {"value": None}, "extras": {}, "prediction": {}},
        {"orientation": "odd"},
        "odd",
    ]
    assert read(document({}, pages=pages, is_rotation_applied=applied)).pages == (
        Page(number=1, orientation=90, rotation_applied=applied),
        Page(number=4, rotation_applied=applied),
        Page(number=3, rotation_applied=applied),
    )


def test_the_full_text_is_told_whole_and_by_page() -> None:
    pages = [
        {"id": n, "extras": {"full_text_ocr": {"content": f"Page {n}", "language": "es"}}} for n in (0, 1)
    ]
    result = read(document({}, pages=pages))
    assert result.text == "Page 0\nPage 1"
    assert [page.text for page in result.pages] == ["Page 0", "Page 1"]


def test_the_documents_own_full_text_comes_first() -> None:
    pages = [{"id": 0, "extras": {"full_text_ocr": {"content": "a page"}}}]
    assert read(document({}, pages=pages, extras={"full_text_ocr": {"content": "all"}})).text == "all"


@pytest.mark.parametrize("extras", [None, [], {}, {"full_text_ocr": None}, {"full_text_ocr": {"content": 7}}])
def test_a_document_without_full_text_has_none(extras: Any) -> None:
    assert read(document({}, extras=extras, pages=[{"id": 0, "extras": extras}])).text is None


@pytest.mark.parametrize("count", [None, "2", True, -1])
def test_a_page_count_that_is_none_is_not_counted(count: Any) -> None:
    payload = document({})
    payload["document"]["n_pages"] = count
    assert read(payload).usage.pages is None


def test_another_document_is_refused() -> None:
    with pytest.raises(Unreadable, match="another document"):
        read(document({}), reference(document_id="another"))


def test_the_document_of_another_job_is_refused() -> None:
    with pytest.raises(Unreadable, match="another job"):
        read(document({}), reference(job_id="another"))


def test_a_document_that_names_no_job_is_told_by_its_own_id() -> None:
    payload = document({"a": 1})
    del payload["job"]
    assert read(payload).row() == {"a": 1}


def test_a_pushed_document_needs_no_known_id() -> None:
    assert read(document({"a": 1}), reference(document_id=None)).row() == {"a": 1}


def test_a_failed_job_in_the_documents_place_is_a_failed_job() -> None:
    error = {"code": "ServerError", "details": "An error occurred", "message": "An error occurred"}
    with pytest.raises(JobFailed, match=r"An error occurred \(ServerError\)") as caught:
        read({"api_request": {}, "job": {"id": JOB, "status": "failed", "error": error}})
    assert caught.value.ref == reference()


@pytest.mark.parametrize(
    "payload",
    [
        b"<html>",
        [],
        {},
        {"document": None},
        {"document": {"id": DOCUMENT}},
        {"document": {"id": DOCUMENT, "inference": []}},
        {"document": {"id": DOCUMENT, "inference": {}}},
        {"document": {"inference": {"prediction": {}}}},
        document(None),
        document([]),
        {"job": {"id": JOB, "status": "completed"}},
        b"[" * 100_000,
    ],
)
def test_an_answer_of_another_shape_is_unreadable_and_never_misread(payload: Any) -> None:
    with pytest.raises(Unreadable):
        read(payload)
