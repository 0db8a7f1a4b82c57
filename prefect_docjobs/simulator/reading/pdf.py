"""The pages of a PDF, with boxes taken from the text positions that pypdf reports."""

from __future__ import annotations

import io
import itertools
import logging
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pypdf
from pypdf import PageObject, PdfReader

from prefect_docjobs.simulator.reading.parts import (
    Box,
    Cell,
    Line,
    PageRead,
    UnreadableDocument,
    Word,
    page_of_lines,
)

# What pypdf says about a damaged file is no news here: without a handler it would go to stderr.
logging.getLogger("pypdf").addHandler(logging.NullHandler())

_MOST_PAGES = 500
_MOST_FRAGMENTS = 50_000
_ASCENT, _DESCENT = 0.72, 0.21  # Helvetica, in ems: where a font says nothing, good enough for a box
_MEAN_GLYPH = 0.5  # ems, for fonts without widths
_CELL_GAP = 1.0  # a gap wider than this many line heights sets two cells apart
_Matrix: TypeAlias = Sequence[float]


_Edges: TypeAlias = "tuple[float, float, float, float]"  # left, top, right, bottom, measured downwards


@dataclass(frozen=True)
class _Fragment:
    """A run of text on a page.

    Attributes:
        words: Its words, with boxes on the page as it is shown.
        edges: In points from the top left corner of the paper, before the page is turned for showing.
        heading: Where the text runs: 0 to the right, 1 upwards, 2 to the left, 3 downwards.
    """

    words: tuple[Word, ...]
    edges: _Edges
    heading: int

    def seen_along(self, heading: int) -> _Edges:
        """The edges as they are to somebody for whom text of that heading runs to the right."""
        x0, y0, x1, y1 = self.edges
        return ((x0, y0, x1, y1), (-y1, x0, -y0, x1), (-x1, -y1, -x0, -y0), (y0, -x1, y1, -x0))[heading]


def read_pdf(data: bytes) -> list[PageRead]:
    """Reads at most the first 500 pages.

    Raises:
        UnreadableDocument: The file is damaged, has no page, or needs a password.
    """
    try:
        reader = PdfReader(io.BytesIO(data))
        locked = reader.is_encrypted and not reader.decrypt("")
        first_pages = [] if locked else itertools.islice(reader.pages, _MOST_PAGES)
        pages = [_read_page(number, page) for number, page in enumerate(first_pages, 1)]
    except Exception as error:  # on damaged files pypdf raises whatever it met
        raise UnreadableDocument(f"the PDF cannot be read: {error}") from error
    if locked:
        raise UnreadableDocument("the PDF is protected by a password")
    if not pages:
        raise UnreadableDocument("the PDF has no pages")
    return pages


def _read_page(number: int, page: PageObject) -> PageRead:
    sheet = _Sheet(number, page)
    page.extract_text(visitor_text=sheet.take)
    return page_of_lines(number, _lines(sheet.fragments), sheet.width, sheet.height)


class _Sheet:
    """Collects the fragments of one page."""

    def __init__(self, number: int, page: PageObject) -> None:
        box = page.cropbox
        self._number = number
        self._left, self._bottom = float(box.left), float(box.bottom)
        self._paper = (abs(float(box.width)) or 1.0, abs(float(box.height)) or 1.0)
        self._rotation = page.rotation % 360
        self.width, self.height = self._paper if self._rotation % 180 == 0 else self._paper[::-1]
        self.fragments: list[_Fragment] = []

    def take(self, text: str, cm: _Matrix, tm: _Matrix, font: dict[str, Any] | None, size: float) -> None:
        """Receives one run of text from pypdf: the text, two matrices, the font and its size."""
        shown = text.strip()
        if not shown or len(self.fragments) >= _MOST_FRAGMENTS:
            return
        width = _width(shown, font) * size
        matrix = _product(tm, cm)
        whole = self._edges((0.0, width), size, matrix)
        if all(map(math.isfinite, whole)):
            words = tuple(
                Word(word, self._box(self._edges((start * width, end * width), size, matrix)))
                for word, start, end in _shares(shown)
            )
            self.fragments.append(_Fragment(words, whole, _heading(matrix)))

    def _edges(self, span: tuple[float, float], size: float, matrix: _Matrix) -> _Edges:
        """The rectangle on the paper around a part of a run of text, given from where to where along it."""
        corners = [_apply(x, y, matrix) for x in span for y in (-_DESCENT * size, _ASCENT * size)]
        xs = [x - self._left for x, _ in corners]
        ys = [self._paper[1] - (y - self._bottom) for _, y in corners]
        return min(xs), min(ys), max(xs), max(ys)

    def _box(self, edges: _Edges) -> Box | None:
        """The box on the page as it is shown; None if nothing of it is on the page."""
        x0, y0, x1, y1 = (
            _share(edge, whole) for edge, whole in zip(edges, (*self._paper, *self._paper), strict=True)
        )
        if self._rotation == 90:
            x0, y0, x1, y1 = 1 - y1, x0, 1 - y0, x1
        elif self._rotation == 180:
            x0, y0, x1, y1 = 1 - x1, 1 - y1, 1 - x0, 1 - y0
        elif self._rotation == 270:
            x0, y0, x1, y1 = y0, 1 - x1, y1, 1 - x0
        return (
            Box(self._number, *(round(edge, 5) for edge in (x0, y0, x1, y1))) if x0 < x1 and y0 < y1 else None
        )


