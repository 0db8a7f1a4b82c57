"""Mindee V1's predictions in the one model.

Every product has a prediction of its own; all are made of the same parts (official test data,
mindee/client-lib-test-data, `v1/products/`), so one generic reading serves them all:

- an object with `value` is a field; what else it holds beside its box (a tax's rate) stays in `raw`;
- an object with `content` alone, or `values` alone, is a field or a list of fields (docTI products);
- any other object is an object of its keys (a line item), and its confidence and box are its columns' too;
- a list is a list.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect_docjobs.errors import JobFailed, Unreadable
from prefect_docjobs.models import Field, JobRef, Location, Page, Result, Usage
from prefect_docjobs.providers.mindee_v1.errors import read_job_error
from prefect_docjobs.providers.values import elements, index, mapping, object_of, polygon, share, text_of

_ABOUT = frozenset({"confidence", "page_id", "polygon", "bounding_box", "quadrangle", "rectangle"})
"""Keys that say something about a field and are no fields themselves."""


def map_result(ref: JobRef, payload: Any) -> Result:
    """`document` (and `job`) of a fetched document or a webhook call in the one model; pure.

    Raises:
        JobFailed: The answer holds no document but a failed job.
        Unreadable: The document of another job.
        LookupError, TypeError, ValueError: Not a document.
    """
    job = mapping(object_of(payload).get("job"))
    if job.get("id") not in {None, ref.job_id}:
        raise Unreadable("The document belongs to another job.")
    # A failed job may show only here: the official `get_failed_job_error.json` has a document's address.
    if "document" not in payload and job.get("status") == "failed":
        raise JobFailed(f"Mindee V1 could not process the document: {read_job_error(job)}", ref=ref)
    document = object_of(payload["document"])
    if ref.document_id is not None and text_of(document["id"]) != ref.document_id:
        raise Unreadable("The answer is about another document.")
    inference = object_of(document["inference"])
    pages = _pages(inference)
    return Result(
        ref=ref,
        fields=_fields(object_of(inference["prediction"]), {}),
        text=_text(inference, pages),
        pages=pages,
        usage=Usage(pages=index(document.get("n_pages"))),
        raw=payload,
    )


# --------------------------------------------------------------------------------------------------- fields


def _fields(raw: Mapping[str, Any], about: dict[str, Any]) -> dict[str, Field]:
    return {str(name): _field(value, about) for name, value in raw.items() if name not in _ABOUT}


def _field(raw: object, about: dict[str, Any]) -> Field:
    """`about` is the confidence and box of the object around, for its plain columns."""
    if isinstance(raw, list):
        return Field(items=[_field(item, about) for item in raw])
    if not isinstance(raw, dict):
        return Field(value=raw, **about)
    own = {"confidence": share(raw.get("confidence")), "locations": _locations(raw)}
    named = raw.keys() - _ABOUT
    if "value" in raw:
        return Field(value=raw["value"], **own)
    if named == {"content"}:
        return Field(value=raw["content"], **own)
    if named == {"values"} and isinstance(raw["values"], list):
        return Field(items=[_field(item, own) for item in raw["values"]], **own)
    return Field(fields=_fields(raw, own), **own)


def _locations(raw: Mapping[str, Any]) -> tuple[Location, ...]:
    """`page_id` is 0-based; `polygon` is `[x, y]` relative to the page, or empty, or pairs of null."""
    page = index(raw.get("page_id"))
    return () if page is None else (Location(page=page + 1, polygon=polygon(raw.get("polygon"))),)


# ---------------------------------------------------------------------------------------------------- pages


def _pages(inference: Mapping[str, Any]) -> tuple[Page, ...]:
    """Pages with their orientation; the inference's `is_rotation_applied` holds for all of them."""
    applied = inference.get("is_rotation_applied")
    return tuple(
        _page(position, raw, applied if isinstance(applied, bool) else None)
        for position, raw in enumerate(elements(inference.get("pages")))
        if isinstance(raw, dict)
    )


def _page(position: int, raw: Mapping[str, Any], applied: bool | None) -> Page:
    given = index(raw.get("id"))
    return Page(
        number=(position if given is None else given) + 1,
        orientation=index(mapping(raw.get("orientation")).get("value")),
        rotation_applied=applied,
        text=_full_text(raw.get("extras")),
    )


def _text(inference: Mapping[str, Any], pages: tuple[Page, ...]) -> str | None:
    """The document's own text, else its pages' texts, joined as the mindee 5.4.0 SDK does."""
    texts = [page.text for page in pages if page.text is not None]
    return _full_text(inference.get("extras")) or ("\n".join(texts) if texts else None)


def _full_text(extras: object) -> str | None:
    content = mapping(mapping(extras).get("full_text_ocr")).get("content")
    return content if isinstance(content, str) else None
