"""Documents: where bytes come from. They are read when needed and never kept."""

from __future__ import annotations

import errno
import hashlib
import io
import mimetypes
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import SplitResult, unquote, urlsplit

from prefect_docjobs.errors import InvalidDocument, Unavailable

_CHUNK = 1 << 20
_UNKNOWN_TYPE = "application/octet-stream"
_SURROGATES = re.compile("[\ud800-\udfff]")
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(; ?[\w-]+=[\w.\"-]+)*", re.ASCII)
_OF_THE_DOCUMENT = frozenset(
    {
        errno.ENOENT,
        errno.EISDIR,
        errno.ENOTDIR,
        errno.EACCES,
        errno.EPERM,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.EINVAL,
    }
)
_TYPES = {".heic": "image/heic", ".heif": "image/heif", ".webp": "image/webp", ".md": "text/markdown"}


@dataclass(frozen=True, slots=True)
class Document:
    """Where the bytes of one document come from. Bytes are read when needed and never kept.

    Build one with `from_path`, `from_bytes`, `from_url`, or many with `from_folder`. Building never
    touches the disk or the network, so a missing file is one failed row of a batch, not the end of it.

    Attributes:
        name: The file name that the service and the reports see.
        media_type: Such as `application/pdf`; guessed from the name when not given.
        path: The file, or None.
        url: The https address that the service downloads from itself, or None.
    """

    name: str
    media_type: str = _UNKNOWN_TYPE
    path: Path | None = None
    data: bytes | None = field(default=None, repr=False)
    url: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        # A file name that is no text (surrogates) could not be written down beside a paid job.
        object.__setattr__(self, "name", _SURROGATES.sub("_", self.name))

    @classmethod
    def from_path(
        cls, path: str | Path, *, name: str | None = None, media_type: str | None = None
    ) -> Document:
        """A file on a disk that this process can read."""
        path = Path(path)
        name = name or path.name or str(path)
        return cls(name=name, media_type=media_type or guess_media_type(name), path=path)

    @classmethod
    def from_bytes(cls, data: bytes, *, name: str, media_type: str | None = None) -> Document:
        """Bytes that are in memory already. `name` carries the ending that tells the media type."""
        return cls(name=name, media_type=media_type or guess_media_type(name), data=bytes(data))

    @classmethod
    def from_url(cls, url: str, *, name: str | None = None, media_type: str | None = None) -> Document:
        """An https address. The service downloads it; we never do, so there is no size and no sha256."""
        name = name or _name_in(url)
        return cls(name=name, media_type=media_type or guess_media_type(name), url=url)

    @classmethod
    def from_folder(
        cls, folder: str | Path, pattern: str = "*", *, recursive: bool = False
    ) -> list[Document]:
        """The files of a folder in a stable order (by path), hidden files and folders left out.

        Args:
            folder: The folder.
            pattern: A glob for file names, such as `*.pdf`.
            recursive: Look into sub-folders too; names are then relative to `folder`.

        Raises:
            InvalidDocument: The folder does not exist, is a file, or cannot be read.
        """
        root = Path(folder)
        if not root.is_dir():
            what = "is a file, not a folder" if root.exists() else "does not exist"
            raise InvalidDocument(f"Folder {root} {what}. Give the folder that holds the documents.")
        found = root.rglob(pattern) if recursive else root.glob(pattern)
        try:
            files = [(path.relative_to(root), path) for path in found if path.is_file()]
        except (OSError, ValueError, NotImplementedError) as problem:
            raise InvalidDocument(f"Folder {root} cannot be listed with {pattern!r}: {problem}") from None
        visible = [(part, path) for part, path in files if not any(p.startswith(".") for p in part.parts)]
        return [cls.from_path(path, name=part.as_posix()) for part, path in sorted(visible)]

    @property
    def size(self) -> int | None:
        """Bytes, or None for a URL.

        Raises:
            InvalidDocument: The file cannot be read.
        """
        if self.path is not None:
            with self.readable():
                return self.path.stat().st_size
        return None if self.data is None else len(self.data)

    @property
    def sha256(self) -> str | None:
        """Hex digest of the content, read in pieces; None for a URL, whose identity is the URL itself."""
        return None if self.url is not None else self._measured()[1]

    def read(self) -> bytes:
        """The whole content. Raises `InvalidDocument` when it cannot be read."""
        with self.open() as stream, self.readable():
            return stream.read()

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """The content as a binary stream, seekable, at its start."""
        if self.path is not None:
            with self.readable():
                stream: IO[bytes] = self.path.open("rb")
            with stream:
                yield stream
        elif self.data is not None:
            yield io.BytesIO(self.data)
        else:
            raise InvalidDocument(f"{self.name} is a URL: its bytes are never downloaded here.")

    def pinned(self, sha256: str | None = None, *, hashed: bool = True) -> PinnedDocument:
        """This document as it is now: whoever reads it later gets this content, or an error.

        Args:
            sha256: What its content is known to be. By default the content is read and hashed now.
            hashed: Otherwise only its size is pinned.

        Raises:
            InvalidDocument: The file cannot be read.
        """
        size = self.size or 0
        if sha256 is None and hashed:
            size, sha256 = self._measured()
        return PinnedDocument(
            self.name, self.media_type, self.path, self.data, self.url, pinned_size=size, pinned_sha256=sha256
        )

    def _measured(self) -> tuple[int, str]:
        size, digest = 0, hashlib.sha256()
        with self.open() as stream, self.readable():
            while piece := stream.read(_CHUNK):
                size += len(piece)
                digest.update(piece)
        return size, digest.hexdigest()

    def check(self) -> None:
        """Raise `InvalidDocument` unless there is something to send: one source, readable, not empty.

        `Unavailable` is raised where it cannot be read now.
        """
        if [self.path, self.data, self.url].count(None) != 2:
            raise InvalidDocument(f"{self.name}: give exactly one of a path, bytes, or a URL.")
        if not _MEDIA_TYPE.fullmatch(self.media_type):
            raise InvalidDocument(
                f"{self.name}: {self.media_type!r} is no media type, such as application/pdf."
            )
        if self.url is not None:
            self._check_url(self.url)
            return
        with self.readable():
            if self.path is not None and self.path.is_dir():
                raise IsADirectoryError
        if not self.size:
            raise InvalidDocument(f"{self.path or self.name} is empty. There is nothing to extract.")

    def _check_url(self, url: str) -> None:
        parts = _split(url)
        if parts.scheme != "https" or not parts.hostname:
            raise InvalidDocument(
                f"{self.name}: services download from https addresses only, and this one starts with "
                f"{url.split(':', 1)[0][:16]!r}. Give an https URL, or the file itself."
            )

    @contextmanager
    def readable(self) -> Iterator[None]:
        """Turn what goes wrong while the file is read into `InvalidDocument`.

        Or into `Unavailable`, where it may pass and is not the document's fault: too many open files, a disk
        or a share that does not answer.
        """
        try:
            yield
        except FileNotFoundError:
            raise InvalidDocument(f"{self.path} does not exist. Check the path.") from None
        except IsADirectoryError:
            raise InvalidDocument(
                f"{self.path} is a folder. Use Document.from_folder for its files."
            ) from None
        except PermissionError:
            raise InvalidDocument(f"{self.path} cannot be read: permission denied.") from None
        except ValueError as problem:
            raise InvalidDocument(f"{self.path} cannot be read: {problem}") from None
        except OSError as problem:
            if problem.errno in _OF_THE_DOCUMENT:
                raise InvalidDocument(f"{self.path} cannot be read: {problem}") from None
            raise Unavailable(f"{self.path} cannot be read now: {problem}; nothing was sent") from None


@dataclass(frozen=True, slots=True)
class PinnedDocument(Document):
    """A document whose content is known. Reading it ends with an error when it is other content by now.

    Attributes:
        pinned_size: Bytes.
        pinned_sha256: Hex digest; None where the size alone is known.
    """

    pinned_size: int = 0
    pinned_sha256: str | None = None

    @property
    def size(self) -> int:
        """Bytes, as they were when it was pinned."""
        return self.pinned_size

    @property
    def sha256(self) -> str | None:
        """Hex digest, as it was when it was pinned."""
        return self.pinned_sha256

    def pinned(self, sha256: str | None = None, *, hashed: bool = True) -> PinnedDocument:
        """See `Document.pinned`; it stays what it is, unless another hash is given."""
        is_known = self.pinned_sha256 is not None or not hashed
        if is_known and sha256 in {None, self.pinned_sha256}:
            return self
        return Document.pinned(self, sha256, hashed=hashed)

    def read(self) -> bytes:
        """The whole content. Raises `InvalidDocument` when it is not what was pinned."""
        with self.checked() as stream:
            content = stream.read()
            stream.check()
        return content

    @contextmanager
    def checked(self) -> Iterator[CheckedStream]:
        """The content as a stream that compares what is read with what was pinned."""
        with self.open() as stream:
            yield CheckedStream(stream, self)

    def changed(self) -> InvalidDocument:
        """The error for content that is not what was pinned."""
        return InvalidDocument(
            f"{self.name} is still being written (it changed while it was read). Nothing was accepted; "
            "run again when it is complete."
        )


class CheckedStream:
    """The bytes of a pinned document, counted and hashed as they are read; `check` says whether they agree.

    It has what httpx asks of a file, and never gives more bytes than were pinned.
    """

    def __init__(self, stream: IO[bytes], document: PinnedDocument) -> None:
        self._stream = stream
        self._document = document
        self._read = 0
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """The next bytes, all of them by default; nothing at the end."""
        left = self._document.size - self._read
        with self._document.readable():
            piece = self._stream.read(left if size < 0 else min(size, left))
        self._read += len(piece)
        self._digest.update(piece)
        return piece

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to the start, which begins anew, or say where the end is; nothing else is of use here."""
        if whence == io.SEEK_END:
            return self._document.size
        if offset != self._read:
            with self._document.readable():
                self._stream.seek(0)
            self._read, self._digest = 0, hashlib.sha256()
        return 0

    def tell(self) -> int:
        """How many bytes have been read."""
        return self._read

    def check(self) -> None:
        """Raise `InvalidDocument` unless all was read, there is no more, and it is what was pinned."""
        with self._document.readable():
            is_longer = bool(self._stream.read(1))
        known = self._document.sha256
        differs = known is not None and known.lower() != self._digest.hexdigest()
        if is_longer or differs or self._read != self._document.size:
            raise self._document.changed()


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def _name_in(url: str) -> str:
    parts = _split(url)
    return unquote(PurePosixPath(parts.path).name) or parts.hostname or "document"


def guess_media_type(name: str) -> str:
    """The media type that a file name promises, `application/octet-stream` when it promises none."""
    suffix = PurePosixPath(name.lower()).suffix
    return _TYPES.get(suffix) or mimetypes.guess_type(f"x{suffix}")[0] or _UNKNOWN_TYPE
