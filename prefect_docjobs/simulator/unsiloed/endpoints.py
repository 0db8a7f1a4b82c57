"""All routes of Unsiloed: four products with a path each, and the generic `/jobs`.

`DELETE /jobs/{id}` is not among them: only a page of 2025-06 shows it. The webhook's payload is documented in
the FAQ of the Unsiloed docs, a signature is not, so pushes go out unsigned.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from prefect_docjobs.simulator.backend import Backend
from prefect_docjobs.simulator.jobs import Job, Phase
from prefect_docjobs.simulator.services import Endpoint, Letter, Service
from prefect_docjobs.simulator.unsiloed.errors import Errors
from prefect_docjobs.simulator.unsiloed.results import (
    CLASSIFY,
    EXTRACT,
    PARSE,
    SPLIT,
    Task,
    generic,
)
from prefect_docjobs.simulator.unsiloed.submits import Submits
from prefect_docjobs.simulator.unsiloed.views import NAME, Views, failure, timestamp

_Call = Callable[[Request], Awaitable[Response]]


def service(backend: Backend) -> Service:
    """The Unsiloed half of a simulator."""
    errors = Errors(backend)
    submits, readback = Submits(backend, errors), Readback(backend, errors)
    return Service(
        name=NAME,
        prefixes=(
            "/jobs",
            "/parse",
            "/extract",
            "/classify",
            "/splitter",
            "/v2/extract",
            "/v2/parse",
            "/org",
        ),
        admits=_has_key,
        refuse=errors.refuse,
        endpoints=(
            Endpoint("GET", "/extract/{job}", readback.product(EXTRACT), "status"),
            Endpoint("GET", "/parse/{job}", readback.product(PARSE), "status"),
            Endpoint("GET", "/classify/{job}", readback.product(CLASSIFY), "status"),
            Endpoint("GET", "/splitter/{job}", readback.product(SPLIT), "status"),
            Endpoint("GET", "/jobs/{job}", readback.job, "status"),
            Endpoint("GET", "/jobs/{job}/result", readback.job_result, "result"),
            Endpoint("POST", "/v2/extract", submits.extract, "submit"),
            Endpoint("POST", "/parse", submits.parse, "submit"),
            Endpoint("POST", "/classify", submits.classify, "submit"),
            Endpoint("POST", "/splitter", submits.split, "submit"),
            Endpoint("GET", "/org/get_usage", submits.usage, None),
        ),
        letters=readback.letters,
    )


def _has_key(request: Request, api_key: str) -> bool:
    """The docs show three ways to send a key; each of them is enough."""
    headers = request.headers
    sent = (headers.get("api-key"), headers.get("x-api-key"))
    return api_key in sent or headers.get("authorization") == f"Bearer {api_key}"


class Readback:
    """Everything that is read back: states and results."""

    def __init__(self, backend: Backend, errors: Errors) -> None:
        self._backend = backend
        self._errors = errors
        self._views = Views(backend)

    def product(self, product: str) -> _Call:
        """The endpoint `GET /{product}/{job}`, whose answer holds the result as soon as there is one."""

        async def show(request: Request) -> Response:
            job = self._found(request)
            if job.product != product:
                raise self._missing(request)
            phase = self._backend.observe(job)
            read = self._backend.fetch(job)
            if phase is Phase.SUCCEEDED and read is None:
                raise self._missing(request, "Result for job")
            return JSONResponse(self._views.product(job, phase, read))

        return show

    async def job(self, request: Request) -> Response:
        """`GET /jobs/{job}`."""
        job = self._found(request)
        return JSONResponse(self._views.generic(job, self._backend.observe(job)))

    async def job_result(self, request: Request) -> Response:
        """`GET /jobs/{job}/result`: 400 while the job goes on, 500 when it has failed."""
        job = self._found(request)
        phase = job.phase(self._backend.now())
        if phase is Phase.FAILED:
            raise self._errors.rejected(request, 500, f"Job {job.id} failed: {failure(job)}")
        if phase is not Phase.SUCCEEDED:
            raise self._errors.rejected(request, 400, f"Job {job.id} is still processing")
        read = self._backend.fetch(job)
        if read is None:
            raise self._missing(request, "Result for job")
        return JSONResponse(generic(job, read))

    def letters(self, job: Job) -> Sequence[Letter]:
        """The one webhook call of a job that has ended."""
        payload = {
            "job_id": job.id,
            "status": "failed" if job.failure else "completed",
            "result_url": f"{Task.of(job).origin}jobs/{job.id}/result",
            "timestamp": timestamp(self._backend, job.ends_at),
        }
        return [Letter("", json.dumps(payload).encode())]

    def _found(self, request: Request) -> Job:
        job = self._backend.find(NAME, request.path_params["job"])
        if job is None:
            raise self._missing(request)
        return job

    def _missing(self, request: Request, what: str = "Job") -> Exception:
        return self._errors.not_found(request, f"{what} {request.path_params['job']}")
