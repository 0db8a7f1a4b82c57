"""The wheel in an environment that was empty: it is imported, registered, and extracts from a document."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from support.distributions import ROOT, Installed
from support.ports import free_port

from prefect_docjobs import __version__
from prefect_docjobs.models import Outcome
from prefect_docjobs.providers.registry import BUILT_IN

SAMPLE = ROOT / "prefect_docjobs" / "simulator" / "samples" / "invoice-brightwater.pdf"

_SAVE = """
import sys
from prefect_docjobs import MindeeCredentials, MindeeJob
key = MindeeCredentials(api_key="simulator", base_url=sys.argv[1])
MindeeJob(credentials=key, model_id="7f3c6a52-9d0e-4b1a-8c55-2e4d1b6f0a93").save("packaged")
"""
_ENTRY_POINT = """
from importlib.metadata import entry_points
(point,) = (p for p in entry_points(group="prefect.collections") if p.name == "prefect_docjobs")
print(point.load().__file__)
"""
_IMPORT = """
import sys, time
start = time.process_time()
import prefect_docjobs.models, prefect_docjobs.providers, prefect_docjobs.extraction
print(time.process_time() - start, "prefect" in sys.modules)
"""


@contextmanager
def running(installed: Installed, program: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A program of the environment, until the context is closed."""
    with (installed.home / f"{program}.log").open("w") as log:
        process = subprocess.Popen(
            [installed.scripts / program, *arguments],
            env=installed.environment(),
            cwd=installed.home,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=60)


@pytest.fixture(scope="module")
def server(installed: Installed) -> Iterator[str]:
    """A Prefect server of that environment: the URL of its API."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    with running(
        installed, "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)
    ) as process:
        with httpx.Client(trust_env=False) as client:
            deadline = time.monotonic() + 240
            while not _is_healthy(client, url):
                assert process.poll() is None, (installed.home / "prefect.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.5)
        yield url


def _is_healthy(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(f"{url}/health").is_success
    except httpx.HTTPError:
        return False


def test_the_command_line_works(installed: Installed) -> None:
    assert installed.run("prefect-docjobs", "--version") == f"{__version__}\n"
    described = json.loads(installed.run("prefect-docjobs", "providers", "--json"))
    assert [service["name"] for service in described] == list(BUILT_IN)


def test_the_half_without_prefect_is_imported_in_half_a_second(installed: Installed) -> None:
    told = [installed.run("python", "-c", _IMPORT).split() for _ in range(3)]  # the first one compiles
    assert {prefect for _, prefect in told} == {"False"}
    assert min(float(seconds) for seconds, _ in told) <= 0.5


def test_it_is_the_wheel_that_is_imported(installed: Installed) -> None:
    assert "site-packages" in installed.run(
        "python", "-c", "import prefect_docjobs; print(prefect_docjobs.__file__)"
    )


def test_prefect_finds_the_collection(installed: Installed) -> None:
    blocks = Path(installed.run("python", "-W", "ignore", "-c", _ENTRY_POINT).strip())
    assert blocks.parts[-3:] == ("prefect_docjobs", "blocks", "__init__.py")


def test_all_blocks_are_registered(installed: Installed, server: str) -> None:
    said = installed.run("prefect", "block", "register", "-m", "prefect_docjobs", PREFECT_API_URL=server)
    assert "Successfully registered 8 blocks" in said
    assert all(title in said for title in ("Mindee Job", "Mindee V1 Job", "NuMind Job", "Unsiloed Job"))


def test_a_document_is_extracted_at_the_simulator(installed: Installed, server: str) -> None:
    with running(
        installed, "prefect-docjobs", "simulate", "--port", "0", "--json", "--duration", "0.5"
    ) as simulator:
        assert simulator.stdout
        url = json.loads(simulator.stdout.readline())["url"]
        installed.run("python", "-W", "ignore", "-c", _SAVE, url, PREFECT_API_URL=server)
        arguments = ("extract", str(SAMPLE), "--job", "mindee-job/packaged", "--json")
        outcome = Outcome.model_validate_json(
            installed.run("prefect-docjobs", *arguments, PREFECT_API_URL=server)
        )
    assert outcome.result
    assert outcome.result.fields["invoice_number"].value == "BW-10442"
