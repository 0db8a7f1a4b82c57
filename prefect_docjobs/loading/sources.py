"""Where documents come from: a folder, on a disk or in an object storage, that fsspec can read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from prefect_docjobs.errors import ConfigurationError, InvalidDocument
from prefect_docjobs.loading.columns import in_utc
from prefect_docjobs.models import Document

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem  # type: ignore[import-untyped]

_MODIFIED = ("LastModified", "last_modified", "mtime", "updated", "modified", "created")
_VERSION = ("ETag", "etag", "md5Hash", "md5", "checksum", "ino", *_MODIFIED, "created", "size")


@dataclass(frozen=True)
class SourceFile:
    """One file, as the listing of its folder knows it.

    Attributes:
        source: Its address, such as `s3://inbox/2026/acme.pdf` or `file:///srv/inbox/acme.pdf`.
        path: The same, as its file system calls it.
        name: Its path inside the folder.
        size: Bytes.
        modified_at: When it was last changed (UTC, without a zone), where the file system says.
        version: Changes whenever the file does: a hash of its ETag, times and size.
    """

    source: str
    path: str
    name: str
    size: int | None
    modified_at: datetime | None
    version: str


@dataclass(frozen=True)
class Fetched:
    """A file whose content is known, or why it is not.

    Attributes:
        document: To be read while the folder that it was fetched into is there.
        sha256: Hex digest of the content.
        error: Why the file cannot be read; the other two are None then.
    """

    file: SourceFile
    document: Document | None = None
    sha256: str | None = None
    error: str | None = None


class SourceFolder:
    """The files below one address.

    Args:
        address: A path, or a URL that fsspec knows: `s3://bucket/prefix`, `gs://…`, `memory://…`. Where the
            storage is and who asks is for its own configuration, such as the variables of AWS.

    Raises:
        ConfigurationError: No such storage, its package is not installed, or the address has a password.
    """

    def __init__(self, address: str) -> None:
        import fsspec  # 0.1 s, and s3fs a second

        refuse_password(address, "folder")
        try:
            self._files: AbstractFileSystem
            self._files, self._root = fsspec.core.url_to_fs(
                str(Path(address).expanduser()) if "://" not in address else address
            )
        except (ImportError, ValueError) as problem:
            raise ConfigurationError(f"folder: {address} cannot be read: {problem}") from None
        self._root = self._root.rstrip("/") or "/"
        protocol = self._files.protocol
        self._is_local = "file" in ((protocol,) if isinstance(protocol, str) else protocol)

    @property
    def address(self) -> str:
        """The whole address; those of all files in it begin with it."""
        return str(self._files.unstrip_protocol(self._root)).rstrip("/") + "/"

    def files(self, pattern: str = "*", *, recursive: bool = False) -> list[SourceFile]:
        """The files whose names match, by name; what begins with a dot is left out.

        A link to a file is a file; a link to a folder, or to nothing, is none.

        Args:
            pattern: A glob for names, such as `*.pdf`.
            recursive: Those of folders inside, too.

        Raises:
            InvalidDocument: There is no such folder, it is a file, or it cannot be listed.
        """
        if not PurePosixPath(pattern).parts:
            raise InvalidDocument(f"The pattern {pattern!r} names no files. Give a glob such as *.pdf.")
        try:
            self._files.invalidate_cache()
            found = self._files.find(self._root, maxdepth=None if recursive else 1, detail=True)
            # Of an object storage it is enough that the bucket is there.
            place = self._root if self._is_local else self._root.lstrip("/").partition("/")[0]
            is_there = bool(found) or bool(self._files.isdir(place))
            # An empty object stands for a folder in an object storage.
            is_file = self._root in found and (self._is_local or bool(found[self._root].get("size")))
            files = sorted(self._matching(found, pattern), key=lambda file: file.name)
        except Exception as problem:  # noqa: BLE001 (each storage has errors of its own)
            raise InvalidDocument(f"Folder {self._root} cannot be listed: {problem}") from None
        if not is_there or is_file:
            what = "is a file, not a folder" if is_there else "does not exist"
            raise InvalidDocument(f"Folder {self._root} {what}. Give the folder that holds the documents.")
        return files

    def _matching(self, found: Mapping[str, Mapping[str, Any]], pattern: str) -> Iterator[SourceFile]:
        for path, facts in found.items():
            name = path[len(self._root) :].lstrip("/")
            is_hidden = any(part.startswith(".") for part in PurePosixPath(name).parts)
            if is_hidden or not PurePosixPath(name).match(pattern):
                continue
            if facts.get("islink"):  # a disk's listing has the link's own time and number
                with suppress(FileNotFoundError):  # gone since
                    facts = self._files.info(path) if Path(path).is_file() else facts  # noqa: PLW2901
            if facts.get("type") == "file":
                version = "|".join(
                    f"{fact}={facts[fact]}" for fact in _VERSION if facts.get(fact) is not None
                )
                yield SourceFile(
                    source=str(self._files.unstrip_protocol(path)),
                    path=path,
                    name=name,
                    size=facts.get("size"),
                    modified_at=next(filter(None, (_moment(facts.get(fact)) for fact in _MODIFIED)), None),
                    version=hashlib.sha256(version.encode()).hexdigest()[:32],
                )

    def document(self, file: SourceFile) -> Document | None:
        """A file on a disk of this machine, not read yet; None for one that would have to be fetched."""
        return Document.from_path(file.path, name=file.name) if self._is_local else None

    def fetch(self, file: SourceFile, into: Path) -> Fetched:
        """Read a file once: what is on this machine stays where it is, all else is copied to `into`.

        Nothing raises: what cannot be read is an error of this file alone.
        """
        try:
            here = Path(file.path)
            if not self._is_local:
                here = into / f"{file.version}-{hashlib.sha256(file.source.encode()).hexdigest()[:16]}"
                self._files.get_file(file.path, str(here))
            document = Document.from_path(here, name=file.name)
            document.check()
            return Fetched(file, document, document.sha256)
        except Exception as problem:  # noqa: BLE001 (each storage has errors of its own)
            return Fetched(file, error=f"{problem}" or type(problem).__name__)


def refuse_password(address: str, parameter: str) -> None:
    """Raise `ConfigurationError` for an address with a password in it: parameters are kept and shown."""
    try:
        parts = urlsplit(address)
        has_one = parts.password is not None or "password" in parse_qs(parts.query)
    except ValueError:
        raise ConfigurationError(f"{parameter}: this is no address.") from None
    if has_one:
        raise ConfigurationError(
            f"{parameter} has a password in it, which Prefect would keep and show. Give the name of a "
            "Secret block (secret/NAME) or of an environment variable (env:NAME) that holds the address."
        )


def public_address(place: str) -> str:
    """An address without user, password and options, which are no part of what it is; a path as it is."""
    scheme, is_address, rest = place.partition("://")
    if not is_address:
        return place
    host, slash, path = rest.partition("?")[0].rstrip("/").partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def _moment(value: object) -> datetime | None:
    if isinstance(value, (int, float)):
        return in_utc(datetime.fromtimestamp(value, timezone.utc))
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.replace("Z", "+00:00"))
        except ValueError:
            return None
    return in_utc(value) if isinstance(value, datetime) else None


class LocalPaths:
    """Paths on this machine without links. A folder is resolved once, a file's own link each time."""

    def __init__(self) -> None:
        self._folder = lru_cache(maxsize=1024)(os.path.realpath)

    def of(self, place: str | Path) -> tuple[Path, ...]:
        """Where a file is and, of a link, where it leads to; it need not exist.

        Args:
            place: A path, or an address such as `SourceFile.source`; of one elsewhere there is nothing.
        """
        if isinstance(place, str):
            if not place.startswith("file://"):
                return ()
            place = Path(place.removeprefix("file://"))
        is_up = place.name == ".."  # as in the address of the folder `..`
        path = Path(self._folder(place)) if is_up else Path(self._folder(place.parent), place.name)
        return (path, Path(os.path.realpath(path))) if path.is_symlink() else (path,)
