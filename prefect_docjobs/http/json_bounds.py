"""How wide and how deep a JSON text is, found before any object is made of it.

A few megabytes of `[[],[],…]` become hundreds as objects. Counting characters is fast and takes no memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

_MOST_VALUES = 1_000_000  # a page of text with a place for each word has about ten thousand
_BYTES_OF_A_VALUE = 8  # at least so many on average, in a real answer with more of them than that
DEEPEST = 200
_WINDOW = 1 << 20
_NO_BRACKET = bytes(set(range(256)) - set(b"[]{}"))
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def most_values(body: bytes) -> int:
    """How many values an answer of this size may have."""
    return max(_MOST_VALUES, len(body) // _BYTES_OF_A_VALUE)


def is_too_wide(body: bytes) -> bool:
    """Whether it has more than `most_values`."""
    most = most_values(body)
    if len(body) <= most or _values_in(body) <= most:  # what strings hold counts here, too
        return False
    values = 0
    for piece in _outside_strings(body):
        values += _values_in(piece)
        if values > most:
            return True
    return False


def is_too_deep(body: bytes) -> bool:
    """Whether something in it is nested deeper than `DEEPEST` levels."""
    depth = 0
    for piece in _outside_strings(body):
        brackets = piece.translate(None, _NO_BRACKET)
        depths = list(accumulate(map(_STEP.__getitem__, brackets), initial=depth))
        if max(depths) > DEEPEST:
            return True
        depth = depths[-1]
    return False


def _values_in(text: bytes) -> int:
    """Each value is the first one of its container, or follows a comma."""
    return 1 + text.count(b",") + text.count(b"[") + text.count(b"{")


def _outside_strings(body: bytes) -> Iterator[bytes]:
    """What stands outside strings, window by window: without escapes each quote begins or ends one."""
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in body else body
    inside = 0
    for start in range(0, len(plain), _WINDOW):
        parts = plain[start : start + _WINDOW].split(b'"')
        yield b"".join(parts[inside::2])
        inside ^= (len(parts) - 1) & 1
