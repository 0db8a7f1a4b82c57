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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.simulator import free_port

_OWNER = "postgres"  # the user that the packages make
_PASSWORD = secrets.token_hex(8)
_WAYS = ("/usr/lib/postgresql/*/bin", "/usr/local/pgsql/bin", "/opt/homebrew/opt/postgresql*/bin")

# The server refuses to run as root.
_AS_OWNER: dict[str, Any] = {
    "user": _OWNER if os.geteuid() == 0 else None,
    "cwd": "/",
    "env": {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"},
}
_AUTHENTICATION = ("-A", "scram-sha-256")
_SETTINGS = ("listen_addresses=127.0.0.1", "unix_socket_directories=''", "max_connections=60")


def programs() -> Path | None:
    """The folder of `initdb` and `pg_ctl`, or None where no PostgreSQL server is installed."""
    found = [path for way in _WAYS for path in Path("/").glob(way.lstrip("/")) if (path / "initdb").exists()]
    if found:
        return max(found, key=lambda path: path.parent.name.rjust(12))
    known = shutil.which("initdb")
    return Path(known).resolve().parent if known else None


@dataclass(frozen=True)
class PostgresServer:
    """A running server.

    Attributes:
        url: Of its first database.
    """

    url: str
    _data: Path
    _log: Path
    _options: str

    def start(self) -> None:
        """Start it again."""
        self._control("-l", self._log, "-o", self._options, "start")

    def stop(self, how: str = "fast") -> None:
        """Stop it: `fast` closes all connections, `immediate` as a crash does."""
        self._control("-m", how, "stop")

    def _control(self, *arguments: str | Path) -> None:
        folder = programs()
        assert folder is not None  # noqa: S101 (it runs)
        _run(folder / "pg_ctl", "-D", self._data, "-w", *arguments)


@contextmanager
def server(*settings: str) -> Iterator[PostgresServer]:
    """Run a server with its data in a temporary folder; `settings` are further ones, such as `fsync=off`."""
    folder = programs()
    assert folder is not None, "no PostgreSQL is installed"  # noqa: S101 (asked before)
    with tempfile.TemporaryDirectory(prefix="docjobs-postgres-") as place:
        data, log, password = (Path(place, name) for name in ("data", "log", "password"))
        password.write_text(_PASSWORD)
        _give_to_owner(Path(place), password)
        _run(folder / "initdb", "-N", "-D", data, "-U", "docjobs", *_AUTHENTICATION, f"--pwfile={password}")
        port = free_port()
        options = " ".join((f"-p {port}", *(f"-c {setting}" for setting in (*_SETTINGS, *settings))))
        url = f"postgresql://docjobs:{_PASSWORD}@127.0.0.1:{port}/postgres"
        running = PostgresServer(url, data, log, options)
        with _stopped_with_this_process(folder / "pg_ctl", data):
            running.start()
            try:
                yield running
            finally:
                running.stop("immediate")


@contextmanager
def _stopped_with_this_process(pg_ctl: Path, data: Path) -> Iterator[None]:
    """Have the server stopped and its folder removed when this process is killed.

    A shell waits for the end of a pipe that this process holds open.
    """
    script = 'cat; test -d "$2" || exit; "$1" -D "$2" -m immediate stop; rm -rf "${2%/*}"'
    guard = subprocess.Popen(  # noqa: S603 (PostgreSQL's own program)
        ["/bin/sh", "-c", script, "sh", str(pg_ctl), str(data)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for this process
        **_AS_OWNER,
    )
    try:
        yield
    finally:
        guard.kill()
        guard.communicate()


def _give_to_owner(*paths: Path) -> None:
    """The server refuses to run as root, so root hands its files over."""
    if os.geteuid() == 0:
        owner = pwd.getpwnam(_OWNER)
        for path in paths:
            os.chown(path, owner.pw_uid, owner.pw_gid)


def _run(*command: str | Path) -> None:
    with tempfile.TemporaryFile() as said:  # no pipe: the server would keep it open
        ran = subprocess.run(  # noqa: S603 (PostgreSQL's own programs)
            [str(part) for part in command],
            stdout=said,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
            **_AS_OWNER,
        )
        said.seek(0)
        if ran.returncode:
            raise RuntimeError(f"{command[0]} ended with {ran.returncode}: {said.read().decode()}")
