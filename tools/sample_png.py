"""A small writer of PNG: lines of capitals in a 5 by 7 bitmap font, and the same text beside the pixels.

Source: Portable Network Graphics (PNG) Specification, Third Edition, 5 (structure) and 11.3.3.2 (tEXt).
"""

from __future__ import annotations

import struct
import zlib

_SCALE = 2  # pixels for one dot of a glyph
_ADVANCE, _LEADING = 6, 10  # dots from glyph to glyph, and from line to line
_MARGIN = 8  # dots

# Seven rows of five dots for each character, a row as two hexadecimal digits.
_GLYPHS = {
    "A": "0e11111f111111", "B": "1e11111e11111e", "C": "0e11101010110e", "D": "1e11111111111e",
    "E": "1f10101e10101f", "F": "1f10101e101010", "G": "0e11101711110f", "H": "1111111f111111",
    "I": "0e04040404040e", "J": "0702020202120c", "K": "11121418141211", "L": "1010101010101f",
    "M": "111b1515111111", "N": "11191513111111", "O": "0e11111111110e", "P": "1e11111e101010",
    "Q": "0e11111115120d", "R": "1e11111e141211", "S": "0f10100e01011e", "T": "1f040404040404",
    "U": "1111111111110e", "V": "11111111110a04", "W": "11111115151b11", "X": "11110a040a1111",
    "Y": "11110a04040404", "Z": "1f01020408101f",
    "0": "0e11131519110e", "1": "040c040404040e", "2": "0e11010204081f", "3": "1f02040201110e",
    "4": "02060a121f0202", "5": "1f101e0101110e", "6": "0608101e11110e", "7": "1f010204080808",
    "8": "0e11110e11110e", "9": "0e11110f01020c",
    ".": "00000000000c0c", ",": "0000000c0c0408", ":": "000c0c000c0c00", "-": "0000001f000000",
    "/": "00010204081000", "(": "02040808080402", ")": "08040202020408", "%": "18190204081303",
    " ": "00000000000000",
}  # fmt: skip


def write_png(lines: list[str], keyword: str = "Description") -> bytes:
    """The bytes of an image that shows the lines, with the same lines in a tEXt chunk.

    Raises:
        KeyError: A character has no glyph.
    """
    columns = max(map(len, lines))
    width = _SCALE * (2 * _MARGIN + columns * _ADVANCE)
    height = _SCALE * (2 * _MARGIN + len(lines) * _LEADING)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)  # one bit of grey for each pixel
    text = keyword.encode("latin-1") + b"\0" + "\n".join(lines).encode("latin-1")
    pixels = zlib.compress(_scanlines(lines, width, height), 9)
    chunks = ((b"IHDR", header), (b"tEXt", text), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _scanlines(lines: list[str], width: int, height: int) -> bytes:
    ink = _ink(lines)
    rows = []
    for y in range(height):
        bits = "".join("0" if (x // _SCALE, y // _SCALE) in ink else "1" for x in range(width))
        padded = bits + "1" * (-width % 8)
        rows.append(b"\0" + int(padded, 2).to_bytes(len(padded) // 8, "big"))
    return b"".join(rows)


def _ink(lines: list[str]) -> set[tuple[int, int]]:
    """The black dots."""
    return {
        (_MARGIN + column * _ADVANCE + dot, _MARGIN + number * _LEADING + row)
        for number, line in enumerate(lines)
        for column, char in enumerate(line)
        for row, bits in enumerate(bytes.fromhex(_GLYPHS[char]))
        for dot in range(5)
        if bits & (0b10000 >> dot)
    }
