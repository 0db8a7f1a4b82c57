"""The first of the ten minutes, word by word, in terminals: the page starts simulator and Prefect itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
from support.pages import ROOT, CodeBlock, block_run_by, code_blocks
from support.ports import free_port
from support.processes import until

PAGE = ROOT / "docs" / "quickstart.md"
SIMULATOR, PREFECT = "4040", "4200"
"""The ports that the page has; a test takes free ones."""

TERMINALS = ("prefect-docjobs simulate", "prefect server start", "export PREFECT_API_URL")
"""What is entered in each of the three."""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder in which `. .venv/bin/activate` gives what is tested."""
    activate = tmp_path / ".venv" / "bin" / "activate"
    activate.parent.mkdir(parents=True)
    activate.write_text(f'PATH="{Path(sys.executable).parent}:$PATH"\n', "utf-8")
    return tmp_path


@contextmanager
def terminal(name: str, code: str, clone: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A shell in the clone that runs code until it ends or gets Ctrl-C; it prints into `name`.txt."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    home = {"PREFECT_HOME": str(clone / "home"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    with (clone / f"{name}.txt").open("wb") as printed:
        shell = subprocess.Popen(
            ["bash", "-euc", code],
            cwd=clone,
            env={**kept, **home, **environment},
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield shell
        finally:
            if shell.poll() is None:
                os.killpg(shell.pid, signal.SIGINT)
            try:
                shell.wait(timeout=60)
            except subprocess.TimeoutExpired:
                os.killpg(shell.pid, signal.SIGKILL)
                raise


async def answers(address: str) -> bool:
    async with httpx.AsyncClient() as client:
        try:
            return (await client.get(address)).is_success
        except httpx.TransportError:
            return False


@pytest.mark.timeout(300)
async def test_who_follows_it_word_by_word_gets_the_first_result(clone: Path) -> None:
    simulator, prefect = str(free_port()), str(free_port())
    simulate, serve, here = (block_run_by(__file__, "docs/quickstart.md", holding=what) for what in TERMINALS)
    one = simulate.code.replace("docjobs simulate", f"docjobs simulate --port {simulator}")
    with terminal("one", one, clone), terminal("two", serve.code, clone, PREFECT_SERVER_API_PORT=prefect):
        await until(partial(answers, f"http://127.0.0.1:{simulator}/_simulator/settings"), within=60)
        await until(partial(answers, f"http://127.0.0.1:{prefect}/api/health"), within=120)
        samples, first, command = blocks_up_to_the_first_output()
        (clone / "first.py").write_text(first.code.replace(SIMULATOR, simulator), "utf-8")
        code = here.code.replace(PREFECT, prefect) + samples.code + command.code
        with terminal("three", code, clone) as third:
            await until(lambda: has_ended(third), within=100)
    printed = (clone / "three.txt").read_text("utf-8")
    assert third.returncode == 0, printed
    assert command.output is not None
    assert printed.count(command.output) == 1, printed


async def has_ended(shell: subprocess.Popen[bytes]) -> bool:
    return shell.poll() is not None


def blocks_up_to_the_first_output() -> list[CodeBlock]:
    blocks = [block for block in code_blocks(PAGE) if not block.run_by]
    end = next(number for number, block in enumerate(blocks, 1) if block.output is not None)
    return blocks[:end]
