"""NuMind's jobs, results, projects, files and documents as its answers show them.

Sources: JobsApi.md of the numind SDK; models `JobStatusResponse`, `StructuredExtractionResponse`,
`ContentExtractionResponse`, `JobReportResponse` and `StructuredProjectResponse` of numind 0.4.2,
`JobResponse`, `ProjectResponse`, `FileResponse` and `DocumentResponse` of 0.2.0. The two disagree on the
types of some settings; a project with `instructions`, which only the newer SDK sends, shows the newer types.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prefect_docjobs.simulator.backend import Backend, Job, Phase, Source
from prefect_docjobs.simulator.extraction_schema import Wanted, answered, plain
from prefect_docjobs.simulator.reading.document import DocumentRead
from prefect_docjobs.simulator.reading.media import media_type_of
from prefect_docjobs.simulator.reading.segments import markdown_of

STRUCTURED = "structured-extraction"
CONTENT = "content-extraction"
OWNER = "user-simulator"

# Only `completed` is written down anywhere; `running` and `failed` are seen in the SDK's own tests.
_WORDS = {
    Phase.QUEUED: "running",
    Phase.PROCESSING: "running",
    Phase.SUCCEEDED: "completed",
    Phase.FAILED: "failed",
    Phase.CANCELLED: "cancelled",
}
_ERROR_CODES = {"chance": "InferenceError", "unreadable": "InvalidDocument", "unknown_url": "InvalidDocument"}
_TRUNCATED = {"message": "The model did not finish its output.", "errorCode": "OutputTruncated"}
_SETTINGS: dict[str, object] = {
    "temperature": 0.0,
    "rasterizationDPI": 150,
    "maxOutputTokens": 0,
    "maxExampleTokenNumber": 64_000,
    "maxExampleNumber": 0,
    "minExampleSimilarity": 0.0,
}
_NEWER_SETTINGS = {
    **_SETTINGS,
    "maxOutputTokens": "0",
    "maxExampleNumber": "0",
    "enableThinking": False,
    "thinkingTokenBudget": "automatic",
    "loopDetection": True,
    "randomSeed": "automatic",
    "imageWidth": "automatic",
}


@dataclass(frozen=True)
class Options:
    """What a job extracts, and how."""

    wanted: Wanted | None
    timeout_seconds: int
    random_seed: int


@dataclass(frozen=True)
class Upload:
    """A file, or the document that was made of one (`file_id`) or of text."""

    id: str
    source: Source
    created_at: str
    file_id: str = ""


def timestamp(backend: Backend, at: float) -> str:
    """A clock reading as the service writes dates."""
    return backend.wall(at).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def status_body(backend: Backend, job: Job) -> dict[str, Any]:
    """`JobStatusResponse`."""
    now = backend.now()
    ended, started = job.ended_at(now), job.started_at(now)
    return {
        "id": job.id,
        "jobType": job.product,
        "status": _WORDS[job.phase(now)],
        "ownerUser": OWNER,
        "ownerOrganization": None,
        "startedAt": timestamp(backend, job.created_at if started is None else started),
        "completedAt": None if ended is None else timestamp(backend, ended),
        "createdAt": timestamp(backend, job.created_at),
        "updatedAt": timestamp(backend, job.updated_at(now)),
        "timeoutSeconds": job.options.timeout_seconds,
    }


def job_body(backend: Backend, job: Job, read: DocumentRead | None) -> dict[str, Any]:
    """`JobResponse`; with a document its output, as JSON inside a JSON string."""
    body = {**status_body(backend, job), "inputData": "{}"}
    if read is not None:
        body["outputData"] = json.dumps(output_body(backend, job, read))
    if job.failure and job.phase(backend.now()) is Phase.FAILED:
        body["errorMessage"] = job.failure.detail
        body["errorCode"] = _ERROR_CODES[job.failure.reason]
    return body


def output_body(backend: Backend, job: Job, read: DocumentRead) -> dict[str, Any]:
    """The typed result of a job that has succeeded."""
    wanted = job.options.wanted
    if job.product == CONTENT or wanted is None:
        markdown = markdown_of(read)
        return {"result": markdown, **_measures(job, read, markdown)}
    result = plain(answered(read, wanted))
    raw = json.dumps(result, ensure_ascii=False)
    draw = backend.rng("truncated", job.source.content, job.index).random()
    truncated = draw < backend.settings.numind.truncated_share
    if truncated:
        result, raw = _first_half(result), raw[: len(raw) // 2]
    return {
        "result": result,
        **_measures(job, read, raw),
        "error": _TRUNCATED if truncated else None,
        "documentInfo": None,
        "selectedExamples": [],
        "isTruncated": truncated,
    }


def _first_half(result: Any) -> Any:
    """What post-processing would recover of an object that breaks off in the middle."""
    if not isinstance(result, dict):
        return result
    kept = (len(result) + 1) // 2
    return {name: value if index < kept else None for index, (name, value) in enumerate(result.items())}


def _measures(job: Job, read: DocumentRead, raw: str) -> dict[str, Any]:
    """What every typed result says beside its result. A token is taken for four characters."""
    spent, given = 1 + len(raw) // 4, 1 + len(read.text) // 4
    return {
        "thinkingTrace": None,
        "rawModelOutput": raw,
        "outputTokens": spent,
        "inputTokens": given,
        "totalTokens": spent + given,
        "logprobs": round(-0.002 * spent, 4),
        "outputTokenProbability": 0.998,
        "randomSeed": job.options.random_seed,
        "isTruncated": False,
    }


def reports_body(backend: Backend, job: Job) -> list[dict[str, Any]]:
    """The post-processing reports of a job that has succeeded: one."""
    if job.phase(backend.now()) is not Phase.SUCCEEDED:
        return []
    status = status_body(backend, job)
    return [
        {
            "jobId": job.id,
            "parentJobId": None,
            "jobType": job.product,
            "jobIndex": 0,
            "report": {"repairs": [], "error": None, "usedFallback": False},
            "createdAt": status["createdAt"],
            "updatedAt": status["updatedAt"],
        }
    ]


def project_body(sent: Mapping[str, Any], created_at: str) -> dict[str, Any]:
    """`ProjectResponse`, or `StructuredProjectResponse` of the newer SDK, for what a client has sent."""
    newer = isinstance(sent.get("instructions"), str)
    return {
        "id": str(uuid.uuid4()),
        "name": str(sent.get("name", "")),
        "description": str(sent.get("description", "")),
        "template": sent.get("template") or {},
        **({"instructions": sent["instructions"]} if newer else {}),
        "ownerUser": OWNER,
        "createdAt": created_at,
        "updatedAt": created_at,
        "lockState": False,
        "shared": False,
        "settings": _NEWER_SETTINGS if newer else _SETTINGS,
    }


def file_body(upload: Upload) -> dict[str, Any]:
    """`FileResponse`."""
    return {
        "fileId": upload.id,
        "fileName": upload.source.name,
        "ownerUser": OWNER,
        "contentType": media_type_of(upload.source.data or b""),
        "createdAt": upload.created_at,
    }


def document_body(upload: Upload) -> dict[str, Any]:
    """`DocumentResponse`."""
    data = upload.source.data or b""
    media_type = media_type_of(data)
    info: dict[str, object] = {
        "documentId": upload.id,
        "fileId": upload.file_id,
        "fileName": upload.source.name,
    }
    if media_type == "text/plain":
        info |= {"text": data.decode("utf-8", "replace"), "type": "text"}
    else:
        info |= {"dpi": 150, "partCount": 1, "type": "image"}
    return {
        "docInfo": info,
        "ownerUser": OWNER,
        "contentType": media_type,
        "createdAt": upload.created_at,
    }
