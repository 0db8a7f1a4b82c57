"""`prefect-docjobs accounts` by the names of saved blocks, and what a pause does to tasks."""

from __future__ import annotations

import json
import secrets

import anyio
import pytest
from support.blocks import make_job
from support.services import invoice

from prefect_docjobs import aextract_documents
from prefect_docjobs.blocks import DocJob
from prefect_docjobs.cli import main
from prefect_docjobs.errors import Reason
from prefect_docjobs.simulator.server import Running
from prefect_docjobs.tasks.fallback import aextract_with_fallback


async def saved(simulator: Running, service: str = "mindee") -> tuple[DocJob, str]:
    """A job of an account of its own, whose blocks are saved under one name."""
    name = f"paused-{secrets.token_hex(4)}"
    job = make_job(service, simulator.base_url, tenant=name)
    await job.credentials.save(name)
    await job.save(name)
    return job, name


async def command(*arguments: str) -> int:
    """The exit code; the command has a loop of its own."""
    return await anyio.to_thread.run_sync(main, ["accounts", *arguments])


def submits(simulator: Running) -> int:
    return sum(simulator.backend.stats.submits.values())


@pytest.mark.parametrize("by", ["credentials", "job", "--job"])
async def test_an_account_is_named_by_its_blocks(
    by: str, simulator: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    job, name = await saved(simulator)
    typed = {"credentials": [f"mindee-credentials/{name}"], "job": [f"mindee-job/{name}"]}
    assert (
        await command("pause", *typed.get(by, ["--job", f"mindee-job/{name}"]), "--reason", "Too dear.") == 0
    )
    before = submits(simulator)
    (outcome,) = await aextract_documents(job, [invoice(1)])
    assert (outcome.reason, submits(simulator)) == (Reason.UNAVAILABLE, before)
    assert "Too dear." in str(outcome.error)
    assert await command("resume", f"mindee-credentials/{name}", "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["tenant"] == name
    (outcome,) = await aextract_documents(job, [invoice(1)])
    assert outcome.ok


async def test_a_fallback_takes_the_next_service(simulator: Running) -> None:
    (job, name), (other, _) = await saved(simulator), await saved(simulator, "numind")
    assert await command("pause", f"mindee-job/{name}") == 0
    (outcome,) = await aextract_with_fallback([job, other], [invoice(2)])
    assert outcome.ok
    assert outcome.ref is not None
    assert outcome.ref.provider == "numind"


async def test_a_block_that_is_not_there_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert await command("pause", "mindee-credentials/nobody-saved-this") == 2
    assert "There is no block mindee-credentials/nobody-saved-this" in capsys.readouterr().err
