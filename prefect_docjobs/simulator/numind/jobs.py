"""A NuMind job as its routes show it: status, whole job, typed result, stream.

Sources: JobsApi.md of the numind SDK; models `JobStatusResponse`, `StructuredExtractionResponse`,
`ContentExtractionResponse` and `JobReportResponse` of numind 0.4.2, `JobResponse` of 0.2.0.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import anyio

from prefect_docjobs.simulator.backend import Backend
from prefect_docjobs.simulator.extraction_schema import Wanted, answered, plain
from prefect_docjobs.simulator.jobs import Job, Phase
from prefect_docjobs.simulator.markup import markdown_of
from prefect_docjobs.simulator.numind.store import OWNER
from prefect_docjobs.simulator.reading import DocumentRead

NAME = "numind"
STRUCTURED = "structured-extraction"
CONTENT = "content-extraction"

_PING_SECONDS = 30.0
_HEARTBEAT = 1.0  # seconds within which an open stream notices a cancel
# Only `completed` is written down anywhere; `running` and `failed` are seen in the SDK's own tests.
_WORDS = {
    Phase.QUEUED: "running",
    Phase.PROCESSING: "running",
    Phase.SUCCEEDED: "completed",
    Phase.FAILED: "failed",
    Phase.CANCELLED: "cancelled",
}
_ERROR_CODES = {"chance": "InferenceError", "unreadable": "InvalidDocument", "unknown_url": "InvalidDocument"}


@dataclass(frozen=True)
class Task:
    """What a job was asked to do."""

    wanted: Wanted | None
    timeout_seconds: int
    random_seed: int

    @classmethod
    def of(cls, job: Job) -> Task:
        """The task that a job carries."""
        task: Task = job.options["task"]
        return task


class Jobs:
    """Renders jobs of one backend."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def timestamp(self, at: float) -> str:
        """A clock reading as the service writes dates."""
        return self._backend.wall(at).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def status(self, job: Job) -> dict[str, Any]:
        """`JobStatusResponse`."""
        now = self._backend.now()
        ended, started = job.ended_at(now), job.started_at(now)
        latest = next(at for at in (ended, started, job.created_at) if at is not None)
        return {
            "id": job.id,
            "jobType": job.product,
            "status": _WORDS[job.phase(now)],
            "ownerUser": OWNER,
            "ownerOrganization": None,
            "startedAt": self.timestamp(job.created_at if started is None else started),
            "completedAt": None if ended is None else self.timestamp(ended),
            "createdAt": self.timestamp(job.created_at),
            "updatedAt": self.timestamp(latest),
            "timeoutSeconds": Task.of(job).timeout_seconds,
        }

    def whole(self, job: Job, read: DocumentRead | None) -> dict[str, Any]:
        """`JobResponse`; with a document its output, as JSON inside a JSON string."""
        body = {**self.status(job), "inputData": "{}"}
        if read is not None:
            body["outputData"] = json.dumps(self.output(job, read))
        if job.failure and job.phase(self._backend.now()) is Phase.FAILED:
            body["errorMessage"] = job.failure.detail
            body["errorCode"] = _ERROR_CODES[job.failure.reason]
        return body

    def output(self, job: Job, read: DocumentRead) -> dict[str, Any]:
        """The typed result of a job that has succeeded."""
        wanted = Task.of(job).wanted
        if job.product == CONTENT or wanted is None:
            markdown = markdown_of(read)
            return {"result": markdown, **self._measures(job, read, markdown)}
        result = plain(answered(read, wanted))
        truncated = self._is_truncated(job)
        raw = json.dumps(result, ensure_ascii=False)
        return {
            "result": _first_half(result) if truncated else result,
            **self._measures(job, read, raw[: len(raw) // 2] if truncated else raw),
            "error": _TRUNCATED if truncated else None,
            "documentInfo": None,
            "selectedExamples": [],
            "isTruncated": truncated,
        }

    def _measures(self, job: Job, read: DocumentRead, raw: str) -> dict[str, Any]:
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
            "randomSeed": Task.of(job).random_seed,
            "isTruncated": False,
        }

    def _is_truncated(self, job: Job) -> bool:
        settings = self._backend.settings
        key = f"{settings.seed}/truncated/{job.source.content}/{job.index}"
        share: float = settings.numind.truncated_share
        return random.Random(key).random() < share  # noqa: S311  (repeatable)

    def reports(self, job: Job) -> list[dict[str, Any]]:
        """The post-processing reports of a job that has succeeded: one."""
        if job.phase(self._backend.now()) is not Phase.SUCCEEDED:
            return []
        status = self.status(job)
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

    async def stream(self, job: Job) -> AsyncIterator[str]:
        """Server-sent events: pings, then the whole job when it has ended, or `JobTimeout`."""
        deadline = job.created_at + Task.of(job).timeout_seconds
        ping_at = self._backend.now() + _PING_SECONDS
        while not job.phase(now := self._backend.now()).is_terminal:
            if now >= deadline:
                yield _event("error", _TIMED_OUT)
                return
            if now >= ping_at:
                yield _event("ping", None)
                ping_at = now + _PING_SECONDS
            await anyio.sleep(min(_HEARTBEAT, max(0.001, min(job.ends_at, ping_at, deadline) - now)))
        done = self._backend.observe(job, "stream") is Phase.SUCCEEDED
        # Listening is no fetch: nothing says that a result can be used up by it.
        yield _event("result", self.whole(job, self._backend.read(job) if done else None))


_TRUNCATED = {"message": "The model did not finish its output.", "errorCode": "OutputTruncated"}
_TIMED_OUT = {"code": "JobTimeout", "message": "The job did not complete within its timeout."}


def _event(name: str, data: Mapping[str, Any] | None) -> str:
    return f"event: {name}\ndata: {'' if data is None else json.dumps(data)}\n\n"


def _first_half(result: Any) -> Any:
    """What post-processing would recover of an object that breaks off in the middle."""
    if not isinstance(result, dict):
        return result
    kept = (len(result) + 1) // 2
    return {name: value if index < kept else None for index, (name, value) in enumerate(result.items())}
