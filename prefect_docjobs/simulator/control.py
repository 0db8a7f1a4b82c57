"""The control routes: read and change the simulator while it runs. They need no key and never fail by chance.

==============================  ===========================================================================
GET /_simulator                 this table
GET /_simulator/report          what happened: submits by content, polls and fetches per job, bad answers
                                given, seconds from a job's end until a client knows it
GET /_simulator/settings        all settings
PATCH /_simulator/settings      change some: a JSON merge patch (RFC 7396), such as
                                {"faults": {"status": {"unavailable": 0.1}}}; null puts a default back
POST /_simulator/reset          forget jobs, counters and waiting pushes; a body patches the settings too
PUT /_simulator/documents       documents behind URLs, for URL submits:
                                {"https://...": {"base64": "..."}, or {"text": "..."},
                                or {"fields": {"total_amount": 118.5}}}; null takes one away
GET /_simulator/documents       the known URLs and the sizes of their documents in bytes
GET /_simulator/jobs            jobs with their counters; query: service, skip, limit (default 100)
POST /_simulator/pushes         send the webhook calls that are due now; only needed without a server
==============================  ===========================================================================
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from prefect_docjobs.simulator.backend import Backend, Job
from prefect_docjobs.simulator.forms import UnreadableBody, decode_base64
from prefect_docjobs.simulator.pushes import Pushes
from prefect_docjobs.simulator.settings import Settings

_ROOT = "/_simulator"


def control_routes(backend: Backend, pushes: Pushes) -> list[Route]:
    """The routes of the table above."""
    control = _Control(backend, pushes)
    return [
        Route(_ROOT, control.describe, methods=["GET"]),
        Route(f"{_ROOT}/report", control.report, methods=["GET"]),
        Route(f"{_ROOT}/settings", control.settings, methods=["GET"]),
        Route(f"{_ROOT}/settings", control.change_settings, methods=["PATCH"]),
        Route(f"{_ROOT}/reset", control.reset, methods=["POST"]),
        Route(f"{_ROOT}/documents", control.documents, methods=["GET"]),
        Route(f"{_ROOT}/documents", control.put_documents, methods=["PUT"]),
        Route(f"{_ROOT}/jobs", control.jobs, methods=["GET"]),
        Route(f"{_ROOT}/pushes", control.deliver_pushes, methods=["POST"]),
    ]


class _Control:
    def __init__(self, backend: Backend, pushes: Pushes) -> None:
        self._backend = backend
        self._pushes = pushes

    async def describe(self, _request: Request) -> Response:
        return PlainTextResponse(__doc__)

    async def report(self, _request: Request) -> Response:
        return JSONResponse(self._backend.report())

    async def settings(self, _request: Request) -> Response:
        return JSONResponse(self._backend.settings.model_dump(mode="json"))

    async def change_settings(self, request: Request) -> Response:
        self._backend.settings = await self._patched(request)
        return await self.settings(request)

    async def reset(self, request: Request) -> Response:
        self._backend.reset(await self._patched(request) if await request.body() else None)
        return await self.settings(request)

    async def documents(self, _request: Request) -> Response:
        return JSONResponse({url: len(data) for url, data in self._backend.documents.items()})

    async def put_documents(self, request: Request) -> Response:
        table = await _json_object(request)
        documents = {url: _document(url, entry) for url, entry in table.items() if entry is not None}
        self._backend.documents.update(documents)
        for url in table.keys() - documents.keys():
            self._backend.documents.pop(url, None)
        return await self.documents(request)

    async def jobs(self, request: Request) -> Response:
        service = request.query_params.get("service")
        jobs = [job for job in self._backend.all_jobs() if service in {None, job.service}]
        skip, limit = _number(request, "skip", 0), _number(request, "limit", 100)
        page = [self._job(job) for job in jobs[skip : skip + limit]]
        return JSONResponse({"total": len(jobs), "jobs": page})

    async def deliver_pushes(self, _request: Request) -> Response:
        return JSONResponse({"taken_up": await self._pushes.deliver_due()})

    async def _patched(self, request: Request) -> Settings:
        try:
            return self._backend.settings.merged(await _json_object(request))
        except ValidationError as error:
            raise HTTPException(400, str(error)) from error

    def _job(self, job: Job) -> dict[str, Any]:
        return {
            "id": job.id,
            "service": job.service,
            "product": job.product,
            "name": job.source.name,
            "content": job.source.content,
            "phase": job.phase(self._backend.now()).value,
            "failure": job.failure.reason if job.failure else None,
            "stuck": job.is_stuck,
            "polls": job.polls,
            "observations": job.observations,
            "fetches": job.fetches,
            "pushes": sum(push.attempts for push in job.pushes),
            "seen_done_by": job.seen_done_by,
            "detection_latency": job.detection_latency,
        }


def _document(url: str, entry: object) -> bytes:
    """The bytes of one entry of the table; ``fields`` become a text of ``Label: value`` lines."""
    match entry:
        case {"base64": str(text)}:
            try:
                return decode_base64(text)
            except UnreadableBody as error:
                raise HTTPException(400, f"{url}: {error}") from error
        case {"text": str(text)}:
            return text.encode()
        case {"fields": {**fields}}:
            lines = (f"{str(name).replace('_', ' ').title()}: {value}" for name, value in fields.items())
            return "\n".join(lines).encode()
    raise HTTPException(400, f"{url}: needs one of 'base64', 'text' and 'fields'.")


async def _json_object(request: Request) -> dict[str, Any]:
    try:
        document = json.loads(await request.body())
    except ValueError as error:
        raise HTTPException(400, "The body is not valid JSON.") from error
    if not isinstance(document, dict):
        raise HTTPException(400, "The body must be a JSON object.")
    return document


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not text.isdecimal():
        raise HTTPException(400, f"'{name}' must be a whole number.")
    return int(text)
