"""NuMind's routes that read back: states, lists, streams, results.

Sources: JobsApi.md of the numind SDK; numind 0.4.2 SDK, `jobs_api.py`.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from prefect_docjobs.simulator.backend import Backend
from prefect_docjobs.simulator.jobs import Job, Phase
from prefect_docjobs.simulator.numind.errors import rejected
from prefect_docjobs.simulator.numind.jobs import CONTENT, NAME, STRUCTURED, Jobs
from prefect_docjobs.simulator.numind.queries import whole_number

_PER_PAGE, _MOST_PER_PAGE = 30, 100


class Readback:
    """Everything that is read back: states, lists, streams, results."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._jobs = Jobs(backend)

    def _found(self, request: Request) -> Job:
        job = self._backend.find(NAME, request.path_params["job"])
        if job is None:
            raise rejected(404, "NotFound", "No such job.")
        return job

    async def status(self, request: Request) -> Response:
        """`GET /api/jobs/{job}/status`."""
        job = self._found(request)
        self._backend.observe(job)
        return JSONResponse(self._jobs.status(job))

    async def whole(self, request: Request) -> Response:
        """`GET /api/jobs/{job}`."""
        job = self._found(request)
        self._backend.observe(job)
        return JSONResponse(self._jobs.whole(job, self._backend.fetch(job)))

    async def page(self, request: Request) -> Response:
        """`GET /api/jobs`: rows are shown with their output, and that does not count as fetching it."""
        query = request.query_params
        skip = whole_number(query, "skip", 0, 0, 10**9)
        per_page = whole_number(query, "perPage", _PER_PAGE, 1, _MOST_PER_PAGE)
        total, jobs = self._backend.page(NAME, skip, per_page)
        items = [self._row(job) for job in jobs]
        return JSONResponse({"totalCount": total, "skip": skip, "perPage": per_page, "items": items})

    def _row(self, job: Job) -> dict[str, Any]:
        done = self._backend.observe(job, "list") is Phase.SUCCEEDED
        return self._jobs.whole(job, self._backend.read(job) if done else None)

    async def stream(self, request: Request) -> Response:
        """`GET /api/jobs/{job}/stream`."""
        return StreamingResponse(self._jobs.stream(self._found(request)), media_type="text/event-stream")

    async def reports(self, request: Request) -> Response:
        """`GET /api/jobs/{job}/reports`."""
        return JSONResponse(self._jobs.reports(self._found(request)))

    async def cancel(self, request: Request) -> Response:
        """`POST /api/jobs/{job}/cancel`: nothing happens to a job that has ended."""
        self._backend.cancel(self._found(request))
        return Response(status_code=200)

    async def structured_result(self, request: Request) -> Response:
        """`GET /api/structured-extraction/jobs/{job}`: 206 when the model did not finish normally."""
        output = self._output(request, STRUCTURED)
        return JSONResponse(output, status_code=206 if output["error"] else 200)

    async def content_result(self, request: Request) -> Response:
        """`GET /api/content-extraction/jobs/{job}`."""
        return JSONResponse(self._output(request, CONTENT))

    def _output(self, request: Request, product: str) -> dict[str, Any]:
        job = self._found(request)
        if job.product != product:
            raise rejected(404, "NotFound", f"No such job of type {product}.")
        if job.phase(self._backend.now()) is not Phase.SUCCEEDED:
            raise rejected(400, "JobNotCompleted", "The job has not completed.")
        read = self._backend.fetch(job)
        if read is None:
            raise rejected(404, "NotFound", "The result is gone.")
        return self._jobs.output(job, read)
