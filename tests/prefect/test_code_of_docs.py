"""Every Python block of the documentation is run: page by page, in order, and prints what the page says."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import shutil
import sys
import types
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from support.pages import CodeBlock, code_blocks, name_of, pages

from prefect_docjobs.blocks import (
    DocJobsCredentials,
    MindeeCredentials,
    MindeeV1Credentials,
    NuMindCredentials,
    UnsiloedCredentials,
)
from prefect_docjobs.providers import PROVIDERS, provider_class
from prefect_docjobs.providers.base import Polling
from prefect_docjobs.simulator.samples import sample_paths
from prefect_docjobs.simulator.server import run_in_thread
from prefect_docjobs.simulator.settings import Duration, Settings

pytestmark = pytest.mark.prefect

SIMULATOR = "http://127.0.0.1:4040"
"""Where the pages have the simulator; a test has its own on a free port."""

MOST_BLOCKS_NOT_RUN = 8
ACCOUNTS: dict[str, type[DocJobsCredentials]] = {
    "mindee": MindeeCredentials,
    "mindee-v1": MindeeV1Credentials,
    "numind": NuMindCredentials,
    "unsiloed": UnsiloedCredentials,
}
"""The credentials blocks that the pages save and load, by name."""

PAGES = [page for page in pages() if any(block.language == "python" for block in code_blocks(page))]


@pytest.fixture
def simulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The four services for one page; what would leave this machine ends at a closed port."""
    for name, value in {"https_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1,localhost"}.items():
        monkeypatch.setenv(name, value)
        monkeypatch.setenv(name.upper(), value)
    with run_in_thread(Settings(duration=Duration(law="fixed", seconds=0.0))) as running:
        yield running.base_url


@pytest.fixture(autouse=True)
def _quick_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs end at once here, so that only the services' own pace would be waited for: minutes, in all."""
    for name in PROVIDERS:
        monkeypatch.setattr(provider_class(name), "polling", Polling(first=0.05, every=0.1, at_least=0.05))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a reader: a folder `invoices` with documents."""
    (tmp_path / "invoices").mkdir()
    for path in sample_paths():
        shutil.copy(path, tmp_path / "invoices" / path.name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_code_of_a_page_runs_and_prints_what_the_page_says(
    page: Path, simulator: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = types.ModuleType("reader")
    monkeypatch.setitem(sys.modules, reader.__name__, reader)
    accounts = [name for name in ACCOUNTS if f'("{name}"' in page.read_text(encoding="utf-8")]
    _save_accounts(accounts, simulator)
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        for block in code_blocks(page):
            if block.language != "python" or block.reason_not_to_run is not None:
                continue
            printed = _run(block, simulator, reader, loop)
            if block.output is not None:
                assert printed.replace(simulator, SIMULATOR) == block.output, str(block)
            if ".save(" in block.code:
                _save_accounts(accounts, simulator)


def _save_accounts(names: Iterable[str], base_url: str) -> None:
    """The accounts that a page loads are at the simulator, also after it has saved them as real ones."""
    for name in names:
        ACCOUNTS[name](api_key="simulator", base_url=base_url).save(name, overwrite=True)


def _run(block: CodeBlock, simulator: str, reader: types.ModuleType, loop: asyncio.AbstractEventLoop) -> str:
    code = _compiled(block, block.code.replace(SIMULATOR, simulator))
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        awaited = eval(code, vars(reader))
        if inspect.iscoroutine(awaited):
            loop.run_until_complete(awaited)
    return printed.getvalue()


def _compiled(block: CodeBlock, source: str) -> types.CodeType:
    lines_before = "\n" * (block.line - 1)  # so that a traceback names the page's own line
    code: types.CodeType = compile(lines_before + source, block.page, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return code


def test_blocks_that_are_only_shown_are_few_and_say_why() -> None:
    blocks = [block for page in pages() for block in code_blocks(page) if block.language == "python"]
    shown = [block for block in blocks if block.info != "python"]
    for block in shown:
        assert block.reason_not_to_run, f"{block}: {block.info!r} gives no reason"
        _compiled(block, block.code)
    assert len(shown) <= MOST_BLOCKS_NOT_RUN
    assert len(blocks) - len(shown) > 4 * len(shown)


def test_every_fence_says_what_it_holds() -> None:
    known = {"python", "text", "sh", "json", "yaml"}
    assert [
        str(block) for page in pages() for block in code_blocks(page) if block.language not in known
    ] == []
