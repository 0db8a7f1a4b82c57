"""Unsiloed's submit routes: parse, extract, classify, split.

Sources: Unsiloed docs, pages of the four products; unsiloed-sdk 0.1.7, `client.py` (fields as they are sent).
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from prefect_docjobs.simulator.backend import Backend
from prefect_docjobs.simulator.extraction_schema import InvalidQuestion, from_json_schema
from prefect_docjobs.simulator.forms import Form, UnreadableBody, read_form
from prefect_docjobs.simulator.jobs import Job, Source
from prefect_docjobs.simulator.reading import UnreadableDocument
from prefect_docjobs.simulator.unsiloed.errors import Errors
from prefect_docjobs.simulator.unsiloed.labels import Category
from prefect_docjobs.simulator.unsiloed.results import CLASSIFY, EXTRACT, PARSE, SPLIT, Task
from prefect_docjobs.simulator.unsiloed.views import NAME, timestamp

_MODELS = frozenset({"alpha", "beta", "gamma", "delta"})


@dataclass(frozen=True)
class _Inlet:
    """How a product names the fields that hold the document."""

    product: str
    file: str
    url: str


_PARSE = _Inlet(PARSE, "file", "url")
_EXTRACT = _Inlet(EXTRACT, "pdf_file", "file_url")
_CLASSIFY = _Inlet(CLASSIFY, "pdf_file", "file_url")
_SPLIT = _Inlet(SPLIT, "file", "file_url")


class Submits:
    """Every way to hand in a document."""

    def __init__(self, backend: Backend, errors: Errors) -> None:
        self._backend = backend
        self._errors = errors

    async def parse(self, request: Request) -> Response:
        """`POST /parse`."""
        form = await self._form(request)
        source = self._source(request, form, _PARSE)
        if self._is_blocked(source):
            return JSONResponse(_PII_BLOCKED)
        task = Task(_origin(request), merge_tables=_is_on(form, "merge_tables"))
        job = self._accept(request, _PARSE, source, task)
        body = {
            "job_id": job.id,
            "status": "Starting",
            "file_name": source.name,
            "created_at": timestamp(self._backend, job.created_at),
            "message": f"Task created. Poll GET /parse/{job.id} for the result.",
            "credit_used": task.credits,
            "quota_remaining": self._remaining(),
            "merge_tables": task.merge_tables,
        }
        return JSONResponse(body)

    async def extract(self, request: Request) -> Response:
        """`POST /v2/extract`."""
        form = await self._form(request)
        source = self._source(request, form, _EXTRACT)
        task = self._extraction_task(request, form)
        if self._is_blocked(source):
            return JSONResponse(_PII_BLOCKED)
        job = self._accept(request, _EXTRACT, source, task)
        return self._taken(job, "queued", 200)

    async def classify(self, request: Request) -> Response:
        """`POST /classify`."""
        return await self._labelled(request, _CLASSIFY)

    async def split(self, request: Request) -> Response:
        """`POST /splitter`."""
        return await self._labelled(request, _SPLIT)

    async def usage(self, _request: Request) -> Response:
        """`GET /org/get_usage`; the keys are those of the quota in HTTP 402."""
        limit, remaining = self._backend.settings.unsiloed.quota, self._remaining()
        return JSONResponse({"current": limit - remaining, "limit": limit, "remaining": remaining})

    async def _labelled(self, request: Request, inlet: _Inlet) -> Response:
        form = await self._form(request)
        source = self._source(request, form, inlet)
        task = Task(_origin(request), categories=self._categories(request, form))
        return self._taken(self._accept(request, inlet, source, task), "processing", 202)

    def _taken(self, job: Job, status: str, code: int) -> Response:
        message = "Your job has been accepted"
        body = {"job_id": job.id, "status": status, "message": message, "quota_remaining": self._remaining()}
        return JSONResponse(body, status_code=code)

    # What is asked

    async def _form(self, request: Request) -> Form:
        try:
            return await read_form(request)
        except UnreadableBody as error:
            raise self._errors.rejected(request, 400, str(error)) from error

    def _source(self, request: Request, form: Form, inlet: _Inlet) -> Source:
        file, url = form.files.get(inlet.file), form.text(inlet.url)
        if file is None and url is None:
            raise self._errors.invalid(request, inlet.file, "Field required")
        if file is not None and url is not None:
            raise self._errors.rejected(request, 400, f"Provide either {inlet.file} or {inlet.url}, not both")
        if file is None:
            return self._linked(request, inlet, url or "")
        if not file.data:
            raise self._errors.rejected(request, 400, "The file is empty")
        most = self._backend.settings.unsiloed.most_bytes
        if len(file.data) > most:
            raise self._errors.too_large(len(file.data), most)
        return file

    def _linked(self, request: Request, inlet: _Inlet, url: str) -> Source:
        if not url.startswith(("https://", "http://")):
            raise self._errors.invalid(request, inlet.url, "The URL must be http or https", url)
        return Source.from_url(url)

    def _extraction_task(self, request: Request, form: Form) -> Task:
        model = form.text("model")
        if model is not None and model not in _MODELS:
            raise self._errors.invalid(request, "model", "Input should be alpha, beta, gamma or delta", model)
        schema = self._json(request, form, "schema_data")
        try:
            wanted = from_json_schema(schema)
        except InvalidQuestion as error:
            raise self._errors.invalid(request, "schema_data", str(error), schema) from error
        return Task(_origin(request), schema=schema, wanted=wanted, cited=_is_on(form, "enable_citations"))

    def _categories(self, request: Request, form: Form) -> tuple[Category, ...]:
        given = self._json(request, form, "categories")
        named = [each if isinstance(each, dict) else {} for each in given] if isinstance(given, list) else []
        categories = [
            Category(each["name"], str(each.get("description") or ""))
            for each in named
            if isinstance(each.get("name"), str) and each["name"]
        ]
        if not categories or len(categories) != len(named):
            raise self._errors.invalid(request, "categories", "Every category needs a name", given)
        return tuple(categories)

    def _json(self, request: Request, form: Form, field: str) -> Any:
        text = form.text(field)
        if text is None:
            raise self._errors.invalid(request, field, "Field required")
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self._errors.invalid(request, field, "Input should be valid JSON", text) from error

    # What it costs

    def _accept(self, request: Request, inlet: _Inlet, source: Source, task: Task) -> Job:
        limit, spent = self._backend.settings.unsiloed.quota, self._spent()
        if spent >= limit:
            raise self._errors.without_quota(request, limit, spent)
        job = self._backend.submit(NAME, inlet.product, source, {"task": task})
        task.credits = self._pages(job)
        task.spent = spent + task.credits
        return job

    def _pages(self, job: Job) -> int:
        try:
            return len(self._backend.read(job).pages)
        except UnreadableDocument:
            return 1

    def _spent(self) -> int:
        """What all jobs have cost, as the last one knows it; a reset of the backend starts again at 0."""
        total, _ = self._backend.page(NAME, 0, 0)
        _, last = self._backend.page(NAME, max(0, total - 1), 1)
        return Task.of(last[0]).spent if last else 0

    def _remaining(self) -> int:
        return max(0, self._backend.settings.unsiloed.quota - self._spent())

    def _is_blocked(self, source: Source) -> bool:
        """Whether personal data is found: always the same for the same document."""
        settings = self._backend.settings
        draw = random.Random(f"{settings.seed}/pii/{source.content}").random()  # noqa: S311  (repeatable)
        return draw < settings.unsiloed.pii_blocked_share


_PII_BLOCKED = {
    "status": "pii_blocked",
    "blocked": True,
    "job_id": None,
    "reason": "pii_detected",
    "message": "The document was not processed because it contains personal data",
}


def _origin(request: Request) -> str:
    return str(request.base_url)


def _is_on(form: Form, field: str) -> bool:
    return str(form.first(field)).lower() == "true"
