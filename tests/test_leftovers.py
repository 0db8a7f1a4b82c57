"""Tests that are killed leave no process behind."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.postgres import programs

ROOT = Path(__file__).parent.parent
SERVE = """
import time
from bench.postgres import server

with server("fsync=off") as running:
    print(running.url.rpartition(":")[2].partition("/")[0], running._data.parent, flush=True)
    time.sleep(600)
"""


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.skipif(programs() is None, reason="PostgreSQL is not installed")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda how: how.name)
def test_a_postgresql_server_ends_with_the_process_that_started_it(how: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SERVE], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as started:
        assert started.stdout
        port, folder = started.stdout.readline().split()
        assert answers(int(port))
        started.send_signal(how)
    deadline = time.monotonic() + 60.0  # for a hang
    while Path(folder).exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(folder).exists()
    assert not answers(int(port))
