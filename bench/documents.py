"""Documents to measure with: tiny PNG files that carry an invoice's text, no two alike."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

from prefect_docjobs.models import Document


def invoice(number: int) -> bytes:
    """One grey pixel that carries an invoice as its text."""
    text = f"INVOICE\nInvoice number: B-{number:06}\nTotal amount: {number}.25 EUR\n"
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)),
        (b"tEXt", b"Description\0" + text.encode("ascii")),
        (b"IDAT", zlib.compress(b"\0\x80")),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def invoices(count: int, first: int = 0) -> list[Document]:
    """Invoices in memory, numbered from `first`."""
    numbers = range(first, first + count)
    return [Document.from_bytes(invoice(number), name=name_of(number)) for number in numbers]


def written(count: int, folder: Path) -> Sequence[Path]:
    """The first `count` invoices as files."""
    paths = [folder / name_of(number) for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(invoice(number))
    return paths


def name_of(number: int) -> str:
    """File name of an invoice."""
    return f"invoice-{number:06}.png"
