"""Runs that start by themselves: when documents arrive, and when a job is done that somebody else submitted.

    python flows/on_events.py FOLDER JOB      # JOB is the name of a saved block, such as mindee-job/invoices

serves three deployments: one that looks for new files every minute, one that extracts from them, and one that
loads the result of each job that another flow waits for. Copy what you need. See docs/events.md.
"""

# No `from __future__ import annotations`: Prefect 3.8 does not find the types of a served flow then.

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

import anyio.to_thread
from prefect import aserve, flow
from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentEventTrigger

from prefect_docjobs import JobRef, afetch_result
from prefect_docjobs.flows import announce_documents, extract_folder

OURS = (
    "extract-folder*",
    "extract-from-terminal",
    "docjobs-demo",
    "retry-run",
    "load-documents",
    "compare-services",
    "review-documents",
)
"""Flows that look after their own results: without this list each of their documents would start a run."""


@flow(flow_run_name="load {ref[document_name]}")
async def load_result(ref: dict[str, Any], job: str, output: str = "docjobs-loaded") -> str:
    """Fetch the result of a job that has succeeded, and write it as JSON; where your loader would begin.

    Args:
        ref: The job, as its event carries it.
        job: Name of the saved job block that it was submitted with.
        output: Folder for the results, one file for each job.
    """
    result = await afetch_result(job, JobRef.model_validate(ref))
    file = Path(output) / f"{result.ref.provider}-{result.ref.job_id}.json"
    values = {name: field.value for name, field in result.fields.items()}
    text = json.dumps({"document": result.ref.document_name, **values}, default=str)

    def write() -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    await anyio.to_thread.run_sync(write)
    return str(file)


def from_event(template: str) -> dict[str, Any]:
    """A part of the event as it is. Plain Jinja would make a text of everything."""
    return {
        "__prefect_kind": "json",
        "value": {"__prefect_kind": "jinja", "template": f"{{{{ {template} | tojson }}}}"},
    }


def full_path(folder: str) -> str:
    """As the events write it."""
    return str(Path(folder).expanduser().resolve())


async def deployments(
    folder: str, job: str, output: str = "docjobs-out", every: float = 60.0
) -> list[RunnerDeployment]:
    """What `aserve` takes.

    Args:
        folder: Where documents arrive.
        job: Name of a saved job block.
        output: Folder for results: one folder for each event, and `loaded`.
        every: Seconds between two looks at the folder.
    """
    arrived = DeploymentEventTrigger(
        expect={"docjobs.documents.arrived"},
        match={"docjobs.folder": full_path(folder)},
        parameters={
            "folder": full_path(folder),  # not what the event says: anybody may emit one
            "names": from_event("event.payload.names"),
            "output": f"{output}/{{{{ event.id }}}}",
            "job": job,
            "recursive": True,
        },
    )
    completed = DeploymentEventTrigger(
        expect={"docjobs.job.completed"},
        match={"docjobs.provider": job.partition("-job/")[0].replace("-", "_")},
        match_related=[
            {"prefect.resource.role": "flow", "prefect.resource.name": f"!{name}"} for name in OURS
        ],
        parameters={"ref": from_event("event.payload.ref"), "job": job, "output": f"{output}/loaded"},
    )
    return [
        await announce_documents.ato_deployment(
            "every-minute",
            parameters={"folder": folder, "recursive": True},
            interval=every,
            concurrency_limit=1,
        ),
        await extract_folder.ato_deployment("on-arrival", triggers=[arrived]),
        await load_result.ato_deployment("on-completed", triggers=[completed]),
    ]


async def main(folder: str, job: str) -> None:
    """Serve all three until the process is stopped."""
    await aserve(*await deployments(folder, job))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", help="where documents arrive")
    parser.add_argument("job", help="name of a saved job block")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.folder, arguments.job))
