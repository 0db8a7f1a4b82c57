"""Telemetry is on where the process has configured a provider; nothing else is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.pages import ROOT

SCRIPT = Path(__file__).with_name("telemetry_process.py")


@pytest.mark.parametrize(("provider", "exported"), [("none", 0), ("spans", 1), ("metrics", 1)])
def test_it_is_on_where_a_provider_is_configured(provider: str, exported: int) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    printed = subprocess.run(
        [sys.executable, SCRIPT, provider],
        env={**environment, "PYTHONPATH": str(ROOT / "tests")},
        capture_output=True,
        check=True,
        timeout=100,
    ).stdout
    assert json.loads(printed) == [exported, provider != "none"]
