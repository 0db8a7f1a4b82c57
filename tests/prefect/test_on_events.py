"""Deployments that start by themselves: when documents arrive, when somebody else's job is done."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import anyio
import pytest
from prefect import flow, get_client
from prefect.variables import Variable
from support.blocks import make_job
from support.processes import process, until

import prefect_docjobs
from prefect_docjobs import Document, aextract_documents
from prefect_docjobs.errors import InvalidDocument
from prefect_docjobs.flows import announce_documents
from prefect_docjobs.flows._run import documents_in
from prefect_docjobs.simulator.samples import SAMPLES
from prefect_docjobs.simulator.server import Running

FLOWS = Path(__file__).parents[2] / "flows"
PACKAGE = Path(prefect_docjobs.__file__).parent
SERVE = """
import asyncio, sys
sys.path.insert(0, {flows!r})
from prefect import aserve
from on_events import deployments
async def main(folder, job, output):
    await aserve(*await deployments(folder, job, output, every=3600.0))
asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "arriving"
    (made / "deep").mkdir(parents=True)
    return made


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(b"%PDF-1.4 " + os.fsencode(name))


async def announced(folder: Path, **options: Any) -> tuple[int, int]:
    """How many files, in how many events."""
    await anyio.sleep(0.02)  # a file system's clock moves in ticks
    told = await announce_documents(str(folder), **{"settled": 0.001, **options})
    return told["files"], told["events"]


class TestAnnouncing:
    async def test_each_file_is_announced_once(self, folder: Path) -> None:
        put(folder, "a.pdf", "b.pdf")
        assert await announced(folder) == (2, 1)
        assert await announced(folder) == (0, 0)
        put(folder, "c.pdf")
        assert await announced(folder) == (1, 1)

    async def test_a_file_that_is_moved_in_is_new_however_old_it_is(
        self, folder: Path, tmp_path: Path
    ) -> None:
        put(folder, "a.pdf")
        assert await announced(folder) == (1, 1)
        old = tmp_path / "old.pdf"
        old.write_bytes(b"%PDF-1.4")
        os.utime(old, (1e9, 1e9))
        old.rename(folder / "old.pdf")
        assert await announced(folder) == (1, 1)

    async def test_a_file_that_may_still_be_written_to_is_left_to_the_next_run(self, folder: Path) -> None:
        put(folder, "a.pdf")
        assert await announced(folder, settled=3600.0) == (0, 0)
        assert await announced(folder) == (1, 1)

    async def test_many_files_are_few_events(self, folder: Path) -> None:
        put(folder, *(f"{number:03}.pdf" for number in range(25)))
        assert await announced(folder, at_once=10) == (25, 3)

    async def test_patterns_and_sub_folders_count_apart(self, folder: Path) -> None:
        put(folder, "a.pdf", "b.png", "deep/c.pdf", ".hidden.pdf")
        assert await announced(folder, pattern="*.pdf") == (1, 1)
        assert await announced(folder) == (2, 1)
        assert await announced(folder, recursive=True) == (3, 1)

    async def test_a_name_that_is_no_utf_8_is_announced_as_it_is_found_again(self, folder: Path) -> None:
        put(folder, os.fsdecode(b"\xff.pdf"))
        assert await announced(folder) == (1, 1)
        (document,) = documents_in(str(folder), "*", recursive=False)
        assert documents_in(str(folder), "*", recursive=False, names=[document.name])[0].path == document.path
        assert document.name.encode()

    async def test_a_folder_that_is_not_there_fails_the_run(self, folder: Path) -> None:
        with pytest.raises(InvalidDocument, match="does not exist"):
            await announce_documents(str(folder / "nowhere"))

    async def test_the_variable_says_which_folder_it_is_for(self, folder: Path) -> None:
        put(folder, "a.pdf")
        await announced(folder)
        async with get_client() as client:
            kept = [
                each for each in await client.read_variables(200) if each.name.startswith("docjobs_announced")
            ]
        assert str(folder) in [value["folder"] for each in kept if isinstance(value := each.value, dict)]
        assert all(len(each.name) < 60 for each in kept)
        assert isinstance(await Variable.aget(kept[0].name), dict)


@pytest.mark.timeout(180)
async def test_documents_that_arrive_and_jobs_that_end_start_runs(
    folder: Path, tmp_path: Path, simulator: Running
) -> None:
    await make_job("mindee", simulator.base_url).asave("on-events", overwrite=True)
    output, job = tmp_path / "out", "mindee-job/on-events"
    served = ("-c", SERVE.format(flows=str(FLOWS)), str(folder), job, str(output))
    with process("served", *served, cwd=tmp_path):
        await until(_is_deployed, within=60.0)
        for name in ("invoice-brightwater.pdf", "rechnung-bergmann.pdf"):
            shutil.copy(SAMPLES / name, folder)
        await announce_documents(str(folder), recursive=True, settled=0.001)

        async def extracted() -> bool:
            return len(_rows(output)) == 2

        await until(extracted, within=90.0)

        @flow
        async def somebody_else() -> None:
            await aextract_documents(job, [Document.from_path(SAMPLES / "invoice-cascade-3-pages.pdf")])

        await somebody_else()

        async def loaded() -> bool:
            return any("invoice-cascade" in each["document"] for each in _loaded(output))

        await until(loaded, within=60.0)
    assert {row["document"] for row in _rows(output)} == {"invoice-brightwater.pdf", "rechnung-bergmann.pdf"}
    # Those were told of first. What extract_folder itself delivers starts no runs.
    assert [each["document"] for each in _loaded(output)] == ["invoice-cascade-3-pages.pdf"]


def test_flows_that_look_after_their_own_results_start_no_run_for_each_document() -> None:
    sources = "".join(path.read_text("utf-8") for path in PACKAGE.rglob("*.py"))
    names = set(re.findall(r'@flow\(\s*name="([^"]+)"', sources))
    ours = runpy.run_path(str(FLOWS / "on_events.py"))["OURS"]
    left = {name for name in names if not any(fnmatch(name, each) for each in ours)}
    assert left == {"announce-documents", "reconcile-jobs", "watch-jobs"}  # which deliver nothing


async def _is_deployed() -> bool:
    async with get_client() as client:
        names = {each.name for each in await client.read_deployments(limit=200)}
    return {"on-arrival", "on-completed", "every-minute"} <= names


def _rows(output: Path) -> list[dict[str, Any]]:
    files = output.glob("*/rows.jsonl")
    return [json.loads(line) for file in files for line in file.read_text("utf-8").splitlines()]


def _loaded(output: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text("utf-8")) for file in output.glob("loaded/*.json")]
