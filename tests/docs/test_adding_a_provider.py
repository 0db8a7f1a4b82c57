"""The page about a new provider shows the example package, which passes the suite where it is installed."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.example_package import EXAMPLE, install, printed_with
from support.pages import ROOT, block_run_by, code_blocks

PAGE = ROOT / "docs" / "add-a-provider.md"


@pytest.mark.parametrize(
    ("file", "holding"),
    [
        ("docjobs_acme/provider.py", "class Acme(Provider)"),
        ("docjobs_acme/results.py", "def own_job"),
        ("docjobs_acme/errors.py", "def read_error(answer: Answer, *"),
        ("docjobs_acme/blocks.py", "class AcmeJob"),
        ("docjobs_acme/simulated.py", "class SimulatedAcme"),
        ("test_acme.py", "class TestAcme"),
    ],
)
def test_the_page_shows_the_files_of_the_package(file: str, holding: str) -> None:
    shown = block_run_by(__file__, "docs/add-a-provider.md", holding=holding).code
    assert shown == (EXAMPLE / file).read_text("utf-8"), f"copy {file} to the page"


def test_the_page_shows_its_entry_points() -> None:
    (shown,) = (block.code for block in code_blocks(PAGE) if block.language == "toml")
    assert shown == (EXAMPLE / "pyproject.toml").read_text("utf-8")


@pytest.mark.timeout(240)
def test_the_package_passes_the_conformance_suite(tmp_path: Path) -> None:
    # With a configuration of its own, as in its own repository; warnings of our dependencies are not its.
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "-c", EXAMPLE / "pyproject.toml")
    passed = printed_with(
        install(tmp_path), "-m", "pytest", *map(str, options), str(EXAMPLE / "test_acme.py")
    )
    assert int(passed.splitlines()[-1].split(" passed")[0]) > 50, passed
