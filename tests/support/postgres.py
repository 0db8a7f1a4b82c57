"""A real PostgreSQL for tests, which skip where none is installed, unless there must be one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench.postgres import programs, server


@contextmanager
def server_for_tests() -> Iterator[str]:
    """The URL of a server that may forget on a power cut."""
    if programs() is None:
        if os.environ.get("DOCJOBS_TESTS_NEED_POSTGRESQL") or os.environ.get("CI"):
            pytest.fail("PostgreSQL is not installed; on Debian: apt-get install postgresql")
        pytest.skip("PostgreSQL is not installed")
    with server("fsync=off") as running:
        yield running.url
