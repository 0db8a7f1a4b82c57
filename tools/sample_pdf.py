"""A small writer of PDF 1.4: lines of Helvetica at given places, and rules; byte for byte repeatable.

Source: ISO 32000-1:2008, 7.5 (file structure), 9.4 (text objects), 9.6.2 (simple fonts).
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from itertools import accumulate

A4 = (595, 842)
LETTER = (612, 792)

# Widths of Helvetica in thousandths of an em, from the font's metrics, for the codes 32 to 126.
_ASCII_WIDTHS = (
    "278 278 355 556 556 889 667 191 333 333 389 584 278 333 278 278"
    " 556 556 556 556 556 556 556 556 556 556 278 278 584 584 584 556"
    " 1015 667 667 722 722 667 611 778 722 278 500 667 556 833 722 778"
    " 667 778 722 667 611 722 667 944 667 667 611 278 278 278 469 556"
    " 333 556 556 500 556 556 278 556 556 222 222 500 222 833 556 556"
    " 556 556 333 500 278 556 500 722 500 500 500 334 260 334 584"
)
_WIDTHS = {chr(32 + index): int(width) for index, width in enumerate(_ASCII_WIDTHS.split())}
_OTHER_WIDTHS = {"\u00df": 611, "\u00b7": 278, "\u2013": 556, "\u2014": 1000, "\u2019": 222}
_MEAN_WIDTH = 556


def glyph_width(char: str) -> int:
    """The width of one character of Helvetica, in thousandths of an em; accents do not widen a letter."""
    letter = unicodedata.normalize("NFKD", char)[:1]
    return _OTHER_WIDTHS.get(char) or _WIDTHS.get(letter, _MEAN_WIDTH)


def text_width(text: str, size: float) -> float:
    """The width of a text, in points."""
    return sum(map(glyph_width, text)) * size / 1000


@dataclass
class Page:
    """One page that collects its drawing operators; places are in points from the top left corner."""

    size: tuple[int, int]
    _operators: list[bytes] = field(default_factory=list)

    def text(self, x: float, y: float, text: str, size: float = 10) -> None:
        """Writes text with its baseline `y` points below the top edge."""
        place = f"/F1 {size:g} Tf {x:.2f} {self.size[1] - y:.2f} Td "
        self._operators.append(b"BT " + place.encode() + b"(" + _escaped(text) + b") Tj ET")

    def text_before(self, x: float, y: float, text: str, size: float = 10) -> None:
        """Writes text that ends at `x`, as columns of numbers are set."""
        self.text(x - text_width(text, size), y, text, size)

    def rule(self, x0: float, x1: float, y: float) -> None:
        """Draws a thin horizontal line."""
        height = self.size[1] - y
        self._operators.append(f"0.5 w {x0:.2f} {height:.2f} m {x1:.2f} {height:.2f} l S".encode())

    def content(self) -> bytes:
        """The page's content stream."""
        return b"\n".join(self._operators)


def write_pdf(title: str, pages: list[Page]) -> bytes:
    """The bytes of a document with these pages."""
    first_page = 5
    kids = " ".join(f"{first_page + 2 * index} 0 R" for index in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        _font(),
        b"<< /Title (" + _escaped(title) + b") >>",
    ]
    for page in pages:
        objects += _page_objects(page, content_number=len(objects) + 2)
    return _assembled(objects)


def _font() -> bytes:
    widths = " ".join(str(glyph_width(bytes([code]).decode("cp1252", "replace"))) for code in range(32, 256))
    return (
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding"
        f" /FirstChar 32 /LastChar 255 /Widths [{widths}] >>"
    ).encode()


def _page_objects(page: Page, content_number: int) -> list[bytes]:
    width, height = page.size
    content = page.content()
    return [
        (
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width} {height}]"
            f" /Resources << /Font << /F1 3 0 R >> >> /Contents {content_number} 0 R >>"
        ).encode(),
        f"<< /Length {len(content)} >>\nstream\n".encode() + content + b"\nendstream",
    ]


def _assembled(objects: list[bytes]) -> bytes:
    header = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"
    bodies = [f"{number} 0 obj\n".encode() + body + b"\nendobj\n" for number, body in enumerate(objects, 1)]
    *offsets, xref = accumulate(map(len, bodies), initial=len(header))
    entries = [b"0000000000 65535 f \n", *(f"{offset:010d} 00000 n \n".encode() for offset in offsets)]
    trailer = (
        f"trailer\n<< /Size {len(entries)} /Root 1 0 R /Info 4 0 R >>\nstartxref\n{xref}\n%%EOF\n"
    ).encode()
    return header + b"".join(bodies) + f"xref\n0 {len(entries)}\n".encode() + b"".join(entries) + trailer


def _escaped(text: str) -> bytes:
    return text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)").encode("cp1252")
