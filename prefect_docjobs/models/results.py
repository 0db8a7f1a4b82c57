"""Results: what came out of one document, in one form for all services."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pydantic

from prefect_docjobs.models.jobs import Frozen, JobRef


class Location(Frozen):
    """Where a value stands: 1-based page, and a polygon of (x, y) points relative to the page, 0..1.

    The polygon is None where the service gives no box or none that can be made relative; the
    service's own numbers are in `Result.raw`.
    """

    page: int
    polygon: tuple[tuple[float, float], ...] | None = None


class Field(Frozen):
    """One extracted thing: a value, an object of named fields, or a list of fields.

    Attributes:
        confidence: 0..1, or None where the service gives none.
        confidence_label: The service's own word, such as `High`, where it speaks in words.
        locations: Where the value was found.
        fields: The children of an object; None otherwise.
        items: The elements of a list; None otherwise.
    """

    scalar: Any = pydantic.Field(default=None, alias="value")
    confidence: float | None = None
    confidence_label: str | None = None
    locations: tuple[Location, ...] = ()
    fields: dict[str, Field] | None = None
    items: list[Field] | None = None

    @property
    def value(self) -> Any:
        """The value as plain data: a scalar, a dict for an object, a list for a list."""
        if self.fields is not None:
            return {name: child.value for name, child in self.fields.items()}
        if self.items is not None:
            return [item.value for item in self.items]
        return self.scalar


class TextBlock(Frozen):
    """One piece of the document's text, in reading order, in one form for all services.

    Attributes:
        kind: `title`, `heading`, `text`, `list_item`, `table`, `picture`, `caption`, `footnote`, `formula`,
            `code`, `quote`, `page_header`, `page_footer`, or `word` where the service gives single words; any
            other word of the service is in lower case, as in `signature_field`.
        text: Plain text, or markdown where the service writes some, such as a table.
        location: Where it stands; None where the service does not say.
        level: Of a title or a heading, from 1, where known.
    """

    kind: str
    text: str
    location: Location | None = None
    level: int | None = None


class Page(Frozen):
    """One page of the document, where the service says something about it.

    Attributes:
        number: 1-based.
        orientation: Degrees clockwise to turn the page upright, or None.
        rotation_applied: Whether polygons are already turned; None where the service does not know.
        text: The text of this page, where given.
    """

    number: int
    orientation: int | None = None
    rotation_applied: bool | None = None
    text: str | None = None


class Usage(Frozen):
    """What the document cost, as far as the service says: pages, credits, tokens, and what is left."""

    pages: int | None = None
    credits: float | None = None
    quota_remaining: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class Result(Frozen):
    """What came out of one document, in one form for all services.

    Attributes:
        ref: The job that it came from.
        fields: Named values; a label (classify) is `fields["classification"]`, page ranges (split) are
            the items of `fields["splits"]`.
        text: The document's text or markdown, for OCR, parse and content products.
        pages: What is known of single pages.
        blocks: The text in pieces, for OCR, parse and content products.
        usage: Pages, credits and tokens.
        warnings: What the service said against its own result, such as a truncated answer.
        raw: The service's answer, untouched.
    """

    ref: JobRef
    fields: dict[str, Field] = pydantic.Field(default_factory=dict)
    text: str | None = None
    pages: tuple[Page, ...] = ()
    blocks: tuple[TextBlock, ...] = ()
    usage: Usage = Usage()
    warnings: tuple[str, ...] = ()
    raw: Any = None

    def row(self) -> dict[str, Any]:
        """One flat row: dotted names for nested objects, lists of scalars as lists.

        Lists of objects are left to `line_items`.
        """
        return dict(_flatten(self.fields))

    def block_rows(self) -> list[dict[str, Any]]:
        """One row per text block: `index` (from 0), `page`, `kind`, `level`, `text`."""
        return [
            {
                "index": index,
                "page": block.location.page if block.location else None,
                "kind": block.kind,
                "level": block.level,
                "text": block.text,
            }
            for index, block in enumerate(self.blocks)
        ]

    def line_items(self) -> list[dict[str, Any]]:
        """One row per element of each list of objects, with `list` (dotted name) and `index` (from 0).

        A list inside an element is named by its way down, such as `splits.0.lines`.
        """
        return list(_line_items(self.fields, ""))


def _flatten(fields: Mapping[str, Field], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, child in fields.items():
        if child.fields is not None:
            yield from _flatten(child.fields, f"{prefix}{name}.")
        elif child.items is None or not _is_table(child):
            yield f"{prefix}{name}", child.value


def _is_table(child: Field) -> bool:
    return any(item.fields is not None for item in child.items or ())


def _line_items(fields: Mapping[str, Field], prefix: str) -> Iterator[dict[str, Any]]:
    for name, child in fields.items():
        path = f"{prefix}{name}"
        yield from _line_items(child.fields or {}, f"{path}.")
        for index, item in enumerate(child.items or ()):
            if item.fields is not None:
                yield joined({"list": path, "index": index}, dict(_flatten(item.fields)))
                yield from _line_items(item.fields, f"{path}.{index}.")


def joined(head: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    """Head columns, then fields; a field that bears a head column's name is told as `fields.<name>`."""
    taken = {*head, "document"}
    return {**head, **{f"fields.{name}" if name in taken else name: fields[name] for name in fields}}
