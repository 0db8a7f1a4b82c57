"""What a service of the simulator consists of, the same for all: routes, key check, errors, webhook calls.

Each service is a folder with ``routes`` (requests in, and ``service(backend) -> Service``), ``payloads``
(jobs and results as its answers show them) and ``errors`` (its error bodies). Its endpoints are async
Starlette endpoints; they see requests that have passed the faults, the key check and the rate limit (see
``faults``). Whatever refuses a request raises ``ServiceError``, and one handler has the service render it.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from prefect_docjobs.providers.base import sign
from prefect_docjobs.simulator.backend import Job
from prefect_docjobs.simulator.settings import Kind


class ServiceError(Exception):
    """A refused request.

    Attributes:
        status: HTTP status.
        detail: More about it, for people; None for the service's usual sentence.
        retry_after: Whole seconds of the Retry-After header, None when there is none.
        extra: What else the service puts into the body, in its own form.
    """

    def __init__(
        self, status: int, detail: str | None = None, *, retry_after: int | None = None, extra: Any = None
    ) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail
        self.retry_after = retry_after
        self.extra = extra


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
class WebhookCall:
    """One webhook call to make when a job has ended.

    Attributes:
        webhook_id: Which of the job's webhooks it is for; empty for a service that has but one.
        body: The body exactly as signed and sent.
        headers: Headers beside ``Content-Type: application/json``, the signature among them.
    """

    webhook_id: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def signed_body(payload: Any, header: str, secret: str) -> tuple[bytes, Mapping[str, str]]:
    """A webhook's body, one line without spaces, and the header with its signature."""
    body = json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
    return body, {header: sign(body, secret)}


@dataclass(frozen=True, slots=True)
class Service:
    """One service.

    Attributes:
        name: Its name in jobs, settings and reports.
        prefixes: Paths that are its own, so that an unknown path below them is refused in its own shape.
        admits: Whether a request carries this API key.
        error_response: Its answer to a refused request; the Retry-After header is added by the caller.
        endpoints: Its routes, the most requested first.
        webhook_calls: The calls for a job that has ended; None for a service without webhooks.
    """

    name: str
    prefixes: tuple[str, ...]
    admits: Callable[[Request, str], bool]
    error_response: Callable[[Request, ServiceError], Response]
    endpoints: tuple[Endpoint, ...]
    webhook_calls: Callable[[Job], Sequence[WebhookCall]] | None = None

    def owns(self, path: str) -> bool:
        """Whether a path lies below one of the service's prefixes."""
        return any(path == prefix or path.startswith(f"{prefix}/") for prefix in self.prefixes)
