"""The reader of documents: every sample's own values, and no harm from any bytes."""

from __future__ import annotations

import io
import logging
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pypdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.simulated import sample

from prefect_docjobs.simulator.reading.document import DocumentRead, read_document
from prefect_docjobs.simulator.reading.media import media_type_of
from prefect_docjobs.simulator.reading.pages import UnreadableDocument
from prefect_docjobs.simulator.reading.values import (
    parse_boolean,
    parse_date,
    parse_date_time,
    parse_number,
)
from prefect_docjobs.simulator.reading.vocabulary import field_name
from prefect_docjobs.simulator.samples import SAMPLES, sample_paths

TOOL = Path(__file__).parents[2] / "tools" / "make_samples.py"


def read(name: str) -> DocumentRead:
    return read_document(sample(name), name)


def read_text(text: str) -> DocumentRead:
    return read_document(text.encode(), "note.txt")


FIELDS_OF: dict[str, dict[str, Any]] = {
    "contract-northgate.pdf": {
        "agreement_number": "SA-2026-017",
        "supplier_name": "Northgate Analytics Ltd",
        "customer_name": "Harbour & Sons Shipping",
        "effective_date": "2026-03-01",
        "end_date": "2028-02-29",
        "term": "24 months",
        "monthly_fee": 4800.0,
        "governing_law": "Ireland",
        "notice_period": "60 days",
        "automatic_renewal": "no",
        "signed_on": "2026-02-17",
        "signed_for_the_provider": "Orla Brennan",
        "signed_for_the_client": "Tomas Lindqvist",
        "currency": "EUR",
    },
    "form-equipment-loan.txt": {
        "form_number": "EL-0458",
        "full_name": "Ana Souza",
        "department": "Field Research",
        "email": "ana.souza@example.org",
        "equipment": "Thermal camera TC-40",
        "number_of_cases": "2",
        "loan_date": "2026-03-09",
        "return_date": "2026-04-06",
        "deposit": 150.0,
        "deposit_paid": "yes",
        "insurance_wanted": "no",
        "currency": "EUR",
    },
    "invoice-brightwater.pdf": {
        "invoice_number": "BW-10442",
        "date": "2026-02-03",
        "due_date": "2026-03-05",
        "purchase_order_number": "88123",
        "supplier_name": "Brightwater Instruments Inc.",
        "customer_name": "Lakeside Dairy Cooperative",
        "subtotal": 1344.6,
        "tax": 107.57,
        "total_amount": 1452.17,
        "currency": "USD",
    },
    "invoice-cascade-3-pages.pdf": {
        "invoice_number": "CP/2026/00731",
        "date": "2026-01-23",
        "due_date": "2026-02-22",
        "supplier_name": "Cascade Pump Supplies Ltd",
        "customer_name": "Penrose Water Services",
        "subtotal": 3481.15,
        "tax": 696.23,
        "total_amount": 4177.38,
        "currency": "GBP",
    },
    "order-alpine-tools.txt": {
        "purchase_order_number": "PO-7781",
        "date": "2026-02-11",
        "delivery_date": "2026-03-02",
        "supplier_name": "Alpine Tools SA",
        "customer_name": "Valais Cable Cars",
        "subtotal": 2417.4,
        "tax": 241.74,
        "total_amount": 2659.14,
        "currency": "CHF",
    },
    "receipt-green-leaf.png": {
        "invoice_number": "R-20931",
        "date": "2026-02-07",
        "supplier_name": "GREEN LEAF CAFE",
        "subtotal": 21.25,
        "tax": 4.25,
        "total_amount": 25.5,
        "paid_by_card": "YES",
        "currency": "GBP",
    },
    "rechnung-bergmann.pdf": {
        "invoice_number": "2026-0317",
        "date": "2026-02-12",
        "due_date": "2026-02-26",
        "supplier_name": "Holzbau Bergmann GmbH",
        "customer_name": "Gärtnerei Blütenzauber",
        "subtotal": 1203.7,
        "tax": 228.7,
        "total_amount": 1432.4,
        "currency": "EUR",
    },
}

FACTS_OF: dict[str, tuple[str, str, int, int]] = {
    "contract-northgate.pdf": ("contract", "application/pdf", 2, 0),
    "form-equipment-loan.txt": ("form", "text/plain", 1, 0),
    "invoice-brightwater.pdf": ("invoice", "application/pdf", 1, 3),
    "invoice-cascade-3-pages.pdf": ("invoice", "application/pdf", 3, 60),
    "order-alpine-tools.txt": ("document", "text/plain", 1, 3),
    "receipt-green-leaf.png": ("receipt", "image/png", 1, 3),
    "rechnung-bergmann.pdf": ("invoice", "application/pdf", 1, 3),
}


