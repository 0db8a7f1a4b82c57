"""The routes of the simulated Mindee V1 API.

Source: Mindee's "Asynchronous Prediction" page unless said otherwise. The body of the queue's 302 is not
published: it is an empty JSON object here, and no client should read it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypedDict, cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from prefect_docjobs.providers.base import sign
from prefect_docjobs.simulator.backend import Backend
from prefect_docjobs.simulator.forms import Form, UnreadableBody, decode_base64, read_form
from prefect_docjobs.simulator.jobs import Job, Phase, Source
from prefect_docjobs.simulator.mindee_v1.predictions import predict
from prefect_docjobs.simulator.reading import DocumentRead
from prefect_docjobs.simulator.reading.media import media_type_of
from prefect_docjobs.simulator.services import Endpoint, Letter, Refusal, Rejected, Service

NAME = "mindee-v1"
SIGNATURE_HEADER = "X-Mindee-Hmac-Signature"
# docs.mindee.com, V1 limitations
MEDIA_TYPES = frozenset(
    {"application/pdf", "image/jpeg", "image/png", "image/webp", "image/tiff", "image/heic", "image/heif"}
)
_ROOT = "/v1/products/{account}/{product}/{version}"
_WORDS = {
    Phase.QUEUED: "waiting",
    Phase.PROCESSING: "processing",
    Phase.SUCCEEDED: "completed",
    Phase.FAILED: "failed",
}
# Codes and messages of Mindee's published test data; where it has none, the HTTP reason phrase.
_ERRORS = {
    400: ("BadRequest", "Invalid request", "The request could not be understood."),
    401: ("Unauthorized", "Authorization required", "Invalid token provided"),
    404: ("NotFound", "Resource not found", "No such resource."),
    405: ("MethodNotAllowed", "Method Not Allowed", "This method is not allowed here."),
    429: ("TooManyRequests", "Too many requests", "Too Many Requests."),
    503: ("ServiceUnavailable", "Service Unavailable", "The service is temporarily unavailable."),
}


class Options(TypedDict):
    """What the simulated service keeps of an enqueue request; ``version`` without a leading ``v``."""

    account: str
    version: str
    full_text_ocr: bool
    cropper: bool
    rag: bool


def service(backend: Backend) -> Service:
    """The Mindee V1 half of the simulator; paths below ``/v1/products/{account}/{product}/{version}``.

    ===================================  =====================================================
    ``GET …/documents/queue/{job_id}``   200 while waiting, processing or failed; 302 when done
    ``GET …/documents/{document_id}``    the document with its prediction
    ``POST …/predict_async``             202
    ===================================  =====================================================

    The version is taken with and without its ``v``; the mindee SDK writes one, Mindee's page does not.
    """
    half = _MindeeV1(backend)
    return Service(
        name=NAME,
        prefixes=("/v1",),
        admits=lambda request, api_key: request.headers.get("authorization") == f"Token {api_key}",
        refuse=_refuse,
        endpoints=(
            Endpoint("GET", f"{_ROOT}/documents/queue/{{job_id}}", half.queue, "status"),
            Endpoint("GET", f"{_ROOT}/documents/{{document_id}}", half.document, "result"),
            Endpoint("POST", f"{_ROOT}/predict_async", half.enqueue, "submit"),
        ),
        letters=half.letters,
    )


class _MindeeV1:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def enqueue(self, request: Request) -> Response:
        try:
            source = _source(await read_form(request))
        except UnreadableBody as error:
            return _failure(request, 400, {"document": [str(error)]})
        self._check_media_type(request, source)
        params = request.path_params
        options: Options = {
            "account": params["account"],
            "version": _bare(params["version"]),
            "full_text_ocr": _is_on(request, "full_text_ocr"),
            "cropper": _is_on(request, "cropper"),
            "rag": _is_on(request, "rag"),
        }
        job = self._backend.submit(NAME, params["product"], source, options)
        body = {**_envelope(request, 202, "job"), "job": self._job(job, Phase.QUEUED)}
        return JSONResponse(body, status_code=202)

    async def queue(self, request: Request) -> Response:
        job = self._own(request, self._backend.find(NAME, request.path_params["job_id"]))
        phase = self._backend.observe(job)
        if phase is Phase.SUCCEEDED:
            root = str(request.url).partition("/documents/queue/")[0]
            return JSONResponse({}, 302, headers={"Location": f"{root}/documents/{job.result_id}"})
        return JSONResponse({**_envelope(request, 200, "job"), "job": self._job(job, phase)})

    async def document(self, request: Request) -> Response:
        job = self._own(request, self._backend.find_result(NAME, request.path_params["document_id"]))
        read = self._backend.fetch(job)
        if read is None:
            return _failure(request, 404)
        envelope = _envelope(request, 200, "document", "job")
        return JSONResponse({**envelope, **self._document_and_job(job, read)})

    def letters(self, job: Job) -> Sequence[Letter]:
        """One call for each job, for V1 webhooks are set up for an account and not per request."""
        if job.failure is None:
            payload = self._document_and_job(job, self._backend.read(job))
        else:
            payload = {"job": self._job(job, Phase.FAILED)}
        # One line without spaces, as in the test data that Mindee publishes a signature for.
        body = json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
        return [Letter("", body, {SIGNATURE_HEADER: sign(body, self._backend.settings.webhooks.secret)})]

    def _check_media_type(self, request: Request, source: Source) -> None:
        if source.data is None or not self._backend.settings.refuse_media_types:
            return
        media_type = media_type_of(source.data)
        if media_type not in MEDIA_TYPES:
            detail = {"document": [f"Files of type {media_type} are not supported."]}
            raise Rejected(_failure(request, 400, detail))

    def _own(self, request: Request, job: Job | None) -> Job:
        """The job, if it was sent to the product that the path names."""
        params = request.path_params
        if job is not None:
            options = cast("Options", job.options)
            sent_to = (options["account"], job.product, options["version"])
            if sent_to == (params["account"], params["product"], _bare(params["version"])):
                return job
        raise Rejected(_failure(request, 404))

    def _job(self, job: Job, phase: Phase) -> dict[str, Any]:
        failed = phase is Phase.FAILED and job.failure is not None
        error = {"code": "ServerError", "message": "An error occurred", "details": "An error occurred"}
        if failed and job.failure is not None:
            error["details"] = job.failure.detail
        return {
            "id": job.id,
            "status": _WORDS[phase],
            "issued_at": self._date(job.created_at),
            "available_at": self._date(job.ends_at) if phase.is_terminal else None,
            "error": error if failed else {},
        }

    def _document_and_job(self, job: Job, read: DocumentRead) -> dict[str, Any]:
        document = {
            "id": job.result_id,
            "name": job.source.name,
            "n_pages": len(read.pages),
            "inference": self._inference(job, read),
        }
        return {"document": document, "job": self._job(job, Phase.SUCCEEDED)}

    def _inference(self, job: Job, read: DocumentRead) -> dict[str, Any]:
        options = cast("Options", job.options)
        prediction = predict(job.product, read)
        return {
            "started_at": self._date(job.starts_at),
            "finished_at": self._date(job.ends_at),
            "processing_time": round(job.ends_at - job.starts_at, 3),
            "is_rotation_applied": False,
            "extras": {"rag": {"matching_document_id": None}} if options["rag"] else {},
            "product": {
                "name": f"{options['account']}/{job.product}",
                "type": "standard" if options["account"] == "mindee" else "constructed",
                "version": options["version"],
                "features": list(prediction),
            },
            "prediction": prediction,
            "pages": [
                {
                    "id": page.number - 1,
                    "orientation": {"value": 0},
                    "extras": _page_extras(options, page.text),
                    "prediction": {},
                }
                for page in read.pages
            ],
        }

    def _date(self, at: float) -> str:
        """A date without a zone, as in the examples of Mindee's page."""
        return self._backend.wall(at).replace(tzinfo=None).isoformat(timespec="microseconds")


