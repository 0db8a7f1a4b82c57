"""Draw `docs/logo.png`, the picture of the block types: a page whose lines become a table row.

Run `python tools/make_logo.py [FILE]`; the picture is the same on every run. Shapes are signed distances in
pixels, so that their edges are smooth. PNG: Portable Network Graphics Specification, Third Edition, 5.
"""

from __future__ import annotations

import math
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

SIDE = 256

Colour = tuple[int, int, int]
Shape = Callable[[float, float], float]
"""Distance of a point to the edge of a shape: negative inside, in pixels."""

_NIGHT: Colour = (23, 37, 84)
_SEA: Colour = (14, 116, 144)
_PAPER: Colour = (248, 250, 252)
_FOLD: Colour = (186, 200, 216)
_LINE: Colour = (148, 163, 184)
_FOUND: Colour = (245, 158, 11)


def rounded(left: float, top: float, right: float, bottom: float, radius: float) -> Shape:
    """A rectangle with round corners."""

    def distance(x: float, y: float) -> float:
        dx = abs(x - (left + right) / 2) - (right - left) / 2 + radius
        dy = abs(y - (top + bottom) / 2) - (bottom - top) / 2 + radius
        return math.hypot(max(dx, 0.0), max(dy, 0.0)) + min(max(dx, dy), 0.0) - radius

    return distance


def below_diagonal(corner_x: float, corner_y: float, size: float) -> Shape:
    """The half plane that is left when an upper right corner of `size` is cut off."""
    return lambda x, y: ((x - corner_x) - (y - corner_y) + size) / math.sqrt(2)


def both(one: Shape, other: Shape) -> Shape:
    """What lies in both shapes."""
    return lambda x, y: max(one(x, y), other(x, y))


def layers() -> list[tuple[Shape, Colour]]:
    """The picture over its background, lowest layer first."""
    page = rounded(64, 44, 192, 212, 12)
    uncut = below_diagonal(192, 44, 40)
    found = [rounded(84, 168, 116, 188, 5), rounded(122, 168, 144, 188, 5), rounded(150, 168, 172, 188, 5)]
    lines = [(rounded(84, y, right, y + 8, 4), _LINE) for y, right in ((72, 132), (94, 150), (116, 172))]
    return [
        (both(page, uncut), _PAPER),
        (both(rounded(152, 44, 232, 84, 8), uncut), _FOLD),
        *lines,
        (rounded(84, 138, 146, 146, 4), _FOUND),
        *((cell, _FOUND) for cell in found),
    ]


def pixel(x: float, y: float, shapes: list[tuple[Shape, Colour]]) -> bytes:
    """One RGBA pixel; the background is a slanted gradient in a rounded square."""
    share = (x + y) / (2 * SIDE)
    colour = _mixed(_NIGHT, _SEA, share)
    for shape, paint in shapes:
        colour = _mixed(colour, paint, _cover(shape(x, y)))
    alpha = _cover(rounded(4, 4, SIDE - 4, SIDE - 4, 56)(x, y))
    return bytes((*(round(part) for part in colour), round(255 * alpha)))


def _cover(distance: float) -> float:
    return min(1.0, max(0.0, 0.5 - distance))


def _mixed(under: tuple[float, ...], over: tuple[float, ...], share: float) -> tuple[float, ...]:
    return tuple(a + (b - a) * share for a, b in zip(under, over, strict=True))


def draw() -> bytes:
    """The PNG file."""
    shapes = layers()
    rows = (b"\0" + b"".join(pixel(x + 0.5, y + 0.5, shapes) for x in range(SIDE)) for y in range(SIDE))
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 6, 0, 0, 0)  # eight bits, RGB with alpha
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "docs" / "logo.png"
    target.write_bytes(draw())
