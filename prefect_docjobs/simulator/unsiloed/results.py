"""The results of Unsiloed's four products, and the same results as `/jobs/{id}/result` gives them.

Sources: Unsiloed docs, pages of parse, extract, classify and split; "Get Job Results" of 2025-06 for `/jobs`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from prefect_docjobs.simulator.extraction_schema import Answer, Wanted, answered
from prefect_docjobs.simulator.jobs import Job
from prefect_docjobs.simulator.markup import Segment, joined_markdown, segments_of
from prefect_docjobs.simulator.reading import DocumentRead, PageRead
from prefect_docjobs.simulator.unsiloed.fields import FieldShape, citations, points, rendered
from prefect_docjobs.simulator.unsiloed.labels import Category, kind_of_page, label_of

EXTRACT, PARSE, CLASSIFY, SPLIT = "extract", "parse", "classify", "split"
_SURE = 0.97
_NAMESPACE = uuid.UUID("6a1f6d3e-54f0-4f0e-9f0e-1d9b5f0c7a11")


@dataclass
class Task:
    """What a job was asked to do, and what it cost.

    Attributes:
        origin: Scheme, host and port that the client used, with a final slash.
        schema: The JSON Schema of an extraction.
        wanted: What that schema asks for.
        cited: Whether places were asked for.
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

    @classmethod
    def of(cls, job: Job) -> Task:
        """The task that a job carries."""
        task: Task = job.options["task"]
        return task


def extraction(job: Job, read: DocumentRead, shape: FieldShape) -> dict[str, Any]:
    """The `result` of an extraction."""
    return rendered(_answers(job, read), read, shape, cited=Task.of(job).cited)


def _answers(job: Job, read: DocumentRead) -> dict[str, Answer]:
    wanted = Task.of(job).wanted
    answer = answered(read, wanted) if wanted is not None else {}
    return answer if isinstance(answer, dict) else {}


def chunks(job: Job, read: DocumentRead) -> list[dict[str, Any]]:
    """The chunks of a parsed document: one for each page."""
    return [_chunk(job, read, page) for page in read.pages]


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
    return {
        "segment_id": segment_id,
        "segment_type": segment.kind,
        "content": segment.text,
        "page_number": page.number,
        "confidence": _SURE,
        "page_width": page.width,
        "page_height": page.height,
        "bbox": _placed(segment, read, ("left", "top", "width", "height")),
        "html": segment.html,
        "markdown": segment.markdown,
        "image": None,
        "ocr": [],
    }


def _placed(segment: Segment, read: DocumentRead, names: tuple[str, ...]) -> dict[str, float] | None:
    if segment.box is None:
        return None
    left, top, right, bottom = points(segment.box, read)
    ends = (round(right - left, 2), round(bottom - top, 2)) if "width" in names else (right, bottom)
    return dict(zip(names, (left, top, *ends), strict=True))


def classification(job: Job, read: DocumentRead) -> dict[str, Any]:
    """The `result` of a classification."""
    label = label_of(read.kind, read.text, Task.of(job).categories)
    return {
        "success": True,
        "classification": label.name,
        "confidence": label.confidence,
        "total_pages": len(read.pages),
        "processed_pages": len(read.pages),
        "page_results": [{"success": True, **_page_label(job, read, page)} for page in read.pages],
    }


def _page_label(job: Job, read: DocumentRead, page: PageRead) -> dict[str, Any]:
    label = label_of(kind_of_page(read, page.number), page.text, Task.of(job).categories)
    return {
        "page": page.number,
        "classification": label.name,
        "confidence": label.confidence,
        "raw_result": label.name,
    }


def splits(job: Job, read: DocumentRead) -> dict[str, Any]:
    """The `result` of a split: one file for each part of the document, none of which can be downloaded."""
    suffix = PurePath(job.source.name).suffix or ".pdf"
    files = []
    for index, (first, last, kind) in enumerate(read.sections):
        text = "\n".join(page.text for page in read.pages[first - 1 : last])
        label = label_of(kind, text, Task.of(job).categories)
        name = f"{snake_name(label.name)}-{first}-{last}{suffix}"
        files.append(
            {
                "name": name,
                "path": f"{job.id}/{name}",
                "type": label.name,
                "fileId": _id(job, "file", index),
                "full_path": f"{job.id}/{name}",
                "confidence_score": label.confidence,
            }
        )
    return {"success": True, "message": f"{len(files)} files", "files": files}


def snake_name(label: str) -> str:
    """A label as part of a file name."""
    return "-".join(label.lower().split()) or "part"


def _id(job: Job, *parts: object) -> str:
    """The same id each time that the same thing is asked for."""
    return str(uuid.uuid5(_NAMESPACE, "/".join(map(str, (job.id, *parts)))))


def generic(job: Job, read: DocumentRead) -> dict[str, Any]:
    """The body of `GET /jobs/{id}/result`."""
    took = round(job.ends_at - job.starts_at, 3)
    return {**_GENERIC[job.product](job, read), "processing_time": took}


def _generic_extraction(job: Job, read: DocumentRead) -> dict[str, Any]:
    answers = _answers(job, read)
    return {
        "data": rendered(answers, read, "bboxes", cited=True),
        "detections": [],
        "citations": citations(answers, read),
    }


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
                "bbox": _placed(segment, read, ("x1", "y1", "x2", "y2")),
                "confidence": _SURE,
                "element_types": [segment.kind],
                "word_count": len(segment.text.split()),
                "char_count": len(segment.text),
            }
            for index, (page, segment) in enumerate(pieces)
        ],
    }


def _generic_classification(job: Job, read: DocumentRead) -> dict[str, Any]:
    result = classification(job, read)
    return {
        "classification": result["classification"],
        "confidence": result["confidence"],
        "page_results": [_page_label(job, read, page) for page in read.pages],
        "total_pages": result["total_pages"],
        "processed_pages": result["processed_pages"],
    }


_GENERIC: Mapping[str, Callable[[Job, DocumentRead], dict[str, Any]]] = {
    EXTRACT: _generic_extraction,
    PARSE: _generic_parsing,
    CLASSIFY: _generic_classification,
    SPLIT: splits,
}
