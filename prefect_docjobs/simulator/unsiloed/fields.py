"""The fields of an extraction in the three shapes that Unsiloed's documentation shows.

Sources: Unsiloed docs, extraction results of 2026-03 (`bboxes`, `page_no`); the service's newer OpenAPI and
its cookbook (`score` as an object, `citation`, `__value__`); its `LegacyField` (`value` and `score` only).
The scores are the simulator's own: 0.99 where the place of a value is known, 0.9 where it is not, 0 without
a value.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from prefect_docjobs.simulator.extraction_schema import Answer, plain
from prefect_docjobs.simulator.reading import Box, DocumentRead, Found

FieldShape = Literal["newest", "bboxes", "legacy"]


def rendered(
    answer: dict[str, Answer], read: DocumentRead, shape: FieldShape, *, cited: bool
) -> dict[str, Any]:
    """The answers to a schema as the `result` of an extraction.

    Args:
        answer: One answer for each property of the schema.
        read: The document, for the sizes of its pages.
        shape: Which of the documented shapes.
        cited: Whether places were asked for; only `newest` can leave them out.
    """
    if shape == "bboxes":
        data = {name: _with_bboxes(each, read) for name, each in answer.items()}
        scores = [_score(found) for found in _leaves(answer)]
        return {**data, "min_confidence_score": min(scores, default=0.0)}
    if shape == "legacy":
        return {name: _legacy(each) for name, each in answer.items()}
    return {name: _newest(each, read, cited=cited) for name, each in answer.items()}


def citations(answer: Answer, read: DocumentRead, name: str = "") -> list[dict[str, Any]]:
    """The places of all values, as `/jobs/{id}/result` lists them."""
    if isinstance(answer, Found):
        if answer.box is None:
            return []
        place = {"page": answer.box.page, "bbox": points(answer.box, read)}
        return [{"field": name, "text": answer.text, **place}]
    named = enumerate(answer) if isinstance(answer, list) else answer.items()
    return [each for key, inner in named for each in citations(inner, read, f"{name}.{key}".lstrip("."))]


def points(box: Box, read: DocumentRead) -> list[float]:
    """A box as left, top, right, bottom in points."""
    page = read.pages[box.page - 1]
    edges = (box.x0 * page.width, box.y0 * page.height, box.x1 * page.width, box.y1 * page.height)
    return [round(edge, 2) for edge in edges]


def _score(found: Found) -> float:
    if found.value is None:
        return 0.0
    return 0.9 if found.box is None else 0.99


def _leaves(answer: Answer) -> Iterator[Found]:
    if isinstance(answer, Found):
        yield answer
        return
    for inner in answer if isinstance(answer, list) else answer.values():
        yield from _leaves(inner)


def _newest(answer: Answer, read: DocumentRead, *, cited: bool) -> Any:
    if isinstance(answer, dict):
        return {name: _newest(each, read, cited=cited) for name, each in answer.items()}
    if isinstance(answer, list):
        rows = (_newest(each, read, cited=cited) for each in answer)
        return [
            {"__value__": row} if isinstance(each, Found) else row
            for each, row in zip(answer, rows, strict=True)
        ]
    score = _score(answer)
    return {
        "value": answer.value,
        "score": {
            "grounding_score": score if cited else 0.0,  # nothing is grounded when citations are off
            "extraction_score": None if answer.value is None else score,
        },
        "citation": _citation(answer.box, read) if cited and answer.box else None,
    }


def _citation(box: Box, read: DocumentRead) -> dict[str, Any]:
    page = read.pages[box.page - 1]
    return {
        "bbox": points(box, read),
        "page": box.page,
        "page_width": page.width,
        "page_height": page.height,
    }


def _with_bboxes(answer: Answer, read: DocumentRead) -> Any:
    if isinstance(answer, dict):
        return {name: _with_bboxes(each, read) for name, each in answer.items()}
    found = list(_leaves(answer))
    value = [_row(each, read) for each in answer] if isinstance(answer, list) else answer.value
    score = min(map(_score, found), default=0.0)
    return {"score": score, "value": value, **_places(found, read)}


def _row(answer: Answer, read: DocumentRead) -> Any:
    """A row of an array: its plain values, and its places beside them."""
    if not isinstance(answer, dict):
        return plain(answer)
    return {**plain(answer), **_places(list(_leaves(answer)), read)}


def _places(found: list[Found], read: DocumentRead) -> dict[str, Any]:
    placed = [(each, each.box) for each in found if each.box is not None]
    bboxes = [
        {
            "bbox": points(box, read),
            "text": each.text,
            "type": "Text",
            "confidence": _score(each),
            "page_width": read.pages[box.page - 1].width,
            "page_height": read.pages[box.page - 1].height,
        }
        for each, box in placed
    ]
    return {"bboxes": bboxes, "page_no": placed[0][1].page if placed else None}


def _legacy(answer: Answer) -> dict[str, Any]:
    score = min(map(_score, _leaves(answer)), default=0.0)
    return {"value": plain(answer), "score": score}
