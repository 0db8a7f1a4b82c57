"""Every test of a destination runs on DuckDB, on a real PostgreSQL and on Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.postgres import server_for_tests
from support.warehouses import KINDS, Warehouse, new_warehouse


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with server_for_tests() as url:
        yield url


@pytest.fixture(params=KINDS)
def warehouse(request: pytest.FixtureRequest, tmp_path: Path) -> Warehouse:
    return new_warehouse(request.param, tmp_path, request)
