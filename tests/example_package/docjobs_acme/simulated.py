"""Acme Reader, simulated: enough of it for the conformance suite."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from docjobs_acme.provider import Acme
from prefect_docjobs.providers import Provider
from prefect_docjobs.testing import Conditions, SimulatedService

_LINE = re.compile(r"(Invoice number|Total amount): ([\w.-]+)")


class SimulatedAcme(SimulatedService):
    """A server of one's own: it asks for no key."""

    key = None
    can_delete_results = True

    @property
    def provider(self) -> Provider:
        return Acme(fields=["invoice_number", "total_amount"])

    @asynccontextmanager
    async def serve(self, conditions: Conditions) -> AsyncIterator[httpx.AsyncBaseTransport]:
        yield httpx.ASGITransport(acme(conditions, asyncio.get_running_loop().time))


def acme(conditions: Conditions, clock: Callable[[], float]) -> Starlette:
    """The service as an ASGI app. It knows invoices whose text stands in the file."""
    jobs: dict[str, tuple[float, dict[str, str]]] = {}

    async def submit(request: Request) -> Response:
        lines = _LINE.findall((await request.body()).decode("latin-1"))
        job = uuid.uuid4().hex
        jobs[job] = clock(), {name.lower().replace(" ", "_"): value for name, value in lines}
        return JSONResponse({"job": job}, 201)

    async def status(request: Request) -> Response:
        job = request.path_params["job"]
        if job not in jobs:
            return JSONResponse({"message": "There is no such job."}, 404)
        started, values = jobs[job]
        age, problem = clock() - started, None
        if age < conditions.seconds:
            state = "waiting" if age < conditions.seconds / 4 else "reading"
        else:
            state = "done" if values else "failed"
            problem = None if values else "There is nothing to read."
        return JSONResponse({"job": job, "state": state, "problem": problem})

    async def values(request: Request) -> Response:
        job = request.path_params["job"]
        started, found = jobs.get(job, (clock(), {}))
        if clock() - started < conditions.seconds or not found:
            return JSONResponse({"message": "There are no values."}, 404)
        if conditions.single_use_results:
            del jobs[job]
        rows = [
            {"field": name, "value": _typed(value), "certainty": 99, "page": 0, "box": [0.1, 0.1, 0.4, 0.2]}
            for name, value in found.items()
        ]
        return JSONResponse({"job": job, "values": rows})

    return Starlette(
        routes=[
            Route("/reader/jobs", submit, methods=["POST"]),
            Route("/reader/jobs/{job}", status),
            Route("/reader/jobs/{job}/values", values),
        ]
    )


def _typed(value: str) -> float | str:
    return float(value) if value.replace(".", "", 1).isdigit() else value