def test_every_sample_that_ships_is_checked_here() -> None:
    assert {path.name for path in sample_paths()} == FIELDS_OF.keys() == FACTS_OF.keys()


@pytest.mark.parametrize("name", FIELDS_OF)
def test_a_sample_has_its_own_values_and_no_others(name: str) -> None:
    assert {key: found.value for key, found in read(name).fields.items()} == FIELDS_OF[name]


@pytest.mark.parametrize("name", FACTS_OF)
def test_a_samples_kind_type_pages_and_items(name: str) -> None:
    document = read(name)
    facts = (document.kind, document.media_type, len(document.pages), len(document.line_items))
    assert facts == FACTS_OF[name]


def test_the_samples_are_what_their_script_makes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(TOOL), "--out", str(tmp_path)], check=True)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_bytes() for path in sample_paths()}


@pytest.mark.parametrize(
    "path", [path for path in sample_paths() if path.suffix == ".pdf"], ids=lambda p: p.name
)
def test_a_sample_pdf_has_a_true_cross_reference_table(path: Path) -> None:
    data = path.read_bytes()
    start = int(data.rpartition(b"startxref\n")[2].split()[0])
    assert data[start : start + 5] == b"xref\n"
    offsets = [int(entry[:10]) for entry in re.findall(rb"\d{10} 00000 n ", data[start:])]
    for number, offset in enumerate(offsets, 1):
        assert data[offset:].startswith(b"%d 0 obj\n" % number)
    assert pypdf.PdfReader(io.BytesIO(data), strict=True).pages


def test_the_amounts_of_all_items_add_up_to_the_subtotal() -> None:
    for name in ("invoice-brightwater.pdf", "invoice-cascade-3-pages.pdf", "rechnung-bergmann.pdf"):
        document = read(name)
        amounts = [item["amount"].value for item in document.line_items]
        assert all(isinstance(amount, float) for amount in amounts)
        assert round(sum(float(amount or 0) for amount in amounts), 2) == FIELDS_OF[name]["subtotal"]


def test_items_keep_their_columns_in_german() -> None:
    item = read("rechnung-bergmann.pdf").line_items[0]
    assert {name: found.value for name, found in item.items()} == {
        "description": "Lärchendielen gehobelt",
        "quantity": 38.0,
        "unit_price": 24.9,
        "amount": 946.2,
    }


def test_a_value_has_the_box_where_it_is_printed() -> None:
    """Rechnungsnummer: set at x = 346 pt, baseline 133 pt below the top, of an A4 page."""
    document = read("rechnung-bergmann.pdf")
    number = document.fields["invoice_number"]
    assert number.box is not None
    assert (number.box.page, number.text) == (1, "2026-0317")
    assert 346 / 595 < number.box.x0 < number.box.x1 < 500 / 595
    assert number.box.y0 < 133 / 842 < number.box.y1
    total = document.fields["total_amount"].box
    assert total is not None
    assert total.x1 == pytest.approx((595 - 56) / 595, abs=0.002)


def test_widths_kept_in_an_object_of_their_own_are_found() -> None:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(sample("rechnung-bergmann.pdf")))
    resources: Any = writer.pages[0]["/Resources"]
    font = resources["/Font"]["/F1"]
    font[pypdf.generic.NameObject("/Widths")] = writer._add_object(font["/Widths"])
    target = io.BytesIO()
    writer.write(target)
    fields = read_document(target.getvalue(), "a.pdf").fields
    assert fields["total_amount"].box == read("rechnung-bergmann.pdf").fields["total_amount"].box


def test_a_box_tells_the_page_it_is_on() -> None:
    document = read("invoice-cascade-3-pages.pdf")
    boxes = [document.fields[name].box for name in ("invoice_number", "total_amount")]
    assert [box and box.page for box in boxes] == [1, 3]


def turned(rotation: int) -> bytes:
    reader = pypdf.PdfReader(io.BytesIO(sample("invoice-brightwater.pdf")))
    writer = pypdf.PdfWriter()
    writer.add_page(reader.pages[0]).rotate(rotation)
    target = io.BytesIO()
    writer.write(target)
    return target.getvalue()


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_boxes_turn_with_the_page(rotation: int) -> None:
    upright = read("invoice-brightwater.pdf").fields["invoice_number"].box
    page = read_document(turned(rotation), "turned.pdf").pages[0]
    box = next(word.box for word in page.words if word.text == "BW-10442")
    assert upright is not None
    assert box is not None
    assert (page.width, page.height) == ((612, 792) if rotation == 180 else (792, 612))
    moved = {
        90: (1 - upright.y1, upright.x0),
        180: (1 - upright.x1, 1 - upright.y1),
        270: (upright.y0, 1 - upright.x1),
    }
    assert (box.x0, box.y0) == pytest.approx(moved[rotation], abs=0.001)


