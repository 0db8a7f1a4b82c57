"""The pages of a PDF: pdfplumber's words and boxes, as lines of cells."""

from __future__ import annotations

import io
import logging
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, TypeAlias

from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.simulator.reading.pages import (
    Box,
    Cell,
    Line,
    PageRead,
    UnreadableDocument,
    Word,
    page_of_lines,
)

try:
    import pdfplumber
    from pdfminer.pdfdocument import PDFPasswordIncorrect
    from pdfplumber.page import Page
except ModuleNotFoundError as missing:
    what_to_do = "The simulator needs pdfplumber: pip install 'prefect-docjobs[simulator]'."
    raise ConfigurationError(what_to_do) from missing

# What pdfminer says about a damaged file is no news here: without a handler it would go to stderr.
logging.getLogger("pdfminer").addHandler(logging.NullHandler())

_MOST_PAGES = 500
_WORD_GAP = 0.15  # ems; a wider gap between two letters is a space
_CELL_GAP = 1.0  # a gap wider than this many line heights sets two cells apart
_Edges: TypeAlias = "tuple[float, float, float, float]"  # left, top, right, bottom
# Where the text of a page runs, as seen on the page; and how pdfplumber is to order its letters.
_RIGHT, _DOWN, _LEFT, _UP = range(4)
_ORDERS: Mapping[int, Mapping[str, Any]] = {
    _RIGHT: {},
    _DOWN: {"line_dir_rotated": "rtl", "char_dir_rotated": "ttb"},
    _LEFT: {"line_dir": "btt", "char_dir": "rtl"},
    _UP: {"line_dir_rotated": "ltr", "char_dir_rotated": "btt"},
}


def read_pdf(data: bytes) -> list[PageRead]:
    """Reads at most the first 500 pages.

    Raises:
        UnreadableDocument: The file is damaged, has no page, or needs a password.
    """
    try:
        with pdfplumber.open(io.BytesIO(data), pages=list(range(1, _MOST_PAGES + 1))) as pdf:
            pages = [_read_page(page) for page in pdf.pages]
    except Exception as error:  # on damaged files pdfminer raises whatever it met
        if isinstance(error.args[0] if error.args else error, PDFPasswordIncorrect):
            raise UnreadableDocument("the PDF is protected by a password") from error
        raise UnreadableDocument(f"the PDF cannot be read: {error!r}") from error
    if not pages:
        raise UnreadableDocument("the PDF has no pages")
    return pages


def _read_page(page: Page) -> PageRead:
    left, top, right, bottom = page.cropbox
    width, height = float(right - left) or 1.0, float(bottom - top) or 1.0
    directions = Counter(_direction(*char["matrix"][:2]) for char in page.chars)
    direction = directions.most_common(1)[0][0] if directions else _RIGHT
    placed: list[tuple[_Edges, Word]] = []
    for word in page.extract_words(x_tolerance_ratio=_WORD_GAP, **_ORDERS[direction]):
        edges = (word["x0"] - left, word["top"] - top, word["x1"] - left, word["bottom"] - top)
        if all(map(math.isfinite, edges)):
            box = _box(page.page_number, edges, width, height)
            placed.append((_turned(edges, direction), Word(word["text"], box)))
    page.close()  # else the document holds the objects of all its pages
    return page_of_lines(page.page_number, _lines(placed), width, height)


def _direction(right: float, up: float) -> int:
    if abs(right) >= abs(up):
        return _RIGHT if right >= 0 else _LEFT
    return _UP if up > 0 else _DOWN


def _turned(edges: _Edges, direction: int) -> _Edges:
    """The edges on a page that is turned until its text runs to the right."""
    x0, y0, x1, y1 = edges
    return {
        _RIGHT: edges,
        _DOWN: (y0, -x1, y1, -x0),
        _LEFT: (-x1, -y1, -x0, -y0),
        _UP: (-y1, x0, -y0, x1),
    }[direction]


def _box(number: int, edges: _Edges, width: float, height: float) -> Box | None:
    """The box as shares of the page; None if nothing of it is on the page."""
    shares = (edge / whole for edge, whole in zip(edges, (width, height, width, height), strict=True))
    x0, y0, x1, y1 = (round(min(max(share, 0.0), 1.0), 5) for share in shares)
    return Box(number, x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _lines(words: list[tuple[_Edges, Word]]) -> list[Line]:
    rows: list[list[tuple[_Edges, Word]]] = []
    for edges, word in sorted(words, key=lambda each: (each[0][1] + each[0][3], each[0][0])):
        if rows and _beside(rows[-1][0][0], edges):
            rows[-1].append((edges, word))
        else:
            rows.append([(edges, word)])
    return [_line(sorted(row, key=lambda each: each[0][0])) for row in rows]


def _beside(first: _Edges, second: _Edges) -> bool:
    overlap = min(first[3], second[3]) - max(first[1], second[1])
    return overlap > 0.5 * min(first[3] - first[1], second[3] - second[1])


def _line(row: list[tuple[_Edges, Word]]) -> Line:
    """One line; a gap wider than the words are high begins another cell."""
    groups = [[row[0]]]
    for edges, word in row[1:]:
        if edges[0] - groups[-1][-1][0][2] > _CELL_GAP * (edges[3] - edges[1]):
            groups.append([(edges, word)])
        else:
            groups[-1].append((edges, word))
    return tuple(Cell(tuple(word for _, word in group), group[0][0][0], group[-1][0][2]) for group in groups)
