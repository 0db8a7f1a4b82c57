"""Send the same invoices through several services, and put their answers side by side.

    python flows/compare_services.py --simulator                    # no key, no block, made-up documents
    python flows/compare_services.py inbox --job mindee-job/invoices --job numind-job/invoices
    python flows/compare_services.py --serve                        # a deployment, to be run from the UI

Copy it and change FIELDS: which values you compare, and what each service calls them. The work is done by
`prefect_docjobs.flows.compare_services`, which can be deployed as it is, too.
"""

import argparse
import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from prefect import flow
from rich.console import Console
from rich.table import Table

from prefect_docjobs import (
    MindeeCredentials,
    MindeeJob,
    MindeeV1Credentials,
    MindeeV1Job,
    NuMindCredentials,
    NuMindJob,
    UnsiloedCredentials,
    UnsiloedJob,
)
from prefect_docjobs.blocks import DocJob
from prefect_docjobs.flows import JobParameter
from prefect_docjobs.flows import compare_services as compare
from prefect_docjobs.simulator.samples import SAMPLES
from prefect_docjobs.simulator.server import run_in_thread

# What is compared, and the names that the value may have. The first that a service has a value for counts.
FIELDS = {
    "number": ["invoice_number"],
    "date": ["invoice_date"],
    "supplier": ["supplier_name"],
    "net": ["total_net", "subtotal"],
    "tax": ["total_tax"],
    "total": ["total_amount"],
    "currency": ["locale.currency"],
}
JOBS = ("mindee-job/invoices", "mindee-v1-job/invoices", "numind-job/invoices", "unsiloed-job/invoices")


@flow(name="compare-invoices")
async def compare_services(
    folder: str,
    jobs: Sequence[JobParameter] = JOBS,
    pattern: str = "*",
    output: str = "docjobs-comparison",
) -> dict[str, Any]:
    """Compare what services find in the invoices of a folder.

    Args:
        folder: The folder with the documents.
        jobs: Names of saved job blocks, one for each column.
        pattern: Which files, such as *.pdf.
        output: Folder for comparison.jsonl and conflicts.jsonl.

    Returns:
        The totals, a row for each service, and the paths of the files.
    """
    result: dict[str, Any] = await compare(
        folder,
        jobs,
        fields=FIELDS,
        comparators={"number": "identifier", "net": "amount", "tax": "amount", "total": "amount"},
        pattern=pattern,
        output=output,
    )
    return result


# ----------------------------------------------------------------------------------- as a script


@contextmanager
def simulated_jobs() -> Iterator[tuple[DocJob, ...]]:
    """A job for each service, at a simulator that runs in a thread while the context is open."""
    names = sorted({alias for name, aliases in FIELDS.items() for alias in (name, *aliases)})
    numbers = {"net", "total_net", "subtotal", "tax", "total_tax", "total", "total_amount"}
    kinds = {name: "number" if name in numbers else "string" for name in names if "." not in name}
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


def show(comparison: Path) -> None:
    """Print a comparison, document by document."""
    lines = [json.loads(line) for line in comparison.read_text(encoding="utf-8").splitlines()]
    for document, fields in groupby(lines, itemgetter("document")):
        rows = list(fields)
        table = Table("field", *rows[0]["values"], "agreement", title=document, title_justify="left")
        for row in rows:
            shown = {**row["values"], **row["reasons"]}
            cells = ["" if value is None else str(value) for value in shown.values()]
            table.add_row(row["field"], *cells, f"{row['agreeing']} of {row['found']}")
        Console().print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and run the flow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", nargs="?", default=str(SAMPLES), help="default: the samples")
    parser.add_argument("--job", action="append", help="name of a job block; repeat it for each column")
    parser.add_argument("--pattern", default="[!_]*", help="which files, such as '*.pdf'")
    parser.add_argument("--output", default="docjobs-comparison", help="folder for the files")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--simulator", action="store_true", help="compare the simulated services")
    how.add_argument("--serve", action="store_true", help="serve the flow as a deployment")
    options = parser.parse_args(arguments)
    if options.serve:
        compare_services.serve(name="by-hand")
        return
    saved = nullcontext(tuple(options.job or JOBS))
    with simulated_jobs() if options.simulator else saved as jobs:
        compared = asyncio.run(compare_services(options.folder, jobs, options.pattern, options.output))
    show(Path(compared["files"][0]))


if __name__ == "__main__":
    main()
