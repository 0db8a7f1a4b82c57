"""Processes that keep large results in different places read each other's: nothing is bought again."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from prefect.blocks.core import Block
from prefect.filesystems import LocalFileSystem
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from support.postgres import server_for_tests
from support.processes import printed_by

from prefect_docjobs.simulator.server import Running

SCRIPT = Path(__file__).with_name("extracting_process.py")
PLAIN: Mapping[str, str] = {}

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    with server_for_tests() as url:
        yield url


@pytest_asyncio.fixture(params=["sqlite", "postgresql"])
async def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "ledger.db")
    server = make_url(request.getfixturevalue("postgres_url"))
    name = f"bodies_{secrets.token_hex(4)}"
    engine = create_async_engine(server.set(drivername="postgresql+asyncpg"), isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name}"))
    await engine.dispose()
    return server.set(database=name).render_as_string(hide_password=False)


class Storage:
    """A saved result storage of Prefect."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"bodies-{secrets.token_hex(4)}"

    @property
    def slug(self) -> str:
        return f"local-file-system/{self.name}"

    @property
    def setting(self) -> Mapping[str, str]:
        return {"PREFECT_DEFAULT_RESULT_STORAGE_BLOCK": self.slug}

    async def save(self) -> None:
        await LocalFileSystem(basepath=str(self.folder)).save(self.name)

    @property
    def results(self) -> list[Path]:
        return [path for path in (self.folder / "docjobs").glob("*") if path.is_file()]


def extracted(
    tmp_path: Path, ledger: str, service: Running, seed: int, setting: Mapping[str, str]
) -> dict[str, Any]:
    """What a process with these settings tells of the document."""
    searched = os.pathsep.join(filter(None, [str(SCRIPT.parents[1]), os.environ.get("PYTHONPATH")]))
    environment = {**setting, "PREFECT_DOCJOBS_LEDGER": ledger, "PYTHONPATH": searched}
    printed = printed_by(str(SCRIPT), service.base_url, str(seed), cwd=tmp_path, **environment)
    (line,) = (line for line in printed.splitlines() if line.startswith("told: "))
    return dict(json.loads(line.removeprefix("told: ")))


def asked(service: Running) -> list[int]:
    """The submits, and what was asked of any job."""
    jobs = [number for job in service.backend.all_jobs() for number in (job.polls, job.fetches)]
    return [service.backend.stats.requests["submit"], *jobs]


@pytest.mark.parametrize("stores_first", [True, False], ids=["storage first", "storage later"])
async def test_a_result_is_found_by_a_process_with_other_settings(
    tmp_path: Path, ledger: str, simulator: Running, *, stores_first: bool
) -> None:
    storage, seed = Storage(tmp_path / "storage"), secrets.randbelow(1 << 30)
    await storage.save()
    settings = [storage.setting, PLAIN] if stores_first else [PLAIN, storage.setting]
    first = extracted(tmp_path, ledger, simulator, seed, settings[0])
    assert (first["reason"], first["reused"], first["size"] > 400_000) == (None, False, True)
    assert len(storage.results) == int(stores_first)
    before = asked(simulator)
    second = extracted(tmp_path, ledger, simulator, seed, settings[1])
    assert (second["error"], second["text"], second["reused"]) == (None, first["text"], True)
    assert asked(simulator) == before


async def test_two_result_storages_are_told_apart(tmp_path: Path, ledger: str, simulator: Running) -> None:
    one, two = Storage(tmp_path / "one"), Storage(tmp_path / "two")
    await one.save()
    await two.save()
    seed = secrets.randbelow(1 << 30)
    first = extracted(tmp_path, ledger, simulator, seed, one.setting)
    before = asked(simulator)
    second = extracted(tmp_path, ledger, simulator, seed, two.setting)
    assert (second["text"], second["reused"], asked(simulator)) == (first["text"], True, before)


async def test_a_result_whose_storage_is_gone_is_fetched_again_and_nothing_is_bought(
    tmp_path: Path, ledger: str, simulator: Running
) -> None:
    storage, seed = Storage(tmp_path / "storage"), secrets.randbelow(1 << 30)
    await storage.save()
    extracted(tmp_path, ledger, simulator, seed, storage.setting)
    await Block.adelete(storage.slug)
    before = simulator.backend.stats.submits.copy()
    told = extracted(tmp_path, ledger, simulator, seed, PLAIN)
    assert (told["reason"], simulator.backend.stats.submits) == (None, before)
    assert told["text"] is not None
