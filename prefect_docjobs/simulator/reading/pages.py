"""A page that was read: words, their boxes, lines of cells, and the values found in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import TypeAlias

Value: TypeAlias = "str | float | int | bool | None"


class UnreadableDocument(ValueError):
    """The bytes are no document that can be read: empty, damaged, locked or of an unknown type."""


@dataclass(frozen=True)
class Box:
    """A rectangle on a page.

    Attributes:
        page: Page number, 1-based.
        x0: Left edge, 0..1 of the page's width.
        y0: Top edge, 0..1 of the page's height, measured from the top.
        x1: Right edge.
        y1: Bottom edge.
    """

    page: int
    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def corners(self) -> list[list[float]]:
        """The four `[x, y]` corners, clockwise from the top left."""
        return [[self.x0, self.y0], [self.x1, self.y0], [self.x1, self.y1], [self.x0, self.y1]]

    def joined(self, other: Box) -> Box:
        """The smallest box around this one and another one of the same page."""
        return Box(
            self.page,
            min(self.x0, other.x0),
            min(self.y0, other.y0),
            max(self.x1, other.x1),
            max(self.y1, other.y1),
        )


@dataclass(frozen=True)
class Found:
    """A value that a document says.

    Attributes:
        value: The normalised value: numbers as `float`, dates as ISO 8601, the rest as text.
        box: Where it is printed, if that is known.
        text: How it is printed.
    """

    value: Value
    box: Box | None = None
    text: str = ""


NOT_FOUND = Found(None)


@dataclass(frozen=True)
class Word:
    """One word and where it is printed, if that is known."""

    text: str
    box: Box | None = None


@dataclass(frozen=True)
class Cell:
    """Words of one line that stand together, apart from their neighbours.

    Attributes:
        words: The words from left to right, at least one.
        x0: Left edge, in a unit that is the same for all cells of a document.
        x1: Right edge, in the same unit.
    """

    words: tuple[Word, ...]
    x0: float
    x1: float

    @cached_property
    def text(self) -> str:
        """The words with one space between them."""
        return " ".join(word.text for word in self.words)

    def overlaps(self, other: Cell) -> bool:
        """Whether the two stand, at least in part, one above the other."""
        return self.x0 < other.x1 and other.x0 < self.x1


Line: TypeAlias = tuple[Cell, ...]


@dataclass(frozen=True)
class PageRead:
    """One page.

    Attributes:
        number: Page number, 1-based.
        text: The page's lines from top to bottom, joined by newlines.
        words: All words in the order of `text`.
        width: Width in points (pixels for an image); 0 if unknown.
        height: Height in the same unit; 0 if unknown.
        lines: The same words as lines of cells.
    """

    number: int
    text: str
    words: tuple[Word, ...]
    width: float
    height: float
    lines: tuple[Line, ...] = ()


def page_of_lines(number: int, lines: list[Line], width: float, height: float) -> PageRead:
    """Builds a page from its lines; the cells of a line are set apart by two spaces in its text."""
    text = "\n".join("  ".join(cell.text for cell in line) for line in lines)
    words = tuple(word for line in lines for cell in line for word in cell.words)
    return PageRead(number, text, words, width, height, tuple(lines))


def around(boxes: Sequence[Box]) -> Box | None:
    """The smallest box around boxes of one page, None if there are none."""
    return reduce(Box.joined, boxes) if boxes else None


def box_around(words: Sequence[Word]) -> Box | None:
    """The box around words of one page, None as soon as one word has none."""
    boxes = [word.box for word in words if word.box is not None]
    return around(boxes) if len(boxes) == len(words) else None
