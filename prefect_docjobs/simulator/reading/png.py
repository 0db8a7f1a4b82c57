"""The one page of a PNG: its real size, and the text that its text chunks hold.

Source: Portable Network Graphics (PNG) Specification, Third Edition, 5.3 (chunk layout) and 11.3.3
(tEXt, zTXt, iTXt).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from prefect_docjobs.simulator.reading.parts import PageRead, UnreadableDocument
from prefect_docjobs.simulator.reading.plain import page_of_text

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_LONGEST_TEXT = 1_000_000
# Keywords that speak of the file, not of what it shows.
_ABOUT_THE_FILE = frozenset(
    {
        "author",
        "copyright",
        "creation time",
        "software",
        "source",
        "xml:com.adobe.xmp",
        "date:create",
        "date:modify",
    }
)


def read_png(data: bytes) -> list[PageRead]:
    """Reads a PNG without decoding its pixels.

    Raises:
        UnreadableDocument: A chunk is cut off or does not match its checksum, or the header is missing.
    """
    chunks = list(_chunks(data))
    if not chunks or chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13:
        raise UnreadableDocument("the PNG has no header")
    width, height = struct.unpack(">II", chunks[0][1][:8])
    texts = [text for kind, body in chunks if (text := _text_of(kind, body))]
    return [page_of_text(1, "\n".join(texts), float(width), float(height))]


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_SIGNATURE)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        stored = data[at + 8 + length : at + 12 + length]
        if stored != struct.pack(">I", zlib.crc32(kind + body)):
            raise UnreadableDocument("the PNG is damaged: a chunk is cut off or fails its checksum")
        yield kind, body
        if kind == b"IEND":
            return
        at += 12 + length
    raise UnreadableDocument("the PNG is cut off")


def _text_of(kind: bytes, body: bytes) -> str:
    keyword, _, rest = body.partition(b"\0")
    if keyword.decode("latin-1").lower() in _ABOUT_THE_FILE:
        return ""
    if kind == b"tEXt":
        return rest.decode("latin-1")
    if kind == b"zTXt" and rest[:1] == b"\0":
        return _inflated(rest[1:]).decode("latin-1")
    return _international_text(rest) if kind == b"iTXt" else ""


def _international_text(rest: bytes) -> str:
    compressed, method = rest[:1] == b"\1", rest[1:2]
    _language, _, rest = rest[2:].partition(b"\0")
    _translated_keyword, _, text = rest.partition(b"\0")
    if compressed and method != b"\0":
        return ""
    return (_inflated(text) if compressed else text).decode("utf-8", "replace")


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, _LONGEST_TEXT)
    except zlib.error:
        return b""
