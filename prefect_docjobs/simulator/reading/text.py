"""The pages of documents whose text needs no decoding of a page: plain text, and the text chunks of a PNG.

Source: Portable Network Graphics (PNG) Specification, Third Edition, 5.3 (chunk layout) and 11.3.3
(tEXt, zTXt, iTXt).
"""

from __future__ import annotations

import codecs
import re
import struct
import zlib
from collections.abc import Iterator

from prefect_docjobs.simulator.reading.pages import (
    Cell,
    Line,
    PageRead,
    UnreadableDocument,
    Word,
    page_of_lines,
)

_LONGEST = 500_000  # bytes; more is no document that people read
_LONGEST_OF_PNG = 1_000_000
_CELL = re.compile(r"[^\s|]+(?:[ ][^\s|]+)*")
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Keywords that describe the file, not what it shows.
_ABOUT_THE_FILE = frozenset({"author", "copyright", "creation time", "software", "source"}) | frozenset(
    {"xml:com.adobe.xmp", "date:create", "date:modify"}
)


def read_plain(data: bytes) -> list[PageRead]:
    """Reads text in UTF-8, in UTF-16 with a byte order mark, else in Latin-1; a form feed ends a page.

    Raises:
        UnreadableDocument: The bytes start with a UTF-16 byte order mark and are not UTF-16.
    """
    pages = _decoded(data[:_LONGEST]).split("\f")
    return [_page(number, page) for number, page in enumerate(pages, 1)]


def _decoded(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError as error:
            raise UnreadableDocument("the text is not the UTF-16 that it says it is") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _page(number: int, text: str, width: float = 0.0, height: float = 0.0) -> PageRead:
    """A page of text; two spaces, a tab or a bar set cells apart, and no word has a box."""
    lines = [line for printed in text.splitlines() if (line := _line(printed.expandtabs()))]
    return page_of_lines(number, lines, width, height)


def _line(printed: str) -> Line:
    return tuple(
        Cell(tuple(Word(word) for word in match[0].split()), float(match.start()), float(match.end()))
        for match in _CELL.finditer(printed)
    )


def read_png(data: bytes) -> list[PageRead]:
    """Reads a PNG's size and its text chunks, without decoding its pixels.

    Raises:
        UnreadableDocument: A chunk is cut off or does not match its checksum, or the header is missing.
    """
    chunks = list(_chunks(data))
    if not chunks or chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13:
        raise UnreadableDocument("the PNG has no header")
    width, height = struct.unpack(">II", chunks[0][1][:8])
    texts = [text for kind, body in chunks if (text := _text_of(kind, body))]
    return [_page(1, "\n".join(texts), float(width), float(height))]


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_PNG_SIGNATURE)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        if data[at + 8 + length : at + 12 + length] != struct.pack(">I", zlib.crc32(kind + body)):
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
    if kind != b"iTXt":
        return ""
    compressed, method = rest[:1] == b"\1", rest[1:2]
    _language, _, rest = rest[2:].partition(b"\0")
    _translated_keyword, _, text = rest.partition(b"\0")
    if compressed:
        text = _inflated(text) if method == b"\0" else b""
    return text.decode("utf-8", "replace")


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, _LONGEST_OF_PNG)
    except zlib.error:
        return b""
