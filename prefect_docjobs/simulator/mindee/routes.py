"""The routes of the simulated Mindee V2 API, and what their requests may hold.

=========================================  ============================================================
``GET /v2/jobs/{job_id}``                  200, or 302 to the result unless ``redirect=false``
``GET /v2/products/{slug}/results/{id}``   the result; also ``/v2/inferences/{id}`` for extraction
``POST /v2/products/{slug}/enqueue``       202; also ``/v2/inferences/enqueue`` for extraction
``GET /v2/search/models``                  one model per product
=========================================  ============================================================

Source: Mindee V2 OpenAPI, ``POST /v2/products/{slug}/enqueue``; parameters of the mindee 5.4.0 SDK.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from prefect_docjobs.simulator.backend import Backend, Job, Phase, Source
from prefect_docjobs.simulator.forms import Form, UnreadableBody, decode_base64, read_form
from prefect_docjobs.simulator.mindee.errors import error_response, invalid_field
from prefect_docjobs.simulator.mindee.payloads import (
    NAME,
    PRODUCTS,
    Options,
    job_body,
    model_body,
    push_body,
    result_body,
    result_url,
)
from prefect_docjobs.simulator.reading.media import media_type_of
from prefect_docjobs.simulator.service import Endpoint, Service, ServiceError, WebhookCall, signed_body

SIGNATURE_HEADER = "X-Signature"  # docs.mindee.com, process-the-response
# docs.mindee.com, technical limitations
MEDIA_TYPES = frozenset(
    {"application/pdf", "image/jpeg", "image/png", "image/webp", "image/tiff", "image/heic", "image/heif"}
)
_FLAGS = ("rag", "raw_text", "polygon", "confidence")
_LONGEST_URL = 2048
_SHORTEST_BASE64 = 15
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def service(backend: Backend) -> Service:
    """The Mindee V2 service of a simulator."""
    routes = _Routes(backend)
    return Service(
        name=NAME,
        prefixes=("/v2/jobs", "/v2/products", "/v2/inferences", "/v2/search"),
        admits=lambda request, api_key: request.headers.get("authorization") == api_key,
        error_response=error_response,
        endpoints=(
            Endpoint("GET", "/v2/jobs/{job_id}", routes.status, "status"),
            Endpoint("GET", "/v2/products/{slug}/results/{inference_id}", routes.result, "result"),
            Endpoint("POST", "/v2/products/{slug}/enqueue", routes.enqueue, "submit"),
            Endpoint("POST", "/v2/inferences/enqueue", routes.enqueue, "submit"),
            Endpoint("GET", "/v2/inferences/{inference_id}", routes.result, "result"),
            Endpoint("GET", "/v2/search/models", routes.models, None),
        ),
        webhook_calls=routes.webhook_calls,
    )


class _Routes:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def enqueue(self, request: Request) -> Response:
        slug = _slug(request)
        try:
            form = await read_form(request)
        except UnreadableBody as error:
            raise ServiceError(400, str(error)) from error
        extraction = slug == "extraction"
        options = Options(
            model_id=_model_id(form),
            alias=form.text("alias"),
            webhook_ids=_webhook_ids(form),
            flags=_flags(form) if extraction else {},
            text_context=form.text("text_context") if extraction else None,
            fields=_replacement_fields(form) if extraction else None,
            base_url=str(request.base_url).rstrip("/"),
        )
        source = _source(form, check_media_type=self._backend.settings.refuse_media_types)
        job = self._backend.submit(NAME, slug, source, options)
        # Processing even if the job has ended by now: the answer shows what was enqueued.
        return JSONResponse({"job": job_body(self._backend, job, ended=False)}, status_code=202)

    async def status(self, request: Request) -> Response:
        job = self._job(request, "job_id")
        redirect = _boolean(request.query_params.get("redirect", "true"))
        if redirect is None:
            raise invalid_field("redirect", "'redirect' must be a boolean")
        phase = self._backend.observe(job)
        answer = JSONResponse({"job": job_body(self._backend, job, ended=phase.is_terminal)})
        if phase is Phase.SUCCEEDED and redirect:
            answer.status_code = 302
            answer.headers["Location"] = result_url(job)
        return answer

    async def result(self, request: Request) -> Response:
        job = self._job(request, "inference_id")
        read = self._backend.fetch(job) if job.product == _slug(request) else None
        if read is None:
            raise ServiceError(404)
        return JSONResponse(result_body(job, read))

    async def models(self, request: Request) -> Response:
        query = request.query_params
        page = _count(query.get("page"), 1, "page")
        per_page = _count(query.get("per_page"), 50, "per_page")
        known = [model_body(slug, self._backend.settings.webhooks.url) for slug in PRODUCTS]
        wanted = [
            model
            for model in known
            if query.get("name", "").lower() in model["name"].lower()
            and query.get("model_type", model["model_type"]) == model["model_type"]
        ]
        pagination = {
            "per_page": per_page,
            "page": page,
            "total_items": len(wanted),
            "total_pages": math.ceil(len(wanted) / per_page),
            "total_items_unfiltered": len(known),
        }
        models = wanted[(page - 1) * per_page : page * per_page]
        return JSONResponse({"models": models, "pagination": pagination})

    def webhook_calls(self, job: Job) -> Sequence[WebhookCall]:
        """A call to each webhook that the submit named, signed over the body as sent."""
        options: Options = job.options
        if not options.webhook_ids:
            return ()
        secret = self._backend.settings.webhooks.secret
        call = signed_body(push_body(self._backend, job), SIGNATURE_HEADER, secret)
        return [WebhookCall(webhook_id, *call) for webhook_id in options.webhook_ids]

    def _job(self, request: Request, name: str) -> Job:
        job_id = request.path_params[name]
        if not _is_uuid4(job_id):
            raise invalid_field(name, f"'{name}' must be a valid UUID format")
        job = self._backend.find(NAME, str(uuid.UUID(job_id)))
        if job is None:
            raise ServiceError(404)
        return job


def _slug(request: Request) -> str:
    """The product of a request; the older routes under ``/v2/inferences`` are extraction."""
    slug: str = request.path_params.get("slug", "extraction")
    if slug not in PRODUCTS:
        raise ServiceError(404, f"There is no product '{slug}'.")
    return slug


def _count(text: str | None, usual: int, name: str) -> int:
    if text is None:
        return usual
    if not text.isdecimal() or not int(text):
        raise invalid_field(name, f"'{name}' must be a positive integer")
    return int(text)


def _is_uuid4(text: object) -> bool:
    """Whether a value is the text of a UUID of version 4, in any of its usual spellings."""
    try:
        return isinstance(text, str) and uuid.UUID(text).version == 4
    except ValueError:
        return False


def _boolean(text: object) -> bool | None:
    """A boolean of a form, query or JSON body; None when it is none."""
    return text if isinstance(text, bool) else _BOOLEANS.get(str(text).lower())


def _model_id(form: Form) -> str:
    model_id = form.first("model_id")
    if not model_id:
        raise invalid_field("model_id", "'model_id' is required")
    if not _is_uuid4(model_id):
        raise invalid_field("model_id", "'model_id' must be a valid UUID format")
    return str(uuid.UUID(model_id))


def _webhook_ids(form: Form) -> list[str]:
    """Each value of ``webhook_ids`` is an id, ids with commas between them, or a JSON list."""
    ids: list[str] = []
    for sent in form.values.get("webhook_ids", []):
        is_json = isinstance(sent, str) and sent.lstrip().startswith("[")
        value = _json(sent, "webhook_ids") if is_json else sent
        if isinstance(value, list):
            ids.extend(map(str, value))
        else:
            ids.extend(part.strip() for part in str(value or "").split(",") if part.strip())
    if not all(map(_is_uuid4, ids)):
        raise invalid_field("webhook_ids", "'webhook_ids' must hold valid UUIDs")
    return list(dict.fromkeys(str(uuid.UUID(found)) for found in ids))


def _flags(form: Form) -> dict[str, bool]:
    flags: dict[str, bool] = {}
    for name in _FLAGS:
        sent = form.first(name)
        if sent is None or sent == "":
            continue
        flag = _boolean(sent)
        if flag is None:
            raise invalid_field(name, f"'{name}' must be a boolean")
        flags[name] = flag
    return flags


def _replacement_fields(form: Form) -> list[dict[str, Any]] | None:
    """The fields of ``data_schema``: ``{"replace": {"fields": […]}}`` as JSON, or as text holding JSON."""
    schema = form.first("data_schema")
    if isinstance(schema, str) and schema:
        schema = _json(schema, "data_schema")
    match schema:
        case {"replace": {"fields": [*fields]}} if all(map(_is_field, fields)):
            return fields
    if schema:
        raise invalid_field("data_schema", '\'data_schema\' must be {"replace": {"fields": [...]}}')
    return None


def _is_field(field: Any) -> bool:
    """Whether this is a field of a data schema, down to its nested fields."""
    if not isinstance(field, dict) or not isinstance(field.get("name"), str):
        return False
    nested = field.get("nested_fields") or []
    return isinstance(nested, list) and all(map(_is_field, nested))


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise invalid_field(name, f"'{name}' is not valid JSON") from error


def _source(form: Form, *, check_media_type: bool) -> Source:
    """The document: exactly one of ``file``, ``url`` and ``file_base64``."""
    given = [name for name in ("file", "url", "file_base64") if name in form.files or form.first(name)]
    if len(given) != 1:
        raise invalid_field("file", "Send exactly one of 'file', 'url' and 'file_base64'.")
    name = given[0]
    if name == "url":
        url = form.text("url") or ""
        if not url.startswith("https://") or len(url) > _LONGEST_URL:
            why = f"'url' must start with https:// and have at most {_LONGEST_URL} characters"
            raise invalid_field("url", why)
        return Source.from_url(url, form.text("filename"))
    if name == "file_base64":
        data = _decoded(form.text("file_base64") or "")
        usual_name = "file"
    else:
        file = form.files.get("file")
        if file is None or file.data is None:
            raise invalid_field("file", "'file' must be a file part of a multipart form")
        data, usual_name = file.data, file.name
    if not data:
        raise invalid_field(name, "The file is empty.")
    media_type = media_type_of(data)
    if check_media_type and media_type not in MEDIA_TYPES:
        raise invalid_field(name, f"Files of type {media_type} are not supported.")
    return Source.from_bytes(data, form.text("filename") or usual_name)


def _decoded(text: str) -> bytes:
    if len(text) < _SHORTEST_BASE64:
        why = f"'file_base64' must have at least {_SHORTEST_BASE64} characters"
        raise invalid_field("file_base64", why)
    try:
        return decode_base64(text)
    except UnreadableBody as error:
        raise invalid_field("file_base64", str(error)) from error