def test_a_png_has_its_real_size_and_no_boxes() -> None:
    page = read("receipt-green-leaf.png").pages[0]
    assert (page.width, page.height) == struct.unpack(">II", sample("receipt-green-leaf.png")[16:24])
    assert all(word.box is None for word in page.words)


def test_the_receipts_pixels_show_its_text() -> None:
    """Decodes the picture and finds the first letter, a G of 5 by 7 dots of 2 pixels each."""
    data = sample("receipt-green-leaf.png")
    start = data.index(b"IDAT") + 4
    (length,) = struct.unpack(">I", data[start - 8 : start - 4])
    width, height = struct.unpack(">II", data[16:24])
    rows = zlib.decompress(data[start : start + length])
    stride = 1 + (width + 7) // 8
    assert len(rows) == stride * height
    dots = [
        "".join(
            "#" if not rows[y * stride + 1 + x // 8] >> (7 - x % 8) & 1 else "." for x in range(16, 26, 2)
        )
        for y in range(16, 30, 2)
    ]
    assert dots == [".###.", "#...#", "#....", "#.###", "#...#", "#...#", ".####"]


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    header = struct.pack(">IIBBBBB", 3, 2, 1, 0, 0, 0, 0)
    framed = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", header), *chunks, (b"IEND", b""))
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


@pytest.mark.parametrize(
    "chunk",
    [
        (b"tEXt", b"Comment\0Total: 12.50"),
        (b"zTXt", b"Comment\0\0" + zlib.compress(b"Total: 12.50")),
        (b"iTXt", b"Comment\0\0\0en\0Kommentar\0Total: 12.50"),
        (b"iTXt", b"Comment\0\1\0en\0\0" + zlib.compress(b"Total: 12.50")),
    ],
)
def test_every_kind_of_text_chunk_is_read(chunk: tuple[bytes, bytes]) -> None:
    assert read_document(png(chunk), "a.png").fields["total_amount"].value == 12.5


def test_the_name_of_the_program_that_made_a_png_is_not_its_text() -> None:
    assert read_document(png((b"tEXt", b"Software\0Brush 2.1")), "a.png").text == ""


def test_a_compressed_bomb_in_a_png_is_cut() -> None:
    bomb = (b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * 20_000_000))
    assert len(read_document(png(bomb), "a.png").text) <= 1_000_000


def locked() -> bytes:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(sample("contract-northgate.pdf")))
    writer.encrypt("secret", algorithm="RC4-128")
    target = io.BytesIO()
    writer.write(target)
    return target.getvalue()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "empty"),
        (b"%PDF-1.7\nnothing of the kind", "PDF"),
        (sample("invoice-brightwater.pdf")[:300], "PDF"),
        (locked(), "password"),
        (sample("receipt-green-leaf.png")[:-20], "PNG"),
        (sample("receipt-green-leaf.png").replace(b"GREEN", b"GREED"), "checksum"),
        (b"PK\x03\x04rest of a zip", "application/zip"),
        (b"\x00\x01\x02", "application/octet-stream"),
        (b"\xff\xfea", "UTF-16"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(data: bytes, why: str) -> None:
    with pytest.raises(UnreadableDocument, match=rf"^scan\.bin: .*{why}"):
        read_document(data, "scan.bin")


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (b"\xff\xd8\xff\xe0JFIF", "image/jpeg"),
        (b"II*\x00", "image/tiff"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        (b"\0\0\0\x18ftypheic", "image/heic"),
        (b"GIF89a", "image/gif"),
        (b"  \n%PDF-1.4", "application/pdf"),
        (b"BMW invoice", "text/plain"),
        (b"BM\x00\x01", "image/bmp"),
        ("\ufeffGruß".encode("utf-16"), "text/plain"),
    ],
)
def test_the_media_type_is_read_off_the_bytes(data: bytes, media_type: str) -> None:
    assert media_type_of(data) == media_type


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_text_is_read_in_the_usual_encodings(encoding: str) -> None:
    assert read_document("Ort: Köln".encode(encoding), "a.txt").fields["ort"].value == "Köln"


