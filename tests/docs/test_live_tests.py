"""The live tests work: shown with the simulator in place of the services, for no CI has their keys."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

from support.pages import ROOT, block_run_by, table
from support.services import KEY, MODEL

from prefect_docjobs.providers.registry import BUILT_IN
from prefect_docjobs.simulator.server import run_in_thread
from prefect_docjobs.simulator.settings import Settings

LIVE = ROOT / "tests" / "live"


def test_each_service_gets_one_document_once() -> None:
    with run_in_thread(Settings().merged({"duration": {"law": "fixed", "seconds": 0}})) as simulator:
        variables = {"DOCJOBS_LIVE_MINDEE_MODEL": MODEL}
        for name in BUILT_IN:
            variables[f"DOCJOBS_LIVE_{name.upper()}_KEY"] = KEY
            variables[f"DOCJOBS_LIVE_{name.upper()}_URL"] = simulator.base_url
        report = _run(variables)
        assert "4 passed" in report, report
        submits = simulator.backend.report()["submits"]
    assert (submits["total"], submits["repeated"]) == (len(BUILT_IN), [])


def test_the_variables_of_the_page_let_one_service_be_tried() -> None:
    block = block_run_by(__file__, "docs/how-to/live-tests.md")
    with run_in_thread(Settings().merged({"duration": {"law": "fixed", "seconds": 0}})) as simulator:
        words = shlex.split(block.code.replace("http://127.0.0.1:4040", simulator.base_url))
        report = _run(dict(word.split("=", 1) for word in words if word.startswith("DOCJOBS_LIVE_")))
    assert "1 passed, 3 skipped" in report, report


def test_without_a_key_nothing_is_sent_and_the_missing_variable_is_named() -> None:
    report = _run({})
    assert "4 skipped" in report, report
    for name in BUILT_IN:
        assert f"DOCJOBS_LIVE_{name.upper()}_KEY is not set" in report


def test_the_page_names_the_variables() -> None:
    rows = table(ROOT / "docs" / "how-to" / "live-tests.md", "Give the keys")
    told = {name.strip() for row in rows for name in row[0].split(",")}
    keys = {f"DOCJOBS_LIVE_{name.upper()}_KEY" for name in BUILT_IN}
    others = {"DOCJOBS_LIVE_MINDEE_MODEL", "DOCJOBS_LIVE_<SERVICE>_URL", "DOCJOBS_LIVE_DOCUMENT"}
    assert told == keys | others


def _run(variables: dict[str, str]) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DOCJOBS_LIVE_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "live", "-q", "-p", "no:cacheprovider", str(LIVE)],
        cwd=ROOT,
        env={**kept, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout
