"""Opening: addresses, migrations, versions, and what the files look like."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from support.ledgers import entry

from prefect_docjobs.errors import ConfigurationError, DocJobsError, Reason
from prefect_docjobs.ledger import ClaimLost, Ledger, LedgerUnavailable
from prefect_docjobs.ledger.schema import COMPATIBILITY_TABLE, VERSION_TABLE, metadata


async def test_the_migrations_make_the_tables_that_the_code_expects(ledger: Ledger) -> None:
    def differences(connection: Connection) -> list[object]:
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))

    assert await ledger._database.run(differences) == []


async def test_several_may_open_a_fresh_database_at_once(url: str) -> None:
    async def work(name: str) -> bool:
        async with Ledger(url) as ledger:
            return (await ledger.claim(entry(name))).mine

    assert await asyncio.gather(*(work(name) for name in "abcde")) == [True] * 5


async def test_a_ledger_that_needs_a_newer_version_is_left_alone(url: str) -> None:
    def upgrade(connection: Connection) -> None:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '0999'"))
        connection.execute(text(f"UPDATE {COMPATIBILITY_TABLE} SET minimum_reader = '0998'"))

    async with Ledger(url) as ledger:
        await ledger._database.run(upgrade, writes=True)
    told = r"version 0999 and needs version 0998 at least; this package knows versions up to 0\d+"
    with pytest.raises(ConfigurationError, match=told):
        async with Ledger(url):
            pass


def test_a_migrated_database_is_opened_without_alembic(tmp_path: Path) -> None:
    async def migrate() -> None:
        async with Ledger(url):
            pass

    url = str(tmp_path / "ledger.db")
    asyncio.run(migrate())
    code = (
        "import asyncio, sys; from prefect_docjobs.ledger import Ledger\n"
        "async def main():\n    async with Ledger(sys.argv[1]): return 'alembic' in sys.modules\n"
        "sys.exit(asyncio.run(main()))"
    )
    assert subprocess.run([sys.executable, "-c", code, url], check=False, timeout=60).returncode == 0


def test_sqlalchemy_is_imported_with_the_ledger_only() -> None:
    code = "import sys, prefect_docjobs.ledger; sys.exit('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


async def test_the_file_is_made_durable_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "ledger.db"
    async with Ledger(f"sqlite:///{path}") as ledger:
        await ledger.claim(entry())
        files = sorted(path.parent.iterdir())
        assert {file.name for file in files} == {"ledger.db", "ledger.db-shm", "ledger.db-wal"}
        assert {file.stat().st_mode & 0o777 for file in files} == {0o600}

        def pragmas(connection: Connection) -> list[object]:
            return [
                connection.execute(text(f"PRAGMA {name}")).scalar()
                for name in ("journal_mode", "synchronous")
            ]

        assert await ledger._database.run(pragmas) == ["wal", 2]  # 2 is FULL


@pytest.mark.parametrize(
    "address",
    [
        ":memory:",
        "sqlite://",
        "",
        "mysql://u:pa55word@host/db",
        "://pa55word",
    ],
)
def test_an_address_that_is_no_ledger_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Ledger(address)
    assert "pa55word" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg", "postgresql+psycopg2"])
async def test_a_password_is_in_no_error_and_no_repr(scheme: str) -> None:
    ledger = Ledger(f"{scheme}://user:pa55word@127.0.0.1:9/db?sslmode=disable")
    with pytest.raises(LedgerUnavailable, match=r"postgresql://user@127\.0\.0\.1:9/db") as refused:
        async with ledger:
            pass
    assert "pa55word" not in f"{refused.value!r} {refused.value.__cause__!r} {ledger!r}"
    with pytest.raises(ConfigurationError, match="%40") as unclear:
        Ledger(f"{scheme}://user:pa@55word@127.0.0.1:9/db")
    assert "55word" not in str(unclear.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
async def test_an_option_that_the_driver_does_not_know_is_told(scheme: str) -> None:
    with pytest.raises(LedgerUnavailable, match="application_name"):
        async with Ledger(f"{scheme}://user@127.0.0.1:9/db?application_name=x"):
            pass


@pytest.mark.parametrize("kind", [ClaimLost, LedgerUnavailable])
def test_errors_survive_pickling_and_may_be_tried_again(kind: type[DocJobsError]) -> None:
    error = pickle.loads(pickle.dumps(kind("said").about("a.pdf")))
    assert (type(error), str(error), error.reason) == (kind, "a.pdf: said", Reason.UNAVAILABLE)
