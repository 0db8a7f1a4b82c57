"""Send the same documents through several services, and put their answers side by side.

    python flows/compare_services.py --simulator                    # no key, no block, made-up documents
    python flows/compare_services.py inbox --job mindee-job/invoices --job numind-job/invoices
    python flows/compare_services.py --serve                        # a deployment, to be run from the UI

Copy it and change FIELDS: which values you compare, and what each service calls them.
"""

import argparse
import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from typing import Any

from prefect import flow
from prefect.artifacts import acreate_table_artifact
from prefect.blocks.core import Block
from rich.console import Console
from rich.table import Table

from prefect_docjobs import (
    Document,
    MindeeCredentials,
    MindeeJob,
    MindeeV1Credentials,
    MindeeV1Job,
    NuMindCredentials,
    NuMindJob,
    Outcome,
    UnsiloedCredentials,
    UnsiloedJob,
    aextract_documents,
)
from prefect_docjobs.blocks import DocJob
from prefect_docjobs.errors import DocJobsError, InvalidDocument
from prefect_docjobs.flows import JobParameter
from prefect_docjobs.simulator.samples import SAMPLES
from prefect_docjobs.simulator.server import run_in_thread

# What is compared, and the names that the value may have. The first one that a service gives counts.
FIELDS = {
    "number": ("invoice_number",),
    "date": ("date", "invoice_date"),
    "supplier": ("supplier_name",),
    "net": ("total_net", "subtotal"),
    "tax": ("total_tax", "tax"),
    "total": ("total_amount",),
    "currency": ("currency", "locale.currency"),
}
JOBS = ("mindee-job/invoices", "mindee-v1-job/invoices", "numind-job/invoices", "unsiloed-job/invoices")
NOT_OFFERED = "not offered"
MOST_ROWS = 500  # a larger table artifact stops the browser


@flow(name="compare-services")
async def compare_services(
    folder: str, jobs: tuple[JobParameter, ...] = JOBS, pattern: str = "*"
) -> list[dict[str, Any]]:
    """Compare what services find in the documents of a folder.

    Args:
        folder: The folder with the documents.
        jobs: Names of saved job blocks, one for each column.
        pattern: Which files, such as *.pdf.

    Returns:
        One row for each document and field: the value of each service, and how many of them agree.
    """
    documents = Document.from_folder(folder, pattern)
    blocks = {title(job): await load(job) for job in jobs}
    answers = await asyncio.gather(*(ask(block, documents) for block in blocks.values()))
    rows = [
        row
        for document, outcomes in zip(documents, zip(*answers, strict=True), strict=False)
        for row in compared(document, dict(zip(blocks, outcomes, strict=True)))
    ]
    if rows:
        shown = f"{min(len(rows), MOST_ROWS)} of {len(rows)} rows"
        await acreate_table_artifact(rows[:MOST_ROWS], key="docjobs-comparison", description=shown)
    return rows


def title(job: DocJob | str) -> str:
    """The heading of a job's column."""
    return job if isinstance(job, str) else job.provider().title


async def load(job: DocJob | str) -> DocJob:
    """The block that a name stands for."""
    block = await Block.aload(job) if isinstance(job, str) else job
    if not isinstance(block, DocJob):
        raise TypeError(f"{job} is a {type(block).__name__}, not a job block.")
    return block


async def ask(block: DocJob, documents: Sequence[Document]) -> list[Outcome | None]:
    """One outcome for each document; None where the service does not take such documents."""
    taken = {number: document for number, document in enumerate(documents) if offered(block, document)}
    batch = await aextract_documents(block, list(taken.values()), timeout=3600)
    outcomes = dict(zip(taken, batch, strict=True))
    return [outcomes.get(number) for number in range(len(documents))]


