"""The media type of bytes, read off the bytes and never off a name."""

from __future__ import annotations

import codecs

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"BM", "image/bmp"),
    (b"PK\x03\x04", "application/zip"),
)
_HEIF_BRANDS = {b"heic": "image/heic", b"heix": "image/heic", b"mif1": "image/heif", b"msf1": "image/heif"}
_PDF_HEADER_WITHIN = 1024  # ISO 32000-1, annex H: readers accept the header within the first 1024 bytes
_CONTROL = frozenset(range(32)) - {9, 10, 12, 13}
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def media_type_of(data: bytes) -> str:
    """The media type of a document; `application/octet-stream` if it is none that is known."""
    if b"%PDF-" in data[:_PDF_HEADER_WITHIN]:
        return "application/pdf"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data[4:8] == b"ftyp":
        return _HEIF_BRANDS.get(data[8:12], "application/octet-stream")
    is_text = bool(data) and (data.startswith(_UTF16_MARKS) or _CONTROL.isdisjoint(data))
    known = next((media_type for start, media_type in _SIGNATURES if data.startswith(start)), None)
    if known and not (known == "image/bmp" and is_text):
        return known
    return "text/plain" if is_text else "application/octet-stream"
