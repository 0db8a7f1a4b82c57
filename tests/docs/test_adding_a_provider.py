"""The page about a new provider is followed: in a copy that it is put into, Acme Reader passes the suite."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
from support.pages import ROOT, block_run_by, code_blocks, column, table
from support.processes import printed_by

PAGE = ROOT / "docs" / "add-a-provider.md"

LINES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "prefect_docjobs/providers/registry.py": {
            '"mindee": "': '"acme": "prefect_docjobs.providers.acme:Acme", "mindee": "'
        },
        "prefect_docjobs/simulator/server.py": {
            "import mindee,": "import acme, mindee,",
            "half in (mindee,": "half in (acme, mindee,",
        },
        "prefect_docjobs/blocks/__init__.py": {
            "__all__ = [": "from prefect_docjobs.blocks.acme import AcmeCredentials, AcmeJob\n\n"
            '__all__ = [ "AcmeCredentials", "AcmeJob",'
        },
        "prefect_docjobs/__init__.py": {"__all__ = [": '__all__ = [ "AcmeCredentials", "AcmeJob",'},
        "tests/support/services.py": {
            '"mindee": {': '"acme": {"fields": ("invoice_number", "total_amount")}, "mindee": {',
        },
    }
)
"""What the page's table says in words: in which file what is put in place of what."""

USE = """
import asyncio
from prefect_docjobs import AcmeJob, Document
from prefect_docjobs.providers import provider_class
from prefect_docjobs.simulator.samples import SAMPLES
from prefect_docjobs.simulator.server import run_in_thread
from prefect_docjobs.simulator.settings import Settings

async def main(base_url):
    account = {"api_key": "simulator", "base_url": base_url}
    job = AcmeJob(credentials=account, fields=["invoice_number"])
    run = await job.trigger(Document.from_path(SAMPLES / "invoice-brightwater.pdf"))
    await run.wait_for_completion()
    result = await run.fetch_result()
    print(provider_class("acme").title, result.row()["invoice_number"])

with run_in_thread(Settings().merged({"duration": {"law": "fixed", "seconds": 0}})) as running:
    asyncio.run(main(running.base_url))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with Acme Reader in it."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("prefect_docjobs", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    code = [block.code for block in code_blocks(PAGE) if block.language == "python"]
    for room, said in {"providers": "class Acme(Provider)", "simulator": "class SimulatedAcme"}.items():
        (new,) = (block for block in code if said in block)
        (folder / "prefect_docjobs" / room / "acme.py").write_text(new, "utf-8")
    blocks = block_run_by(__file__, "docs/add-a-provider.md").code
    (folder / "prefect_docjobs" / "blocks" / "acme.py").write_text(blocks, "utf-8")
    for name, lines in LINES.items():
        text = (folder / name).read_text("utf-8")
        for old, new in lines.items():
            assert text.count(old) == 1, f"{name} has not one {old!r}"
            text = text.replace(old, new)
        (folder / name).write_text(text, "utf-8")
    return folder


def test_every_file_that_is_changed_here_is_named_on_the_page() -> None:
    assert set(LINES) <= set(column(table(PAGE, "Where it all goes"), 0))


def test_acme_reader_passes_the_conformance_suite(copy: Path) -> None:
    options = ("-q", "-n0", "-p", "no:cacheprovider", "-k", "acme")
    passed = printed_in(copy, "-m", "pytest", *options, "tests/conformance")
    number = int(passed.splitlines()[-1].split(" passed")[0])
    assert number > 40, passed


def test_its_blocks_work(copy: Path) -> None:
    assert printed_in(copy, "-c", USE).splitlines()[-1] == "Acme Reader BW-10442"


def printed_in(copy: Path, *command: str) -> str:
    """What a Python process prints to which the copy is the package."""
    return printed_by(*command, cwd=copy, PYTHONPATH=str(copy), PREFECT_DOCJOBS_LEDGER="")
