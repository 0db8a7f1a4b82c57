"""For all tests: hypothesis without a stopwatch, and nothing of a run kept on the disk."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from prefect_docjobs.cli.prefect_api import QUIET
from prefect_docjobs.http import rate_limits
from prefect_docjobs.waiting import pending

# A busy machine is no failing test; a red build is one that everybody can repeat.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a background job; children would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("PREFECT_DOCJOBS_DURATIONS", "")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")

collect_ignore = ["example_package"]  # a package of its own, which a test of the docs installs and runs


@pytest.fixture(autouse=True)
def _own_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test has bought must not be there for the next one."""
    monkeypatch.setenv("PREFECT_DOCJOBS_LEDGER", str(tmp_path / "ledger" / "ledger.db"))


@pytest.fixture(autouse=True)
def _messages_of_prefect(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that was run in a test keeps no message away from the processes of later tests."""
    for name in QUIET:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)  # and so it is again after the test


@pytest.fixture(autouse=True)
def _lists_are_believed() -> None:
    """A list that was wrong in one test is read in the next one."""
    pending._contradictions.clear()


@pytest.fixture(autouse=True)
def _no_rate_limits_of_another_test() -> None:
    """What one test's service refused must not slow down the next test's."""
    rate_limits._shared.clear()
