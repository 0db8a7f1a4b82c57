"""A real reader of documents: the simulated services answer with what the document says.

It knows PDF (with positions), plain text and the text chunks of PNG; it recognises nothing in pixels.
"""

from __future__ import annotations

from prefect_docjobs.simulator.reading.document import DocumentRead, read_document
from prefect_docjobs.simulator.reading.parts import (
    NOT_FOUND,
    Box,
    Found,
    PageRead,
    UnreadableDocument,
    Value,
    Word,
)

__all__ = [
    "NOT_FOUND",
    "Box",
    "DocumentRead",
    "Found",
    "PageRead",
    "UnreadableDocument",
    "Value",
    "Word",
    "read_document",
]