def offered(block: DocJob, document: Document) -> bool:
    """Whether the service takes documents of this kind and size, as its provider's capabilities say."""
    try:
        document.check()
    except InvalidDocument:
        return True  # a broken file is no question of what is offered: it becomes a failed row
    try:
        block.provider().check(document)
    except DocJobsError:
        return False
    return True


def compared(document: Document, outcomes: dict[str, Outcome | None]) -> Iterator[dict[str, Any]]:
    """The rows of one document."""
    for name, aliases in FIELDS.items():
        values = {service: value(outcome, aliases) for service, outcome in outcomes.items()}
        cells = {service: cell(outcome, values[service]) for service, outcome in outcomes.items()}
        yield {"document": document.name, "field": name, **cells, "agreement": agreement(values.values())}


def value(outcome: Outcome | None, aliases: Sequence[str]) -> Any:
    """The first of these fields that the service found; None if there is no such answer."""
    found = outcome.result.row() if outcome and outcome.result else {}
    return next((found[alias] for alias in aliases if found.get(alias) is not None), None)


def cell(outcome: Outcome | None, found: Any) -> str:
    """What the table shows: the value, or why there is none."""
    if outcome is None:
        return NOT_OFFERED
    if not outcome.ok:
        return str(outcome.reason)
    return "" if found is None else str(found)


def agreement(values: Any) -> str:
    """How many of the services that found a value found the same one, such as `3 of 4`."""
    alike = Counter(comparable(found) for found in values if found is not None)
    return f"{max(alike.values())} of {alike.total()}" if alike else ""


def comparable(found: Any) -> str:
    """A value as text that is the same for the same amount or name: 25.5 and "25.50", "ACME" and "Acme"."""
    try:
        return f"{float(found):.2f}"
    except (TypeError, ValueError):
        return " ".join(str(found).casefold().split())


# ----------------------------------------------------------------------------------- as a script


@contextmanager
def simulated_jobs() -> Iterator[tuple[DocJob, ...]]:
    """A job for each service, at a simulator that runs in a thread while the context is open."""
    names = {alias for aliases in FIELDS.values() for alias in aliases}
    numbers = {"total_net", "subtotal", "total_tax", "tax", "total_amount"}
    kinds = {name: "number" if name in numbers else "string" for name in sorted(names)}
    schema = {"type": "object", "properties": {name: {"type": kind} for name, kind in kinds.items()}}
    with run_in_thread() as simulator:
        account: dict[str, Any] = {"api_key": "simulator", "base_url": simulator.base_url}
        yield (
            MindeeJob(
                credentials=MindeeCredentials(**account), model_id="11111111-2222-4333-8444-555555555555"
            ),
            MindeeV1Job(credentials=MindeeV1Credentials(**account), endpoint="invoices", version="4"),
            NuMindJob(credentials=NuMindCredentials(**account), template=kinds),
            UnsiloedJob(credentials=UnsiloedCredentials(**account), schema_data=schema),
        )


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print the rows, document by document."""
    for document, of_document in groupby(rows, itemgetter("document")):
        cells = [{name: text for name, text in row.items() if name != "document"} for row in of_document]
        table = Table(*cells[0], title=document, title_justify="left")
        for row in cells:
            table.add_row(*row.values())
        Console().print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and run the flow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", nargs="?", default=str(SAMPLES), help="default: the samples")
    parser.add_argument("--job", action="append", help="name of a job block; repeat it for each column")
    parser.add_argument("--pattern", default="[!_]*", help="which files, such as '*.pdf'")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--simulator", action="store_true", help="compare the simulated services")
    how.add_argument("--serve", action="store_true", help="serve the flow as a deployment")
    options = parser.parse_args(arguments)
    if options.serve:
        compare_services.serve(name="by-hand")
    elif options.simulator:
        with simulated_jobs() as jobs:
            show(asyncio.run(compare_services(options.folder, jobs, options.pattern)))
    else:
        show(asyncio.run(compare_services(options.folder, tuple(options.job or JOBS), options.pattern)))


if __name__ == "__main__":
    main()
