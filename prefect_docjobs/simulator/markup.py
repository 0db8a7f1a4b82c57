"""A page as segments (title, text, table), and segments as Markdown and HTML."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from prefect_docjobs.simulator.reading import Box, DocumentRead, PageRead
from prefect_docjobs.simulator.reading.parts import Line, box_around

_COLUMNS_OF_A_TABLE = 3


@dataclass(frozen=True)
class Segment:
    """Consecutive lines of one sort.

    Attributes:
        kind: `Title` for the first line of a document, `Table` for rows of three and more cells, else `Text`.
        page: Page number, 1-based.
        lines: The lines, at least one.
    """

    kind: Literal["Title", "Text", "Table"]
    page: int
    lines: tuple[Line, ...]

    @property
    def text(self) -> str:
        """The lines as plain text."""
        return "\n".join(" ".join(cell.text for cell in line) for line in self.lines)

    @property
    def box(self) -> Box | None:
        """Where it is printed, if that is known."""
        return box_around(tuple(word for line in self.lines for cell in line for word in cell.words))

    @property
    def markdown(self) -> str:
        """The lines as Markdown."""
        if self.kind == "Title":
            return f"# {self.text}"
        if self.kind == "Text":
            return self.text.replace("\n", "  \n")
        heading, *rows = ("| " + " | ".join(cell.text for cell in line) + " |" for line in self.lines)
        return "\n".join([heading, "|" + " --- |" * len(self.lines[0]), *rows])

    @property
    def html(self) -> str:
        """The lines as HTML."""
        if self.kind == "Table":
            rows = ("".join(f"<td>{html.escape(cell.text)}</td>" for cell in line) for line in self.lines)
            return "<table>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>"
        tag = "h1" if self.kind == "Title" else "p"
        return f"<{tag}>{html.escape(self.text).replace(chr(10), '<br>')}</{tag}>"


def segments_of(page: PageRead) -> list[Segment]:
    """The segments of a page from top to bottom."""
    segments: list[Segment] = []
    for line in page.lines:
        columns = len(line) if len(line) >= _COLUMNS_OF_A_TABLE else 0
        last = segments[-1] if segments else None
        if last is not None and last.kind == ("Table" if columns else "Text") and _goes_on(last, line):
            segments[-1] = Segment(last.kind, last.page, (*last.lines, line))
        else:
            first = page.number == 1 and last is None
            kind: Literal["Title", "Text", "Table"] = "Table" if columns else "Title" if first else "Text"
            segments.append(Segment(kind, page.number, (line,)))
    return segments


def _goes_on(segment: Segment, line: Line) -> bool:
    return segment.kind == "Text" or len(segment.lines[0]) == len(line)


def markdown_of(read: DocumentRead) -> str:
    """A whole document as Markdown."""
    return joined_markdown([segment for page in read.pages for segment in segments_of(page)])


def joined_markdown(segments: Sequence[Segment]) -> str:
    """Segments as one piece of Markdown."""
    return "\n\n".join(segment.markdown for segment in segments)
