"""The code of the documentation is run: page by page, in order, and prints what the page says.

Python blocks share one module, as a reader's session would. A block with a title is a file that the reader
writes; a shell block runs it, or it runs as it is. Shell blocks see the reader's folder, the simulator and
the Prefect server of the test.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import importlib
import inspect
import io
import os
import re
import shutil
import subprocess
import sys
import types
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import yaml
from prefect.settings import PREFECT_API_URL, PREFECT_HOME
from support.pages import ROOT, CodeBlock, code_blocks, name_of, pages
from support.services import MODEL

from prefect_docjobs.blocks import (
    DocJobsCredentials,
    MindeeCredentials,
    MindeeJob,
    MindeeV1Credentials,
    NuMindCredentials,
    UnsiloedCredentials,
)
from prefect_docjobs.providers import provider_class
from prefect_docjobs.providers.base import Polling
from prefect_docjobs.providers.registry import BUILT_IN
from prefect_docjobs.simulator.samples import sample_paths
from prefect_docjobs.simulator.server import run_in_thread
from prefect_docjobs.simulator.settings import Duration, Settings

pytestmark = pytest.mark.prefect

SIMULATOR = "http://127.0.0.1:4040"
"""Where the pages have the simulator; a test has its own on a free port."""

PREFECT = "http://127.0.0.1:4200/api"
"""Where the pages have Prefect's server."""

MOST_BLOCKS_NOT_RUN = {"python": 0, "sh": 4}
ACCOUNTS: dict[str, type[DocJobsCredentials]] = {
    "mindee": MindeeCredentials,
    "mindee-v1": MindeeV1Credentials,
    "numind": NuMindCredentials,
    "unsiloed": UnsiloedCredentials,
}
"""The credentials blocks that the pages save and load, by name."""

JOB = "mindee-job/invoices"
"""The job that pages use by its name; those that do not say how to save it find it saved."""

NOT_RUN_HERE = re.compile(
    r"make |\.ci/run|\.venv/bin/"  # whose targets CI runs by themselves; the others have tests of their own
    r"|prefect-docjobs (simulate|watch|webhooks|demo)\b"
    r"|python flows/on_events\.py"
    r"|prefect (server|worker) start|prefect (--no-prompt )?deploy(ment)?|prefect work-pool"
)
"""Lines of shell blocks that are left out: they do not end, or build and change what tests share."""

RUN = [
    page
    for page in pages()
    if any(
        block.language in MOST_BLOCKS_NOT_RUN and not (block.reason_not_to_run or block.run_by)
        for block in code_blocks(page)
    )
]


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
    for name in BUILT_IN:
        monkeypatch.setattr(provider_class(name), "polling", Polling(first=0.05, every=0.1, at_least=0.05))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a reader: a folder `invoices` with documents, and the flows to copy."""
    (tmp_path / "invoices").mkdir()
    for path in sample_paths():
        shutil.copy(path, tmp_path / "invoices" / path.name)
    shutil.copytree(ROOT / "flows", tmp_path / "flows", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_the_code_of_a_page_runs_and_prints_what_the_page_says(
    page: Path, simulator: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = types.ModuleType("reader")
    monkeypatch.setitem(sys.modules, reader.__name__, reader)
    text = page.read_text(encoding="utf-8")
    accounts = [name for name in ACCOUNTS if f'("{name}"' in text]
    _save_accounts(accounts, simulator)
    if JOB in text and '.save("invoices"' not in text:
        _save_job(simulator)
    blocks = code_blocks(page)
    in_files = {
        block.title for block in blocks if block.title and _is_named_by_a_command(block.title, blocks)
    }
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        for block in blocks:
            if block.reason_not_to_run or block.run_by:
                continue
            printed = _follow(block, simulator, in_files, reader, loop)
            if block.output is not None and printed is not None:
                assert printed.replace(simulator, SIMULATOR) == block.output, str(block)
            if ".save(" in block.code and printed is not None:
                _save_accounts(accounts, simulator)


def _follow(
    block: CodeBlock,
    simulator: str,
    in_files: Iterable[str | None],
    reader: types.ModuleType,
    loop: asyncio.AbstractEventLoop,
) -> str | None:
    """Do what the page says; what it prints, or None where nothing is run."""
    if block.language == "sh":
        return _run_in_shell(block, simulator)
    if block.language == "python" and block.title in in_files:
        Path(block.title or "").write_text(block.code.replace(SIMULATOR, simulator), encoding="utf-8")
        return None
    return _run(block, simulator, reader, loop) if block.language == "python" else None


def _is_named_by_a_command(file: str, blocks: Iterable[CodeBlock]) -> bool:
    return file == "conftest.py" or any(
        file in block.code or file.removesuffix(".py") in re.findall(r"^from (\w+)", block.code, re.MULTILINE)
        for block in blocks
        if block.title != file
    )


def _save_accounts(names: Iterable[str], base_url: str) -> None:
    """The accounts that a page loads are at the simulator, also after it has saved them as real ones."""
    for name in names:
        ACCOUNTS[name](api_key="simulator", base_url=base_url).save(name, overwrite=True)


def _save_job(base_url: str) -> None:
    account = MindeeCredentials(api_key="simulator", base_url=base_url)
    MindeeJob(credentials=account, model_id=MODEL).save(JOB.partition("/")[2], overwrite=True)


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


def _run_in_shell(block: CodeBlock, simulator: str) -> str | None:
    lines = [line for line in block.code.splitlines() if not NOT_RUN_HERE.match(line)]
    if not any(lines):
        return None
    server = PREFECT_API_URL.value() or ""
    done = subprocess.run(
        ["bash", "-euc", "\n".join(lines).replace(SIMULATOR, simulator).replace(PREFECT, server)],
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PREFECT_API_URL": server,
            "PREFECT_HOME": str(PREFECT_HOME.value()),
            "PREFECT_LOGGING_TO_API_ENABLED": "false",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_blocks_that_other_tests_run_are_run_there() -> None:
    blocks = {block: block.run_by for page in pages() for block in code_blocks(page) if block.run_by}
    assert blocks
    for block, place in blocks.items():
        test = (ROOT / place).read_text("utf-8")
        if place.endswith(".py"):
            assert f'block_run_by(__file__, "{name_of(block.page)}"' in test, str(block)
        else:
            assert block.code.splitlines()[-1] in test.splitlines(), str(block)


@pytest.mark.parametrize("language", MOST_BLOCKS_NOT_RUN)
def test_blocks_that_are_only_shown_are_few_and_say_why(language: str) -> None:
    blocks = [block for page in pages() for block in code_blocks(page) if block.language == language]
    shown = [block for block in blocks if " no-run" in block.info]
    for block in shown:
        assert block.reason_not_to_run, f"{block}: {block.info!r} gives no reason"
        if language == "python":
            _compiled(block, block.code)
    assert len(shown) <= MOST_BLOCKS_NOT_RUN[language]


def test_a_deployment_on_a_page_has_parameters_that_its_flow_takes() -> None:
    written = [
        (block, deployment)
        for page in pages()
        for block in code_blocks(page)
        if block.language == "yaml"
        for deployment in (yaml.safe_load(block.code) or {}).get("deployments", [])
    ]
    assert written
    for block, deployment in written:
        module, name = deployment["entrypoint"].rsplit(".", 1)
        flow = getattr(importlib.import_module(module), name)
        assert flow.validate_parameters(deployment["parameters"]), str(block)
