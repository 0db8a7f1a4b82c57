"""`prefect-docjobs extract` in a terminal of its own, against the one Prefect server of the run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from prefect.settings import PREFECT_API_URL
from support.blocks import make_job

from prefect_docjobs.models import Outcome
from prefect_docjobs.simulator.samples import SAMPLES
from prefect_docjobs.simulator.server import Running, run_in_thread
from prefect_docjobs.simulator.settings import Duration, Settings

PROGRAM = (sys.executable, "-m", "prefect_docjobs.cli", "extract")
INVOICE = SAMPLES / "invoice-brightwater.pdf"
RECEIPT = SAMPLES / "receipt-green-leaf.png"


@pytest.fixture(scope="module")
def saved(simulator: Running) -> str:
    """Name of a saved job."""
    make_job("mindee", simulator.base_url).save("for-the-terminal", overwrite=True)
    return "mindee-job/for-the-terminal"


def settings(**more: str) -> dict[str, str]:
    return {**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value()), "COLUMNS": "80", **more}


def extract(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *arguments],
        env=settings(**more),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_the_table_shows_each_document_with_its_own_values(saved: str) -> None:
    done = extract(str(RECEIPT), str(INVOICE), "--job", saved)
    assert (done.returncode, done.stderr) == (0, "2 of 2 documents succeeded.\n")
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


def test_a_prefect_that_does_not_answer_is_one_sentence(saved: str) -> None:
    for more in ([], ["--dry-run"]):
        done = extract(str(INVOICE), "--job", saved, *more, PREFECT_API_URL="http://127.0.0.1:9/api")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(
            "prefect-docjobs: Prefect's API at http://127.0.0.1:9/api/ does not answer"
        )
        assert done.stderr.count("\n") == 1


def test_a_reader_that_leaves_early_is_no_traceback(saved: str) -> None:
    command = [*PROGRAM, str(INVOICE), str(RECEIPT), "--job", saved, "--json"]
    with subprocess.Popen(command, env=settings(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_an_interrupt_is_exit_code_130_and_the_job_is_in_the_ledger() -> None:
    with run_in_thread(Settings(duration=Duration(law="fixed", seconds=600.0))) as slow:
        make_job("mindee", slow.base_url).save("for-the-impatient", overwrite=True)
        command = [*PROGRAM, str(INVOICE), "--job", "mindee-job/for-the-impatient"]
        with subprocess.Popen(command, env=settings(), stderr=subprocess.PIPE, text=True) as process:
            while not (known := states()):
                assert process.poll() is None
                time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=60)
    assert known == ["submitted"]
    assert (process.returncode, told) == (130, "prefect-docjobs: Stopped.\n")
    assert states() == ["submitted"]


def states() -> list[str]:
    """The states of the jobs in the ledger that were submitted, as the command line tells them."""
    done = subprocess.run(
        [sys.executable, "-m", "prefect_docjobs.cli", "jobs", "--json", "--state", "submitted"],
        capture_output=True,
        check=True,
    )
    return [json.loads(line)["state"] for line in done.stdout.splitlines()]
