"""Load the invoices of a folder into DuckDB, each one once, and ask what they cost.

    python flows/invoices_to_duckdb.py --simulator                  # no key, no block, made-up documents
    python flows/invoices_to_duckdb.py inbox --job mindee-v1-job/invoices --database invoices.duckdb
    python flows/invoices_to_duckdb.py --serve                      # a deployment, to be run from the UI

`load_documents` makes the tables and fills them; the view is yours. Copy it and change the view: which
columns you want, and what your service calls them. The folder may be an address, such as s3://bucket/inbox.
"""

import argparse
import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import anyio.to_thread
from prefect import flow

from prefect_docjobs import MindeeV1Credentials, MindeeV1Job
from prefect_docjobs.blocks import DocJob
from prefect_docjobs.flows import JobParameter, load_documents
from prefect_docjobs.simulator.samples import SAMPLES
from prefect_docjobs.simulator.server import run_in_thread

# A double is what JSON had. Sums of money are exact as decimals.
VIEW = """
CREATE OR REPLACE VIEW invoices AS
SELECT document, invoice_number, supplier_name AS supplier, CAST(date AS DATE) AS invoice_date,
    CAST(total_amount AS DECIMAL(18, 2)) AS total, locale__currency AS currency,
    (SELECT count(*) FROM line_items AS item WHERE item.sha256 = d.sha256 AND item.job = d.job) AS items
FROM documents AS d
WHERE reason IS NULL
"""
TOTALS = """
SELECT currency, count(*) AS invoices, sum(total) AS total FROM invoices
WHERE total IS NOT NULL GROUP BY ALL ORDER BY ALL
"""
FAILURES = "SELECT document, reason, error FROM documents WHERE reason IS NOT NULL ORDER BY document"


@flow(name="invoices-to-duckdb")
async def invoices_to_duckdb(
    folder: str, job: JobParameter, *, database: str = "invoices.duckdb", pattern: str = "*"
) -> dict[str, Any]:
    """Load the invoices that are new in a folder, and make the view `invoices` over all of them.

    Args:
        folder: The folder with the documents.
        job: Name of a saved job block, such as mindee-v1-job/invoices.
        database: The DuckDB file; made if it is not there.
        pattern: Which files, such as *.pdf.

    Returns:
        Numbers of files (found, unchanged, known, loaded, failed, left), and the totals by currency.
    """
    told = await load_documents(folder, job, f"duckdb:{database}", pattern=pattern)
    return {**told, "totals": await anyio.to_thread.run_sync(totals, database)}


def totals(database: str) -> dict[str, float]:
    """What all invoices come to, by currency; nothing while no document has brought the view's columns."""
    import duckdb  # at the top of the file, DuckDB 2.0 would complain of leaks when the process ends

    with duckdb.connect(database) as db:
        try:
            db.execute(VIEW)
        except duckdb.BinderException:
            return {}
        return {currency: float(total) for currency, _, total in db.execute(TOTALS).fetchall()}


# ----------------------------------------------------------------------------------- as a script


@contextmanager
def simulated_job() -> Iterator[DocJob]:
    """A job at a simulator that runs in a thread while the context is open."""
    with run_in_thread() as simulator:
        account = MindeeV1Credentials(api_key="simulator", base_url=simulator.base_url)
        yield MindeeV1Job(credentials=account, endpoint="invoices", version="4")


def show(database: str, queries: Sequence[str]) -> None:
    """Print what they find."""
    import duckdb

    with duckdb.connect(database) as db:
        for query in queries:
            db.sql(query).show(max_width=160)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and run the flow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", nargs="?", default=str(SAMPLES), help="default: the samples")
    parser.add_argument("--job", default="mindee-v1-job/invoices", help="name of a job block")
    parser.add_argument("--database", default="invoices.duckdb", help="the DuckDB file")
    parser.add_argument("--pattern", default="*.p[dn][fg]", help="which files; by default PDF and PNG")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--simulator", action="store_true", help="ask the simulated Mindee V1")
    how.add_argument("--serve", action="store_true", help="serve the flow as a deployment")
    options = parser.parse_args(arguments)
    if options.serve:
        invoices_to_duckdb.serve(name="by-hand")
        return
    settings = {"database": options.database, "pattern": options.pattern}
    if options.simulator:
        with simulated_job() as job:
            told = asyncio.run(invoices_to_duckdb(options.folder, job, **settings))
    else:
        told = asyncio.run(invoices_to_duckdb(options.folder, options.job, **settings))
    print(", ".join(f"{told[name]} {name}" for name in ("loaded", "unchanged", "known", "failed", "left")))
    invoices = ("SELECT * FROM invoices ORDER BY document", TOTALS) if told["totals"] else ()
    show(options.database, (*invoices, FAILURES))


if __name__ == "__main__":
    main()
