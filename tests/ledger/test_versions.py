"""Two versions of the package on one ledger: the older one goes on working, and nothing is bought twice."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, inspect, text
from support.ledgers import entry, ref

import prefect_docjobs
from prefect_docjobs.errors import ConfigurationError, Reason
from prefect_docjobs.ledger import Ledger, State, Step, next_step
from prefect_docjobs.simulator.server import Running, run_in_thread
from prefect_docjobs.simulator.settings import Settings

PACKAGE = Path(prefect_docjobs.__file__).parent
SCRIPT = Path(__file__).with_name("buying_process.py")
VERSIONS = "ledger/migrations/versions"
DOCUMENTS = 12

NEWER = '''"""What a later version adds."""

import sqlalchemy as sa
from alembic import op

revision = "0990"
down_revision = "{last}"


def upgrade() -> None:
    op.add_column("docjobs_jobs", sa.Column("colour", sa.Text()))
    op.add_column("docjobs_jobs", sa.Column("weight", sa.Integer(), nullable=False, server_default="7"))
    op.create_table("docjobs_colours", sa.Column("name", sa.Text(), primary_key=True))
'''


def revisions(package: Path) -> list[tuple[str, Path]]:
    """The migrations of a version, the oldest first."""
    files = sorted((package / VERSIONS).glob("r*.py"))
    return [(re.search(r'^revision = "(\d+)"', file.read_text(), re.MULTILINE)[1], file) for file in files]  # type: ignore[index]


def copied(folder: Path) -> Path:
    shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder / PACKAGE.name


def set_revision(package: Path, revision: str) -> None:
    schema = package / "ledger" / "schema.py"
    changed, times = re.subn(r'(?m)^REVISION = "\d+"', f'REVISION = "{revision}"', schema.read_text())
    assert times == 1
    schema.write_text(changed)


def one_older(folder: Path) -> Path:
    """The version before this one, as far as the ledger goes: it does not know the newest migration."""
    package = copied(folder)
    *_, (previous, _), (_, newest) = revisions(package)
    newest.unlink()
    set_revision(package, previous)
    return package


def one_newer(folder: Path, *, minimum: str | None = None) -> Path:
    """A version with one more migration, which may need a newer reader."""
    package = copied(folder)
    last, _ = revisions(package)[-1]
    raised = f"    op.execute(\"UPDATE docjobs_compatibility SET minimum_reader = '{minimum}'\")\n"
    newest = NEWER.format(last=last) + (raised if minimum else "")
    (package / VERSIONS / "r0990_later.py").write_text(newest)
    set_revision(package, "0990")
    return package


class Worker:
    """A process of one version that extracts documents."""

    def __init__(self, process: subprocess.Popen[str], package: Path) -> None:
        self._process = process
        self._package = package

    def hear(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, f"it ended with {self._process.wait(10)}"
        return dict(json.loads(line))

    def has_begun(self) -> None:
        assert self.hear() == {"package": str(self._package / "__init__.py")}

    def rest(self) -> list[dict[str, Any]]:
        assert self._process.stdout
        told = [json.loads(line) for line in self._process.stdout]
        assert self._process.wait(30) == 0
        assert told.pop() == {"ended": True}
        return told


@contextmanager
def worker(package: Path, ledger: str, service: Running, number: int) -> Iterator[Worker]:
    path = os.pathsep.join((str(package.parent), str(SCRIPT.parents[1])))
    arguments = [sys.executable, "-W", "error", str(SCRIPT), ledger, service.base_url, str(number)]
    environment = {**os.environ, "PYTHONPATH": path}
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield Worker(process, package)
        finally:
            process.kill()


@pytest.fixture
def service() -> Iterator[Running]:
    with run_in_thread(Settings().merged({"duration": {"law": "fixed", "seconds": 0.3}})) as running:
        yield running


def submits(service: Running) -> list[int]:
    """How often each content was bought."""
    return list(service.backend.stats.submits.values())


def check(told: list[dict[str, Any]], number: int) -> None:
    assert {each["number"]: each["found"] for each in told} == {i: f"N-{i:05}" for i in range(number)}


@pytest.mark.timeout(300)
async def test_an_older_version_opens_and_uses_a_ledger_that_a_newer_one_made(
    url: str, tmp_path: Path, service: Running
) -> None:
    older = one_older(tmp_path / "older")
    with worker(PACKAGE, url, service, DOCUMENTS) as new:
        new.has_begun()
        with worker(older, url, service, -DOCUMENTS) as old:
            old.has_begun()
            check(old.rest(), DOCUMENTS)
        check(new.rest(), DOCUMENTS)
    assert submits(service) == [1] * DOCUMENTS


@pytest.mark.timeout(300)
async def test_a_ledger_may_be_upgraded_while_older_versions_work(
    url: str, tmp_path: Path, service: Running
) -> None:
    newer = one_newer(tmp_path / "newer")
    with worker(PACKAGE, url, service, DOCUMENTS) as before:
        before.has_begun()
        first = before.hear()
        with worker(newer, url, service, -DOCUMENTS) as new:
            new.has_begun()
            with worker(PACKAGE, url, service, 2 * DOCUMENTS) as after:
                after.has_begun()
                check(after.rest(), 2 * DOCUMENTS)
            check(new.rest(), DOCUMENTS)
        check([first, *before.rest()], DOCUMENTS)
    assert submits(service) == [1] * 2 * DOCUMENTS
    async with Ledger(url) as ledger:
        states = [record.state for record in await ledger.find()]
        weights = await ledger._database.run(
            lambda connection: (
                connection.execute(text("SELECT DISTINCT weight FROM docjobs_jobs")).scalars().all()
            )
        )
    assert (states, weights) == ([State.FETCHED] * 2 * DOCUMENTS, [7])


@pytest.mark.timeout(300)
async def test_two_versions_may_make_a_ledger_at_once(url: str, tmp_path: Path, service: Running) -> None:
    newer = one_newer(tmp_path / "newer")
    with (
        worker(PACKAGE, url, service, DOCUMENTS) as one,
        worker(newer, url, service, DOCUMENTS) as two,
        worker(PACKAGE, url, service, DOCUMENTS) as three,
        worker(newer, url, service, DOCUMENTS) as four,
    ):
        for each in (one, two, three, four):
            each.has_begun()
        for each in (one, two, three, four):
            check(each.rest(), DOCUMENTS)
    assert submits(service) == [1] * DOCUMENTS


async def test_a_version_that_is_too_old_says_what_to_do(url: str, tmp_path: Path, service: Running) -> None:
    newer = one_newer(tmp_path / "newer", minimum="0990")
    with worker(newer, url, service, 1) as new:
        new.has_begun()
        check(new.rest(), 1)
    known = revisions(PACKAGE)[-1][0]
    told = rf"version 0990 and needs version 0990 at least; .* up to {known}\. Upgrade prefect-docjobs"
    with pytest.raises(ConfigurationError, match=told):
        async with Ledger(url):
            pass


# ------------------------------------------------------------------------------- what newer versions write


async def change(ledger: Ledger, statement: str, **values: Any) -> None:
    def run(connection: Connection) -> None:
        connection.execute(text(statement), values)

    await ledger._database.run(run, writes=True)


async def test_a_ref_that_says_more_is_read(ledger: Ledger) -> None:
    record = await ledger.submitted(await ledger.claim(entry()), ref())
    more = json.dumps({**json.loads(ref().model_dump_json()), "region": "eu"})
    await change(ledger, "UPDATE docjobs_jobs SET ref = :more", more=more)
    now = await ledger.record(record.id)
    assert now is not None
    assert now.ref == ref()


async def test_a_reason_that_is_not_known_buys_nothing_again(ledger: Ledger) -> None:
    record = await ledger.failed(await ledger.claim(entry()), Reason.THROTTLED, "Said by a newer version.")
    await change(ledger, "UPDATE docjobs_jobs SET reason = 'tired'")
    now = await ledger.record(record.id)
    assert now is not None
    assert (now.reason, now.error) == (Reason.FAILED, "Said by a newer version.")
    assert next_step(now, mine=False, reuse_for=None, on_uncertain="resubmit") is Step.FAIL


# ---------------------------------------------------------------------------------------- the rule itself


def test_migrations_only_add_what_older_versions_can_leave_out(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'ledger.db'}")
    with engine.begin() as connection:
        before: dict[str, dict[str, Any]] = {}
        for revision, _ in revisions(PACKAGE):
            config = Config(attributes={"connection": connection})
            config.set_main_option("script_location", str(PACKAGE / "ledger" / "migrations"))
            command.upgrade(config, revision)
            seen = inspect(connection)
            now = {
                table: {column["name"]: column for column in seen.get_columns(table)}
                for table in seen.get_table_names()
            }
            for table, columns in before.items():
                assert columns.keys() <= now[table].keys(), f"{revision} takes columns of {table} away"
                for name in now[table].keys() - columns.keys():
                    added = now[table][name]
                    assert added["nullable"] or added["default"] is not None, f"{revision}: {table}.{name}"
            before = now
    engine.dispose()
