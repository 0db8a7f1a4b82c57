"""Unsiloed's jobs and results as each of its routes shows them.

Sources: Unsiloed docs, pages of parse, extract, classify and split (`/parse`: capitals; the others: lower
case), "Get Job Status" and "Get Job Results" of 2025-06 (`/jobs`: upper case), extraction results of 2026-03
(`bboxes`, `page_no`); the service's newer OpenAPI and its cookbook (`score` as an object, `citation`,
`__value__`), its `LegacyField` (`value` and `score` only); unsiloed-sdk 0.1.7, `models.py`. The scores are
the simulator's own: 0.99 where the place of a value is known, 0.9 where it is not, 0 without a value.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from prefect_docjobs.simulator.backend import Backend, Job, Phase
from prefect_docjobs.simulator.extraction_schema import Answer, Wanted, answered, plain
from prefect_docjobs.simulator.reading.document import DocumentRead
from prefect_docjobs.simulator.reading.pages import Box, Found, PageRead
from prefect_docjobs.simulator.reading.segments import Segment, joined_markdown, segments_of
from prefect_docjobs.simulator.reading.vocabulary import folded, kind_of_title, snake_case

EXTRACT, PARSE, CLASSIFY, SPLIT = "extract", "parse", "classify", "split"

_TYPES = {EXTRACT: "extraction", PARSE: "parsing", CLASSIFY: "classification", SPLIT: "splitting"}
_WORDS = {
    Phase.QUEUED: "queued",
    Phase.PROCESSING: "processing",
    Phase.SUCCEEDED: "completed",
    Phase.FAILED: "failed",
}
_PARSE_WORDS = {**{phase: word.title() for phase, word in _WORDS.items()}, Phase.SUCCEEDED: "Succeeded"}
_LABEL_WORDS = {**_WORDS, Phase.QUEUED: "processing"}
_GENERIC_WORDS = {**{phase: word.upper() for phase, word in _WORDS.items()}, Phase.QUEUED: "queued"}
_SURE = 0.97
_NAMESPACE = uuid.UUID("6a1f6d3e-54f0-4f0e-9f0e-1d9b5f0c7a11")


@dataclass(frozen=True)
class Category:
    """One of the labels to choose from."""

    name: str
    description: str = ""


@dataclass
class Options:
    """What a submit requested, and what its job cost.

    Attributes:
        origin: Scheme, host and port that the client used, with a final slash.
        schema: The JSON Schema of an extraction.
        wanted: The same, parsed.
        cited: Whether places were requested.
        categories: The labels to choose from.
        merge_tables: Echoed by parse.
        credits: What the job cost: its pages, one at least.
        spent: What all jobs so far have cost, this one included.
    """

    origin: str
    schema: Mapping[str, Any] | None = None
    wanted: Wanted | None = None
    cited: bool = False
    categories: tuple[Category, ...] = ()
    merge_tables: bool = False
    credits: int = 1
    spent: int = 0


# Jobs


def timestamp(backend: Backend, at: float) -> str:
    """A clock reading as the service writes dates."""
    return backend.wall(at).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def failure_text(job: Job) -> str:
    """Why a job failed."""
    return job.failure.detail if job.failure else "Processing failed"


def generic_body(backend: Backend, job: Job, phase: Phase) -> dict[str, Any]:
    """`GET /jobs/{id}`."""
    sha256 = job.source.sha256
    body = {
        "id": job.id,
        "status": _GENERIC_WORDS[phase],
        "type": _TYPES[job.product],
        **_dates(backend, job),
        "pdf_name": job.source.name,
        "pdf_hash": f"sha256:{sha256}" if sha256 else None,
        "user_id": "user_simulator",
    }
    return body if phase is not Phase.FAILED else {**body, "error": failure_text(job)}


def product_body(backend: Backend, job: Job, phase: Phase, read: DocumentRead | None) -> dict[str, Any]:
    """`GET /{product}/{id}`; `read` is the document once its result is given out, else None."""
    return _PRODUCT_BODIES[job.product](backend, job, phase, read)


def _parse_body(backend: Backend, job: Job, phase: Phase, read: DocumentRead | None) -> dict[str, Any]:
    options, now = job.options, backend.now()
    started, ended = job.started_at(now), job.ended_at(now)
    chunks = None if read is None else [_chunk(job, read, page) for page in read.pages]
    body: dict[str, Any] = {
        "job_id": job.id,
        "status": _PARSE_WORDS[phase],
        "created_at": timestamp(backend, job.created_at),
        "started_at": None if started is None else timestamp(backend, started),
        "finished_at": None if ended is None else timestamp(backend, ended),
        "metadata": {},
        "total_chunks": len(chunks or ()),
        "page_count": None if read is None else len(read.pages),
        "chunks": chunks,
        "pdf_url": None,
        "file_name": job.source.name,
        "file_type": None if read is None else read.media_type,
        "file_url": job.source.url,
        "credit_used": options.credits,
        "merge_tables": options.merge_tables,
        "message": None,
    }
    if phase is Phase.FAILED:
        body[backend.settings.unsiloed.parse_failure_key] = failure_text(job)
    return body


def _extract_body(backend: Backend, job: Job, phase: Phase, read: DocumentRead | None) -> dict[str, Any]:
    settings, schema = backend.settings.unsiloed, job.options.schema or {}
    in_review = backend.rng("review", job.source.content, job.index).random() < settings.review_share
    result = None
    if read is not None:
        result = _rendered(_answers(job, read), read, settings.field_shape, cited=job.options.cited)
    return {
        "job_id": job.id,
        "status": "review" if phase is Phase.SUCCEEDED and in_review else _WORDS[phase],
        "file_name": job.source.name,
        "file_url": job.source.url,
        **_dates(backend, job),
        "metadata": {
            "order": list(schema.get("properties", ())),
            "schema": schema,
            "page_count": job.options.credits,
        },
        "result": result,
        "error": failure_text(job) if phase is Phase.FAILED else None,
    }


def _classify_body(_backend: Backend, job: Job, phase: Phase, read: DocumentRead | None) -> dict[str, Any]:
    result = None
    if read is not None:
        pages = [{"success": True, **page} for page in _page_labels(job, read)]
        result = {"success": True, **_classification(job, read), "page_results": pages}
    return {**_progress(job, phase), "result": result}


def _split_body(backend: Backend, job: Job, phase: Phase, read: DocumentRead | None) -> dict[str, Any]:
    categories = job.options.categories
    descriptions = {each.name: each.description for each in categories if each.description}
    return {
        **_progress(job, phase),
        "file_url": job.source.url,
        "file_name": job.source.name,
        "parameters": {
            "classes": [each.name for each in categories],
            "category_descriptions": descriptions,
        },
        "result": None if read is None else _splits(job, read),
        "quota_remaining": max(0, backend.settings.unsiloed.quota - job.options.spent),
    }


_PRODUCT_BODIES: Mapping[str, Callable[[Backend, Job, Phase, DocumentRead | None], dict[str, Any]]] = {
    EXTRACT: _extract_body,
    PARSE: _parse_body,
    CLASSIFY: _classify_body,
    SPLIT: _split_body,
}


def _progress(job: Job, phase: Phase) -> dict[str, Any]:
    return {
        "job_id": job.id,
        "status": _LABEL_WORDS[phase],
        "progress": "done" if phase is Phase.SUCCEEDED else _LABEL_WORDS[phase],
        "error": failure_text(job) if phase is Phase.FAILED else None,
    }


def _dates(backend: Backend, job: Job) -> dict[str, str]:
    return {
        "created_at": timestamp(backend, job.created_at),
        "updated_at": timestamp(backend, job.updated_at(backend.now())),
    }


# Results of `/jobs/{id}/result`


def generic_result(job: Job, read: DocumentRead) -> dict[str, Any]:
    """The body of `GET /jobs/{id}/result`."""
    took = round(job.ends_at - job.starts_at, 3)
    return {**_GENERIC_RESULTS[job.product](job, read), "processing_time": took}


def _generic_extraction(job: Job, read: DocumentRead) -> dict[str, Any]:
    answers = _answers(job, read)
    data = _rendered(answers, read, "bboxes", cited=True)
    return {"data": data, "detections": [], "citations": _citations(answers, read)}


def _generic_parsing(job: Job, read: DocumentRead) -> dict[str, Any]:
    pieces = [(page, segment) for page in read.pages for segment in segments_of(page)]
    sizes = [len(segment.text) for _, segment in pieces]
    return {
        "file_type": read.media_type,
        "strategy": "semantic",
        "total_chunks": len(pieces),
        "avg_chunk_size": round(sum(sizes) / len(sizes), 1) if sizes else 0,
        "chunks": [
            {
                "chunk_id": _id(job, "piece", index),
                "text": segment.text,
                "page_number": page.number,
                "bbox": _corners(segment.box, read, "x1", "y1", "x2", "y2"),
                "confidence": _SURE,
                "element_types": [segment.kind],
                "word_count": len(segment.text.split()),
                "char_count": len(segment.text),
            }
            for index, (page, segment) in enumerate(pieces)
        ],
    }


def _generic_classification(job: Job, read: DocumentRead) -> dict[str, Any]:
    return {**_classification(job, read), "page_results": _page_labels(job, read)}


def _splits(job: Job, read: DocumentRead) -> dict[str, Any]:
    """One file for each part of the document, none of which can be downloaded."""
    suffix = PurePath(job.source.name).suffix or ".pdf"
    files = []
    for index, (first, last, kind) in enumerate(read.sections):
        text = "\n".join(page.text for page in read.pages[first - 1 : last])
        label, confidence = _label(kind, text, job.options.categories)
        name = f"{'-'.join(label.lower().split()) or 'part'}-{first}-{last}{suffix}"
        files.append(
            {
                "name": name,
                "path": f"{job.id}/{name}",
                "type": label,
                "fileId": _id(job, "file", index),
                "full_path": f"{job.id}/{name}",
                "confidence_score": confidence,
            }
        )
    return {"success": True, "message": f"{len(files)} files", "files": files}


_GENERIC_RESULTS: Mapping[str, Callable[[Job, DocumentRead], dict[str, Any]]] = {
    EXTRACT: _generic_extraction,
    PARSE: _generic_parsing,
    CLASSIFY: _generic_classification,
    SPLIT: _splits,
}


def _id(job: Job, *parts: object) -> str:
    """The same id each time that the same thing is shown."""
    return str(uuid.uuid5(_NAMESPACE, "/".join(map(str, (job.id, *parts)))))


# Parse


def _chunk(job: Job, read: DocumentRead, page: PageRead) -> dict[str, Any]:
    segments = segments_of(page)
    embed = joined_markdown(segments)
    return {
        "chunk_id": _id(job, "chunk", page.number),
        "chunk_length": len(embed.split()),
        "embed": embed,
        "segments": [
            _segment(_id(job, "segment", page.number, index), segment, page, read)
            for index, segment in enumerate(segments)
        ],
    }


def _segment(segment_id: str, segment: Segment, page: PageRead, read: DocumentRead) -> dict[str, Any]:
    bbox = _corners(segment.box, read, "left", "top", "width", "height")
    if bbox is not None:
        bbox["width"] = round(bbox["width"] - bbox["left"], 2)
        bbox["height"] = round(bbox["height"] - bbox["top"], 2)
    return {
        "segment_id": segment_id,
        "segment_type": segment.kind,
        "content": segment.text,
        "page_number": page.number,
        "confidence": _SURE,
        "page_width": page.width,
        "page_height": page.height,
        "bbox": bbox,
        "html": segment.html,
        "markdown": segment.markdown,
        "image": None,
        "ocr": [],
    }


def _points(box: Box, read: DocumentRead) -> list[float]:
    """A box as left, top, right, bottom in points."""
    page = read.pages[box.page - 1]
    edges = (box.x0 * page.width, box.y0 * page.height, box.x1 * page.width, box.y1 * page.height)
    return [round(edge, 2) for edge in edges]


def _corners(box: Box | None, read: DocumentRead, *names: str) -> dict[str, float] | None:
    return None if box is None else dict(zip(names, _points(box, read), strict=True))


# Classify and split


def _classification(job: Job, read: DocumentRead) -> dict[str, Any]:
    label, confidence = _label(read.kind, read.text, job.options.categories)
    pages = len(read.pages)
    return {
        "classification": label,
        "confidence": confidence,
        "total_pages": pages,
        "processed_pages": pages,
    }


def _page_labels(job: Job, read: DocumentRead) -> list[dict[str, Any]]:
    rows = []
    for page in read.pages:
        kind = next(kind for first, last, kind in read.sections if first <= page.number <= last)
        label, confidence = _label(kind, page.text, job.options.categories)
        row = {"page": page.number, "classification": label, "confidence": confidence, "raw_result": label}
        rows.append(row)
    return rows


def _label(kind: str, text: str, categories: tuple[Category, ...]) -> tuple[str, float]:
    """The category named like the kind of document, else the one that the text mentions most, else a guess.

    Returns:
        Its name and the confidence, 0..1.
    """
    names = {category.name: snake_case(category.name) for category in categories}
    for name, plain_name in names.items():
        if kind != "document" and kind in {plain_name, plain_name.removesuffix("s"), kind_of_title(name)}:
            return name, 0.97
    folded_text = folded(text)

    def mentions(name: str) -> int:
        words = r"\W+".join(map(re.escape, names[name].split("_")))
        return len(re.findall(rf"\b{words}\b", folded_text))

    best = max(names, key=mentions)
    if mentions(best):
        return best, 0.8
    return next((name for name, plain_name in names.items() if plain_name == "other"), best), 0.35


# Extract


def _answers(job: Job, read: DocumentRead) -> dict[str, Answer]:
    wanted = job.options.wanted
    answer = answered(read, wanted) if wanted is not None else {}
    return answer if isinstance(answer, dict) else {}


def _rendered(answers: dict[str, Answer], read: DocumentRead, shape: str, *, cited: bool) -> dict[str, Any]:
    """The `result` of an extraction in one of the documented shapes; only `newest` can leave places out."""
    if shape == "bboxes":
        scores = [_score(found) for found in _leaves(answers)]
        return {**_with_bboxes(answers, read), "min_confidence_score": min(scores, default=0.0)}
    if shape == "legacy":
        return {
            name: {"value": plain(each), "score": min(map(_score, _leaves(each)), default=0.0)}
            for name, each in answers.items()
        }
    return {name: _newest(each, read, cited=cited) for name, each in answers.items()}


def _citations(answer: Answer, read: DocumentRead, name: str = "") -> list[dict[str, Any]]:
    """The places of all values, as `/jobs/{id}/result` lists them."""
    if isinstance(answer, Found):
        if answer.box is None:
            return []
        place = {"page": answer.box.page, "bbox": _points(answer.box, read)}
        return [{"field": name, "text": answer.text, **place}]
    named = enumerate(answer) if isinstance(answer, list) else answer.items()
    return [each for key, inner in named for each in _citations(inner, read, f"{name}.{key}".lstrip("."))]


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
        rows = ((each, _newest(each, read, cited=cited)) for each in answer)
        return [{"__value__": row} if isinstance(each, Found) else row for each, row in rows]
    score, citation = _score(answer), None
    if cited and answer.box:
        page = read.pages[answer.box.page - 1]
        citation = {
            "bbox": _points(answer.box, read),
            "page": answer.box.page,
            "page_width": page.width,
            "page_height": page.height,
        }
    return {
        "value": answer.value,
        "score": {
            "grounding_score": score if cited else 0.0,  # nothing is grounded when citations are off
            "extraction_score": None if answer.value is None else score,
        },
        "citation": citation,
    }


def _with_bboxes(answer: Answer, read: DocumentRead) -> Any:
    if isinstance(answer, dict):
        return {name: _with_bboxes(each, read) for name, each in answer.items()}
    found = list(_leaves(answer))
    if isinstance(answer, Found):
        value: Any = answer.value
    else:
        value = [
            {**plain(row), **_places(list(_leaves(row)), read)} if isinstance(row, dict) else plain(row)
            for row in answer
        ]
    return {"score": min(map(_score, found), default=0.0), "value": value, **_places(found, read)}


def _places(found: list[Found], read: DocumentRead) -> dict[str, Any]:
    placed = [(each, each.box) for each in found if each.box is not None]
    bboxes = [
        {
            "bbox": _points(box, read),
            "text": each.text,
            "type": "Text",
            "confidence": _score(each),
            "page_width": read.pages[box.page - 1].width,
            "page_height": read.pages[box.page - 1].height,
        }
        for each, box in placed
    ]
    return {"bboxes": bboxes, "page_no": placed[0][1].page if placed else None}
