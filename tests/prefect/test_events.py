"""Events about jobs, as an automation would see them."""

from __future__ import annotations

import asyncio
from typing import Any

from prefect import flow, get_client
from support.services import invoice

from prefect_docjobs import aextract_documents
from prefect_docjobs.blocks import DocJob


async def emitted(flow_run_id: str, count: int) -> list[dict[str, Any]]:
    """The job events of a flow run; Prefect writes them down in the background."""
    query = {
        "filter": {
            "event": {"prefix": ["docjobs.job."]},
            "related": {"id": [f"prefect.flow-run.{flow_run_id}"]},
        }
    }
    found: list[dict[str, Any]] = []
    async with get_client() as client:
        for _ in range(100):
            answer = await client._client.post("/events/filter", json=query)
            found = answer.json()["events"]
            if len(found) >= count:
                break
            await asyncio.sleep(0.1)
    return found


async def test_each_job_tells_its_submit_and_its_end(jobs: dict[str, DocJob]) -> None:
    runs: list[str] = []

    @flow
    async def extracting() -> None:
        from prefect.runtime import flow_run

        runs.append(str(flow_run.id))
        await aextract_documents(jobs["numind"], [invoice(81), invoice(82)])

    await extracting()
    events = await emitted(runs[0], 4)

    assert sorted(event["event"] for event in events) == [
        "docjobs.job.completed",
        "docjobs.job.completed",
        "docjobs.job.submitted",
        "docjobs.job.submitted",
    ]
    for event in events:
        assert event["resource"]["prefect.resource.id"] == f"docjobs.job.numind.{event['payload']['job_id']}"
        assert event["payload"]["document"] in {"invoice-00081.png", "invoice-00082.png"}
        assert "simulator" not in str(event["payload"])
