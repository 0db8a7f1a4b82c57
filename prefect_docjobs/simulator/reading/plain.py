"""Pages of plain text."""

from __future__ import annotations

import codecs
import re

from prefect_docjobs.simulator.reading.parts import (
    Cell,
    Line,
    PageRead,
    UnreadableDocument,
    Word,
    page_of_lines,
)

_LONGEST = 500_000  # bytes; more is no document that people read
_CELL = re.compile(r"[^\s|]+(?:[ ][^\s|]+)*")


def read_plain(data: bytes) -> list[PageRead]:
    """Reads text in UTF-8, in UTF-16 with a byte order mark, else in Latin-1; a form feed ends a page."""
    pages = decoded(data[:_LONGEST]).split("\f")
    return [page_of_text(number, page) for number, page in enumerate(pages, 1)]


def page_of_text(number: int, text: str, width: float = 0.0, height: float = 0.0) -> PageRead:
    """Builds a page from text; two spaces, a tab or a bar set cells apart, and no word has a box."""
    lines = [line for printed in text.splitlines() if (line := _line(printed.expandtabs()))]
    return page_of_lines(number, lines, width, height)


def decoded(data: bytes) -> str:
    """Text from bytes.

    Raises:
        UnreadableDocument: The bytes start with a UTF-16 byte order mark and are not UTF-16.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError as error:
            raise UnreadableDocument("the text is not the UTF-16 that it says it is") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _line(printed: str) -> Line:
    return tuple(
        Cell(tuple(Word(word) for word in match[0].split()), float(match.start()), float(match.end()))
        for match in _CELL.finditer(printed)
    )
