"""Load the invoices of a folder into DuckDB, each one once.

    python flows/invoices_to_duckdb.py --simulator                  # no key, no block, made-up documents
    python flows/invoices_to_duckdb.py inbox --job mindee-v1-job/invoices --database invoices.duckdb
    python flows/invoices_to_duckdb.py --serve                      # a deployment, to be run from the UI

A document is known by its content and by the job that read it. What is loaded is never submitted again, and
a job that was not waited for long enough is waited for again instead of being paid for again.

Copy it and change the columns.
"""

import argparse
import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prefect import flow, get_run_logger

from prefect_docjobs import (
    Batch,
    Document,
    JobRef,
    MindeeV1Credentials,
    MindeeV1Job,
    Outcome,
    aextract_documents,
    afetch_results,
    await_for_jobs,
)
from prefect_docjobs.blocks import DocJob
from prefect_docjobs.errors import InvalidDocument, Reason
from prefect_docjobs.flows import JobParameter, job_label
from prefect_docjobs.simulator.samples import SAMPLES
from prefect_docjobs.simulator.server import run_in_thread

if TYPE_CHECKING:
    import duckdb

SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
    sha256 TEXT, job TEXT, document TEXT, reason TEXT, error TEXT, ref JSON,
    invoice_number TEXT, supplier TEXT, invoice_date DATE, total DOUBLE, currency TEXT, fields JSON,
    PRIMARY KEY (sha256, job)
);
CREATE TABLE IF NOT EXISTS line_items (
    sha256 TEXT, job TEXT, list TEXT, index INTEGER,
    description TEXT, quantity DOUBLE, unit_price DOUBLE, amount DOUBLE, fields JSON,
    PRIMARY KEY (sha256, job, list, index)
);
"""
INSERT_DOCUMENT = """
INSERT OR REPLACE INTO documents
VALUES (?, ?, ?, ?, ?, ?, ?, ?, TRY_CAST(? AS DATE), TRY_CAST(? AS DOUBLE), ?, ?)
"""
INSERT_LINE_ITEM = """
INSERT OR REPLACE INTO line_items
VALUES (?, ?, ?, ?, ?, TRY_CAST(? AS DOUBLE), TRY_CAST(? AS DOUBLE), TRY_CAST(? AS DOUBLE), ?)
"""
# Nothing was accepted, so nothing was paid: these are submitted again without being asked.
SUBMIT_AGAIN = {Reason.THROTTLED, Reason.UNAVAILABLE}


@flow(name="invoices-to-duckdb")
async def invoices_to_duckdb(
    folder: str,
    job: JobParameter,
    *,
    database: str = "invoices.duckdb",
    pattern: str = "*",
    chunk_size: int = 100,
    document_timeout: float = 3600,
    resubmit: bool = False,
) -> dict[str, int]:
    """Extract from the documents of a folder that are not in the database yet, and load what comes out.

    Args:
        folder: The folder with the documents.
        job: Name of a saved job block, such as mindee-v1-job/invoices.
        database: The DuckDB file; made if it is not there.
        pattern: Which files, such as *.pdf.
        chunk_size: Documents per task run, and per transaction.
        document_timeout: Seconds for each document.
        resubmit: Submit documents again that failed after they were accepted, at the risk of a second bill.

    Returns:
        Numbers of documents: known (loaded before), loaded, failed, and left (failed before, not tried).
    """
    key, log = job_label(job), get_run_logger()
    with connection(database) as db:
        plan = planned(identified(Document.from_folder(folder, pattern)), history(db, key), resubmit=resubmit)
    log.info("%d to submit, %d to wait for again", len(plan.submit), len(plan.wait))
    counts = {"known": plan.known, "loaded": 0, "failed": 0, "left": plan.left}

    async def keep(keys: Sequence[str], batch: Batch) -> None:
        with connection(database) as db:  # open for moments only: DuckDB lets in one writer
            load(db, key, keys, batch)
        counts["loaded"] += len(batch.results)
        counts["failed"] += len(batch.failures)

    for hashes in chunked(list(plan.wait), chunk_size):
        refs = [plan.wait[sha256] for sha256 in hashes]
        done = await await_for_jobs(job, refs, document_timeout=document_timeout)
        await keep(hashes, await afetch_results(job, done))
    for hashes in chunked(list(plan.submit), chunk_size):
        documents = [plan.submit[sha256] for sha256 in hashes]
        await keep(hashes, await aextract_documents(job, documents, document_timeout=document_timeout))
    return counts


@dataclass
class Plan:
    """What is to be done, by the SHA-256 of the documents."""

    submit: dict[str, Document] = field(default_factory=dict)
    wait: dict[str, JobRef] = field(default_factory=dict)
    known: int = 0
    left: int = 0


def identified(documents: Sequence[Document]) -> dict[str, Document]:
    """Documents by their SHA-256: a copy under another name is the same document."""
    found: dict[str, Document] = {}
    for document in documents:
        if sha256 := digest(document):
            found.setdefault(sha256, document)
    return found


def digest(document: Document) -> str | None:
    """The SHA-256 of a document; None, and a line in the log, if it cannot be read."""
    try:
        return document.sha256
    except InvalidDocument as problem:
        get_run_logger().warning("Left out: %s", problem)
        return None


def history(db: "duckdb.DuckDBPyConnection", key: str) -> dict[str, tuple[Reason | None, JobRef | None]]:
    """Why each document that is in the database failed (None: it did not), and its job."""
    rows = db.execute("SELECT sha256, reason, ref FROM documents WHERE job = ?", [key]).fetchall()
    return {
        sha256: (Reason(reason) if reason else None, JobRef.model_validate_json(ref) if ref else None)
        for sha256, reason, ref in rows
    }


def planned(
    documents: Mapping[str, Document],
    before: Mapping[str, tuple[Reason | None, JobRef | None]],
    *,
    resubmit: bool,
) -> Plan:
    """What to do with each document, so that none is paid for twice."""
    plan = Plan()
    for sha256, document in documents.items():
        reason, ref = before.get(sha256, (Reason.UNAVAILABLE, None))
        if reason is None:
            plan.known += 1
        elif reason is Reason.TIMEOUT and ref is not None:
            plan.wait[sha256] = ref
        elif resubmit or reason in SUBMIT_AGAIN or reason is Reason.TIMEOUT:
            plan.submit[sha256] = document
        else:
            plan.left += 1
    return plan


def load(db: "duckdb.DuckDBPyConnection", key: str, hashes: Sequence[str], batch: Batch) -> None:
    """Write a batch in one transaction."""
    db.begin()
    for sha256, outcome in zip(hashes, batch, strict=True):
        db.execute(INSERT_DOCUMENT, document_row(sha256, key, outcome))
        for item in outcome.result.line_items() if outcome.result else ():
            db.execute(INSERT_LINE_ITEM, line_item_row(sha256, key, item))
    db.commit()


def document_row(sha256: str, key: str, outcome: Outcome) -> list[Any]:
    """The columns of `documents`."""
    found = outcome.result.row() if outcome.result else {}
    return [
        sha256,
        key,
        outcome.document,
        outcome.reason and outcome.reason.value,
        outcome.error,
        outcome.ref and outcome.ref.model_dump_json(),
        found.get("invoice_number"),
        found.get("supplier_name"),
        first(found, "date", "invoice_date"),
        found.get("total_amount"),
        first(found, "currency", "locale.currency"),
        json.dumps(found),
    ]


def line_item_row(sha256: str, key: str, item: Mapping[str, Any]) -> list[Any]:
    """The columns of `line_items`."""
    return [
        sha256,
        key,
        item["list"],
        item["index"],
        item.get("description"),
        item.get("quantity"),
        item.get("unit_price"),
        first(item, "amount", "total_amount"),
        json.dumps(item),
    ]


def first(found: Mapping[str, Any], *names: str) -> Any:
    """The first of these values that is there: services name the same thing differently."""
    return next((found[name] for name in names if found.get(name) is not None), None)


def chunked(hashes: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Pieces of at most `size`."""
    return (hashes[start : start + size] for start in range(0, len(hashes), size))


