"""A proxy before a simulator, for answers that the simulator does not give."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from prefect_docjobs.simulator.server import Running

_HOPS = ("content-length", "transfer-encoding", "content-encoding", "date", "server", "connection")


@asynccontextmanager
async def in_front(
    service: Running, *, hangs: str | None = None, refuses: Collection[str] = ()
) -> AsyncIterator[str]:
    """A proxy that never answers paths with one text, and answers a GET of others with HTTP 401."""

    async def handle(request: web.Request) -> web.Response:
        if hangs is not None and hangs in request.path:
            await asyncio.Event().wait()
        if request.method == "GET" and any(text in request.path for text in refuses):
            return web.json_response(
                {"status": 401, "title": "t", "detail": "no", "code": "401-001"}, status=401
            )
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOPS}
        async with (
            aiohttp.ClientSession(service.base_url) as session,
            session.request(
                request.method,
                request.path_qs,
                headers=headers,
                data=await request.read(),
                allow_redirects=False,
            ) as answer,
        ):
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOPS}
            return web.Response(status=answer.status, body=await answer.read(), headers=kept)

    app = web.Application(client_max_size=1 << 26)
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
