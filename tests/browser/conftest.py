"""A real Prefect server with its UI, and a real browser that reaches nothing but this machine."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import anyio
import httpx
import pytest
from playwright.async_api import Page, Route, async_playwright, expect
from support.own_server import PrefectServer
from support.processes import until

from prefect_docjobs.simulator.server import Running, run_in_thread
from prefect_docjobs.simulator.settings import Duration, Settings

QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDTH = 1200
HANGS = 120_000  # milliseconds; what takes so long on a busy machine does not come
expect.set_options(timeout=HANGS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder; one process has the one server."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.prefect)
            item.add_marker(pytest.mark.xdist_group("browser"))
            item.add_marker(pytest.mark.timeout(1200))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, chromium: str) -> Iterator[PrefectServer]:
    """The module's own, which takes 20 to 60 seconds to start, and minutes on a busy machine.

    The other tests have the server of Prefect's harness, whose settings this one leaves alone.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    starting = PrefectServer(f"http://127.0.0.1:{port}", tmp_path_factory.mktemp("server"))
    with ExitStack() as stack:
        starting.start(stack, "server", "-m", "prefect", "server", "start", "--port", str(port))
        anyio.run(partial(until, partial(_is_up, starting), within=300))
        yield starting


async def _is_up(server: PrefectServer) -> bool:
    async with server.api() as api:
        try:
            return (await api.get("/health")).is_success
        except httpx.TransportError:
            return False


@pytest.fixture(scope="module")
def simulator() -> Iterator[Running]:
    """The four services on loopback; jobs are done at once."""
    with run_in_thread(Settings(duration=Duration(law="fixed", seconds=0.0))) as running:
        yield running


@pytest.fixture(scope="module")
def chromium() -> str:
    """The browser that is installed."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        if os.environ.get("DOCJOBS_TESTS_NEED_CHROMIUM") == "1":
            pytest.fail("No Chromium is installed, and DOCJOBS_TESTS_NEED_CHROMIUM is 1.")
        pytest.skip("No Chromium is installed.")
    return found


@pytest.fixture
async def page(chromium: str) -> AsyncIterator[Page]:
    """A page of a new browser; requests to other machines fail, as without internet."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=QUIET)
        try:
            page = await browser.new_page(viewport={"width": WIDTH, "height": 1000})
            page.set_default_timeout(HANGS)
            await page.route("**/*", _loopback_only)
            yield page
        finally:
            await browser.close()


async def _loopback_only(route: Route) -> None:
    here = httpx.URL(route.request.url).host in ("127.0.0.1", "")
    await (route.continue_() if here else route.abort())
