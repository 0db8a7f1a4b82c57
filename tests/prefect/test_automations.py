"""The recipes of `flows/automations`: created by Prefect's command, fired by runs, on a real server."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from prefect import get_client
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from support.blocks import make_job
from support.pages import ROOT, block_run_by
from support.posts import heard_posts
from support.processes import prefect, until
from support.services import invoice

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.flows import extract_folder
from prefect_docjobs.flows.load_documents import load_documents
from prefect_docjobs.simulator.server import Running, run_in_thread
from prefect_docjobs.simulator.settings import Duration, Settings

RECIPES = ROOT / "flows" / "automations"
MANY = ": many jobs fail"
UNSET = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """One document that Unsiloed takes, and one that nobody does."""
    folder = tmp_path / "inbox"
    folder.mkdir()
    (folder / "good.txt").write_text("Invoice number: N-1\nTotal: 1.00\n")
    (folder / "empty.txt").write_text("")
    return folder


@pytest.fixture
def texts(simulator: Running) -> DocJob:
    """A job that takes texts."""
    return make_job("unsiloed", simulator.base_url)


@pytest.fixture
def heard() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An address on loopback, and what is posted to it."""
    with heard_posts(lambda _, body: json.loads(body)) as (address, posted):
        yield f"{address}/", posted


@asynccontextmanager
async def created(recipe: str, *, id_: str, directory: Path, **changes: str) -> AsyncIterator[None]:
    """The automations of a file, with the id of a block or deployment in it, until the context is left."""
    text = (RECIPES / recipe).read_text("utf-8").replace(UNSET, id_)
    commands = block_run_by(__file__, "docs/how-to/automations.md", holding=recipe).code
    for old, new in changes.items():
        assert old in text
        text, commands = text.replace(old, new), commands.replace(old, new)
    written = directory / RECIPES.relative_to(ROOT) / recipe
    written.parent.mkdir(parents=True)
    written.write_text(text, "utf-8")
    for command in commands.splitlines():
        await asyncio.to_thread(prefect, directory, *shlex.split(command)[1:])
    names = {each["name"] for each in yaml.safe_load(text)["automations"]}
    async with get_client() as client:
        mine = [each for each in await client.read_automations() if each.name in names]
        assert sorted(each.name for each in mine) == sorted(names)
        try:
            yield
        finally:
            for each in mine:
                await client.delete_automation(each.id)


def notifying(address: str) -> CustomWebhookNotificationBlock:
    """A block that posts to an address."""
    told = {"subject": "{{subject}}", "text": "{{body}}"}
    return CustomWebhookNotificationBlock(name="loopback", url=address, json_data=told)


def fill(folder: Path, numbers: Iterable[int]) -> None:
    """Write so many invoices, and a document without content, into a new folder."""
    folder.mkdir()
    (folder / "empty.png").write_bytes(b"")
    for number in numbers:
        (folder / f"{number}.png").write_bytes(invoice(number).data or b"")


async def failed(folder: Path, numbers: Iterable[int], job: DocJob) -> UUID:
    """Have a batch fail: its jobs at the service, and a document that gets no job; give its flow run."""
    await asyncio.to_thread(fill, folder, numbers)
    state = await extract_folder(str(folder), job, output=str(folder / "out"), return_state=True)
    assert state.state_details.flow_run_id
    return state.state_details.flow_run_id


async def are_known(runs: Iterable[UUID], number: int) -> bool:
    """Whether the server has so many events about failed jobs of these runs, and no more."""
    related = {"id": [f"prefect.flow-run.{run}" for run in runs]}
    query = {"filter": {"event": {"name": ["docjobs.job.failed"]}, "related": related}, "limit": 50}
    async with get_client() as client:
        answer = await client.request("POST", "/events/filter", json=query)
    assert answer.json()["total"] <= number
    return bool(answer.json()["total"] == number)


async def are_posted(posted: Sequence[Mapping[str, Any]], number: int, subject: str = "") -> bool:
    """Whether so many messages have come whose subjects end so."""
    return len([None for message in posted if str(message["subject"]).endswith(subject)]) >= number


