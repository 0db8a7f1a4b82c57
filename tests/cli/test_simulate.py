"""`prefect-docjobs simulate`: the simulator in a terminal."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from prefect_docjobs.cli import main

PROGRAM = (sys.executable, "-m", "prefect_docjobs.cli")


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@contextmanager
def simulator(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`prefect-docjobs simulate` on a free port: the process, and the address that it says it is at."""
    command = [*PROGRAM, "simulate", "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            said = process.stdout.readline()
            yield process, said.split()[-1]
        finally:
            process.kill()


class TestSimulate:
    def test_it_serves_with_the_settings_that_were_given(self) -> None:
        options = ("--api-key", "k1", "--seed", "5", "--duration", "0.5", "--set", "duration.law=fixed")
        with simulator(*options, "--set", "rates.status.per_second=7") as (_, url):
            settings = httpx.get(f"{url}/_simulator/settings").json()
            assert settings["api_key"] == "k1"
            assert settings["seed"] == 5
            assert (settings["duration"]["law"], settings["duration"]["seconds"]) == ("fixed", 0.5)
            assert settings["rates"]["status"]["per_second"] == 7
            job = f"{url}/v2/jobs/7f3c6a52-9d0e-4b1a-8c55-2e4d1b6f0a93"
            assert httpx.get(job, headers={"Authorization": "simulator"}).status_code == 401
            assert httpx.get(job, headers={"Authorization": "k1"}).status_code == 404

    def test_json_says_where_on_one_line(self) -> None:
        command = [*PROGRAM, "simulate", "--port", "0", "--json", "--api-key", "k2"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout
            told = json.loads(process.stdout.readline())
            process.kill()
            assert process.stdout.read() == b""
        assert told["api_key"] == "k2"
        assert told["control"] == f"{told['url']}/_simulator"
        assert told.keys() == {"url", "api_key", "control"}

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
    def test_it_ends_when_told_to(self, number: signal.Signals, code: int) -> None:
        with simulator() as (process, url):
            process.send_signal(number)
            _, errors = process.communicate(timeout=20)
            assert (process.returncode, errors) == (code, "")
            with pytest.raises(httpx.ConnectError):
                httpx.get(url)

    def test_a_port_that_is_taken_is_one_sentence(self, capsys: pytest.CaptureFixture[str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            assert main(["simulate", "--port", str(port)]) == 2
        said = capsys.readouterr().err
        assert said.startswith(
            f"prefect-docjobs: Cannot listen on 127.0.0.1 port {port}: {os.strerror(errno.EADDRINUSE)}."
        )
