"""A real PostgreSQL, as for the tests of the ledger."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from support import postgres


@pytest.fixture(scope="module")
def fleet_ledger() -> Iterator[str]:
    """The address of an empty PostgreSQL database."""
    if postgres.programs() is None:
        if os.environ.get("CI"):
            pytest.fail("PostgreSQL is not installed; on Debian: apt-get install postgresql")
        pytest.skip("PostgreSQL is not installed")
    with postgres.server("fsync=off") as url:
        yield url
