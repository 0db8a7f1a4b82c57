"""Pages are counted before anything is sent, and no document can make that hang or break."""

from __future__ import annotations

import io
import struct
import time
from pathlib import Path

import pypdf
import pytest
from support.services import png

from prefect_docjobs.errors import InvalidDocument
from prefect_docjobs.extraction.pages import Pages, pages_of
from prefect_docjobs.models import Document

UNKNOWN = Pages(1, counted=False)


def pdf(pages: int, *, password: str | None = None) -> bytes:
    writer = pypdf.PdfWriter()
    for _ in range(pages):
        writer.add_blank_page(100, 100)
    if password is not None:
        writer.encrypt(password, algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def tiff(pages: int, *, order: str = "<", big: bool = False, loop: bool = False) -> bytes:
    """A TIFF whose directories have one entry each."""
    length, offset, entry, first = ("Q", "Q", 20, 16) if big else ("H", "I", 12, 8)
    step = struct.calcsize(order + length) + entry + struct.calcsize(order + offset)
    starts = [first + index * step for index in range(pages)]
    nexts = [*starts[1:], first if loop else 0]
    mark = b"II" if order == "<" else b"MM"
    head = mark + (struct.pack(order + "HHH", 43, 8, 0) if big else struct.pack(order + "H", 42))
    body = b"".join(
        struct.pack(order + length, 1) + bytes(entry) + struct.pack(order + offset, after) for after in nexts
    )
    return head + struct.pack(order + offset, first) + body


async def count(data: bytes, name: str) -> Pages:
    return await pages_of(Document.from_bytes(data, name=name))


@pytest.mark.parametrize("pages", [1, 3, 250])
async def test_a_pdf_has_the_pages_that_its_page_tree_says(pages: int) -> None:
    assert await count(pdf(pages), "a.pdf") == Pages(pages, counted=True)


async def test_a_pdf_is_known_by_its_bytes_and_read_from_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "scan.bin"
    path.write_bytes(b"junk before it\n" + pdf(7))
    assert await pages_of(Document.from_path(path)) == Pages(7, counted=True)


async def test_an_encrypted_pdf_is_counted_unless_it_takes_a_password_to_open() -> None:
    assert await count(pdf(4, password=""), "restricted.pdf") == Pages(4, counted=True)
    assert await count(pdf(4, password="secret"), "locked.pdf") == UNKNOWN


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
async def test_a_tiff_has_a_page_for_each_directory(order: str, big: bool) -> None:
    assert await count(tiff(5, order=order, big=big), "fax.tif") == Pages(5, counted=True)


async def test_a_tiff_whose_directories_go_round_in_a_circle_is_counted_once_around() -> None:
    assert await count(tiff(3, loop=True), "fax.tiff") == Pages(3, counted=True)


async def test_any_other_image_is_one_page() -> None:
    assert await count(png("x"), "a.png") == Pages(1, counted=True)


@pytest.mark.parametrize("name", ["letter.docx", "notes.txt", "data"])
async def test_what_cannot_be_counted_is_taken_for_one_page_and_said_to_be_uncounted(name: str) -> None:
    assert await count(b"words", name) == UNKNOWN


async def test_a_url_is_never_read() -> None:
    assert await pages_of(Document.from_url("https://documents.test/a.pdf")) == UNKNOWN


async def test_a_file_that_is_not_there_is_an_invalid_document(tmp_path: Path) -> None:
    with pytest.raises(InvalidDocument):
        await pages_of(Document.from_path(tmp_path / "gone.pdf"))


def _with_count(what: bytes) -> bytes:
    return pdf(2).replace(b"/Count 2", b"/Count " + what)


def _circular_xref() -> bytes:
    """Two cross-reference tables that each name the other as the one before."""
    data = pdf(1)
    at = data.rindex(b"xref", 0, data.rindex(b"startxref"))
    return data.replace(b"trailer\n<<", b"trailer\n<<\n/Prev %d" % at)


def _huge_xref_stream() -> bytes:
    """A cross-reference stream that promises entries without end."""
    body = b"1 0 obj<</Type/XRef/W[1 4 2]/Index[0 999999999999]/Size 9/Length 0>>stream\n\nendstream endobj\n"
    return b"%PDF-1.5\n" + body + b"startxref\n9\n%%EOF"


HOSTILE = {
    "nothing but its head": b"%PDF-1.7",
    "cut off": pdf(3)[:200],
    "a count that its size contradicts": _with_count(b"999999999999"),
    "a negative count": _with_count(b"-3"),
    "a count of zero": _with_count(b"0"),
    "a count that is no number": _with_count(b"(many)"),
    "deep nesting": b"%PDF-1.4\n1 0 obj\n" + b"[" * 200_000 + b"\nendobj\ntrailer<</Root 1 0 R>>\n%%EOF",
    "tables in a circle": _circular_xref(),
    "a table without end": _huge_xref_stream(),
    "objects everywhere": b"%PDF-1.4\n" + b"1 0 obj\n<</Type/Catalog>>\nendobj\n" * 20_000,
    "a tiff that points outside": b"II*\0" + struct.pack("<I", 1 << 31),
    "a tiff of one byte more than its head": b"MM\0*\0",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
async def test_a_hostile_document_is_taken_for_few_pages_in_bounded_time(data: bytes) -> None:
    began = time.process_time()
    assert (await count(data, "hostile.pdf")).number <= 2
    assert time.process_time() - began < 8.0
