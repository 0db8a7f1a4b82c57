"""A real PostgreSQL, as for the tests of the ledger."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import postgres


@pytest.fixture(scope="module")
def fleet_ledger() -> Iterator[str]:
    """The address of an empty PostgreSQL database."""
    with postgres.server_for_tests() as url:
        yield url
