"""All routes of NuMind, of the era of JobsApi.md and of the newest SDK.

There is one account: 403 is only given when its billing quota is exceeded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from prefect_docjobs.simulator.backend import Backend
from prefect_docjobs.simulator.numind.errors import refuse
from prefect_docjobs.simulator.numind.jobs import NAME
from prefect_docjobs.simulator.numind.projects import Projects
from prefect_docjobs.simulator.numind.readback import Readback
from prefect_docjobs.simulator.numind.store import Store
from prefect_docjobs.simulator.numind.submits import Submits
from prefect_docjobs.simulator.services import Endpoint, Service
from prefect_docjobs.simulator.settings import Kind


def service(backend: Backend) -> Service:
    """The NuMind half of a simulator."""
    store = Store()
    projects, submits, jobs = Projects(backend, store), Submits(backend, store), Readback(backend)
    structured, content = "/api/structured-extraction", "/api/content-extraction"
    routes: tuple[tuple[str, str, Callable[[Request], Awaitable[Response]], Kind | None], ...] = (
        ("GET", "/api/jobs/{job}/status", jobs.status, "status"),
        ("GET", structured + "/jobs/{job}", jobs.structured_result, "result"),
        ("GET", content + "/jobs/{job}", jobs.content_result, "result"),
        ("GET", "/api/jobs", jobs.page, "status"),
        ("GET", "/api/jobs/{job}/stream", jobs.stream, "status"),
        ("GET", "/api/jobs/{job}/reports", jobs.reports, None),
        ("POST", "/api/jobs/{job}/cancel", jobs.cancel, None),
        ("GET", "/api/jobs/{job}", jobs.whole, "status"),
        ("POST", structured + "/jobs", submits.by_template, "submit"),
        ("POST", structured + "/{project}/jobs", submits.by_project, "submit"),
        ("POST", structured + "/{project}/jobs/text", submits.text, "submit"),
        ("POST", structured + "/{project}/jobs/document/{document}", submits.document, "submit"),
        ("POST", content + "/jobs", submits.content, "submit"),
        ("POST", content + "/{project}/jobs/document/{document}", submits.content_document, "submit"),
        ("POST", structured, projects.create, None),
        ("GET", structured + "/{project}", projects.show, None),
        ("DELETE", structured + "/{project}", projects.delete, None),
        ("POST", structured + "/{project}/examples", projects.add_example, None),
        ("POST", "/api/files", projects.add_file, None),
        ("POST", "/api/files/{file}/convert-to-document", projects.convert, None),
        ("POST", "/api/documents/text", projects.add_text, None),
    )
    return Service(
        name=NAME,
        prefixes=("/api",),
        admits=lambda request, key: request.headers.get("authorization") == f"Bearer {key}",
        refuse=refuse,
        endpoints=tuple(Endpoint(*route) for route in routes),
    )