@contextmanager
def connection(database: str) -> "Iterator[duckdb.DuckDBPyConnection]":
    """A connection to the database, its tables made if they are not there."""
    import duckdb  # at the top of the file, DuckDB 2.0 would complain of leaks when the process ends

    with duckdb.connect(database) as db:
        db.execute(SCHEMA)
        yield db


# ----------------------------------------------------------------------------------- as a script


@contextmanager
def simulated_job() -> Iterator[DocJob]:
    """A job at a simulator that runs in a thread while the context is open."""
    with run_in_thread() as simulator:
        account = MindeeV1Credentials(api_key="simulator", base_url=simulator.base_url)
        yield MindeeV1Job(credentials=account, endpoint="invoices", version="4")


def show(counts: Mapping[str, int], database: str) -> None:
    """Print what was done and what there is."""
    print(", ".join(f"{number} {name}" for name, number in counts.items()))
    with connection(database) as db:
        db.sql(
            "SELECT document, invoice_number, supplier, invoice_date, total, currency, reason FROM documents"
        ).show()


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
            counts = asyncio.run(invoices_to_duckdb(options.folder, job, **settings))
    else:
        counts = asyncio.run(invoices_to_duckdb(options.folder, options.job, **settings))
    show(counts, options.database)


if __name__ == "__main__":
    main()
