"""Extracted values: every documented shape of a field becomes one `Field`.

1. `{"value", "score", "bboxes": [{"bbox", "page_width", "page_height", …}], "page_no"}`; the elements of an
   array are objects of plain values with `bboxes` and `page_no` of their own (Unsiloed docs, results.mdx).
2. `{"value", "score": {"grounding_score", "extraction_score"}, "citation": {"bbox", "page", "page_width",
   "page_height"}}`, also inside arrays; strings of an array may be wrapped as `{"__value__": …}`
   (newer OpenAPI, ScoredField; Unsiloed-AI/cookbook, skills/unsiloed).
3. `{"value", "score": 0.98}` (newer OpenAPI, LegacyField).

Objects of a schema nest (Unsiloed docs of 2025-06, results.mdx). What has none of these shapes is data.
"""

from __future__ import annotations

import math
from typing import Any

from prefect_docjobs.models import Field, Location
from prefect_docjobs.providers.values import number, objects, page_number, share

_WRAPPER = "__value__"
_SCORES = frozenset({"grounding_score", "extraction_score"})
_ANNOTATIONS = frozenset({"score", "citation", "citations", "bboxes", "page_no"})
_ROW_ANNOTATIONS = frozenset({"bboxes", "page_no"})
# Metadata beside the fields, not a field of the schema (Unsiloed docs, extract-data.mdx).
_LOWEST_SCORE = "min_confidence_score"


def read_fields(result: dict[str, Any]) -> dict[str, Field]:
    """The named fields of an extraction result; the service's `min_confidence_score` is not one of them."""
    return {
        name: read_field(node)
        for name, node in result.items()
        if name != _LOWEST_SCORE or number(node) is None
    }


def read_field(node: Any) -> Field:
    """One node of an extraction result, in any shape; never refuses one."""
    if isinstance(node, list):
        return Field(items=[read_field(item) for item in node])
    if not isinstance(node, dict):
        return Field(value=node)
    if node.keys() == {_WRAPPER}:
        return read_field(node[_WRAPPER])
    return _annotated(node) if _is_annotated(node) else _object(node)


def _is_annotated(node: dict[str, Any]) -> bool:
    """Whether `value` is the field's value, and not a property that the schema calls so.

    Beside a value stand annotations only, or the unmistakable pair of scores.
    """
    if "value" not in node:
        return False
    score = node.get("score")
    if isinstance(score, dict) and score.keys() & _SCORES:
        return True
    beside = [node[key] for key in node if key != "value"]
    known = node.keys() - {"value"} <= _ANNOTATIONS
    return bool(beside) and known and not any(isinstance(item, dict) and "value" in item for item in beside)


def _annotated(node: dict[str, Any]) -> Field:
    inner = read_field(node["value"])
    confidence, locations = _confidence(node), _locations(node)
    return inner.model_copy(
        update={
            "confidence": inner.confidence if confidence is None else confidence,
            "locations": locations or inner.locations,
        }
    )


def _object(node: dict[str, Any]) -> Field:
    """An object of the schema; a list of `bboxes` tells that it is annotated itself (shape 1)."""
    boxed = isinstance(node.get("bboxes"), list)
    children = {
        name: read_field(child) for name, child in node.items() if not (boxed and name in _ROW_ANNOTATIONS)
    }
    return Field(fields=children, locations=_locations(node) if boxed else ())


def _confidence(node: dict[str, Any]) -> float | None:
    """How sure the service is of the value itself.

    `extraction_score` says just that. `grounding_score` says how surely the value was located; it stands
    in only where there is a citation, because it is 0.0 when citations are off (newer OpenAPI, Score).
    """
    score = node.get("score")
    if not isinstance(score, dict):
        return share(score)
    sure = share(score.get("extraction_score"))
    return share(score.get("grounding_score")) if sure is None and node.get("citation") else sure


def _locations(node: dict[str, Any]) -> tuple[Location, ...]:
    """Each box once, in order; the bare page where there is no box (citations off)."""
    page = page_number(node.get("page_no"))
    cited = [node.get("citation"), *objects(node.get("citations"))]
    boxes = [*objects(node.get("bboxes")), *objects(cited)]
    found = [_location(box, page) for box in boxes] or [Location(page=page) if page else None]
    return tuple(dict.fromkeys(location for location in found if location is not None))


def _location(box: dict[str, Any], page: int | None) -> Location | None:
    on = page_number(box.get("page")) or page
    polygon = relative_polygon(box.get("bbox"), box.get("page_width"), box.get("page_height"))
    return None if on is None else Location(page=on, polygon=polygon)


def relative_polygon(box: Any, width: Any, height: Any) -> tuple[tuple[float, float], ...] | None:
    """The four corners, clockwise from the top left, relative to the page.

    Args:
        box: `[left, top, right, bottom]` in points, origin at the top left (Unsiloed docs, extract-data.mdx).
        width: Of the page, in points.
        height: Of the page, in points.

    Returns:
        None where a number is missing, or the page has no size.
    """
    sides = [number(side) for side in box] if isinstance(box, list) and len(box) == 4 else [None]
    wide, high = number(width), number(height)
    if None in sides or not wide or not high or min(wide, high) <= 0:
        return None
    spans = (wide, high, wide, high)
    left, top, right, bottom = (
        side / span for side, span in zip(sides, spans, strict=True) if side is not None
    )
    corners = ((left, top), (right, top), (right, bottom), (left, bottom))
    return corners if all(math.isfinite(value) for corner in corners for value in corner) else None
