"""NuMind's submit routes.

Sources: numind 0.2.0 and 0.4.2 SDK, `structured_data_extraction_api.py` and `content_extraction_api.py`.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from prefect_docjobs.simulator.backend import Backend
from prefect_docjobs.simulator.extraction_schema import Wanted
from prefect_docjobs.simulator.jobs import Source
from prefect_docjobs.simulator.numind.errors import rejected
from prefect_docjobs.simulator.numind.inputs import (
    body_or_file,
    check_examples,
    mapping,
    parsed_object,
    source_of,
    text_of,
    text_source,
    wanted_by,
)
from prefect_docjobs.simulator.numind.jobs import CONTENT, NAME, STRUCTURED, Task
from prefect_docjobs.simulator.numind.projects import document_of, project_of
from prefect_docjobs.simulator.numind.queries import check_options, timeout_seconds
from prefect_docjobs.simulator.numind.store import Store

_LONGEST_TEXT = 16 * 1024 * 1024


class Submits:
    """Every way to hand in a document; all answer `{"jobId"}`."""

    def __init__(self, backend: Backend, store: Store) -> None:
        self._backend = backend
        self._store = store

    async def by_project(self, request: Request) -> Response:
        """`POST /api/structured-extraction/{project}/jobs`: raw bytes, or multipart with a part `file`."""
        project = project_of(self._store, request)
        return self._accept(request, STRUCTURED, await body_or_file(request), project.wanted)

    async def text(self, request: Request) -> Response:
        """`POST /api/structured-extraction/{project}/jobs/text`."""
        project = project_of(self._store, request)
        return self._accept(request, STRUCTURED, await text_source(request), project.wanted)

    async def document(self, request: Request) -> Response:
        """`POST /api/structured-extraction/{project}/jobs/document/{document}`."""
        project = project_of(self._store, request)
        document = document_of(self._store, request.path_params["document"])
        return self._accept(request, STRUCTURED, document.source, project.wanted)

    async def by_template(self, request: Request) -> Response:
        """`POST /api/structured-extraction/jobs`: multipart `request`, `document`, `exampleFiles`."""
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise rejected(400, "BadRequest", "The body must be multipart/form-data.")
        async with request.form(max_part_size=_LONGEST_TEXT) as parts:
            manifest = parsed_object(await text_of(parts.get("request")))
            wanted = wanted_by(manifest.get("schema"))
            check_examples(manifest.get("examples") or [], len(parts.getlist("exampleFiles")))
            source = await source_of(parts.get("document"), "document")
        seed = mapping(manifest.get("settings")).get("randomSeed")
        return self._accept(request, STRUCTURED, source, wanted, seed)

    async def content(self, request: Request) -> Response:
        """`POST /api/content-extraction/jobs`: multipart with a part `file`, or raw bytes."""
        return self._accept(request, CONTENT, await body_or_file(request), None)

    async def content_document(self, request: Request) -> Response:
        """`POST /api/content-extraction/{project}/jobs/document/{document}`: projects only hold settings."""
        document = document_of(self._store, request.path_params["document"])
        return self._accept(request, CONTENT, document.source, None)

    def _accept(
        self, request: Request, product: str, source: Source, wanted: Wanted | None, seed: object = None
    ) -> Response:
        query = request.query_params
        check_options(query)
        quota = self._backend.settings.numind.quota
        if quota is not None and self._backend.page(NAME, 0, 0)[0] >= quota:
            raise rejected(403, "QuotaExceeded", "The billing quota is exceeded.")
        random_seed = int(query["randomSeed"]) if "randomSeed" in query else seed
        task = Task(wanted, timeout_seconds(query), random_seed if isinstance(random_seed, int) else 0)
        job = self._backend.submit(NAME, product, source, {"task": task})
        return JSONResponse({"jobId": job.id})
