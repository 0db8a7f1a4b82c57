"""Where results are kept: small ones in their row, large ones beside the database, whole or not at all.

A place says which store it is in, as `<store>:<name>`, so that a process which keeps large results elsewhere
still finds it. Places that older versions wrote have no store before them.
"""

from __future__ import annotations

import os
import re
import tempfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import anyio

from prefect_docjobs.models.spool import Spool, Stored

INLINE = 256 << 10
"""Bytes, compressed, up to which a result is kept in its row."""

_LEVEL = 6
_LARGE_LEVEL = 1  # of what would take long: seven times as fast, and a quarter larger
_AT_ONCE = 64 << 10  # bytes that are compressed without a thread: about 1 ms
_NAME = re.compile(r"[A-Za-z0-9._-]+")

FILES = "files"
"""The store of `FileBodies`: the folder beside a SQLite ledger, or one that the ledger was opened with."""

RESULT_STORAGE = "prefect"
"""The store in Prefect's result storage: its places are `prefect:<storage block>/<key>`."""

_STORES = {
    FILES: "a file in the folder beside the ledger's SQLite file, or in that of the FileBodies which the "
    "ledger was opened with",
    RESULT_STORAGE: "Prefect's result storage (PREFECT_DEFAULT_RESULT_STORAGE_BLOCK where it was written), "
    "which tasks, flows and blocks can read",
}
_OLD = (
    "in the store that was set where it was written (PREFECT_DEFAULT_RESULT_STORAGE_BLOCK, or the ledger's "
    "`bodies`): set the same here"
)


class Bodies(Protocol):
    """A place for large results. Both methods may be called at the same time for different names.

    One that has an attribute `store` reads all places that begin with it and a colon.
    """

    async def write(self, name: str, data: bytes) -> str:
        """Keep `data` durably and return its place, which `read` takes; `name` is not used again."""
        ...

    async def read(self, place: str) -> bytes:
        """What was written. Raises `OSError` where it is gone."""
        ...


async def read_body(place: str, opened: Sequence[Bodies]) -> bytes:
    """What was written to a place.

    Args:
        place: Where, as the row says.
        opened: What this process can read, the one that it writes to first.

    Raises:
        OSError: None of them has it; the message says which store it is in.
        ValueError: It is no place of any of them; likewise.
    """
    store = place.partition(":")[0]
    known = store in _STORES
    problem: OSError | ValueError | None = None
    for bodies in opened:
        if known and getattr(bodies, "store", None) != store:
            continue
        try:
            return await bodies.read(place)
        except (OSError, ValueError) as failure:
            problem = problem or failure
    where = f"{place} is {_STORES[store] if known else _OLD}"
    raise FileNotFoundError(f"{where}: {problem}" if problem else where) from problem


class FileBodies:
    """Bodies as files of one folder, readable by their owner only.

    Args:
        folder: Made when it is first written to. Places are file names, so the folder may move.
    """

    store = FILES

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    async def write(self, name: str, data: bytes) -> str:
        """Write to a temporary file, sync it, then give it its name; a crash leaves no half file."""
        await anyio.to_thread.run_sync(self._write, name, data)
        return f"{FILES}:{name}"

    async def read(self, place: str) -> bytes:
        """The file's content."""
        name = place.removeprefix(f"{FILES}:")
        return await anyio.to_thread.run_sync(self._path(name).read_bytes)

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name) or name.startswith("."):
            raise ValueError(f"{name!r} cannot name a body.")
        return self._folder / name

    def _write(self, name: str, data: bytes) -> None:
        path = self._path(name)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=self._folder, prefix=".")  # made with mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(temporary).unlink()
            raise
        _sync_folder(self._folder)


class SpooledBodies:
    """Bodies of a ledger in memory, in a temporary file without a name."""

    store = "spool"

    def __init__(self) -> None:
        self._spool = Spool()
        self._stored: dict[str, Stored] = {}

    async def write(self, name: str, data: bytes) -> str:
        """Append; raises `OSError` where the disk refuses."""
        stored = self._spool.write(data)
        if stored is None:
            raise OSError("The temporary folder cannot be written.")
        self._stored[name] = stored
        return f"{self.store}:{name}"

    async def read(self, place: str) -> bytes:
        """What was written there."""
        return self._stored[place.removeprefix(f"{self.store}:")].read()


def _sync_folder(folder: Path) -> None:
    """Make the new name durable too. Not every system can open a folder."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


async def compress(body: bytes) -> bytes:
    """`body` as zlib data, which carries a checksum."""
    if len(body) <= _AT_ONCE:
        return zlib.compress(body, _LEVEL)
    return await anyio.to_thread.run_sync(zlib.compress, body, _LARGE_LEVEL)


async def decompress(data: bytes) -> bytes:
    """What `compress` was given. Raises `zlib.error` where it is damaged."""
    if len(data) <= _AT_ONCE:
        return zlib.decompress(data)
    return await anyio.to_thread.run_sync(zlib.decompress, data)
