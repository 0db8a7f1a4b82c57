"""The routes of the simulated Mindee V1 API, below ``/v1/products/{account}/{product}/{version}``.

===================================  =====================================================
``GET …/documents/queue/{job_id}``   200 while waiting, processing or failed; 302 when done
``GET …/documents/{document_id}``    the document with its prediction
``POST …/predict_async``             202
===================================  =====================================================

Source: Mindee's "Asynchronous Prediction" page. The body of the queue's 302 is not published: it is an empty
JSON object here, and no client should read it. The version is taken with and without its ``v``; the mindee
SDK writes one, Mindee's page does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from prefect_docjobs.simulator.backend import Backend, Job, Phase, Source
from prefect_docjobs.simulator.forms import Form, UnreadableBody, decode_base64, read_form
from prefect_docjobs.simulator.mindee_v1.errors import error_response, invalid_document
from prefect_docjobs.simulator.mindee_v1.payloads import Options, document_body, job_body
from prefect_docjobs.simulator.reading.media import media_type_of
from prefect_docjobs.simulator.service import Endpoint, Service, ServiceError, WebhookCall, signed_body

NAME = "mindee-v1"
SIGNATURE_HEADER = "X-Mindee-Hmac-Signature"
# docs.mindee.com, V1 limitations
MEDIA_TYPES = frozenset(
    {"application/pdf", "image/jpeg", "image/png", "image/webp", "image/tiff", "image/heic", "image/heif"}
)
_ROOT = "/v1/products/{account}/{product}/{version}"


def service(backend: Backend) -> Service:
    """The Mindee V1 service of a simulator."""
    routes = _Routes(backend)
    return Service(
        name=NAME,
        prefixes=("/v1",),
        admits=lambda request, api_key: request.headers.get("authorization") == f"Token {api_key}",
        error_response=error_response,
        endpoints=(
            Endpoint("GET", f"{_ROOT}/documents/queue/{{job_id}}", routes.queue, "status"),
            Endpoint("GET", f"{_ROOT}/documents/{{document_id}}", routes.document, "result"),
            Endpoint("POST", f"{_ROOT}/predict_async", routes.enqueue, "submit"),
        ),
        webhook_calls=routes.webhook_calls,
    )


class _Routes:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def enqueue(self, request: Request) -> Response:
        try:
            source = _source(await read_form(request))
        except UnreadableBody as error:
            raise invalid_document(str(error)) from error
        media_type = None if source.data is None else media_type_of(source.data)
        if self._backend.settings.refuse_media_types and media_type not in {None, *MEDIA_TYPES}:
            raise invalid_document(f"Files of type {media_type} are not supported.")
        params, query = request.path_params, request.query_params
        on = {name for name, value in query.items() if value.lower() == "true"}
        options = Options(
            account=params["account"],
            version=params["version"].removeprefix("v"),
            full_text_ocr="full_text_ocr" in on,
            cropper="cropper" in on,
            rag="rag" in on,
        )
        job = self._backend.submit(NAME, params["product"], source, options)
        body = {**_envelope(request, 202, "job"), "job": job_body(self._backend, job, Phase.QUEUED)}
        return JSONResponse(body, status_code=202)

    async def queue(self, request: Request) -> Response:
        job = _own(request, self._backend.find(NAME, request.path_params["job_id"]))
        phase = self._backend.observe(job)
        if phase is Phase.SUCCEEDED:
            root = str(request.url).partition("/documents/queue/")[0]
            return JSONResponse({}, 302, headers={"Location": f"{root}/documents/{job.result_id}"})
        return JSONResponse({**_envelope(request, 200, "job"), "job": job_body(self._backend, job, phase)})

    async def document(self, request: Request) -> Response:
        job = _own(request, self._backend.find_result(NAME, request.path_params["document_id"]))
        read = self._backend.fetch(job)
        if read is None:
            raise ServiceError(404)
        envelope = _envelope(request, 200, "document", "job")
        return JSONResponse({**envelope, **document_body(self._backend, job, read)})

    def webhook_calls(self, job: Job) -> Sequence[WebhookCall]:
        """One call for each job, for V1 webhooks are set up for an account and not per request."""
        if job.failure is None:
            payload = document_body(self._backend, job, self._backend.read(job))
        else:
            payload = {"job": job_body(self._backend, job, Phase.FAILED)}
        secret = self._backend.settings.webhooks.secret
        return [WebhookCall("", *signed_body(payload, SIGNATURE_HEADER, secret))]


def _own(request: Request, job: Job | None) -> Job:
    """The job, if it was sent to the product that the path names."""
    params = request.path_params
    named = (params["account"], params["product"], params["version"].removeprefix("v"))
    if job is None or (job.options.account, job.product, job.options.version) != named:
        raise ServiceError(404)
    return job


def _source(form: Form) -> Source:
    """The ``document`` of an enqueue request: a file part, base64, or an https URL.

    Raises:
        UnreadableBody: There is none, it is empty, or it is something else.
    """
    source, text = form.files.get("document"), form.text("document")
    if source is None and text is None:
        raise UnreadableBody("This field is required.")
    if source is None and text is not None:
        if text.startswith("http://"):
            raise UnreadableBody("Only public https URLs are accepted.")
        if text.startswith("https://"):
            return Source.from_url(text)
        source = Source.from_bytes(decode_base64(text), "document")
    if source is None or not source.data:
        raise UnreadableBody("The submitted file is empty.")
    return source


def _envelope(request: Request, status_code: int, *resources: str) -> dict[str, Any]:
    return {
        "api_request": {
            "error": {},
            "resources": list(resources),
            "status": "success",
            "status_code": status_code,
            "url": str(request.url),
        }
    }
