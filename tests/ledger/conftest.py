"""Every test of the ledger runs on SQLite and on a real PostgreSQL, each with a fresh database."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from support import postgres

from prefect_docjobs.ledger import Ledger


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    with postgres.server_for_tests() as url:
        yield url


@pytest_asyncio.fixture(
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.xdist_group("postgres"))]
)
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database that does not exist yet, or is empty."""
    if request.param == "sqlite":
        return str(tmp_path / "ledger" / "ledger.db")
    server = make_url(request.getfixturevalue("postgres_server"))
    name = f"test_{secrets.token_hex(4)}"
    engine = create_async_engine(server.set(drivername="postgresql+asyncpg"), isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name}"))
    await engine.dispose()
    return server.set(database=name).render_as_string(hide_password=False)


@pytest_asyncio.fixture
async def ledger(url: str) -> AsyncIterator[Ledger]:
    async with Ledger(url) as opened:
        yield opened


@pytest_asyncio.fixture
async def other(url: str, ledger: Ledger) -> AsyncIterator[Ledger]:
    """The same database, opened by somebody else."""
    async with Ledger(url) as opened:
        yield opened
