"""`prefect-docjobs extract` in a terminal of its own, against the one Prefect server of the run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

import pytest
from prefect.settings import PREFECT_API_URL

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.models import Outcome
from prefect_docjobs.simulator.samples import SAMPLES

INVOICE = SAMPLES / "invoice-brightwater.pdf"
RECEIPT = SAMPLES / "receipt-green-leaf.png"


@pytest.fixture(scope="module")
def saved(jobs: Mapping[str, DocJob]) -> str:
    """Name of a saved job."""
    block = jobs["mindee"]
    block.save("for-the-terminal", overwrite=True)
    return "mindee-job/for-the-terminal"


def extract(*arguments: str) -> subprocess.CompletedProcess[str]:
    settings = {**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value()), "COLUMNS": "80"}
    return subprocess.run(
        [sys.executable, "-m", "prefect_docjobs.cli", "extract", *arguments],
        env=settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_table_shows_each_document_with_its_own_values(saved: str) -> None:
    done = extract(str(RECEIPT), str(INVOICE), "--job", saved)
    assert (done.returncode, done.stderr) == (0, "2 of 2 documents delivered.\n")
    lines = done.stdout.splitlines()
    receipt, invoice = (
        next(line for line in lines if line.startswith(file.name)) for file in (RECEIPT, INVOICE)
    )
    assert "R-20931" in receipt
    assert "BW-10442" in invoice
    assert lines.index(receipt) < lines.index(invoice), "in the order in which they were named"


def test_json_gives_a_whole_outcome_for_each_document_and_a_failure_is_exit_code_1(saved: str) -> None:
    done = extract(str(INVOICE), "no-such-file.pdf", "--job", saved, "--json")
    assert (done.returncode, done.stderr) == (1, "")
    outcomes = {
        outcome.document: outcome for outcome in map(Outcome.model_validate_json, done.stdout.splitlines())
    }
    delivered, missing = outcomes["invoice-brightwater.pdf"], outcomes["no-such-file.pdf"]
    assert delivered.result
    assert delivered.result.fields["invoice_number"].value == "BW-10442"
    assert str(missing.reason) == "invalid_document"


def test_an_unknown_job_is_one_sentence_and_exit_code_2(saved: str) -> None:
    done = extract(str(INVOICE), "--job", "mindee-job/nobody-saved-this")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("prefect-docjobs: 'mindee-job/nobody-saved-this' cannot be loaded")
    assert done.stderr.count("\n") == 1
