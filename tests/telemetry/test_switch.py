"""Telemetry is on where a provider is configured, and costs nothing, not even an import, where none is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.pages import ROOT

SCRIPT = Path(__file__).with_name("telemetry_process.py")


@pytest.mark.parametrize(
    ("set_up", "kind", "is_imported"),
    [
        ("none", "Telemetry", False),
        ("api", "Telemetry", True),
        ("spans", "Exporting", True),
        ("metrics", "Exporting", True),
    ],
)
def test_it_is_on_where_a_provider_is_configured(set_up: str, kind: str, is_imported: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    printed = subprocess.run(
        [sys.executable, SCRIPT, set_up],
        env={**environment, "PYTHONPATH": str(ROOT / "tests")},
        capture_output=True,
        check=True,
        timeout=100,
    ).stdout
    assert json.loads(printed) == [kind, is_imported]
