"""How many pages a document has, told before it is submitted.

A document may be damaged or made to do harm, so nothing of it is believed that its size contradicts, and
reading it is bounded: in reads, in bytes, and in time.
"""

from __future__ import annotations

import io
import logging
import struct
from dataclasses import dataclass
from typing import IO

import anyio
import anyio.to_thread

from prefect_docjobs.errors import InvalidDocument, Unavailable
from prefect_docjobs.models import Document

# What pypdf says about a damaged file is no news here: without a handler it would go to stderr.
logging.getLogger("pypdf").addHandler(logging.NullHandler())

_HEAD = 1024  # bytes in which a PDF has to say that it is one
_READS = 500_000  # about half a second; a PDF of 100,000 objects needs 200,000
_BYTES = 256 << 20
_PATIENCE = 10.0  # seconds
_MOST_DIRECTORIES = 10_000


@dataclass(frozen=True, slots=True)
class Pages:
    """Pages of a document.

    Attributes:
        number: How many; 1 where nobody can tell before the service does.
        counted: Whether they were counted.
    """

    number: int = 1
    counted: bool = False


async def pages_of(document: Document) -> Pages:
    """Count the pages of a document, in a thread.

    PDF and TIFF are counted, any other image is one page. All else, and what cannot be read, is taken for
    one page that is not counted.
    """
    if document.url is not None:
        return Pages()
    with anyio.move_on_after(_PATIENCE):
        return await anyio.to_thread.run_sync(_counted, document, abandon_on_cancel=True)
    return Pages()


def _counted(document: Document) -> Pages:
    try:
        with document.open() as stream:
            number = _number(stream, document)
    except (InvalidDocument, Unavailable):
        raise
    except Exception:  # noqa: BLE001 (on damaged files a parser raises whatever it met)
        return Pages()
    plausible = number is not None and 0 < number <= (document.size or 0)
    return Pages(number, counted=True) if number is not None and plausible else Pages()


def _number(stream: IO[bytes], document: Document) -> int | None:
    head = stream.read(_HEAD)
    stream.seek(0)
    if b"%PDF-" in head:
        return _pdf_pages(_Bounded(stream))
    if head[:4] in _TIFF:
        return _tiff_directories(stream, _TIFF[head[:4]])
    return 1 if document.media_type.startswith("image/") else None


class _Bounded(io.RawIOBase):
    """A stream that breaks off when a parser reads from it without end."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._reads = 0
        self._bytes = 0

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes. Raises `OSError` when there were too many reads."""
        self._reads += 1
        data = self._stream.read(size if size >= 0 else _BYTES)
        self._bytes += len(data)
        if self._reads > _READS or self._bytes > _BYTES:
            raise OSError("The document takes too much reading.")
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As of any stream."""
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """As of any stream."""
        return self._stream.tell()

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True


def _pdf_pages(stream: IO[bytes] | _Bounded) -> int | None:
    """What the root of the page tree says. Walking the tree would take as long as its maker likes."""
    from pypdf import PdfReader  # importing it takes 0.2 s
    from pypdf.generic import DictionaryObject

    pages = PdfReader(stream).root_object["/Pages"]  # type: ignore[arg-type]  # it needs read, seek and tell
    if not isinstance(pages, DictionaryObject):
        return None
    number = pages["/Count"]
    return int(number) if isinstance(number, int) else None


@dataclass(frozen=True, slots=True)
class _TiffLayout:
    """How a kind of TIFF writes its numbers, in the formats of `struct`, and where the first offset is."""

    length: str
    entry: int
    offset: str
    first: int


_TIFF = {
    b"II*\0": _TiffLayout("<H", 12, "<I", 4),
    b"MM\0*": _TiffLayout(">H", 12, ">I", 4),
    b"II+\0": _TiffLayout("<Q", 20, "<Q", 8),  # BigTIFF
    b"MM\0+": _TiffLayout(">Q", 20, ">Q", 8),
}
"""By the first bytes of a file."""


def _tiff_directories(stream: IO[bytes], layout: _TiffLayout) -> int:
    """The directories of a TIFF, one for each page; each tells where the next one is."""

    def read(number: str) -> int:
        return int(struct.unpack(number, stream.read(struct.calcsize(number)))[0])

    stream.seek(layout.first)
    seen: set[int] = set()
    at = read(layout.offset)
    while at and at not in seen and len(seen) < _MOST_DIRECTORIES:
        seen.add(at)
        stream.seek(at)
        stream.seek(read(layout.length) * layout.entry, io.SEEK_CUR)
        at = read(layout.offset)
    return len(seen)
