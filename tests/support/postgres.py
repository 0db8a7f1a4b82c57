"""A real PostgreSQL on a free loopback port, from the packages of the system."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.ports import free_port

_OWNER = "postgres"  # the user that the packages make
_PASSWORD = secrets.token_hex(8)
_WAYS = ("/usr/lib/postgresql/*/bin", "/usr/local/pgsql/bin", "/opt/homebrew/opt/postgresql*/bin")

_AUTHENTICATION = ("-A", "scram-sha-256")
_SETTINGS = ("listen_addresses=127.0.0.1", "unix_socket_directories=''", "max_connections=60")


def programs() -> Path | None:
    """The folder of `initdb` and `pg_ctl`, or None where no PostgreSQL server is installed."""
    found = [path for way in _WAYS for path in Path("/").glob(way.lstrip("/")) if (path / "initdb").exists()]
    if found:
        return max(found, key=lambda path: path.parent.name.rjust(12))
    known = shutil.which("initdb")
    return Path(known).resolve().parent if known else None


@contextmanager
def server_for_tests() -> Iterator[str]:
    """A server that may forget on a power cut; skips where none is installed, unless there must be one."""
    if programs() is None:
        if os.environ.get("DOCJOBS_TESTS_NEED_POSTGRESQL") or os.environ.get("CI"):
            pytest.fail("PostgreSQL is not installed; on Debian: apt-get install postgresql")
        pytest.skip("PostgreSQL is not installed")
    with server("fsync=off") as url:
        yield url


@contextmanager
def server(*settings: str) -> Iterator[str]:
    """Run a server with its data in a temporary folder; gives the URL of its first database.

    `settings` are further ones, such as `fsync=off`.
    """
    bin_folder = programs()
    assert bin_folder is not None, "no PostgreSQL is installed"
    with tempfile.TemporaryDirectory(prefix="docjobs-postgres-") as folder:
        data, log, password = (Path(folder, name) for name in ("data", "log", "password"))
        password.write_text(_PASSWORD)
        _give_to_owner(Path(folder), password)
        _run(
            bin_folder / "initdb", "-N", "-D", data, "-U", "docjobs", *_AUTHENTICATION, f"--pwfile={password}"
        )
        port = free_port()
        given = " ".join((f"-p {port}", *(f"-c {setting}" for setting in (*_SETTINGS, *settings))))
        _run(bin_folder / "pg_ctl", "-D", data, "-l", log, "-w", "-o", given, "start")
        try:
            yield f"postgresql://docjobs:{_PASSWORD}@127.0.0.1:{port}/postgres"
        finally:
            _run(bin_folder / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")


def _give_to_owner(*paths: Path) -> None:
    """The server refuses to run as root, so root hands its files over."""
    if os.geteuid() == 0:
        owner = pwd.getpwnam(_OWNER)
        for path in paths:
            os.chown(path, owner.pw_uid, owner.pw_gid)


def _run(*command: str | Path) -> None:
    with tempfile.TemporaryFile() as said:  # no pipe: the server would keep it open
        ran = subprocess.run(
            [str(part) for part in command],
            user=_OWNER if os.geteuid() == 0 else None,
            cwd="/",
            env={"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"},
            stdout=said,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
        )
        said.seek(0)
        if ran.returncode:
            raise RuntimeError(f"{command[0]} ended with {ran.returncode}: {said.read().decode()}")