def _page_extras(options: Options, text: str) -> dict[str, Any]:
    """Extras of one page, as the mindee 5.4.0 SDK reads them; the cropper finds one document, the page."""
    extras: dict[str, Any] = {}
    if options["full_text_ocr"]:
        extras["full_text_ocr"] = {"content": text}
    if options["cropper"]:
        corners = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]
        extras["cropper"] = {
            "cropping": [
                {"bounding_box": corners, "polygon": corners, "quadrangle": corners, "rectangle": corners}
            ]
        }
    return extras


def _source(form: Form) -> Source:
    """The ``document`` of an enqueue request: a file part, base64, or an https URL.

    Raises:
        UnreadableBody: There is none, it is empty, or it is something else.
    """
    source = form.files.get("document")
    text = form.text("document")
    if source is None and text is None:
        raise UnreadableBody("This field is required.")
    if source is None and text is not None:
        source = _from_text(text)
    if source is None or (source.url is None and not source.data):
        raise UnreadableBody("The submitted file is empty.")
    return source


def _from_text(text: str) -> Source:
    if text.startswith("http://"):
        raise UnreadableBody("Only public https URLs are accepted.")
    if text.startswith("https://"):
        return Source.from_url(text)
    return Source.from_bytes(decode_base64(text), "document")


def _bare(version: str) -> str:
    return version.removeprefix("v")


def _is_on(request: Request, name: str) -> bool:
    return request.query_params.get(name, "").lower() == "true"


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


def _failure(request: Request, status_code: int, details: object = None) -> JSONResponse:
    code, message, usual_details = _ERRORS.get(status_code, ("failure", "Error", "An error occurred."))
    api_request = {
        "error": {"code": code, "message": message, "details": details or usual_details},
        "resources": [],
        "status": "failure",
        "status_code": status_code,
        "url": str(request.url),
    }
    return JSONResponse({"api_request": api_request}, status_code=status_code)


def _refuse(request: Request, refusal: Refusal) -> Response:
    return _failure(request, refusal.status, refusal.detail)
