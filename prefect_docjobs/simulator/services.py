"""What a service half hands to the app: its routes, its key check, and how it refuses.

A half is a function ``service(backend) -> Service``. Its endpoints are plain async Starlette endpoints that
see only requests that have passed the faults, the key check and the rate limit (see ``faults``); one that
refuses a request from deep inside raises ``Rejected`` with its answer::

    def service(backend: Backend) -> Service:
        half = _Half(backend)
        return Service(
            name="unsiloed",
            prefixes=("/parse", "/extract"),
            admits=_has_key,                                   # (request, api_key) -> bool
            refuse=_refuse,                                    # (request, Refusal) -> Response
            endpoints=(Endpoint("POST", "/parse", half.submit, "submit"),
                       Endpoint("GET", "/parse/{job_id}", half.status, "status")),
            letters=half.letters,                              # only for a service that pushes
        )
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response

from prefect_docjobs.simulator.jobs import Job
from prefect_docjobs.simulator.settings import Kind


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused before, or without, reaching an endpoint.

    Attributes:
        status: 401 (no key or a wrong one), 404 (no such path), 405, 429 or 503, or the status of
            an ``HTTPException`` that Starlette raised, such as 400 for broken multipart.
        retry_after: Whole seconds of the Retry-After header, None when there is none.
        detail: More about it, for people.
    """

    status: int
    retry_after: int | None = None
    detail: str | None = None


class Rejected(Exception):
    """An endpoint's answer to a request that it does not accept, raised from wherever that is found out."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status_code)
        self.response = response


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One route of a service.

    Attributes:
        method: HTTP method.
        path: Starlette path, from the origin's root.
        call: The endpoint.
        kind: What faults and rate limits treat it as; None: only the key is checked.
    """

    method: str
    path: str
    call: Callable[[Request], Awaitable[Response]]
    kind: Kind | None


@dataclass(frozen=True, slots=True)
class Letter:
    """One webhook call to make when a job has ended.

    Attributes:
        webhook_id: Which of the job's webhooks it is for; empty for a service that has but one.
        body: The body exactly as signed and sent.
        headers: Headers beside ``Content-Type: application/json``, the signature among them.
    """

    webhook_id: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Service:
    """One service half.

    Attributes:
        name: Its name in jobs, settings and reports.
        prefixes: Paths that are its own, so that an unknown path below them is refused in its own shape.
        admits: Whether a request carries the API key that it is handed.
        refuse: Its answer to a refused request; the Retry-After header is added by the caller.
        endpoints: Its routes, the most requested first.
        letters: The webhook calls for a job that has ended; None for a service without webhooks.
    """

    name: str
    prefixes: tuple[str, ...]
    admits: Callable[[Request, str], bool]
    refuse: Callable[[Request, Refusal], Response]
    endpoints: tuple[Endpoint, ...]
    letters: Callable[[Job], Sequence[Letter]] | None = None

    def owns(self, path: str) -> bool:
        """Whether a path lies below one of the service's prefixes."""
        return any(path == prefix or path.startswith(f"{prefix}/") for prefix in self.prefixes)
