"""A process that is interrupted: `interrupted_process.py BASE_URL TASK` extracts eight invoices in a flow."""

from __future__ import annotations

import sys

from prefect import flow
from support.blocks import make_job
from support.services import invoice

from prefect_docjobs import extract_documents, submit_documents
from prefect_docjobs.blocks import DocJob


@flow
def nightly(job: DocJob, task: str) -> None:
    documents = [invoice(number) for number in range(8)]
    batch = submit_documents(job, documents) if task == "submit" else extract_documents(job, documents)
    print("reasons:", sorted({str(row.reason) for row in batch}), sum(row.reused for row in batch))


if __name__ == "__main__":
    nightly(make_job("mindee", sys.argv[1]), sys.argv[2])
