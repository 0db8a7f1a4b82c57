"""A page as segments (title, text, table), and segments as Markdown and HTML."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from prefect_docjobs.simulator.reading.document import DocumentRead
from prefect_docjobs.simulator.reading.pages import Box, Line, PageRead, box_around

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
        return box_around([word for line in self.lines for cell in line for word in cell.words])

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
        kind: Literal["Title", "Text", "Table"] = "Table" if len(line) >= _COLUMNS_OF_A_TABLE else "Text"
        last = segments[-1] if segments else None
        if last and last.kind == kind and (kind == "Text" or len(last.lines[0]) == len(line)):
            segments[-1] = Segment(kind, page.number, (*last.lines, line))
        else:
            is_title = kind == "Text" and page.number == 1 and last is None
            segments.append(Segment("Title" if is_title else kind, page.number, (line,)))
    return segments


def markdown_of(read: DocumentRead) -> str:
    """A whole document as Markdown."""
    return joined_markdown([segment for page in read.pages for segment in segments_of(page)])


def joined_markdown(segments: Sequence[Segment]) -> str:
    """Segments as one piece of Markdown."""
    return "\n\n".join(segment.markdown for segment in segments)
