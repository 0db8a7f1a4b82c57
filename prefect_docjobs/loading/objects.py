"""A folder of objects, on a disk or in an object storage, that one process at a time changes."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.loading.errors import DestinationUnavailable
from prefect_docjobs.loading.places import Places, local_path
from prefect_docjobs.loading.sources import protocols, refuse_password

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem  # type: ignore[import-untyped]

_LOCK = "_lock"
_AGAIN_AFTER = 0.2


class Objects:
    """Files below one address.

    Args:
        address: A path, or a URL that fsspec knows.
        patience: Seconds to wait while another process changes them.
        lease: Seconds after which the lock of a process that died in an object storage counts no more. On a
            disk its lock ends with it.

    Raises:
        ConfigurationError: No such storage, or its package is not installed.
    """

    def __init__(self, address: str, *, patience: float = 60.0, lease: float = 300.0) -> None:
        import fsspec

        refuse_password(address, "destination")
        try:
            self._files: AbstractFileSystem
            local = str(Path(address).expanduser().absolute())
            self._files, self._root = fsspec.core.url_to_fs(address if "://" in address else local)
        except (ImportError, ValueError) as problem:
            raise ConfigurationError(f"destination: {address} cannot be used: {problem}") from None
        self._root = self._root.rstrip("/")
        self.address = address
        self._patience = patience
        self._lease = lease
        self._places = Places()

    @property
    def _is_local(self) -> bool:
        return "file" in protocols(self._files)

    def holds(self, source: str) -> bool:
        """Whether an address such as `SourceFile.source` is this one or below it."""
        if not self._is_local:
            root = str(self._files.unstrip_protocol(self._root)).rstrip("/")
            return f"{source}/".startswith(f"{root}/")
        root_here = Path(self._root or "/").resolve()
        path = local_path(source)
        places = self._places.of(path) if path else ()
        return any(root_here in (place, *place.parents) for place in places)

    def read(self, name: str) -> bytes | None:
        """The content of a file; None where there is none."""
        with self._told():
            try:
                content: bytes = self._files.cat_file(self._path(name))
            except FileNotFoundError:
                return None
            return content

    def replace(self, name: str, content: bytes) -> None:
        """Write a small file; readers see it whole, as it was or as it is."""
        with self._told():
            if self._is_local:
                new = Path(self._path(f"{name}.new"))
                new.write_bytes(content)
                new.replace(self._path(name))
            else:
                self._files.pipe_file(self._path(name), content)

    def put(self, here: Path, name: str) -> None:
        """Copy a file of this machine there."""
        with self._told():
            self._files.makedirs(self._files._parent(self._path(name)), exist_ok=True)  # noqa: SLF001
            self._files.put_file(str(here), self._path(name))

    def get(self, name: str, here: Path) -> None:
        """Copy a file to this machine."""
        with self._told():
            self._files.get_file(self._path(name), str(here))

    def names(self, folder: str) -> list[str]:
        """The names of the files in a folder, without the folder's."""
        with self._told():
            self._files.invalidate_cache()
            return [path.rpartition("/")[2] for path in self._files.find(self._path(folder), maxdepth=1)]

    def remove(self, name: str) -> None:
        """Delete a file, if it is there."""
        with self._told(), suppress(FileNotFoundError):
            self._files.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Each storage has errors of its own."""
        try:
            yield
        except DestinationUnavailable:
            raise
        except Exception as problem:  # noqa: BLE001 (see above)
            raise DestinationUnavailable(f"{self.address} cannot be used: {problem}") from None

    # -- one at a time

    @contextmanager
    def locked(self) -> Iterator[Callable[[], None]]:
        """Keep others out; gives what to call before the change counts: it raises if the lock is lost.

        Raises:
            DestinationUnavailable: Somebody else holds it for longer than our patience, or it is lost.
        """
        with self._told():
            self._files.makedirs(self._root, exist_ok=True)
        lock = self._locked_disk() if self._is_local and os.name == "posix" else self._leased()
        with lock as check:
            yield check

    @contextmanager
    def _locked_disk(self) -> Iterator[Callable[[], None]]:
        import fcntl

        def attempt() -> bool:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        with self._told():
            handle = os.open(self._path(_LOCK), os.O_RDWR | os.O_CREAT, 0o666)
        try:
            self._insist(attempt)
            yield lambda: None
        finally:
            os.close(handle)  # which ends the lock, as the end of the process would

    @contextmanager
    def _leased(self) -> Iterator[Callable[[], None]]:
        """A lock for storages that can make an object only if it is not there, as S3 can."""
        token = secrets.token_hex(8)

        def holds() -> bool:
            return (self._lease_now() or {}).get("token") == token

        def check() -> None:
            if not holds():
                raise DestinationUnavailable(f"{self.address}: this load was too slow, and another went on.")

        self._insist(lambda: self._take_lease(token))
        try:
            yield check
        finally:
            if holds():
                self.remove(_LOCK)

    def _take_lease(self, token: str) -> bool:
        now = self._lease_now()
        if now is not None and float(str(now.get("until", 0))) < time.time():
            self.remove(_LOCK)
        mine = json.dumps({"token": token, "until": time.time() + self._lease}).encode()
        with self._told():
            try:
                self._files.pipe_file(self._path(_LOCK), mine, mode="create")
            except FileExistsError:
                return False
        return True

    def _lease_now(self) -> dict[str, object] | None:
        content = self.read(_LOCK)
        try:
            lease = json.loads(content) if content else None
        except ValueError:
            lease = {}
        return lease if isinstance(lease, dict) else None

    def _insist(self, attempt: Callable[[], bool]) -> None:
        until = time.monotonic() + self._patience
        while not attempt():
            if time.monotonic() >= until:
                raise DestinationUnavailable(
                    f"{self.address} is being changed by another load; its lock is {self._path(_LOCK)}."
                )
            time.sleep(_AGAIN_AFTER)
