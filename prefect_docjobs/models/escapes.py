"""Texts that UTF-8 cannot carry, as the names of files may be."""

from __future__ import annotations


def escaped(text: str) -> str:
    """The text with escapes for half surrogate pairs, which stand for bytes of a name that are not UTF-8."""
    return text.encode(errors="backslashreplace").decode()
