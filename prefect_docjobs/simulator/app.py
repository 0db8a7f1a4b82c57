"""The simulator as one ASGI app: the four services on one origin, and the control routes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import anyio
import httpx
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from prefect_docjobs.simulator import mindee, mindee_v1, numind, unsiloed
from prefect_docjobs.simulator.control import control_routes
from prefect_docjobs.simulator.engine import World
from prefect_docjobs.simulator.faults import Guard
from prefect_docjobs.simulator.pushes import Pushes
from prefect_docjobs.simulator.services import Endpoint, Refusal, Rejected, Service
from prefect_docjobs.simulator.settings import Settings


def create_app(
    settings: Settings | None = None,
    *,
    clock: Callable[[], float] | None = None,
    push_transport: httpx.AsyncBaseTransport | None = None,
) -> Starlette:
    """The simulator: Mindee V2, Mindee V1, NuMind and Unsiloed on one origin.

    Args:
        settings: How it behaves from the start; see ``simulator.settings``.
        clock: Seconds, never going back; ``time.monotonic`` when left out. Under a server it must run by
            itself; in process it may be a virtual one, see ``Pushes.deliver_due``.
        push_transport: Where webhook calls go instead of the network.

    Returns:
        An app with ``app.state.world`` (a ``World``) and ``app.state.pushes`` (a ``Pushes``). Serve it with
        ``simulator.server``, or call it in process through ``simulator.faults.SimulatorTransport``.
    """
    world = World(settings, clock=clock or time.monotonic)
    services = tuple(half.service(world) for half in (mindee, mindee_v1, numind, unsiloed))
    pushes = Pushes(world, services, push_transport)
    app = Starlette(
        routes=[
            *(_route(world, service, endpoint) for service in services for endpoint in service.endpoints),
            *control_routes(world, pushes),
        ],
        exception_handlers={Rejected: _rejected, HTTPException: _in_the_services_shape(services)},
        lifespan=_sending(pushes),
    )
    # A slash too many is another path for the services, not a reason to redirect.
    app.router.redirect_slashes = False
    app.state.world = world
    app.state.pushes = pushes
    return app


def _route(world: World, service: Service, endpoint: Endpoint) -> Route:
    guard = Middleware(Guard, world=world, service=service, kind=endpoint.kind)
    return Route(endpoint.path, endpoint.call, methods=[endpoint.method], middleware=[guard])


# Handlers are coroutines: Starlette runs plain functions in threads, which a virtual clock does not wait for.
async def _rejected(_request: Request, error: Exception) -> Response:
    if not isinstance(error, Rejected):
        raise error
    return error.response


def _in_the_services_shape(
    services: Sequence[Service],
) -> Callable[[Request, Exception], Awaitable[Response]]:
    """Answers Starlette's own refusals (unknown path, wrong method, broken form) as the service would."""

    async def answer(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        owner = next((service for service in services if service.owns(request.url.path)), None)
        if owner is None:
            return JSONResponse({"detail": error.detail}, error.status_code, headers=error.headers)
        detail = error.detail if error.status_code == 400 else None
        response = owner.refuse(request, Refusal(error.status_code, detail=detail))
        response.headers.update(error.headers or {})
        return response

    return answer


def _sending(pushes: Pushes) -> Callable[[Starlette], contextlib.AbstractAsyncContextManager[None]]:
    """The app's lifespan: webhook calls are sent while it runs."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pushes.run)
            yield
            tasks.cancel_scope.cancel()

    return lifespan
