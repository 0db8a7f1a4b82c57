"""The routes of the simulated Mindee V2 API."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Sequence
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from prefect_docjobs.providers.base import sign
from prefect_docjobs.simulator.backend import Backend
from prefect_docjobs.simulator.forms import UnreadableBody, read_form
from prefect_docjobs.simulator.jobs import Job, Phase, Push
from prefect_docjobs.simulator.mindee.errors import (
    Problem,
    inference_failed,
    invalid_fields,
    plain_problem,
    refuse,
)
from prefect_docjobs.simulator.mindee.results import PRODUCTS, inference
from prefect_docjobs.simulator.mindee.submits import (
    Options,
    is_uuid4,
    read_boolean,
    read_options,
    read_source,
)
from prefect_docjobs.simulator.services import Endpoint, Letter, Rejected, Service

NAME = "mindee"
SIGNATURE_HEADER = "X-Signature"  # docs.mindee.com, process-the-response
_STATUS_WORDS = {Phase.SUCCEEDED: "Processed", Phase.FAILED: "Failed"}
# Any model id is accepted by enqueue; these are the ones that a search finds.
_MODEL_SPACE = uuid.UUID("6d1c1f0a-7f43-4c6e-9d9e-2f1f0a7f4300")


def service(backend: Backend) -> Service:
    """The Mindee V2 half of the simulator.

    =========================================  ========================================================
    ``GET /v2/jobs/{job_id}``                  200, or 302 to the result unless ``redirect=false``
    ``GET /v2/products/{slug}/results/{id}``   the result; also ``/v2/inferences/{id}`` for extraction
    ``POST /v2/products/{slug}/enqueue``       202; also ``/v2/inferences/enqueue`` for extraction
    ``GET /v2/search/models``                  one model per product
    =========================================  ========================================================
    """
    half = _Mindee(backend)
    return Service(
        name=NAME,
        prefixes=("/v2/jobs", "/v2/products", "/v2/inferences", "/v2/search"),
        admits=lambda request, api_key: request.headers.get("authorization") == api_key,
        refuse=refuse,
        endpoints=(
            Endpoint("GET", "/v2/jobs/{job_id}", half.status, "status"),
            Endpoint("GET", "/v2/products/{slug}/results/{inference_id}", half.result, "result"),
            Endpoint("POST", "/v2/products/{slug}/enqueue", half.enqueue, "submit"),
            Endpoint("POST", "/v2/inferences/enqueue", half.enqueue, "submit"),
            Endpoint("GET", "/v2/inferences/{inference_id}", half.result, "result"),
            Endpoint("GET", "/v2/search/models", half.models, None),
        ),
        letters=half.letters,
    )


class _Mindee:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def enqueue(self, request: Request) -> Response:
        slug = _slug(request)
        try:
            form = await read_form(request)
        except UnreadableBody as error:
            return plain_problem(400, str(error)).response()
        base_url = str(request.base_url).rstrip("/")
        options = read_options(form, extraction=slug == "extraction", base_url=base_url)
        source = read_source(form, check_media_type=self._backend.settings.refuse_media_types)
        job = self._backend.submit(NAME, slug, source, options)
        # Told as Processing even if the job has ended by now: the answer shows what was enqueued.
        return JSONResponse({"job": self._job(job, ended=False)}, status_code=202)

    async def status(self, request: Request) -> Response:
        job = self._find(request, "job_id")
        redirect = read_boolean(request.query_params.get("redirect", "true"))
        if redirect is None:
            raise invalid_fields(("#/redirect", "'redirect' must be a boolean"))
        phase = self._backend.observe(job)
        answer = JSONResponse({"job": self._job(job, ended=phase.is_terminal)})
        if phase is Phase.SUCCEEDED and redirect:
            answer.status_code = 302
            answer.headers["Location"] = _result_url(job)
        return answer

    async def result(self, request: Request) -> Response:
        job = self._find(request, "inference_id")
        read = self._backend.fetch(job) if job.product == _slug(request) else None
        if read is None:
            return plain_problem(404).response()
        return JSONResponse(inference(job, _options(job), read))

    async def models(self, request: Request) -> Response:
        query = request.query_params
        page, per_page = _count(query.get("page"), 1, "page"), _count(query.get("per_page"), 50, "per_page")
        known = [_model(slug, self._backend.settings.webhooks.url) for slug in PRODUCTS]
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

    def letters(self, job: Job) -> Sequence[Letter]:
        """A call to each webhook that the submit named, signed over the body as sent."""
        webhook_ids = _options(job)["webhook_ids"]
        if not webhook_ids:
            return ()
        body = json.dumps(self._push_body(job), ensure_ascii=False, separators=(",", ":")).encode()
        signature = sign(body, self._backend.settings.webhooks.secret)
        return [Letter(webhook_id, body, {SIGNATURE_HEADER: signature}) for webhook_id in webhook_ids]

    def _push_body(self, job: Job) -> dict[str, Any]:
        """The result as a GET would give it; a failure is flat and has no job id (mindee 5.4.0 SDK)."""
        options = _options(job)
        if job.failure is None:
            return inference(job, options, self._backend.read(job))
        return {
            "inference_id": job.id,
            "model_id": options["model_id"],
            "file_name": job.source.name,
            "file_alias": options["alias"],
            "error": inference_failed(job.failure.detail).as_json(),
            "created_at": self._date(job.ends_at),
        }

    def _find(self, request: Request, name: str) -> Job:
        job_id = request.path_params[name]
        if not is_uuid4(job_id):
            raise invalid_fields((f"#/{name}", f"'{name}' must be a valid UUID format"))
        job = self._backend.find(NAME, str(uuid.UUID(job_id)))
        if job is None:
            raise Rejected(plain_problem(404).response())
        return job

    def _job(self, job: Job, *, ended: bool) -> dict[str, Any]:
        """A ``Job`` with all keys, those that may be left out too: the mindee SDKs need them."""
        options = _options(job)
        phase = job.phase(self._backend.now()) if ended else Phase.PROCESSING
        failure = job.failure if phase is Phase.FAILED else None
        return {
            "id": job.id,
            "model_id": options["model_id"],
            "filename": job.source.name,
            "alias": options["alias"],
            "created_at": self._date(job.created_at),
            "completed_at": self._date(job.ends_at) if ended else None,
            "status": _STATUS_WORDS.get(phase, "Processing"),
            "polling_url": f"{options['base_url']}/v2/jobs/{job.id}",
            "result_url": _result_url(job) if phase is Phase.SUCCEEDED else None,
            "webhooks": [self._webhook(push) for push in job.pushes] if ended else [],
            "error": inference_failed(failure.detail).as_json() if failure else None,
        }

    def _webhook(self, push: Push) -> dict[str, Any]:
        refused = Problem(502, "Webhook failed", "The webhook's receiver did not answer 2xx.", "502-000")
        return {
            "id": push.id,
            "created_at": self._date(push.called_at),
            "status": "Processed" if push.delivered else "Failed",
            "error": None if push.delivered else refused.as_json(),
            "attempts_count": push.attempts,
        }

    def _date(self, at: float) -> str:
        """A date-time of RFC 3339 as the OpenAPI demands; Mindee's test data mostly leaves the zone out."""
        text = self._backend.wall(at).replace(tzinfo=None).isoformat(timespec="microseconds")
        return text if self._backend.settings.mindee.dates_without_zone else f"{text}Z"


