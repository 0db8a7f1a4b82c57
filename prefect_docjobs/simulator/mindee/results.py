"""Mindee V2 results: what a document says, in the shapes of the five products.

Source: the mindee 5.4.0 SDK's result classes and Mindee's published test data. Pages count from 0, polygons
are four ``[x, y]`` points relative to the page; a value whose place is not known has no location.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect_docjobs.simulator.jobs import Job
from prefect_docjobs.simulator.mindee.submits import Options
from prefect_docjobs.simulator.reading import Box, DocumentRead, Found, PageRead

_KINDS = {"number": "number", "date": "date", "boolean": "boolean"}


def inference(job: Job, options: Options, read: DocumentRead) -> dict[str, Any]:
    """The whole body of a result: ``{"inference": …}``."""
    body: dict[str, Any] = {
        "id": job.id,
        "job": {"id": job.id},
        "model": {"id": options["model_id"]},
        "file": {
            "name": job.source.name,
            "alias": options["alias"],
            "page_count": len(read.pages),
            "mime_type": read.media_type,
        },
        "result": _RESULTS[job.product](options, read),
    }
    if job.product == "extraction":
        body["active_options"] = _active_options(options)
    return {"inference": body}


def _extraction(options: Options, read: DocumentRead) -> dict[str, Any]:
    pages = [{"content": page.text} for page in read.pages]
    return {
        "fields": _Fields(options, read).all(),
        "raw_text": {"pages": pages} if _flag(options, "raw_text") else None,
        "rag": {"retrieved_document_id": None} if _flag(options, "rag") else None,
    }


def _ocr(_options: Options, read: DocumentRead) -> dict[str, Any]:
    return {
        "pages": [
            {
                "words": [{"content": word.text, "polygon": _polygon(word.box)} for word in page.words],
                "content": page.text,
            }
            for page in read.pages
        ]
    }


def _crop(_options: Options, read: DocumentRead) -> dict[str, Any]:
    """One crop per page: the rectangle around its words, or the whole page where no place is known."""
    return {
        "crops": [
            {
                "object_type": read.kind,
                "location": {"polygon": _polygon(_around_words(page)), "page": page.number - 1},
            }
            for page in read.pages
        ]
    }


def _split(_options: Options, read: DocumentRead) -> dict[str, Any]:
    return {
        "splits": [
            {"page_range": [first - 1, last - 1], "document_type": kind}
            for first, last, kind in read.sections
        ]
    }


def _classification(_options: Options, read: DocumentRead) -> dict[str, Any]:
    return {"classification": {"document_type": read.kind}}


_RESULTS = {
    "extraction": _extraction,
    "ocr": _ocr,
    "crop": _crop,
    "split": _split,
    "classification": _classification,
}
PRODUCTS = tuple(_RESULTS)


class _Fields:
    """The fields of one extraction: those of the data schema, or all that the document has."""

    def __init__(self, options: Options, read: DocumentRead) -> None:
        self._asked = options["fields"]
        self._read = read
        self._with_confidence = _flag(options, "confidence")
        self._with_polygon = _flag(options, "polygon")

    def all(self) -> dict[str, Any]:
        if self._asked is not None:
            return {field["name"]: self._asked_for(field) for field in self._asked}
        fields: dict[str, Any] = {name: self._simple(found) for name, found in self._read.fields.items()}
        if self._read.line_items:
            fields["line_items"] = {"items": [self._row(item) for item in self._read.line_items]}
        return fields

    def _asked_for(self, field: Mapping[str, Any]) -> dict[str, Any]:
        nested = field.get("nested_fields") or []
        if nested and field.get("is_array"):
            return {"items": [self._row(item, nested) for item in self._read.line_items]}
        if nested:
            return {"fields": {part["name"]: self._part(field["name"], part) for part in nested}}
        found = self._read.look_for(field["name"], _kind(field))
        if field.get("is_array"):
            return {"items": [] if found.value is None else [self._simple(found)]}
        return self._simple(found)

    def _part(self, whole: str, part: Mapping[str, Any]) -> dict[str, Any]:
        """A field of an object, such as ``name`` of ``supplier``: found as ``supplier_name`` or ``name``."""
        found = self._read.look_for(f"{whole}_{part['name']}", _kind(part))
        if found.value is None:
            found = self._read.look_for(part["name"], _kind(part))
        return self._simple(found)

    def _row(self, item: Mapping[str, Found], columns: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        if columns is None:
            return {"fields": {name: self._simple(found) for name, found in item.items()}}
        cells = ((column, self._read.look_in_item(item, column["name"], _kind(column))) for column in columns)
        return {"fields": {column["name"]: self._simple(found) for column, found in cells}}

    def _simple(self, found: Found) -> dict[str, Any]:
        """A value; one whose place is known is ``Certain``, any other value ``High``."""
        confidence = None
        if self._with_confidence and found.value is not None:
            confidence = "Certain" if found.box else "High"
        locations = []
        if self._with_polygon and found.box:
            locations.append({"page": found.box.page - 1, "polygon": _polygon(found.box)})
        return {"value": found.value, "confidence": confidence, "locations": locations}


def _kind(field: Mapping[str, Any]) -> str:
    return _KINDS.get(str(field.get("type")), "string")


def _flag(options: Options, name: str) -> bool:
    """A switch as sent, or as the simulated model has it: places and confidence yes, text and RAG no."""
    return options["flags"].get(name, name in {"polygon", "confidence"})


def _active_options(options: Options) -> dict[str, Any]:
    return {
        **{name: _flag(options, name) for name in ("raw_text", "polygon", "confidence", "rag")},
        "text_context": options["text_context"] is not None,
        "data_schema": {"replace": options["fields"] is not None},
    }


def _polygon(box: Box | None) -> list[list[float]]:
    """The corners of a box, clockwise from the top left; no points when the place is not known."""
    if box is None:
        return []
    return [[box.x0, box.y0], [box.x1, box.y0], [box.x1, box.y1], [box.x0, box.y1]]


def _around_words(page: PageRead) -> Box:
    boxes = [word.box for word in page.words if word.box]
    if not boxes:
        return Box(page.number, 0.0, 0.0, 1.0, 1.0)
    around = boxes[0]
    for box in boxes[1:]:
        around = around.joined(box)
    return around
