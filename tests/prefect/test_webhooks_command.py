"""`prefect-docjobs webhooks` beside a Prefect server: saved blocks, pushes, events, and SIGTERM."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from prefect import get_client
from prefect.settings import PREFECT_API_URL
from support.ledgers import entry, ref
from support.receiver import TOKEN, signed, success

from prefect_docjobs.blocks import MindeeCredentials, NuMindCredentials, UnsiloedCredentials
from prefect_docjobs.ledger import Ledger, State

SECRET = "s1gning-secret"
RUN = "5a1f7c5e-0000-4000-8000-000000000001"


def environment(**more: str) -> Mapping[str, str]:
    return {**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value()), "COLUMNS": "80", **more}


@asynccontextmanager
async def receiver(*arguments: str, **more: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The command, and what it printed when it had started."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "prefect_docjobs.cli", "webhooks", "--port", "0", *arguments),
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        printed = b""
        while b"Ctrl-C" not in printed:
            line = await asyncio.wait_for(process.stdout.readline(), 60.0)
            assert line, printed
            printed += line
        yield process, printed.decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def saved() -> MindeeCredentials:
    """Accounts of two services under the same name; the one of Mindee."""
    mindee = MindeeCredentials(api_key="k", webhook_secrets=["an-older-secret", SECRET])
    unsiloed = UnsiloedCredentials(api_key="k", webhook_token=TOKEN)
    mindee.save("pushed", overwrite=True)
    unsiloed.save("pushed", overwrite=True)
    return mindee


async def emitted(job_id: str) -> list[dict[str, Any]]:
    """The events about a job; Prefect writes them down in the background."""
    query = {"filter": {"resource": {"id": [f"docjobs.job.mindee.{job_id}"]}}}
    async with get_client() as client:
        for _ in range(100):
            answer = await client._client.post("/events/filter", json=query)
            if found := answer.json()["events"]:
                return list(found)
            await asyncio.sleep(0.1)
    return []


async def test_a_push_is_a_result_and_an_event_and_sigterm_ends_it_quietly() -> None:
    mindee = await asyncio.to_thread(saved)
    facts = {"provider": "mindee", "base_url": mindee.base_url, "tenant": mindee.tenant_id}
    async with Ledger(os.environ["PREFECT_DOCJOBS_LEDGER"]) as ledger:
        record = await ledger.claim(entry(flow_run_id=RUN, **facts))
        record = await ledger.submitted(record, ref("job-pushed", **facts))
        blocks = ("--block", "mindee-credentials/pushed", "--block", "unsiloed-credentials/pushed")
        async with receiver(*blocks) as (process, printed):
            url = re.findall(r"http://127\.0\.0\.1:\d+", printed)[0]
            assert "/webhooks/mindee/pushed\n" in printed
            assert "/webhooks/unsiloed/pushed/<token>\n" in printed
            body = success("mindee", "job-pushed")
            async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
                headers = signed("mindee", body, SECRET)
                answers = [
                    await client.post("/webhooks/mindee/pushed", content=body, headers=headers),
                    await client.post(f"/webhooks/unsiloed/pushed/{TOKEN}", json={"job_id": "job-hinted"}),
                ]
            assert [answer.status_code for answer in answers] == [200, 200]
            (event,) = await emitted("job-pushed")
            process.send_signal(signal.SIGTERM)
            _, told = await asyncio.wait_for(process.communicate(), 30.0)
        now = await ledger.record(record.id)
    assert now is not None
    assert now.state is State.DONE
    assert event["event"] == "docjobs.job.completed"
    assert f"prefect.flow-run.{RUN}" in {it["prefect.resource.id"] for it in event["related"]}
    assert process.returncode == 0
    lines = [json.loads(line) for line in told.decode().splitlines()]
    assert [(it["account"], it["outcome"]) for it in lines] == [("pushed", "kept"), ("pushed", "kept")]
    assert not any(secret in told.decode() + printed for secret in (TOKEN, SECRET, "an-older-secret"))


def refused(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "prefect_docjobs.cli", "webhooks", *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    return done.stderr.splitlines()[0]  # Prefect may add that it is still at work


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--block", "mindee-credentials/nobody-saved-this"],
            "no block mindee-credentials/nobody-saved-this",
        ),
        (["--block", "mindee-credentials/no-secret"], "no-secret has no webhook secret"),
        (["--block", "unsiloed-credentials/no-token"], "no-token has no path token"),
        (["--block", "numind-credentials/plain"], "calls no webhooks"),
    ],
)
def test_blocks_that_cannot_be_served_are_refused_in_a_sentence(arguments: list[str], said: str) -> None:
    MindeeCredentials(api_key="k").save("no-secret", overwrite=True)
    UnsiloedCredentials(api_key="k").save("no-token", overwrite=True)
    NuMindCredentials(api_key="k").save("plain", overwrite=True)
    assert said in refused(*arguments)


async def test_the_path_token_may_come_from_the_environment() -> None:
    await asyncio.to_thread(UnsiloedCredentials(api_key="k").save, "no-token", overwrite=True)
    arguments = ("--block", "unsiloed-credentials/no-token", "--path-token-env", "HOOK")
    async with receiver(*arguments, HOOK=TOKEN) as (_, printed):
        url = re.findall(r"http://127\.0\.0\.1:\d+", printed)[0]
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            path = "/webhooks/unsiloed/no-token"
            statuses = [
                (await client.post(f"{path}/{token}", json={"job_id": "j"})).status_code
                for token in (TOKEN, TOKEN[::-1])
            ]
    assert statuses == [200, 401]


@pytest.mark.parametrize("token", ["too-short", "*" * 40, "Bearer " + "x" * 40])
def test_a_webhook_token_that_cannot_be_one_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match="webhook_token") as refusal:
        UnsiloedCredentials(api_key="k", webhook_token=token)
    assert "xxxx" not in str(refusal.value)
