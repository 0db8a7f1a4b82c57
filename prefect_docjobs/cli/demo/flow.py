"""The demo's flow, in a process of its own that reads what to do and writes outcomes as lines of JSON."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from prefect_docjobs.cli.demo.subprocesses import lines_from_parent
from prefect_docjobs.cli.extract import extract_in_chunks
from prefect_docjobs.models import Batch, Document, Outcome
from prefect_docjobs.providers import Provider

if TYPE_CHECKING:
    from prefect_docjobs.blocks import DocJob
    from prefect_docjobs.flows._output import ResultFiles

_MODEL = "7f3c6a52-9d0e-4b1a-8c55-2e4d1b6f0a93"
_TEXTS = ("invoice_number", "purchase_order_number", "supplier_name", "customer_name", "email")
_DATES = ("date", "due_date")
_UNTYPED = "application/octet-stream"


class RunMessage(BaseModel):
    """To the flow's process: what to run.

    Attributes:
        services_url: Where all services are.
        api_key: The key that they accept.
        output: Folder for the files.
        files: The documents.
    """

    services_url: str
    api_key: str
    output: Path
    files: list[Path]


class OutcomeMessage(BaseModel):
    """From the flow's process: one outcome, without the service's own answer; the last message has none."""

    provider: str = ""
    outcome: Outcome | None = None


SendOutcome = Callable[[str, Outcome], None]
"""Called with the registry name of the service, and an outcome that is in the files."""


def takes(service: type[Provider], document: Document) -> bool:
    """Whether a service documents that it takes such a document; one of an unknown type is tried."""
    accepted = service.capabilities.media_types
    return accepted is None or document.media_type in {*accepted, _UNTYPED}


def main() -> None:
    """Import Prefect while its server starts, then run the flow that the parent sends."""
    lines = lines_from_parent()
    from prefect_docjobs import blocks, tasks  # noqa: F401
    from prefect_docjobs.flows import _output  # noqa: F401

    with open(os.dup(1), "w", encoding="utf-8") as parent:
        os.dup2(2, 1)  # what others print is no message

        def send(message: OutcomeMessage) -> None:
            print(message.model_dump_json(), file=parent, flush=True)

        def send_outcome(provider: str, outcome: Outcome) -> None:
            slim = outcome.result and outcome.result.model_copy(update={"raw": None})
            send(OutcomeMessage(provider=provider, outcome=outcome.model_copy(update={"result": slim})))

        asyncio.run(_run(RunMessage.model_validate_json(lines.get()), send_outcome))
        send(OutcomeMessage())


async def _run(message: RunMessage, send_outcome: SendOutcome) -> None:
    """Extract in one flow run, all services side by side, and write the results as they come."""
    from prefect import flow

    from prefect_docjobs.flows._output import NAMES, ResultFiles

    files = ResultFiles(message.output, run="demo")
    documents = [Document.from_path(file) for file in message.files]
    jobs = _jobs(message.services_url, message.api_key)

    async def run(job: DocJob) -> None:
        taken = [document for document in documents if takes(type(job.provider()), document)]
        await extract_in_chunks(job, taken, _written(job, files, send_outcome))

    @flow(name="docjobs-demo", flow_run_name="{documents} documents via {services} services")
    async def docjobs_demo(documents: int, services: int) -> None:  # noqa: ARG001 (shown in Prefect)
        await asyncio.gather(*map(run, jobs))

    try:
        with files.written():
            await docjobs_demo(len(documents), len(jobs))
    finally:
        for name in NAMES:
            files.partial(name).unlink(missing_ok=True)


def _written(
    job: DocJob, files: ResultFiles, send_outcome: SendOutcome
) -> Callable[[int, Batch], Awaitable[None]]:
    async def ended(_first: int, batch: Batch) -> None:
        await files.append(batch)
        for outcome in batch:
            send_outcome(job.provider().name, outcome)

    return ended


def _jobs(services_url: str, api_key: str) -> Sequence[DocJob]:
    """A job at each service that reads invoices: by a model, a product, a template, a schema."""
    from prefect_docjobs import blocks

    account = {"api_key": api_key, "base_url": services_url}
    return [
        blocks.MindeeJob(credentials=blocks.MindeeCredentials(**account), model_id=_MODEL),
        blocks.MindeeV1Job(
            credentials=blocks.MindeeV1Credentials(**account), endpoint="invoices", version="4"
        ),
        blocks.NuMindJob(credentials=blocks.NuMindCredentials(**account), template=_template()),
        blocks.UnsiloedJob(credentials=blocks.UnsiloedCredentials(**account), schema_data=_schema()),
    ]


def _template() -> dict[str, object]:
    """A NuExtract template: names with the types that the service knows."""
    return {
        **dict.fromkeys(_TEXTS, "verbatim-string"),
        **dict.fromkeys(_DATES, "date"),
        "total_amount": "number",
        "currency": "string",
        "line_items": [{"description": "verbatim-string", "quantity": "number", "amount": "number"}],
    }


def _schema() -> dict[str, object]:
    """The same as a JSON Schema."""
    text, date, number = {"type": "string"}, {"type": "string", "format": "date"}, {"type": "number"}
    item = {"type": "object", "properties": {"description": text, "quantity": number, "amount": number}}
    fields = {
        **dict.fromkeys((*_TEXTS, "currency"), text),
        **dict.fromkeys(_DATES, date),
        "total_amount": number,
        "line_items": {"type": "array", "items": item},
    }
    return {"type": "object", "properties": fields}


if __name__ == "__main__":
    main()