@pytest.mark.timeout(180)
async def test_a_batch_with_too_many_failures_sends_a_notification_and_others_do_not(
    tmp_path: Path, inbox: Path, texts: DocJob, heard: tuple[str, list[dict[str, Any]]]
) -> None:
    address, posted = heard
    saved = await notifying(address).save("docjobs-alerts", overwrite=True)
    async with created("alert_on_failures.yaml", id_=str(saved), directory=tmp_path):
        for name, max_failures in (("allowed", 1.0), ("too-many", 0.25)):
            out = str(tmp_path / name)
            await extract_folder(str(inbox), texts, output=out, max_failures=max_failures, return_state=True)

        await until(partial(are_posted, posted, 1), within=60.0)
    (message,) = posted
    assert message["subject"].endswith("50.0 % failed")
    assert "1 of 2 documents delivered; 1 invalid_document" in message["text"]
    assert str(tmp_path / "too-many" / "failures.jsonl") in message["text"]


@pytest.mark.timeout(240)
async def test_twenty_failed_jobs_of_one_service_send_a_notification_and_fewer_do_not(
    tmp_path: Path, heard: tuple[str, list[dict[str, Any]]]
) -> None:
    address, posted = heard
    saved = await notifying(address).save("docjobs-many-failures", overwrite=True)
    settings = Settings(duration=Duration(law="fixed", seconds=0.0), failed_share=1.0)
    with run_in_thread(settings) as failing:
        mindee, numind = (make_job(name, failing.base_url) for name in ("mindee", "numind"))
        async with created("alert_on_failures.yaml", id_=str(saved), directory=tmp_path):
            runs = [await failed(tmp_path / job.provider().name, range(19), job) for job in (numind, mindee)]
            runs.append(await failed(tmp_path / "no job", (), mindee))  # a twentieth failure, but of no job
            await until(partial(are_known, runs, 38), within=60.0)
            await until(partial(are_posted, posted, 3, "100.0 % failed"), within=60.0)  # the other recipe
            assert len(posted) == 3
            await failed(tmp_path / "the twentieth", [19], mindee)
            await until(partial(are_posted, posted, 1, MANY), within=60.0)
            await failed(tmp_path / "three more", [19, 20, 21], numind)  # the first of them is the twentieth
            await until(partial(are_posted, posted, 2, MANY), within=60.0)
    alerts = [message for message in posted if message["subject"].endswith(MANY)]
    assert [message["subject"] for message in alerts] == [f"mindee{MANY}", f"numind{MANY}"]
    assert "20 jobs failed within ten minutes, the last one with failed." in alerts[0]["text"]


@pytest.mark.timeout(180)
async def test_the_loader_is_started_with_the_folder_and_the_job_of_a_batch_that_is_done(
    tmp_path: Path, inbox: Path, texts: DocJob, simulator: Running
) -> None:
    await texts.asave("loaded-when-done", overwrite=True)
    job = "unsiloed-job/loaded-when-done"
    deployed = await load_documents.ato_deployment(
        "on-batch", parameters={"destination": f"duckdb:{tmp_path / 'loaded.duckdb'}", "max_failures": 9}
    )
    deployment = await deployed.aapply()
    changes = {"mindee-job/invoices": job, "load-documents/load-to-database": "load-documents/on-batch"}
    async with (
        get_client() as client,
        created("load_when_done.yaml", id_=str(deployment), directory=tmp_path, **changes),
    ):
        await extract_folder(str(inbox), texts, output=str(tmp_path / "other"))  # another job's batch
        await extract_folder(str(inbox), job, output=str(tmp_path / "out"))
        of_loader = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment]))

        async def started() -> bool:
            return bool(await client.read_flow_runs(flow_run_filter=of_loader))

        await until(started, within=60.0)
        (run,) = await client.read_flow_runs(flow_run_filter=of_loader)
    assert (run.parameters["folder"], run.parameters["job"]) == (str(inbox), job)
    (inbox / "later.txt").write_text("Invoice number: N-2\nTotal: 2.00\n")  # after the batch: not bought here
    bought = simulator.backend.report()["submits"]["total"]
    loaded = await load_documents(**run.parameters)  # as a worker would
    assert (loaded["found"], loaded["loaded"]) == (3, 1)
    assert loaded["reasons"] == {"budget": 1, "invalid_document": 1}
    assert simulator.backend.report()["submits"]["total"] == bought
