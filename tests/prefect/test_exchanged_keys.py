"""A key that is exchanged while a batch runs: the saved credentials are loaded again."""

from __future__ import annotations

import asyncio
import logging

import pytest
from support.blocks import JOBS, make_job
from support.processes import until
from support.services import invoice

from prefect_docjobs import aextract_documents
from prefect_docjobs.blocks import DocJob
from prefect_docjobs.errors import Reason
from prefect_docjobs.simulator.server import run_in_thread
from prefect_docjobs.simulator.settings import Settings

JOBS_TAKE = {"duration": {"law": "uniform", "low": 1.0, "high": 3.0}}


async def saved(service: str, base_url: str, key: str, name: str) -> DocJob:
    """A job that is saved, and so are its credentials, with this key; as another process would load it."""
    made = make_job(service, base_url, key=key, tenant="acme")
    await made.credentials.save(name, overwrite=True)
    await made.save(name, overwrite=True)
    loaded: DocJob = await JOBS[service].load(name)
    return loaded


@pytest.mark.parametrize("service", list(JOBS))
async def test_a_batch_goes_on_with_the_key_that_is_saved_now(
    service: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"exchanged-{service.replace('_', '-')}"
    with run_in_thread(Settings(api_key="old-key-1").merged(JOBS_TAKE)) as simulator:
        backend = simulator.backend
        job = await saved(service, simulator.base_url, "old-key-1", name)
        assert job.credentials.api_key is not None
        assert job.credentials.api_key.get_secret_value() == "old-key-1"
        running = asyncio.create_task(aextract_documents(job, [invoice(number) for number in range(24)]))

        async def begun() -> bool:
            return sum(backend.stats.submits.values()) >= 8

        await until(begun, within=60.0, every=0.02)
        exchanged = make_job(service, simulator.base_url, key="new-key-2", tenant="acme")
        await exchanged.credentials.save(name, overwrite=True)
        backend.settings = backend.settings.merged({"api_key": "new-key-2"})

        batch = await running
        assert [row.error for row in batch if not row.ok] == []
        assert list(backend.stats.submits.values()) == [1] * 24
    assert not [line for line in caplog.messages if "old-key-1" in line or "new-key-2" in line]


async def test_a_key_that_stays_wrong_ends_the_batch_soon(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with run_in_thread(Settings(api_key="another")) as simulator:
        job = await saved("mindee", simulator.base_url, "wr0ng-key", "stays-wrong")
        batch = await aextract_documents(job, [invoice(number) for number in range(40)])
        assert {row.reason for row in batch} == {Reason.UNAUTHORIZED}
        assert simulator.backend.stats.given["unauthorized"] <= 10
    assert "wr0ng-key" not in caplog.text
