"""Mindee V2's results in the one model.

Shapes: Mindee V2 OpenAPI and the official test data (mindee/client-lib-test-data, `v2/products/`). Every
product answers `{"inference": {"job": …, "file": …, "result": …}}`; `result` differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from prefect_docjobs.errors import Unreadable
from prefect_docjobs.models import Field, JobRef, Location, Page, Result, TextBlock, Usage
from prefect_docjobs.providers.values import (
    elements,
    index,
    list_of,
    mapping,
    object_of,
    objects,
    polygon,
    share,
    text,
)

CONFIDENCES: Mapping[str, float] = MappingProxyType({"certain": 0.99, "high": 0.9, "medium": 0.6, "low": 0.3})
"""Mindee V2 says confidence in words. The numbers keep their order and their advice: `Certain` and `High`
are for automation, `Medium` for optional review, `Low` for manual review (docs.mindee.com,
automation-confidence-score, 2026-08). They are thresholds to compare with, not probabilities."""

_Parts = dict[str, Any]


def map_result(ref: JobRef, product: str, payload: Any) -> Result:
    """A result, or a successful webhook call, in the one model; pure.

    Raises:
        Unreadable: The result of another job.
        LookupError, TypeError, ValueError: Not the shape of `product`.
    """
    inference = object_of(payload["inference"])
    _check_job(ref, inference.get("job"))
    parts = _READERS[product](object_of(inference["result"]))
    usage = Usage(pages=index(mapping(inference.get("file")).get("page_count")))
    return Result(ref=ref, usage=usage, raw=payload, **parts)


def _check_job(ref: JobRef, job: object) -> None:
    """Refuse the result of another job. Results of `/v2/inferences` may not name theirs."""
    given = mapping(job).get("id")
    if given is not None and str(given).lower() != ref.job_id.lower():
        raise Unreadable("The result belongs to another job.")


# ------------------------------------------------------------------------------------------------- products


def _extraction(result: Mapping[str, Any]) -> _Parts:
    pages = _pages(elements(mapping(result.get("raw_text")).get("pages")))
    return {"fields": _fields(object_of(result["fields"])), "text": _joined(pages), "pages": pages}


def _ocr(result: Mapping[str, Any]) -> _Parts:
    pages = _pages(list_of(result["pages"]))
    return {"text": _joined(pages) or "", "pages": pages, "blocks": tuple(_words(result["pages"]))}


def _crop(result: Mapping[str, Any]) -> _Parts:
    return {"fields": {"crops": Field(items=[_crop_item(item) for item in list_of(result["crops"])])}}


def _crop_item(raw: object) -> Field:
    if not isinstance(raw, dict):
        return Field(value=raw)
    where = _locations([raw.get("location")])
    kind = Field(value=raw.get("object_type"), locations=where)
    return Field(fields={"object_type": kind, **_chained(raw)}, locations=where)


def _split(result: Mapping[str, Any]) -> _Parts:
    return {"fields": {"splits": Field(items=[_split_item(item) for item in list_of(result["splits"])])}}


def _split_item(raw: object) -> Field:
    if not isinstance(raw, dict):
        return Field(value=raw)
    kind = Field(value=raw.get("document_type"))
    return Field(fields={"document_type": kind, **_page_range(raw.get("page_range")), **_chained(raw)})


def _page_range(raw: object) -> dict[str, Field]:
    """`page_range` is 0-based with both ends inside; ours is 1-based with both ends inside."""
    first, last = map(index, raw) if isinstance(raw, list) and len(raw) == 2 else (None, None)
    if first is None or last is None:
        return {"page_range": Field(value=raw)}
    return {"first_page": Field(value=first + 1), "last_page": Field(value=last + 1)}


def _classification(result: Mapping[str, Any]) -> _Parts:
    found = object_of(result["classification"])
    return {"fields": {"classification": Field(value=found["document_type"]), **_chained(found)}}


def _chained(raw: Mapping[str, Any]) -> dict[str, Field]:
    """The fields of a chained extraction model, a whole inference of its own, as `extraction`."""
    response: Any = raw.get("extraction_response")
    if response is None:
        return {}
    try:
        found = object_of(response["inference"]["result"]["fields"])
    except (LookupError, TypeError, ValueError):
        return {"extraction": Field(value=response)}
    return {"extraction": Field(fields=_fields(found))}


_READERS: Mapping[str, Callable[[Mapping[str, Any]], _Parts]] = {
    "extraction": _extraction,
    "ocr": _ocr,
    "crop": _crop,
    "split": _split,
    "classification": _classification,
}


# --------------------------------------------------------------------------------------------------- fields


def _fields(raw: Mapping[str, Any]) -> dict[str, Field]:
    return {str(name): _field(value) for name, value in raw.items()}


def _field(raw: object) -> Field:
    """One of three kinds, by its key: `fields` an object, `items` a list, `value` a simple field."""
    if not isinstance(raw, dict):
        return Field(value=raw)
    known = {**_confidence(raw.get("confidence")), "locations": _locations(raw.get("locations"))}
    if isinstance(raw.get("fields"), dict):
        return Field(fields=_fields(raw["fields"]), **known)
    if isinstance(raw.get("items"), list):
        return Field(items=[_field(item) for item in raw["items"]], **known)
    return Field(value=raw["value"], **known) if "value" in raw else Field(value=raw)


def _confidence(raw: object) -> dict[str, Any]:
    if isinstance(raw, str):
        return {"confidence": CONFIDENCES.get(raw.strip().lower()), "confidence_label": raw}
    return {"confidence": share(raw)}


def _locations(raw: object) -> tuple[Location, ...]:
    """Pages are 0-based; points are `[x, y]` relative to the page, from its top left corner."""
    places = ((index(place.get("page")), place) for place in objects(raw))
    return tuple(
        Location(page=page + 1, polygon=polygon(place.get("polygon")))
        for page, place in places
        if page is not None
    )


# ---------------------------------------------------------------------------------------------------- texts


def _pages(raw: list[Any]) -> tuple[Page, ...]:
    return tuple(Page(number=number, text=_content(page)) for number, page in enumerate(raw, start=1))


def _words(raw: list[Any]) -> Iterator[TextBlock]:
    """The words of an OCR: the only pieces of a page that have a place."""
    for number, page in enumerate(raw, start=1):
        for word in objects(mapping(page).get("words")):
            if content := text(word.get("content")):
                place = Location(page=number, polygon=polygon(word.get("polygon")))
                yield TextBlock(kind="word", text=content, location=place)


def _content(page: object) -> str | None:
    content = mapping(page).get("content")
    return content if isinstance(content, str) else None


def _joined(pages: Iterable[Page]) -> str | None:
    """All pages' text, parted by an empty line as in the official `raw_texts.txt`; None without any."""
    texts = [page.text for page in pages if page.text is not None]
    return "\n\n".join(texts) if texts else None