def test_a_form_feed_ends_a_page_and_a_new_title_begins_a_section() -> None:
    document = read_text("INVOICE\nTotal: 5.00\f\nmore lines\f\nSERVICE AGREEMENT\nTerm: one year\f\nmore")
    assert [page.number for page in document.pages] == [1, 2, 3, 4]
    assert document.sections == ((1, 2, "invoice"), (3, 4, "contract"))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1,234.50", 1234.5),
        ("1.234,50 EUR", 1234.5),
        ("1 234,50", 1234.5),
        ("1\u202f234,50 €", 1234.5),
        ("CHF 2'417.50", 2417.5),
        ("-$12", -12.0),
        ("$-12.5", -12.5),
        ("\u22123", -3.0),
        ("1,234,567", 1234567.0),
        ("19 %", 19.0),
        ("1,234", 1234.0),
        ("0.125", 0.125),
        ("12,5", 12.5),
        ("007", 7.0),
        ("12.34.56", None),
        ("1,23,456", None),
        ("INV-12", None),
        ("12 pieces", None),
        ("", None),
        ("EUR", None),
        ("2026-02-03", None),
    ],
)
def test_numbers_in_the_ways_they_are_printed(text: str, number: float | None) -> None:
    assert parse_number(text) == number


def test_one_separator_before_three_digits_is_read_as_the_document_writes() -> None:
    assert parse_number("1.234", decimal_comma=True) == 1234.0
    assert parse_number("1,234", decimal_comma=True) == 1.234
    german = read_text("Netto: 1.000 EUR\nGesamtbetrag: 1.190,00 EUR")
    assert german.fields["subtotal"].value == 1000.0


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("2026-02-03", "2026-02-03"),
        ("2026-02-03 18:42", "2026-02-03"),
        ("3 Feb 2026", "2026-02-03"),
        ("3rd February, 2026", "2026-02-03"),
        ("February 3, 2026", "2026-02-03"),
        ("3. März 2026", "2026-03-03"),
        ("14 février 2026", "2026-02-14"),
        ("03.02.2026", "2026-02-03"),
        ("13/02/2026", "2026-02-13"),
        ("02/13/2026", "2026-02-13"),
        ("02/02/2026", "2026-02-02"),
        ("03/02/2026", None),
        ("30 Feb 2026", None),
        ("2026-13-01", None),
        ("3 Foo 2026", None),
        ("soon", None),
    ],
)
def test_dates_become_iso_and_only_when_they_are_sure(text: str, date: str | None) -> None:
    assert parse_date(text) == date


def test_a_moment_keeps_its_time() -> None:
    assert parse_date_time("2026-02-07 18:42") == "2026-02-07T18:42:00"
    assert parse_date_time("7 Feb 2026") == "2026-02-07T00:00:00"
    assert parse_date_time("2026-02-07T25:00") is None


def test_yes_no_and_neither() -> None:
    assert [parse_boolean(text) for text in ("Yes", "nein", "x", "maybe", "")] == [
        True,
        False,
        True,
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        ("total", "number", 1452.17),
        ("totalAmount", "string", "$1,452.17"),
        ("Amount due", "integer", None),
        ("vendor_name", "string", "Brightwater Instruments Inc."),
        ("invoiceNo", "verbatim-string", "BW-10442"),
        ("invoice_date", "date", "2026-02-03"),
        ("invoice_date", "verbatim-string", "February 3, 2026"),
        ("due_date", "date-time", "2026-03-05T00:00:00"),
        ("po_number", "integer", 88123),
        ("client", "string", "Lakeside Dairy Cooperative"),
        ("customer_name", "number", None),
        ("document_type", "string", "invoice"),
        ("iban", "string", None),
        ("delivery_date", "date", None),
        ("", "string", None),
    ],
)
def test_a_field_is_found_under_its_other_names_and_as_the_type_that_is_wanted(
    name: str, kind: str, value: Any
) -> None:
    assert read("invoice-brightwater.pdf").find_field(name, kind).value == value


def test_part_of_a_name_finds_a_field_only_if_it_is_the_only_one() -> None:
    form = read("form-equipment-loan.txt")
    assert form.find_field("cases", "integer").value == 2
    assert form.find_field("insurance", "boolean").value is False
    assert form.find_field("deposit", "number").value == 150.0
    assert form.find_field("paid", "boolean").value is True
    assert form.find_field("full").value == "Ana Souza"
    assert read_text("Billing city: Ulm\nShipping city: Bonn").find_field("city").value is None


def test_a_due_date_never_answers_for_a_date() -> None:
    assert read_text("Due date: 2026-03-05").find_field("date").value is None


