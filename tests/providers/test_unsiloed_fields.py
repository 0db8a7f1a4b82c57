"""Every documented shape of a value that Unsiloed extracted."""

from __future__ import annotations

from typing import Any

import pytest
from support.unsiloed import ref

from prefect_docjobs.models import Field, Location, Result
from prefect_docjobs.providers.unsiloed.results import read_field, read_fields, relative_polygon

QUARTER = ((0.25, 0.5), (0.5, 0.5), (0.5, 0.75), (0.25, 0.75))


def boxed(*box: float, **changes: Any) -> dict[str, Any]:
    return {"bbox": list(box), "type": "segment", "page_width": 100.0, "page_height": 200.0, **changes}


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
        result = Result(ref=ref(), fields=read_fields({"lines": rows}))
        assert result.line_items() == [{"list": "lines", "index": 0, "sku": "A-1", "price": 2}]
        items = result.fields["lines"].items
        assert items is not None
        assert items[0].fields is not None
        assert items[0].fields["sku"].confidence == 0.8


def test_nested_objects_become_dotted_columns() -> None:
    revenue = {"score": 0.9876, "value": "1250000", "bboxes": [{"bbox": [150, 250, 300, 280]}], "page_no": 1}

    result = Result(ref=ref(), fields=read_fields({"financial_data": {"revenue": revenue}}))

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
