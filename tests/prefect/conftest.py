"""One Prefect server and one simulator for all tests of this folder."""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import (
    PREFECT_HOME,
    PREFECT_LOGGING_TO_API_ENABLED,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    temporary_settings,
)
from prefect.testing.utilities import prefect_test_harness
from support.blocks import JOBS, make_job

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.simulator.server import Running, run_in_thread
from prefect_docjobs.simulator.settings import Duration, Settings


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder; Prefect leaves connections to its server to the garbage collector."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.prefect)
            item.add_marker(pytest.mark.xdist_group("prefect"))  # one process, so one server
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"))


@pytest.fixture(scope="module", autouse=True)
def _collected() -> Iterator[None]:
    """Collect Prefect's leavings here, so that no test of another folder is blamed for them."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="session", autouse=True)
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The one Prefect server of the run; it takes 20 to 30 seconds to start."""
    quiet: dict[Any, Any] = {
        PREFECT_HOME: tmp_path_factory.mktemp("prefect"),
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
        PREFECT_LOGGING_TO_API_ENABLED: False,
    }
    with temporary_settings(quiet), prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="session", autouse=True)
def block_types_at_start(_server: None) -> frozenset[str]:
    """The slugs of all block types that the server knew before any test saved a block."""
    with get_client(sync_client=True) as client:
        answer = client.request("POST", "/block_types/filter", json={"limit": 200})
    return frozenset(block_type["slug"] for block_type in answer.json())


@pytest.fixture(scope="session")
def simulator() -> Iterator[Running]:
    """The four services on loopback; jobs are done at once."""
    with run_in_thread(Settings(duration=Duration(law="fixed", seconds=0.0))) as running:
        yield running


@pytest.fixture
def jobs(simulator: Running) -> Mapping[str, DocJob]:
    """A job block of each service, by the provider's registry name; a test's own, for saving names them."""
    return {name: make_job(name, simulator.base_url) for name in JOBS}


@pytest.fixture
def job(jobs: Mapping[str, DocJob]) -> DocJob:
    """One of them, where any will do."""
    return jobs["mindee"]


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """What task runs and the package log while the test runs."""
    kept: list[logging.LogRecord] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append(record)

    handler = Keeping(logging.INFO)
    loggers = [logging.getLogger(name) for name in ("prefect.task_runs", "prefect.docjobs")]
    for logger in loggers:
        logger.addHandler(handler)
    yield kept
    for logger in loggers:
        logger.removeHandler(handler)
