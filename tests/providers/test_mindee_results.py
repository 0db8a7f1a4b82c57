"""Mindee V2's results in the one model, product by product."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.wire import answer, ref_of

from prefect_docjobs.errors import Unreadable
from prefect_docjobs.models import Field, Location, Page, Result
from prefect_docjobs.providers.mindee import Mindee

MODEL = "3c2b1a00-0000-4000-8000-000000000abc"
JOB = "7b6a0c1e-2f7c-4d4b-9c0e-0d5d3a1f0001"
BOX = [[0.1, 0.2], [0.3, 0.2], [0.3, 0.25], [0.1, 0.25]]
PLACE = Location(page=1, polygon=((0.1, 0.2), (0.3, 0.2), (0.3, 0.25), (0.1, 0.25)))


def inference(result: Any, **changes: Any) -> dict[str, Any]:
    whole = {
        "id": JOB,
        "job": {"id": JOB},
        "model": {"id": MODEL},
        "file": {"name": "acme.pdf", "alias": "order-42", "page_count": 2, "mime_type": "application/pdf"},
        "result": result,
    }
    return {"inference": {**whole, **changes}}


def read(payload: Any, product: str = "extraction") -> Result:
    ref = ref_of(Mindee, product=product, job_id=JOB)
    return Mindee(model_id=MODEL, product=product).read_result(ref, answer(payload))


def field(raw: Any) -> Field:
    return read(inference({"fields": {"it": raw}})).fields["it"]


EXTRACTED = {
    "fields": {
        "total_amount": {"value": 118.5, "confidence": "High", "locations": [{"page": 0, "polygon": BOX}]},
        "paid": {"value": None, "confidence": None, "locations": []},
        "tags": {"items": [{"value": "blue", "confidence": "Medium", "locations": []}]},
        "supplier": {"fields": {"name": {"value": "ACME", "confidence": "Certain", "locations": []}}},
        "lines": {"items": [{"fields": {"sku": {"value": "A-1", "confidence": "Low", "locations": []}}}]},
    },
    "raw_text": {"pages": [{"content": "This is page one."}, {"content": "And two."}]},
    "rag": {"retrieved_document_id": "12345abc-1234-1234-1234-123456789abc"},
}


def test_an_extraction_becomes_a_tree_of_fields() -> None:
    payload = inference(EXTRACTED, active_options={"raw_text": True})
    result = read(payload)
    assert result.fields["total_amount"] == Field(
        value=118.5, confidence=0.9, confidence_label="High", locations=(PLACE,)
    )
    assert result.fields["paid"] == Field(value=None)
    assert result.fields["tags"].value == ["blue"]
    assert result.fields["supplier"].value == {"name": "ACME"}
    assert result.row() == {"total_amount": 118.5, "paid": None, "tags": ["blue"], "supplier.name": "ACME"}
    assert result.line_items() == [{"list": "lines", "index": 0, "sku": "A-1"}]
    assert result.usage.pages == 2
    assert result.raw == payload, "what has no place in the model, such as the RAG id, stays in raw"


def test_raw_text_is_told_whole_and_by_page() -> None:
    result = read(inference(EXTRACTED))
    assert result.text == "This is page one.\n\nAnd two."
    assert result.pages == (Page(number=1, text="This is page one."), Page(number=2, text="And two."))


def test_an_extraction_without_raw_text_has_no_text() -> None:
    result = read(inference({"fields": {}, "raw_text": None, "rag": None}))
    assert (result.text, result.pages, result.fields) == (None, (), {})


@pytest.mark.parametrize(
    ("word", "number"), [("Certain", 0.99), ("High", 0.9), ("Medium", 0.6), ("Low", 0.3), ("Shaky", None)]
)
def test_a_word_of_confidence_has_a_number_and_stays_beside_it(word: str, number: float | None) -> None:
    found = field({"value": 1, "confidence": word, "locations": []})
    assert (found.confidence, found.confidence_label) == (number, word)


@pytest.mark.parametrize(
    ("raw", "number"),
    [
        ("0.5", 0.5),
        ("1", 1.0),
        ("1.5", None),
        ("-0.1", None),
        ("NaN", None),
        ("true", None),
        ("[]", None),
        ("9" * 400, None),
    ],
)
def test_a_confidence_that_is_no_word_counts_only_within_0_and_1(raw: str, number: float | None) -> None:
    payload = json.dumps(inference({"fields": {"it": {"value": 1, "confidence": "?"}}})).replace('"?"', raw)
    found = read(payload.encode()).fields["it"]
    assert (found.confidence, found.confidence_label) == (number, None)


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ({"page": 2, "polygon": BOX}, (Location(page=3, polygon=PLACE.polygon),)),
        ({"page": 0, "polygon": []}, (Location(page=1),)),
        ({"page": 0}, (Location(page=1),)),
        ({"page": 0, "polygon": [[None, None]]}, (Location(page=1),)),
        ({"page": 0, "polygon": [[0.1, float("inf")]]}, (Location(page=1),)),
        ({"page": 0, "polygon": [[0.1, 0.2, 0.3]]}, (Location(page=1),)),
        ({"page": 0, "polygon": [[1.2, -0.1]]}, (Location(page=1, polygon=((1.2, -0.1),)),)),
        ({"page": -1, "polygon": BOX}, ()),
        ({"page": True, "polygon": BOX}, ()),
        ({"page": None, "polygon": BOX}, ()),
        ("odd", ()),
    ],
)
def test_a_location_is_1_based_and_has_a_polygon_of_finite_points_or_none(place: Any, expected: Any) -> None:
    assert field({"value": 1, "locations": [place]}).locations == expected


@pytest.mark.parametrize("raw", ["text", 7, None, [1], {}, {"other": 1}, {"fields": [], "items": {}}])
def test_a_field_of_an_unknown_shape_is_kept_as_it_is(raw: Any) -> None:
    assert field(raw) == Field(value=raw)


def test_an_object_field_keeps_its_own_confidence_and_place() -> None:
    found = field({"fields": {}, "confidence": "Low", "locations": [{"page": 0, "polygon": BOX}]})
    assert (found.fields, found.confidence, found.locations) == ({}, 0.3, (PLACE,))


def test_ocr_gives_text_and_pages() -> None:
    words = [{"content": "Hi", "polygon": BOX}]
    pages = [{"words": words, "content": "Hi there"}, {"words": [], "content": "Bye"}]
    payload = inference({"pages": pages})
    result = read(payload, "ocr")
    assert result.text == "Hi there\n\nBye"
    assert [page.text for page in result.pages] == ["Hi there", "Bye"]
    assert result.fields == {}
    assert result.raw["inference"]["result"]["pages"][0]["words"] == words


def test_ocr_of_a_blank_document_gives_an_empty_text() -> None:
    assert read(inference({"pages": []}), "ocr").text == ""


def test_crops_are_objects_with_their_place() -> None:
    crops = [
        {"object_type": "invoice", "location": {"polygon": BOX, "page": 0}},
        "odd",
        {"object_type": "receipt"},
    ]
    result = read(inference({"crops": crops}), "crop")
    first, odd, bare = result.fields["crops"].items or []
    assert first.value == {"object_type": "invoice"}
    assert first.locations == (PLACE,)
    assert (first.fields or {})["object_type"].locations == (PLACE,)
    assert odd.value == "odd"
    assert (bare.value, bare.locations) == ({"object_type": "receipt"}, ())


def test_splits_are_1_based_page_ranges_with_both_ends_inside() -> None:
    splits = [
        {"page_range": [0, 0], "document_type": "passport"},
        {"page_range": [1, 3], "document_type": "invoice"},
    ]
    assert read(inference({"splits": splits}), "split").line_items() == [
        {"list": "splits", "index": 0, "document_type": "passport", "first_page": 1, "last_page": 1},
        {"list": "splits", "index": 1, "document_type": "invoice", "first_page": 2, "last_page": 4},
    ]


@pytest.mark.parametrize("page_range", [None, [], [1], [1, "2"], [True, 1], [-1, 0], "0-1"])
def test_a_page_range_of_an_unknown_shape_is_kept_as_it_is(page_range: Any) -> None:
    result = read(inference({"splits": [{"page_range": page_range, "document_type": "x"}]}), "split")
    assert result.fields["splits"].value == [{"document_type": "x", "page_range": page_range}]


def test_a_classification_is_a_label() -> None:
    result = read(inference({"classification": {"document_type": "invoice"}}), "classification")
    assert result.row() == {"classification": "invoice"}


CHAINED = inference(
    {"fields": {"date": {"value": "2018-09-25", "confidence": None, "locations": []}}}, id=MODEL
)


@pytest.mark.parametrize(
    ("product", "result", "path"),
    [
        ("classification", {"classification": {"document_type": "i", "extraction_response": CHAINED}}, None),
        ("crop", {"crops": [{"object_type": "i", "extraction_response": CHAINED}]}, "crops"),
        ("split", {"splits": [{"page_range": [0, 0], "extraction_response": CHAINED}]}, "splits"),
    ],
)
def test_a_chained_extraction_is_mapped_too(product: str, result: Any, path: str | None) -> None:
    found = read(inference(result), product)
    row = found.line_items()[0] if path else found.row()
    assert row["extraction.date"] == "2018-09-25"


@pytest.mark.parametrize(
    "chained", ["odd", {}, {"inference": None}, {"inference": {"result": {"fields": []}}}]
)
def test_a_chained_extraction_of_an_unknown_shape_is_kept_as_it_is(chained: Any) -> None:
    result = {"classification": {"document_type": "i", "extraction_response": chained}}
    assert read(inference(result), "classification").fields["extraction"] == Field(value=chained)


@pytest.mark.parametrize("job", [{"id": MODEL}, {"id": 7}])
def test_the_result_of_another_job_is_refused(job: Any) -> None:
    with pytest.raises(Unreadable, match="another job"):
        read(inference(EXTRACTED, job=job))


@pytest.mark.parametrize("job", [{"id": JOB.upper()}, {"id": None}, {}, None])
def test_a_result_that_names_no_other_job_is_ours(job: Any) -> None:
    assert read(inference(EXTRACTED, job=job)).fields["paid"].value is None


@pytest.mark.parametrize("count", [None, "2", True, -1, 2.5])
def test_a_page_count_that_is_none_is_not_counted(count: Any) -> None:
    assert read(inference({"fields": {}}, file={"page_count": count})).usage.pages is None


@pytest.mark.parametrize(
    ("product", "payload"),
    [
        ("extraction", {}),
        ("extraction", {"inference": None}),
        ("extraction", inference(None)),
        ("extraction", inference({"fields": []})),
        ("extraction", inference({"pages": []})),
        ("ocr", inference({"fields": {}})),
        ("ocr", inference({"pages": {}})),
        ("crop", inference({"crops": None})),
        ("split", inference({"crops": []})),
        ("classification", inference({"classification": {}})),
        ("classification", inference({"classification": "invoice"})),
        ("extraction", b"<html>"),
        ("extraction", b"[" * 100_000),
    ],
)
def test_a_result_of_another_shape_is_unreadable_and_never_misread(product: str, payload: Any) -> None:
    with pytest.raises(Unreadable):
        read(payload, product)
