"""A ledger that cannot write: nothing is claimed, what failed says what to do, and later writes try again."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from asyncpg import InternalClientError  # type: ignore[import-untyped]
from sqlalchemy import event, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from support.ledgers import ON_POSTGRESQL, entry, ref

from prefect_docjobs.errors import Reason
from prefect_docjobs.ledger import Ledger, LedgerUnavailable, State, database


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of one megabyte."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mounted)]
    with suppress(OSError):
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            yield mounted
            subprocess.run(["umount", "-l", str(mounted)], check=True)
            return
    pytest.skip("this user cannot mount a small file system")


def fill(ballast: Path) -> None:
    """Write until not a byte more has room."""
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            with suppress(OSError):
                while file.write(b"x" * size) == size:
                    pass


async def test_on_a_full_disk_nothing_is_claimed_until_there_is_room_again(small_disk: Path) -> None:
    async with Ledger(str(small_disk / "ledger.db")) as ledger:
        before = await ledger.claim(entry("before"))
        ballast = small_disk / "ballast"
        fill(ballast)
        claims = [ledger.claim(entry(f"{number}", document_name="n" * 9000)) for number in range(20)]
        refused = await asyncio.gather(*claims, return_exceptions=True)
        assert {type(error) for error in refused} == {LedgerUnavailable}
        assert "Make room on the disk" in str(refused[0])
        assert [record.id for record in await ledger.find()] == [before.id]
        ballast.unlink()
        assert (await ledger.claim(entry("1"))).mine
        assert (await ledger.submitted(before, ref())).state is State.SUBMITTED


async def test_a_write_that_cannot_be_made_does_not_take_others_with_it(ledger: Ledger) -> None:
    fine = [ledger.claim(entry(f"{number}")) for number in range(5)]
    broken = ledger.claim(entry("broken", document_size=1 << 70))  # no database has such a number
    *records, error = await asyncio.gather(*fine, broken, return_exceptions=True)
    assert [record.mine for record in records if not isinstance(record, BaseException)] == [True] * 5
    assert isinstance(error, Exception)


async def test_a_locked_database_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT", 0.05)
    path = tmp_path / "ledger.db"
    async with Ledger(str(path)) as ledger:
        record = await ledger.claim(entry("a"))
        with sqlite3.connect(path, isolation_level=None) as somebody:
            somebody.execute("BEGIN IMMEDIATE")
            with pytest.raises(LedgerUnavailable, match=r"locked\. Another process holds it"):
                await ledger.submitted(record, ref())
            assert await ledger.record(record.id) is not None  # reading goes on
            somebody.execute("ROLLBACK")
        somebody.close()
        assert (await ledger.submitted(record, ref())).state is State.SUBMITTED


async def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"something else entirely" * 100)
    with pytest.raises(LedgerUnavailable, match=r"restore it"):
        async with Ledger(str(path)):
            pass
    assert path.read_bytes() == b"something else entirely" * 100


async def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LedgerUnavailable, match=r"file/ledger\.db cannot be used now"):
        async with Ledger(str(tmp_path / "file" / "ledger.db")):
            pass


# -- PostgreSQL


END_OTHERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@ON_POSTGRESQL
async def test_a_connection_that_is_just_being_closed_is_made_anew(url: str) -> None:
    opened = database.Postgresql(database.parse_address(url))
    troubles = [InternalClientError("cannot switch to state 15; another operation (2) is in progress")]

    def in_trouble(*_: object) -> None:
        if troubles:
            raise troubles.pop()

    event.listen(opened._engine.sync_engine, "checkout", in_trouble)  # as the question to the server does
    assert await opened.run(lambda connection: connection.scalar(text("SELECT 1"))) == 1
    assert not troubles
    await opened.aclose()


@ON_POSTGRESQL
async def test_a_lost_connection_is_made_anew(url: str, ledger: Ledger) -> None:
    record = await ledger.claim(entry("a"))
    admin = create_async_engine(make_url(url).set(drivername="postgresql+asyncpg"))
    async with admin.connect() as connection:
        assert (await connection.execute(text(END_OTHERS))).all()
    await admin.dispose()
    record = await ledger.submitted(record, ref())
    assert (await ledger.failed(record, Reason.TIMEOUT, "late")).reason is Reason.TIMEOUT


@ON_POSTGRESQL
async def test_a_wrong_password_is_told_without_it(url: str) -> None:
    wrong = make_url(url).set(password="pa55word").render_as_string(hide_password=False)
    with pytest.raises(LedgerUnavailable, match=r"Check the user, the password") as refused:
        async with Ledger(wrong):
            pass
    assert "pa55word" not in str(refused.value)