def _options(job: Job) -> Options:
    return cast("Options", job.options)


def _slug(request: Request) -> str:
    """The product of a request; the older routes under ``/v2/inferences`` are extraction."""
    slug: str = request.path_params.get("slug", "extraction")
    if slug not in PRODUCTS:
        raise Rejected(plain_problem(404, f"There is no product '{slug}'.").response())
    return slug


def _result_url(job: Job) -> str:
    return f"{_options(job)['base_url']}/v2/products/{job.product}/results/{job.id}"


def _count(text: str | None, default: int, name: str) -> int:
    if text is None:
        return default
    if not text.isdecimal() or not int(text):
        raise invalid_fields((f"#/{name}", f"'{name}' must be a positive integer"))
    return int(text)


def _model(slug: str, webhook_url: str | None) -> dict[str, Any]:
    """A model as the search gives it; its id is the same in every simulator, and a UUID4 like all ids."""
    digest = uuid.uuid5(_MODEL_SPACE, slug).bytes
    webhook_id = uuid.UUID(bytes=uuid.uuid5(_MODEL_SPACE, f"{slug}/webhook").bytes, version=4)
    webhook = {
        "id": str(webhook_id),
        "name": "simulator",
        "url": (webhook_url or "").replace("{service}", NAME),
    }
    return {
        "id": str(uuid.UUID(bytes=digest, version=4)),
        "name": f"Simulated {slug}",
        "model_type": slug,
        "webhooks": [webhook] if webhook_url else [],
    }
