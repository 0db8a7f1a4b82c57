"""The short version of `make torture`: real processes, a real service, `kill -9`."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support.pages import ROOT


def torture(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torture", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.parametrize("service", ["numind", "mindee"])
def test_workers_that_are_killed_lose_nothing_and_buy_nothing_twice(service: str) -> None:
    ended = torture("--only", "short", "--services", service)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_worker_that_is_stopped_for_longer_than_its_lease_takes_its_own_records_back() -> None:
    ended = torture("--only", "alone", "--services", "numind")
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_harness_sees_what_is_bought_twice() -> None:
    ended = torture("--only", "amnesia", "--services", "unsiloed")
    assert ended.returncode == 1
    (row,) = [line for line in ended.stdout.splitlines() if "thrown away" in line and "NO" in line]
    assert row.split("│")[5].strip() == "24"