def test_a_value_may_stand_below_its_label_or_beside_it_without_a_colon() -> None:
    document = read_text("Bill to:        Date: 2026-05-06\nBlue Door Ltd\nSubtotal    10.00\nTotal 12.00")
    values = {name: found.value for name, found in document.fields.items()}
    assert values == {
        "customer_name": "Blue Door Ltd",
        "date": "2026-05-06",
        "subtotal": 10.0,
        "total_amount": 12.0,
    }


def test_the_headings_of_a_table_are_no_labels_and_a_row_may_be_named_like_a_sum() -> None:
    rows = [
        "Date  Item  Qty  Price  Total",
        "2 May 2026  Shipping  1  9.50  9.50",
        "2 May 2026  Discount  1  -2.00  -2.00",
    ]
    document = read_text("\n".join([*rows, "Total  7.50", "3 May 2026  Lamp  1  1.00  1.00"]))
    assert [item["description"].value for item in document.line_items] == ["Shipping", "Discount"]
    assert [item["amount"].value for item in document.line_items] == [9.5, -2.0]
    assert {name: found.value for name, found in document.fields.items()} == {"total_amount": 7.5}


def test_labels_in_one_run_of_text_are_separated() -> None:
    document = read_text(
        "Invoice number: A-7 Due date: 2 May 2026 Bill to: Red Gate Ltd\nNote: see page: two"
    )
    assert {name: found.value for name, found in document.fields.items()} == {
        "invoice_number": "A-7",
        "due_date": "2026-05-02",
        "customer_name": "Red Gate Ltd",
        "note": "see page: two",
    }


def one_text_object() -> bytes:
    """A page whose lines are one text object with relative moves and spaced strings, as TeX writes them."""
    content = (
        b"BT /F1 10 Tf 72 700 Td (INVOICE) Tj 0 -20 Td [(Invoice) -300 (number:) -300 (T-19)] TJ"
        b" 0 -14 Td (Total: EUR 81.20) Tj ET"
    )
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(sample("invoice-brightwater.pdf")))
    stream = pypdf.generic.DecodedStreamObject()
    stream.set_data(content)
    writer.pages[0][pypdf.generic.NameObject("/Contents")] = writer._add_object(stream)
    target = io.BytesIO()
    writer.write(target)
    return target.getvalue()


def test_lines_of_one_text_object_are_separated() -> None:
    document = read_document(one_text_object(), "tex.pdf")
    assert document.pages[0].text.splitlines() == ["INVOICE", "Invoice number: T-19", "Total: EUR 81.20"]
    box = document.fields["total_amount"].box
    assert box is not None
    assert box.y0 < (792 - 666) / 792 < box.y1
    assert (document.fields["invoice_number"].value, document.fields["total_amount"].value) == ("T-19", 81.2)


def test_a_date_without_a_colon_needs_a_date_beside_it() -> None:
    assert read_text("Date   Place").fields == {}
    assert read_text("Date   2 May 2026").fields["date"].value == "2026-05-02"


def test_prose_and_times_and_links_are_no_labels() -> None:
    assert read_text("See https://example.org: it is open\nAt 18:42 we left\n: nothing").fields == {}


@settings(max_examples=150, deadline=2000)
@given(data=st.binary(max_size=3000))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    _read_or_refuse(data)


@settings(max_examples=60, deadline=4000)
@given(
    name=st.sampled_from(sorted(FIELDS_OF)),
    at=st.floats(min_value=0, max_value=1),
    junk=st.binary(max_size=40),
    cut=st.integers(min_value=0, max_value=60),
)
def test_a_damaged_sample_is_read_or_refused(name: str, at: float, junk: bytes, cut: int) -> None:
    data = (SAMPLES / name).read_bytes()
    position = int(at * len(data))
    logging.getLogger("pdfminer").setLevel(logging.CRITICAL)
    _read_or_refuse(data[:position] + junk + data[position + cut :])


@settings(max_examples=100, deadline=2000)
@given(text=st.text(max_size=600))
def test_any_text_is_read_and_its_words_are_kept(text: str) -> None:
    document = _read_or_refuse(text.encode("utf-8", "replace"))
    if document is not None:
        assert document.pages
        assert all(found.text for found in document.fields.values())


def _read_or_refuse(data: bytes) -> DocumentRead | None:
    try:
        return read_document(data, "any")
    except UnreadableDocument:
        return None


def test_german_labels_without_umlauts_are_known() -> None:
    assert [field_name(label) for label in ("Fällig am", "faellig am", "Rechnungs-Nr.", "MwSt.")] == [
        "due_date",
        "due_date",
        "invoice_number",
        "tax",
    ]
