"""NuMind's routes for projects, files and documents.

Source: numind 0.2.0 SDK, which makes a project for each extraction and deletes it afterwards.
"""

from __future__ import annotations

import uuid

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from prefect_docjobs.simulator.backend import Backend
from prefect_docjobs.simulator.numind.errors import rejected
from prefect_docjobs.simulator.numind.inputs import json_object, raw_source, text_source, wanted_by
from prefect_docjobs.simulator.numind.jobs import Jobs
from prefect_docjobs.simulator.numind.store import OWNER, Project, Store, Upload


class Projects:
    """Projects, files and documents."""

    def __init__(self, backend: Backend, store: Store) -> None:
        self._jobs = Jobs(backend)
        self._backend = backend
        self._store = store

    async def create(self, request: Request) -> Response:
        """`POST /api/structured-extraction`."""
        body = await json_object(request)
        instructions = body.get("instructions")
        project = Project(
            id=str(uuid.uuid4()),
            name=str(body.get("name", "")),
            description=str(body.get("description", "")),
            template=body.get("template") or {},
            wanted=wanted_by(body.get("template")),
            instructions=instructions if isinstance(instructions, str) else None,
            created_at=self._now(),
        )
        self._store.projects[project.id] = project
        return JSONResponse(project.as_json())

    async def show(self, request: Request) -> Response:
        """`GET /api/structured-extraction/{project}`."""
        return JSONResponse(project_of(self._store, request).as_json())

    async def delete(self, request: Request) -> Response:
        """`DELETE /api/structured-extraction/{project}`."""
        del self._store.projects[project_of(self._store, request).id]
        return Response(status_code=200)

    async def add_example(self, request: Request) -> Response:
        """`POST /api/structured-extraction/{project}/examples`: checked, shown, and of no effect."""
        project = project_of(self._store, request)
        body = await json_object(request)
        document = document_of(self._store, str(body.get("documentId", "")))
        now = self._now()
        return JSONResponse(
            {
                "id": str(uuid.uuid4()),
                "projectId": project.id,
                "ownerUser": OWNER,
                "documentInfo": document.as_document()["docInfo"],
                "result": {"information": body.get("result") or {}, "type": "information"},
                "createdAt": now,
                "updatedAt": now,
            }
        )

    async def add_file(self, request: Request) -> Response:
        """`POST /api/files`."""
        source = await raw_source(request, request.headers.get("x-file-name") or "file")
        return JSONResponse(self._store.add_file(source, self._now()).as_file())

    async def convert(self, request: Request) -> Response:
        """`POST /api/files/{file}/convert-to-document`."""
        upload = self._store.files.get(request.path_params["file"])
        if upload is None:
            raise rejected(404, "NotFound", "No such file.")
        return JSONResponse(self._store.add_document(upload.source, self._now(), upload.id).as_document())

    async def add_text(self, request: Request) -> Response:
        """`POST /api/documents/text`."""
        source = await text_source(request)
        return JSONResponse(self._store.add_document(source, self._now()).as_document())

    def _now(self) -> str:
        return self._jobs.timestamp(self._backend.now())


def project_of(store: Store, request: Request) -> Project:
    """The project that a path names.

    Raises:
        Rejected: HTTP 404.
    """
    project = store.projects.get(request.path_params["project"])
    if project is None:
        raise rejected(404, "NotFound", "No such project.")
    return project


def document_of(store: Store, document_id: str) -> Upload:
    """A document by its id.

    Raises:
        Rejected: HTTP 404.
    """
    document = store.documents.get(document_id)
    if document is None:
        raise rejected(404, "NotFound", "No such document.")
    return document
