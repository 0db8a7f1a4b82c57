"""Finished jobs of each product in the one model.

The product routes answer with the job and its result inside (`result`; parse: `chunks`), the generic
route `/jobs/{id}/result` with the result alone (Unsiloed docs of 2025-06, results.mdx). Both are read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

from prefect_docjobs.models import Field, JobRef, Location, Page, Result, TextBlock, Usage
from prefect_docjobs.providers.values import (
    elements,
    list_of,
    mapping,
    number,
    object_of,
    objects,
    page_number,
    share,
    text,
    unmarked,
    whole,
)

_WRAPPER = "__value__"
_SCORES = frozenset({"grounding_score", "extraction_score"})
_ANNOTATIONS = frozenset({"score", "citation", "citations", "bboxes", "page_no"})
_ROW_ANNOTATIONS = frozenset({"bboxes", "page_no"})
# Metadata beside the fields, not a field of the schema (Unsiloed docs, extract-data.mdx).
_LOWEST_SCORE = "min_confidence_score"
# Of a segment's renderings, the first that is there. The newer OpenAPI's response_profile "slim" gives
# tables as HTML only.
_RENDERINGS = ("markdown", "content", "html")
# Unsiloed docs, get-parse-job-status.mdx: PascalCase types; those that have another name here.
_KINDS = {"section_header": "heading", "page": "text"}
_NEW_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])|\W+")
# "File type (always 'file')", Unsiloed docs, get-split-status.mdx: it says nothing about the document.
_ANY_FILE = "file"
_REVIEW = "review"


def extracted(ref: JobRef, payload: dict[str, Any]) -> Result:
    """An extraction: `result` of the job, or `data` of the generic route."""
    result = object_of(payload["result"] if "result" in payload else payload["data"])
    return _result(ref, payload, fields=read_fields(result))


def parsed(ref: JobRef, payload: dict[str, Any]) -> Result:
    """A parse: the segments in the service's order, and their markdown as text, whole and by page."""
    markdown: list[str] = []
    by_page: dict[int, list[str]] = {}
    blocks: list[TextBlock] = []
    for piece, kind, segment in _pieces(payload["chunks"]):
        blocks.append(_block(piece, kind, segment))
        markdown.append(piece)
        if where := blocks[-1].location:
            by_page.setdefault(where.page, []).append(piece)
    pages = tuple(Page(number=number, text="\n\n".join(by_page[number])) for number in sorted(by_page))
    return _result(ref, payload, text="\n\n".join(markdown), pages=pages, blocks=tuple(blocks))


def classified(ref: JobRef, payload: dict[str, Any]) -> Result:
    """A classification: the label, and one row per page and per category found."""
    result = _inside(payload)
    fields = {
        "classification": _label(result["classification"], result.get("confidence")),
        "page_results": Field(items=[_page_label(row) for row in objects(result.get("page_results"))]),
        "categories": Field(items=[_category(row) for row in objects(result.get("categories"))]),
    }
    given = {name: field for name, field in fields.items() if field.items != []}
    return _result(ref, payload, fields=given, warnings=tuple(_shortfalls(result)))


def split(ref: JobRef, payload: dict[str, Any]) -> Result:
    """A split: one row per file that the service made, each with what the service calls it."""
    result = _inside(payload)
    fields = {"splits": Field(items=[_file(row) for row in objects(list_of(result["files"]))])}
    return _result(ref, payload, fields=fields, warnings=tuple(_shortfalls(result)))


MAPPERS: Mapping[str, Callable[[JobRef, dict[str, Any]], Result]] = MappingProxyType(
    {"extract": extracted, "parse": parsed, "classify": classified, "split": split}
)
"""How each product's result is read."""


def _result(ref: JobRef, payload: dict[str, Any], *, warnings: tuple[str, ...] = (), **parts: Any) -> Result:
    status = payload.get("status")
    if isinstance(status, str) and status.strip().lower() == _REVIEW:
        warnings = ("The service advises that a person looks at this result (status review).", *warnings)
    return Result(ref=ref, usage=_usage(payload), warnings=warnings, raw=payload, **parts)


def _usage(payload: dict[str, Any]) -> Usage:
    """Pages stand with the job (parse), in its metadata (extract) or in its result (classify)."""
    counts = (
        payload.get("page_count"),
        mapping(payload.get("metadata")).get("page_count"),
        mapping(payload.get("result", payload)).get("total_pages"),
    )
    return Usage(
        pages=next((pages for pages in map(whole, counts) if pages is not None), None),
        credits=number(payload.get("credit_used")),
        quota_remaining=number(payload.get("quota_remaining")),
    )


def _inside(payload: dict[str, Any]) -> dict[str, Any]:
    return object_of(payload.get("result", payload))


