"""The routes of the simulated NuMind API, in all editions, and what their requests may hold.

There is one account: 403 is only given when its billing quota is exceeded.

Sources: numind 0.2.0 SDK, which makes a project for each extraction and deletes it afterwards; numind 0.4.2
SDK, `structured_data_extraction_api.py` (parameters of the job routes, format and minimum of `timeout`),
`content_extraction_api.py`, `jobs_api.py`; JobsApi.md (`skip`, `perPage`).
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from prefect_docjobs.simulator.backend import Backend, Job, Phase, Source
from prefect_docjobs.simulator.extraction_schema import InvalidSchema, Wanted, from_template
from prefect_docjobs.simulator.forms import Form, UnreadableBody, read_form
from prefect_docjobs.simulator.numind.errors import bad_query, error_response, refused
from prefect_docjobs.simulator.numind.payloads import (
    CONTENT,
    OWNER,
    STRUCTURED,
    Options,
    Upload,
    document_body,
    file_body,
    job_body,
    output_body,
    project_body,
    reports_body,
    status_body,
    timestamp,
)
from prefect_docjobs.simulator.service import Endpoint, Service
from prefect_docjobs.simulator.settings import Kind

NAME = "numind"
_PING_SECONDS = 30.0
_HEARTBEAT = 1.0  # seconds within which an open stream notices a cancel
_PER_PAGE, _MOST_PER_PAGE = 30, 100
_TIMED_OUT = {"code": "JobTimeout", "message": "The job did not complete within its timeout."}


def service(backend: Backend) -> Service:
    """The NuMind service of a simulator."""
    routes = _Routes(backend)
    structured, content = "/api/structured-extraction", "/api/content-extraction"
    table: tuple[tuple[str, str, Callable[[Request], Awaitable[Response]], Kind | None], ...] = (
        ("GET", "/api/jobs/{job}/status", routes.status, "status"),
        ("GET", structured + "/jobs/{job}", routes.structured_result, "result"),
        ("GET", content + "/jobs/{job}", routes.content_result, "result"),
        ("GET", "/api/jobs", routes.list_jobs, "status"),
        ("GET", "/api/jobs/{job}/stream", routes.stream, "status"),
        ("GET", "/api/jobs/{job}/reports", routes.reports, None),
        ("POST", "/api/jobs/{job}/cancel", routes.cancel, None),
        ("GET", "/api/jobs/{job}", routes.job, "status"),
        ("POST", structured + "/jobs", routes.submit_by_template, "submit"),
        ("POST", structured + "/{project}/jobs", routes.submit_by_project, "submit"),
        ("POST", structured + "/{project}/jobs/text", routes.submit_text, "submit"),
        ("POST", structured + "/{project}/jobs/document/{document}", routes.submit_document, "submit"),
        ("POST", content + "/jobs", routes.submit_content, "submit"),
        ("POST", content + "/{project}/jobs/document/{document}", routes.submit_content_document, "submit"),
        ("POST", structured, routes.create_project, None),
        ("GET", structured + "/{project}", routes.project, None),
        ("DELETE", structured + "/{project}", routes.delete_project, None),
        ("POST", structured + "/{project}/examples", routes.add_example, None),
        ("POST", "/api/files", routes.add_file, None),
        ("POST", "/api/files/{file}/convert-to-document", routes.convert, None),
        ("POST", "/api/documents/text", routes.add_text, None),
    )
    return Service(
        name=NAME,
        prefixes=("/api",),
        admits=lambda request, key: request.headers.get("authorization") == f"Bearer {key}",
        error_response=error_response,
        endpoints=tuple(Endpoint(*route) for route in table),
    )


class _Routes:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._projects: dict[str, tuple[dict[str, Any], Wanted]] = {}
        self._files: dict[str, Upload] = {}
        self._documents: dict[str, Upload] = {}

    # Submits; all answer `{"jobId"}`

    async def submit_by_project(self, request: Request) -> Response:
        """Raw bytes, or multipart with a part `file`."""
        _, wanted = self._project(request)
        return self._submit(request, STRUCTURED, await _body_or_file(request), wanted)

    async def submit_text(self, request: Request) -> Response:
        _, wanted = self._project(request)
        return self._submit(request, STRUCTURED, await _text(request), wanted)

    async def submit_document(self, request: Request) -> Response:
        _, wanted = self._project(request)
        source = self._document(request.path_params["document"]).source
        return self._submit(request, STRUCTURED, source, wanted)

    async def submit_by_template(self, request: Request) -> Response:
        """Multipart `request`, `document`, `exampleFiles`."""
        if not _is_multipart(request):
            raise refused(400, "The body must be multipart/form-data.")
        form = await _form(request)
        manifest = _json_object(_part(form, "request").data or b"")
        wanted = _wanted(manifest.get("schema"))
        examples = manifest.get("examples") or []
        if not isinstance(examples, list) or any("result" not in _mapping(example) for example in examples):
            raise refused(400, "Every example needs a result.")
        if len(examples) != form.counts["exampleFiles"]:
            raise refused(400, "Attach exactly one file for each example.")
        seed = _mapping(manifest.get("settings")).get("randomSeed")
        return self._submit(request, STRUCTURED, _not_empty(_part(form, "document")), wanted, seed)

    async def submit_content(self, request: Request) -> Response:
        """Multipart with a part `file`, or raw bytes."""
        return self._submit(request, CONTENT, await _body_or_file(request), None)

    async def submit_content_document(self, request: Request) -> Response:
        """The project is not needed: projects of this product only hold settings."""
        return self._submit(request, CONTENT, self._document(request.path_params["document"]).source, None)

    def _submit(
        self, request: Request, product: str, source: Source, wanted: Wanted | None, seed: object = None
    ) -> Response:
        query = request.query_params
        for name, is_good in _CHECKS.items():
            value = query.get(name)
            if value is not None and not is_good(value):
                raise bad_query(name)
        quota = self._backend.settings.numind.quota
        if quota is not None and self._backend.page(NAME, 0, 0)[0] >= quota:
            raise refused(403, "The billing quota is exceeded.", "QuotaExceeded")
        random_seed = int(query["randomSeed"]) if "randomSeed" in query else seed
        options = Options(
            wanted, _timeout_seconds(query.get("timeout")), random_seed if isinstance(random_seed, int) else 0
        )
        job = self._backend.submit(NAME, product, source, options)
        return JSONResponse({"jobId": job.id})

    # Jobs and results

    async def status(self, request: Request) -> Response:
        job = self._job(request)
        self._backend.observe(job)
        return JSONResponse(status_body(self._backend, job))

    async def job(self, request: Request) -> Response:
        job = self._job(request)
        self._backend.observe(job)
        return JSONResponse(job_body(self._backend, job, self._backend.fetch(job)))

    async def list_jobs(self, request: Request) -> Response:
        """Rows are shown with their output, and that does not count as fetching it."""
        skip = _number(request, "skip", 0, 0, 10**9)
        per_page = _number(request, "perPage", _PER_PAGE, 1, _MOST_PER_PAGE)
        total, jobs = self._backend.page(NAME, skip, per_page)
        items = []
        for job in jobs:
            done = self._backend.observe(job, "list") is Phase.SUCCEEDED
            items.append(job_body(self._backend, job, self._backend.read(job) if done else None))
        return JSONResponse({"totalCount": total, "skip": skip, "perPage": per_page, "items": items})

    async def stream(self, request: Request) -> Response:
        return StreamingResponse(self._events(self._job(request)), media_type="text/event-stream")

    async def _events(self, job: Job) -> AsyncIterator[str]:
        """Server-sent events: pings, then the whole job when it has ended, or `JobTimeout`."""
        deadline = job.created_at + job.options.timeout_seconds
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
        # A stream is no fetch: nothing says that a result can be used up by it.
        yield _event("result", job_body(self._backend, job, self._backend.read(job) if done else None))

    async def reports(self, request: Request) -> Response:
        return JSONResponse(reports_body(self._backend, self._job(request)))

    async def cancel(self, request: Request) -> Response:
        """Nothing happens to a job that has ended."""
        self._backend.cancel(self._job(request))
        return Response(status_code=200)

    async def structured_result(self, request: Request) -> Response:
        """206 when the model did not finish normally."""
        output = self._output(request, STRUCTURED)
        return JSONResponse(output, status_code=206 if output["error"] else 200)

    async def content_result(self, request: Request) -> Response:
        return JSONResponse(self._output(request, CONTENT))

    def _output(self, request: Request, product: str) -> dict[str, Any]:
        job = self._job(request)
        if job.product != product:
            raise refused(404, f"No such job of type {product}.")
        if job.phase(self._backend.now()) is not Phase.SUCCEEDED:
            raise refused(400, "The job has not completed.", "JobNotCompleted")
        read = self._backend.fetch(job)
        if read is None:
            raise refused(404, "The result is gone.")
        return output_body(self._backend, job, read)

    def _job(self, request: Request) -> Job:
        job = self._backend.find(NAME, request.path_params["job"])
        if job is None:
            raise refused(404, "No such job.")
        return job

    # Projects, files and documents

    async def create_project(self, request: Request) -> Response:
        sent = _json_object(await request.body())
        body = project_body(sent, self._now())
        self._projects[body["id"]] = (body, _wanted(sent.get("template")))
        return JSONResponse(body)

    async def project(self, request: Request) -> Response:
        body, _ = self._project(request)
        return JSONResponse(body)

    async def delete_project(self, request: Request) -> Response:
        body, _ = self._project(request)
        del self._projects[body["id"]]
        return Response(status_code=200)

    async def add_example(self, request: Request) -> Response:
        """Checked, shown, and of no effect."""
        project, _ = self._project(request)
        body = _json_object(await request.body())
        document = self._document(str(body.get("documentId", "")))
        now = self._now()
        return JSONResponse(
            {
                "id": str(uuid.uuid4()),
                "projectId": project["id"],
                "ownerUser": OWNER,
                "documentInfo": document_body(document)["docInfo"],
                "result": {"information": body.get("result") or {}, "type": "information"},
                "createdAt": now,
                "updatedAt": now,
            }
        )

    async def add_file(self, request: Request) -> Response:
        name = request.headers.get("x-file-name") or "file"
        source = _not_empty(Source.from_bytes(await request.body(), name))
        upload = Upload(str(uuid.uuid4()), source, self._now())
        self._files[upload.id] = upload
        return JSONResponse(file_body(upload))

    async def convert(self, request: Request) -> Response:
        file = self._files.get(request.path_params["file"])
        if file is None:
            raise refused(404, "No such file.")
        return self._add_document(file.source, file.id)

    async def add_text(self, request: Request) -> Response:
        return self._add_document(await _text(request), "")

    def _add_document(self, source: Source, file_id: str) -> Response:
        upload = Upload(str(uuid.uuid4()), source, self._now(), file_id)
        self._documents[upload.id] = upload
        return JSONResponse(document_body(upload))

    def _project(self, request: Request) -> tuple[dict[str, Any], Wanted]:
        """The project that the path names: as it is shown, and what it extracts."""
        project = self._projects.get(request.path_params["project"])
        if project is None:
            raise refused(404, "No such project.")
        return project

    def _document(self, document_id: str) -> Upload:
        document = self._documents.get(document_id)
        if document is None:
            raise refused(404, "No such document.")
        return document

    def _now(self) -> str:
        return timestamp(self._backend, self._backend.now())


def _event(name: str, data: Mapping[str, Any] | None) -> str:
    return f"event: {name}\ndata: {'' if data is None else json.dumps(data)}\n\n"


# Request bodies


def _is_multipart(request: Request) -> bool:
    return request.headers.get("content-type", "").startswith("multipart/form-data")


async def _form(request: Request) -> Form:
    try:
        return await read_form(request)
    except UnreadableBody as error:
        raise refused(400, str(error)) from error


async def _body_or_file(request: Request) -> Source:
    """The document in the part `file` of a multipart body, or the raw body of any other type."""
    if not _is_multipart(request):
        return _not_empty(Source.from_bytes(await request.body(), "document"))
    source = (await _form(request)).files.get("file")
    if source is None:
        raise refused(400, "The part file is missing.")
    return _not_empty(source)


def _part(form: Form, name: str) -> Source:
    """A part of a form, sent as a file or as text."""
    text = form.first(name)
    if name not in form.files and not isinstance(text, str):
        raise refused(400, f"The part {name} is missing.")
    return form.files.get(name) or Source.from_bytes(str(text).encode(), name)


async def _text(request: Request) -> Source:
    """The document that `{"text": …}` holds."""
    text = _json_object(await request.body()).get("text")
    if not isinstance(text, str):
        raise refused(400, "The text is missing.")
    return _not_empty(Source.from_bytes(text.encode("utf-8", "replace"), "text"))


def _not_empty(source: Source) -> Source:
    if not source.data:
        raise refused(400, "The document is empty.")
    return source


def _json_object(text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise refused(400, "The body must be a JSON object.")
    return document


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _wanted(template: Any) -> Wanted:
    if not isinstance(template, dict):
        raise refused(400, "The schema must be a JSON object.", "InvalidSchema")
    try:
        return from_template(template)
    except InvalidSchema as error:
        raise refused(400, f"The schema is invalid: {error}.", "InvalidSchema") from error


# Query parameters; a bad value gets HTTP 400 with plain text

_DURATION = re.compile(r"(\d{1,9})(ms|s|m|h)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_USUAL_TIMEOUT = 3600  # seconds
_LEAST_TIMEOUT = 300.0  # seconds; a shorter timeout is raised to it


def _timeout_seconds(text: str | None) -> int:
    match = _DURATION.fullmatch(text or "")
    return int(max(_LEAST_TIMEOUT, int(match[1]) * _UNITS[match[2]])) if match else _USUAL_TIMEOUT


def _is_whole(text: str) -> bool:
    return re.fullmatch(r"-?\d{1,18}", text) is not None


def _number(request: Request, name: str, usual: int, low: int, high: int) -> int:
    text = request.query_params.get(name, str(usual))
    if not _is_whole(text) or not low <= int(text) <= high:
        raise bad_query(name)
    return int(text)


def _is_within(low: float, high: float, text: str) -> bool:
    try:
        return low <= float(text) <= high
    except ValueError:
        return False


def _is_resolution(text: str) -> bool:
    return text == "automatic" or (text.isdecimal() and len(text) < 4 and 1 <= int(text) <= 600)


_CHECKS: Mapping[str, Callable[[str], bool]] = {
    "temperature": partial(_is_within, 0.0, 2.0),
    "minExampleSimilarity": partial(_is_within, 0.0, 1.0),
    "maxExampleTokenNumber": partial(_is_within, 0.0, 130_000.0),
    "randomSeed": _is_whole,
    "dpi": _is_resolution,
    "rasterizationDPI": _is_resolution,
    "enableThinking": {"true", "false"}.__contains__,
    "loopDetection": {"true", "false"}.__contains__,
    "timeout": lambda text: _DURATION.fullmatch(text) is not None,
}