def _share(edge: float, whole: float) -> float:
    return min(max(edge / whole, 0.0), 1.0)


def _apply(x: float, y: float, matrix: _Matrix) -> tuple[float, float]:
    a, b, c, d, e, f = matrix
    return a * x + c * y + e, b * x + d * y + f


def _product(first: _Matrix, second: _Matrix) -> _Matrix:
    """The matrix that does what the first one does, then what the second one does."""
    a, b, c, d, e, f = first
    across, down = (*second[:4], 0.0, 0.0), second
    return (*_apply(a, b, across), *_apply(c, d, across), *_apply(e, f, down))


def _heading(matrix: _Matrix) -> int:
    right, up = matrix[0], matrix[1]
    if abs(right) >= abs(up):
        return 0 if right >= 0 else 2
    return 1 if up > 0 else 3


def _shares(text: str) -> Iterator[tuple[str, float, float]]:
    """Each word with the part of the text's length that it takes, as shares of the number of characters."""
    for match in re.finditer(r"\S+", text):
        yield match[0], match.start() / len(text), match.end() / len(text)


def _width(text: str, font: dict[str, Any] | None) -> float:
    """The width of a text in ems, from the font's own widths where it gives them."""
    # Not `get`, which would hand out a reference to the widths unresolved.
    widths = font["/Widths"] if font and "/Widths" in font else None
    if font is None or not isinstance(widths, pypdf.generic.ArrayObject):
        return _MEAN_GLYPH * len(text)
    first = int(font["/FirstChar"]) if "/FirstChar" in font else 0
    codes = [code - first for code in text.encode("cp1252", "replace")]
    return sum(float(widths[code]) if 0 <= code < len(widths) else 500.0 for code in codes) / 1000


def _lines(fragments: list[_Fragment]) -> list[Line]:
    """Lines from top to bottom, for a reader along whom most of the text runs to the right."""
    headings = Counter(fragment.heading for fragment in fragments)
    heading = headings.most_common(1)[0][0] if headings else 0
    placed = [(fragment.seen_along(heading), fragment) for fragment in fragments]
    rows: list[list[tuple[_Edges, _Fragment]]] = []
    for edges, fragment in sorted(placed, key=lambda each: (each[0][1] + each[0][3], each[0][0])):
        if rows and _beside(rows[-1][0][0], edges):
            rows[-1].append((edges, fragment))
        else:
            rows.append([(edges, fragment)])
    return [_line(sorted(row, key=lambda each: each[0][0])) for row in rows]


def _beside(first: _Edges, second: _Edges) -> bool:
    overlap = min(first[3], second[3]) - max(first[1], second[1])
    return overlap > 0.5 * min(first[3] - first[1], second[3] - second[1])


def _line(row: list[tuple[_Edges, _Fragment]]) -> Line:
    """One line; a gap wider than the fragment is high begins another cell."""
    groups = [[row[0]]]
    for edges, fragment in row[1:]:
        if edges[0] - groups[-1][-1][0][2] > _CELL_GAP * (edges[3] - edges[1]):
            groups.append([(edges, fragment)])
        else:
            groups[-1].append((edges, fragment))
    return tuple(
        Cell(tuple(word for _, each in group for word in each.words), group[0][0][0], group[-1][0][2])
        for group in groups
    )