# ----------------------------------------------------------------------------------------------- extract
#
# Every documented shape of a field becomes one `Field`:
# 1. `{"value", "score", "bboxes": [{"bbox", "page_width", "page_height", …}], "page_no"}`; the elements of an
#    array are objects of plain values with `bboxes` and `page_no` of their own (Unsiloed docs, results.mdx).
# 2. `{"value", "score": {"grounding_score", "extraction_score"}, "citation": {"bbox", "page", "page_width",
#    "page_height"}}`, also inside arrays; strings of an array may be wrapped as `{"__value__": …}`
#    (newer OpenAPI, ScoredField; Unsiloed-AI/cookbook, skills/unsiloed).
# 3. `{"value", "score": 0.98}` (newer OpenAPI, LegacyField).
#
# Objects of a schema nest (Unsiloed docs of 2025-06, results.mdx). What has none of these shapes is data.


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
    """An object of the schema; with a list of `bboxes` it is annotated itself (shape 1)."""
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


# ------------------------------------------------------------------------------------------------- parse


def _pieces(chunks: Any) -> Iterator[tuple[str, object, dict[str, Any]]]:
    """Text and type of each segment; of the whole chunk where it has none (generic route)."""
    for chunk in objects(list_of(chunks)):
        segments = objects(chunk.get("segments"))
        for segment in segments:
            if words := next(filter(None, (text(segment.get(key)) for key in _RENDERINGS)), None):
                yield words.strip(), segment.get("segment_type"), segment
        if not segments and (words := text(chunk.get("text")) or text(chunk.get("embed"))):
            types = elements(chunk.get("element_types"))
            yield words.strip(), types[0] if len(types) == 1 else None, chunk


def _block(piece: str, kind: object, segment: dict[str, Any]) -> TextBlock:
    """`bbox` is `{left, top, width, height}` in the units of `page_width` and `page_height`."""
    word = _NEW_WORD.sub("_", text(kind) or "text").lower()
    name, page, box = _KINDS.get(word, word), page_number(segment.get("page_number")), segment.get("bbox")
    left, top, wide, high = (number(mapping(box).get(side)) for side in ("left", "top", "width", "height"))
    right = None if left is None or wide is None else left + wide
    bottom = None if top is None or high is None else top + high
    sides = [left, top, right, bottom]
    corners = relative_polygon(sides, segment.get("page_width"), segment.get("page_height"))
    marks = len(piece) - len(piece.lstrip("#")) if name in {"title", "heading"} else 0
    return TextBlock(
        kind=name,
        text=unmarked(piece, name),
        location=Location(page=page, polygon=corners) if page else None,
        level=marks or (1 if name == "title" else None),
    )


# ---------------------------------------------------------------------------------------------- classify


def _label(value: Any, confidence: Any, page: int | None = None) -> Field:
    found = (Location(page=page),) if page is not None else ()
    return Field(value=value, confidence=share(confidence), locations=found)


def _page_label(row: dict[str, Any]) -> Field:
    page = page_number(row.get("page"))
    label = _label(row.get("classification"), row.get("confidence"), page)
    fields = {"page": Field(value=page), "classification": label}
    if row.get("error") is not None:
        fields["error"] = Field(value=row["error"])
    return Field(fields=fields, confidence=label.confidence, locations=label.locations)


def _category(row: dict[str, Any]) -> Field:
    """One category with its pages (newer OpenAPI, Category: sorted by prominence)."""
    label = _label(row.get("category"), row.get("confidence"))
    others = {key: Field(value=row[key]) for key in ("pages", "page_count") if key in row}
    return Field(fields={"category": label, **others}, confidence=label.confidence)


def _shortfalls(result: dict[str, Any]) -> Iterator[str]:
    if result.get("success") is False:
        yield text(result.get("message")) or "The service calls its own result not successful."
    done, of = whole(result.get("processed_pages")), whole(result.get("total_pages"))
    if done is not None and of is not None and done < of:
        yield f"Only {done} of {of} pages were processed."


# ------------------------------------------------------------------------------------------------- split


def _file(row: dict[str, Any]) -> Field:
    """One file. Its category is in its name: `Invoice.pdf` holds the pages of `Invoice`."""
    kind, name = text(row.get("type")), text(row.get("name"))
    if kind is None or kind == _ANY_FILE:
        kind = PurePosixPath(name).stem if name else None
    confidence = share(row.get("confidence_score"))
    others = {
        key: Field(value=value) for key, value in row.items() if key not in {"type", "confidence_score"}
    }
    fields = {"document_type": Field(value=kind, confidence=confidence), **others}
    return Field(fields=fields, confidence=confidence)
