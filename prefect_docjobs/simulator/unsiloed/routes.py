"""The routes of the simulated Unsiloed API: four products with a path each, and the generic `/jobs`.

`DELETE /jobs/{id}` is not among them: only a page of 2025-06 shows it. The webhook's payload is documented in
the FAQ of the Unsiloed docs, a signature is not, so pushes go out unsigned.

Sources: Unsiloed docs, pages of the four products; unsiloed-sdk 0.1.7, `client.py` (fields as they are sent).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from prefect_docjobs.simulator.backend import Backend, Job, Phase, Source
from prefect_docjobs.simulator.extraction_schema import InvalidSchema, from_json_schema
from prefect_docjobs.simulator.forms import Form, UnreadableBody, read_form
from prefect_docjobs.simulator.reading.pages import UnreadableDocument
from prefect_docjobs.simulator.service import Endpoint, Service, ServiceError, WebhookCall
from prefect_docjobs.simulator.unsiloed.errors import (
    error_response,
    invalid_field,
    not_found,
    quota_exceeded,
    too_large,
)
from prefect_docjobs.simulator.unsiloed.payloads import (
    CLASSIFY,
    EXTRACT,
    PARSE,
    SPLIT,
    Category,
    Options,
    failure_text,
    generic_body,
    generic_result,
    product_body,
    timestamp,
)

NAME = "unsiloed"
_PREFIXES = ("/jobs", "/parse", "/extract", "/classify", "/splitter", "/v2/extract", "/v2/parse", "/org")
_MODELS = frozenset({"alpha", "beta", "gamma", "delta"})
# How a product names the fields that hold the document: a file, or a URL.
_DOCUMENT_FIELDS = {
    PARSE: ("file", "url"),
    EXTRACT: ("pdf_file", "file_url"),
    CLASSIFY: ("pdf_file", "file_url"),
    SPLIT: ("file", "file_url"),
}
_PII_BLOCKED = {
    "status": "pii_blocked",
    "blocked": True,
    "job_id": None,
    "reason": "pii_detected",
    "message": "The document was not processed because it contains personal data",
}


def service(backend: Backend) -> Service:
    """The Unsiloed service of a simulator."""
    routes = _Routes(backend)

    def refuse(request: Request, error: ServiceError) -> Response:
        in_envelope = backend.settings.unsiloed.error_shape == "envelope"
        return error_response(request, error, in_envelope=in_envelope)

    return Service(
        name=NAME,
        prefixes=_PREFIXES,
        admits=_has_key,
        error_response=refuse,
        endpoints=(
            Endpoint("GET", "/extract/{job}", routes.product(EXTRACT), "status"),
            Endpoint("GET", "/parse/{job}", routes.product(PARSE), "status"),
            Endpoint("GET", "/classify/{job}", routes.product(CLASSIFY), "status"),
            Endpoint("GET", "/splitter/{job}", routes.product(SPLIT), "status"),
            Endpoint("GET", "/jobs/{job}", routes.job, "status"),
            Endpoint("GET", "/jobs/{job}/result", routes.job_result, "result"),
            Endpoint("POST", "/v2/extract", routes.extract, "submit"),
            Endpoint("POST", "/parse", routes.parse, "submit"),
            Endpoint("POST", "/classify", routes.classify, "submit"),
            Endpoint("POST", "/splitter", routes.split, "submit"),
            Endpoint("GET", "/org/get_usage", routes.usage, None),
        ),
        webhook_calls=routes.webhook_calls,
    )


def _has_key(request: Request, api_key: str) -> bool:
    """The docs show three ways to send a key; each of them is enough."""
    headers = request.headers
    sent = (headers.get("api-key"), headers.get("x-api-key"))
    return api_key in sent or headers.get("authorization") == f"Bearer {api_key}"


class _Routes:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    # Submits

    async def parse(self, request: Request) -> Response:
        form = await _form(request)
        source = self._source(request, form, PARSE)
        if self._is_blocked(source):
            return JSONResponse(_PII_BLOCKED)
        options = Options(str(request.base_url), merge_tables=_is_on(form, "merge_tables"))
        job = self._submit(request, PARSE, source, options)
        body = {
            "job_id": job.id,
            "status": "Starting",
            "file_name": source.name,
            "created_at": timestamp(self._backend, job.created_at),
            "message": f"Task created. Poll GET /parse/{job.id} for the result.",
            "credit_used": options.credits,
            "quota_remaining": self._remaining(),
            "merge_tables": options.merge_tables,
        }
        return JSONResponse(body)

    async def extract(self, request: Request) -> Response:
        form = await _form(request)
        source = self._source(request, form, EXTRACT)
        model = form.text("model")
        if model is not None and model not in _MODELS:
            raise invalid_field(request, "model", "Input should be alpha, beta, gamma or delta", model)
        schema = _json(request, form, "schema_data")
        try:
            wanted = from_json_schema(schema)
        except InvalidSchema as error:
            raise invalid_field(request, "schema_data", str(error), schema) from error
        if self._is_blocked(source):
            return JSONResponse(_PII_BLOCKED)
        options = Options(
            str(request.base_url), schema=schema, wanted=wanted, cited=_is_on(form, "enable_citations")
        )
        return self._accepted(self._submit(request, EXTRACT, source, options), "queued", 200)

    async def classify(self, request: Request) -> Response:
        return await self._submit_labelled(request, CLASSIFY)

    async def split(self, request: Request) -> Response:
        return await self._submit_labelled(request, SPLIT)

    async def _submit_labelled(self, request: Request, product: str) -> Response:
        form = await _form(request)
        source = self._source(request, form, product)
        options = Options(str(request.base_url), categories=_categories(request, form))
        return self._accepted(self._submit(request, product, source, options), "processing", 202)

    def _accepted(self, job: Job, status: str, code: int) -> Response:
        message = "Your job has been accepted"
        body = {"job_id": job.id, "status": status, "message": message, "quota_remaining": self._remaining()}
        return JSONResponse(body, status_code=code)

    def _source(self, request: Request, form: Form, product: str) -> Source:
        file_field, url_field = _DOCUMENT_FIELDS[product]
        file, url = form.files.get(file_field), form.text(url_field)
        if file is not None and url is not None:
            raise ServiceError(400, f"Provide either {file_field} or {url_field}, not both")
        if url is not None:
            if not url.startswith(("https://", "http://")):
                raise invalid_field(request, url_field, "The URL must be http or https", url)
            return Source.from_url(url)
        if file is None:
            raise invalid_field(request, file_field, "Field required")
        if not file.data:
            raise ServiceError(400, "The file is empty")
        most = self._backend.settings.unsiloed.most_bytes
        if len(file.data) > most:
            raise too_large(len(file.data), most)
        return file

    def _is_blocked(self, source: Source) -> bool:
        """Whether personal data is found: always the same for the same document."""
        share: float = self._backend.settings.unsiloed.pii_blocked_share
        return self._backend.rng("pii", source.content).random() < share

    def _submit(self, request: Request, product: str, source: Source, options: Options) -> Job:
        limit, spent = self._backend.settings.unsiloed.quota, self._spent()
        if spent >= limit:
            raise quota_exceeded(request, limit, spent)
        job = self._backend.submit(NAME, product, source, options)
        try:
            options.credits = len(self._backend.read(job).pages)
        except UnreadableDocument:
            options.credits = 1
        options.spent = spent + options.credits
        return job

    def _spent(self) -> int:
        """What all jobs have cost, kept with the last one; a reset starts again at 0."""
        total, _ = self._backend.page(NAME, 0, 0)
        _, last = self._backend.page(NAME, max(0, total - 1), 1)
        return last[0].options.spent if last else 0

    def _remaining(self) -> int:
        return max(0, self._backend.settings.unsiloed.quota - self._spent())

    async def usage(self, _request: Request) -> Response:
        """The keys are those of the quota in HTTP 402."""
        limit, remaining = self._backend.settings.unsiloed.quota, self._remaining()
        return JSONResponse({"current": limit - remaining, "limit": limit, "remaining": remaining})

    # Jobs and results

    def product(self, product: str) -> Callable[[Request], Awaitable[Response]]:
        """The endpoint `GET /{product}/{job}`, whose answer holds the result as soon as there is one."""

        async def show(request: Request) -> Response:
            job = self._job(request)
            if job.product != product:
                raise not_found(request, f"Job {job.id}")
            phase = self._backend.observe(job)
            read = self._backend.fetch(job)
            if phase is Phase.SUCCEEDED and read is None:
                raise not_found(request, f"Result for job {job.id}")
            return JSONResponse(product_body(self._backend, job, phase, read))

        return show

    async def job(self, request: Request) -> Response:
        job = self._job(request)
        return JSONResponse(generic_body(self._backend, job, self._backend.observe(job)))

    async def job_result(self, request: Request) -> Response:
        """400 while the job goes on, 500 when it has failed."""
        job = self._job(request)
        phase = job.phase(self._backend.now())
        if phase is Phase.FAILED:
            raise ServiceError(500, f"Job {job.id} failed: {failure_text(job)}")
        if phase is not Phase.SUCCEEDED:
            raise ServiceError(400, f"Job {job.id} is still processing")
        read = self._backend.fetch(job)
        if read is None:
            raise not_found(request, f"Result for job {job.id}")
        return JSONResponse(generic_result(job, read))

    def webhook_calls(self, job: Job) -> Sequence[WebhookCall]:
        """The one call of a job that has ended."""
        payload = {
            "job_id": job.id,
            "status": "failed" if job.failure else "completed",
            "result_url": f"{job.options.origin}jobs/{job.id}/result",
            "timestamp": timestamp(self._backend, job.ends_at),
        }
        return [WebhookCall("", json.dumps(payload).encode())]

    def _job(self, request: Request) -> Job:
        job_id = request.path_params["job"]
        job = self._backend.find(NAME, job_id)
        if job is None:
            raise not_found(request, f"Job {job_id}")
        return job


async def _form(request: Request) -> Form:
    try:
        return await read_form(request)
    except UnreadableBody as error:
        raise ServiceError(400, str(error)) from error


def _categories(request: Request, form: Form) -> tuple[Category, ...]:
    given = _json(request, form, "categories")
    named = [each if isinstance(each, dict) else {} for each in given] if isinstance(given, list) else []
    categories = [
        Category(each["name"], str(each.get("description") or ""))
        for each in named
        if isinstance(each.get("name"), str) and each["name"]
    ]
    if not categories or len(categories) != len(named):
        raise invalid_field(request, "categories", "Every category needs a name", given)
    return tuple(categories)


def _json(request: Request, form: Form, field: str) -> Any:
    text = form.text(field)
    if text is None:
        raise invalid_field(request, field, "Field required")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise invalid_field(request, field, "Input should be valid JSON", text) from error


def _is_on(form: Form, field: str) -> bool:
    return str(form.first(field)).lower() == "true"
