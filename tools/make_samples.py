"""Makes the sample documents that ship in `prefect_docjobs/simulator/samples/`.

    python tools/make_samples.py [--out DIR]

Every document is made up, says things that no other one says, and comes out byte for byte the same each time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from sample_pdf import A4, LETTER, Page, write_pdf
from sample_png import write_png

SAMPLES = Path(__file__).parent.parent / "prefect_docjobs" / "simulator" / "samples"
_LEFT = 56.0
_CENT = Decimal("0.01")


@dataclass(frozen=True)
class Item:
    """One line of an invoice or an order."""

    description: str
    quantity: int
    unit_price: Decimal

    @property
    def amount(self) -> Decimal:
        """Quantity times price."""
        return self.quantity * self.unit_price


def items(*rows: tuple[str, int, str]) -> list[Item]:
    """Items from rows of description, quantity and price."""
    return [Item(description, quantity, Decimal(price)) for description, quantity, price in rows]


@dataclass(frozen=True)
class Totals:
    """What the items cost, net, tax and gross."""

    subtotal: Decimal
    tax: Decimal
    total: Decimal

    @classmethod
    def of(cls, bought: Sequence[Item], percent: int) -> Totals:
        """The totals of items at one rate of tax."""
        subtotal = sum((item.amount for item in bought), Decimal(0)).quantize(_CENT)
        tax = (subtotal * percent / 100).quantize(_CENT)
        return cls(subtotal, tax, subtotal + tax)


def english(number: Decimal) -> str:
    """`1,234.50`."""
    return f"{number:,.2f}"


def german(number: Decimal) -> str:
    """`1.234,50`."""
    return english(number).translate(str.maketrans(",.", ".,"))


def swiss(number: Decimal) -> str:
    """`1'234.50`."""
    return english(number).replace(",", "'")


class Sheet:
    """A page that is filled from top to bottom."""

    def __init__(self, size: tuple[int, int], top: float = 64) -> None:
        self.page = Page(size)
        self.y = top
        self._right = size[0] - _LEFT

    def write(self, *lines: str, size: float = 10, x: float = _LEFT) -> None:
        """Writes lines, one below the other; an empty one is half a line of space."""
        for line in lines:
            if line:
                self.page.text(x, self.y, line, size)
            self.y += size * (1.5 if line else 0.75)

    def columns(self, left: Sequence[str], right: Sequence[str]) -> None:
        """Writes two blocks of lines beside each other."""
        top = self.y
        self.write(*left)
        below, self.y = self.y, top
        self.write(*right, x=_LEFT + 290)
        self.y = max(below, self.y)

    def row(self, cells: Sequence[str]) -> None:
        """Writes a row of a table: one text to the left, then numbers to the right of their columns."""
        self.page.text(_LEFT, self.y, cells[0])
        for edge, cell in zip((self._right - 190, self._right - 95, self._right), cells[1:], strict=True):
            self.page.text_before(edge, self.y, cell)
        self.y += 16

    def rule(self) -> None:
        """Draws a line across the page."""
        self.page.rule(_LEFT, self._right, self.y - 10)
        self.y += 4

    def total(self, label: str, amount: str) -> None:
        """Writes a label and an amount below the last columns."""
        self.page.text(self._right - 190, self.y, label)
        self.page.text_before(self._right, self.y, amount)
        self.y += 16

    def table(self, heading: Sequence[str], bought: Sequence[Item], money: Callable[[Decimal], str]) -> None:
        """Writes a table of items below its heading."""
        self.row(heading)
        self.rule()
        for item in bought:
            self.row((item.description, str(item.quantity), money(item.unit_price), money(item.amount)))
        self.rule()


def english_invoice() -> bytes:
    """A one-page invoice on US letter paper."""
    bought = items(
        ("Flow sensor FS-12", 4, "86.25"),
        ("Mounting kit", 4, "12.40"),
        ("Calibration on site", 1, "950.00"),
    )
    totals = Totals.of(bought, 8)
    sheet = Sheet(LETTER)
    sheet.write("Brightwater Instruments Inc.", size=15)
    sheet.write("410 Quarry Road, Duluth, MN 55802", "", "INVOICE", "")
    sheet.columns(
        ("Bill to:", "Lakeside Dairy Cooperative", "77 Orchard Lane", "Ashland, WI 54806"),
        (
            "Invoice number: BW-10442",
            "Invoice date: February 3, 2026",
            "Due date: March 5, 2026",
            "PO number: 88123",
        ),
    )
    sheet.y += 24
    sheet.table(("Description", "Qty", "Unit price", "Amount"), bought, english)
    sheet.total("Subtotal", f"${english(totals.subtotal)}")
    sheet.total("Sales tax (8%)", f"${english(totals.tax)}")
    sheet.total("Total due", f"${english(totals.total)}")
    sheet.y += 24
    sheet.write("Payment within 30 days. Please quote the invoice number.")
    return write_pdf("Invoice BW-10442", [sheet.page])


def german_invoice() -> bytes:
    """A one-page invoice in German on A4, with decimal commas."""
    bought = items(
        ("Lärchendielen gehobelt", 38, "24.90"),
        ("Schrauben Edelstahl 5x60", 6, "18.75"),
        ("Anlieferung", 1, "145.00"),
    )
    totals = Totals.of(bought, 19)
    sheet = Sheet(A4)
    sheet.write("Holzbau Bergmann GmbH", size=15)
    sheet.write("Sägewerkstraße 9, 87435 Kempten", "", "RECHNUNG", "")
    sheet.columns(
        ("Rechnung an:", "Gärtnerei Blütenzauber", "Am Weiher 3", "88131 Lindau"),
        ("Rechnungsnummer: 2026-0317", "Rechnungsdatum: 12.02.2026", "Fällig am: 26.02.2026"),
    )
    sheet.y += 24
    sheet.table(("Beschreibung", "Menge", "Einzelpreis", "Betrag"), bought, german)
    sheet.total("Nettobetrag", f"{german(totals.subtotal)} EUR")
    sheet.total("MwSt. 19 %", f"{german(totals.tax)} EUR")
    sheet.total("Gesamtbetrag", f"{german(totals.total)} EUR")
    sheet.y += 24
    sheet.write("Zahlbar ohne Abzug. Vielen Dank für Ihren Auftrag!")
    return write_pdf("Rechnung 2026-0317", [sheet.page])


_PARTS = (
    "Bearing",
    "Gasket",
    "Coupling",
    "Filter",
    "Valve",
    "Bracket",
    "Seal",
    "Impeller",
    "Sleeve",
    "Clamp",
)
_SERIES = ("A2", "B5", "C7", "D9", "E4", "F6")
_ROWS_ON_A_PAGE = 24


def long_invoice() -> bytes:
    """An invoice of three pages with 60 items."""
    bought = [
        Item(f"{part} {series}", 1 + (5 * row + column) % 7, Decimal(375 + 215 * column + 40 * row) / 100)
        for row, series in enumerate(_SERIES)
        for column, part in enumerate(_PARTS)
    ]
    chunks = [bought[start : start + _ROWS_ON_A_PAGE] for start in range(0, len(bought), _ROWS_ON_A_PAGE)]
    sheets = [_long_invoice_page(number, len(chunks), chunk) for number, chunk in enumerate(chunks, 1)]
    totals = Totals.of(bought, 20)
    last = sheets[-1]
    last.total("Net total", f"£{english(totals.subtotal)}")
    last.total("VAT (20%)", f"£{english(totals.tax)}")
    last.total("Grand total", f"£{english(totals.total)}")
    return write_pdf("Invoice CP/2026/00731", [sheet.page for sheet in sheets])


def _long_invoice_page(number: int, pages: int, chunk: Sequence[Item]) -> Sheet:
    sheet = Sheet(A4)
    sheet.page.text_before(A4[0] - _LEFT, 800, f"Page {number} of {pages}", 8)
    if number == 1:
        sheet.write("Cascade Pump Supplies Ltd", size=15)
        sheet.write("Unit 6, Riverside Estate, Hull HU3 2BN", "", "TAX INVOICE", "")
        sheet.columns(
            ("Customer:", "Penrose Water Services", "The Old Mill, Truro"),
            ("Invoice no: CP/2026/00731", "Date: 23/01/2026", "Payment due: 22 February 2026"),
        )
    else:
        sheet.write("Invoice no: CP/2026/00731 (continued)")
    sheet.y += 20
    sheet.table(("Item", "Quantity", "Price", "Line total"), chunk, english)
    return sheet


def contract() -> bytes:
    """A contract of two pages."""
    first, second = Sheet(A4), Sheet(A4)
    first.write("SERVICE AGREEMENT", size=15)
    first.write(
        "",
        "Agreement number: SA-2026-017",
        "Provider: Northgate Analytics Ltd",
        "Client: Harbour & Sons Shipping",
        "Effective date: 1 March 2026",
        "End date: 29 February 2028",
        "Term: 24 months",
        "Monthly fee: EUR 4,800.00",
        "Governing law: Ireland",
        "",
        "1. The provider forecasts berth occupancy for the client every working day.",
        "2. The client hands over the port calls of the last five years within ten days.",
        "3. The fee is owed on the first day of each month.",
    )
    second.write(
        "4. Each party keeps the other one's data confidential, also after the term.",
        "5. Either party may end this agreement in writing.",
        "",
        "Notice period: 60 days",
        "Automatic renewal: no",
        "Signed on: 17 February 2026",
        "Signed for the provider: Orla Brennan",
        "Signed for the client: Tomas Lindqvist",
    )
    return write_pdf("Service agreement SA-2026-017", [first.page, second.page])


def receipt() -> bytes:
    """A photographed receipt: pixels, and the same text in a text chunk."""
    bought = items(("FLAT WHITE", 2, "3.40"), ("CHEESE SCONE", 3, "2.75"), ("SOUP OF THE DAY", 1, "6.20"))
    totals = Totals.of(bought, 20)
    lines = [
        "GREEN LEAF CAFE",
        "14 MARKET STREET, LEEDS",
        "",
        "RECEIPT",
        "RECEIPT NO: R-20931",
        "DATE: 2026-02-07 18:42",
        "",
        *_text_table(("ITEM", "QTY", "PRICE", "AMOUNT"), bought, english),
        "",
        f"SUBTOTAL: {english(totals.subtotal)}",
        f"VAT (20%): {english(totals.tax)}",
        f"TOTAL: GBP {english(totals.total)}",
        "PAID BY CARD: YES",
    ]
    return write_png(lines)


def form() -> bytes:
    """A filled form as plain text."""
    return _text(
        "EQUIPMENT LOAN FORM",
        "",
        "Form number: EL-0458",
        "Full name ............ Ana Souza",
        "Department ........... Field Research",
        "Email: ana.souza@example.org",
        "Equipment: Thermal camera TC-40",
        "Number of cases: 2",
        "Loan date: 2026-03-09",
        "Return date: 6 April 2026",
        "Deposit: 150.00 EUR",
        "Deposit paid: yes",
        "Insurance wanted: no",
    )


def purchase_order() -> bytes:
    """A purchase order as plain text, with Swiss numbers."""
    bought = items(
        ("Torque wrench 40 Nm", 5, "189.00"),
        ("Bit set 31-part", 12, "34.50"),
        ("Workbench lamp", 3, "352.80"),
    )
    totals = Totals.of(bought, 10)
    return _text(
        "PURCHASE ORDER",
        "",
        "PO number: PO-7781",
        "Order date: 11 February 2026",
        "Delivery date: 2 March 2026",
        "Vendor: Alpine Tools SA",
        "Buyer: Valais Cable Cars",
        "Currency: CHF",
        "",
        *_text_table(("Description", "Qty", "Unit price", "Amount"), bought, swiss),
        "",
        f"Subtotal: {swiss(totals.subtotal)}",
        f"Tax: {swiss(totals.tax)}",
        f"Total: CHF {swiss(totals.total)}",
    )


def _text(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _text_table(
    heading: Sequence[str], bought: Sequence[Item], money: Callable[[Decimal], str]
) -> Iterator[str]:
    rows = [
        (item.description, str(item.quantity), money(item.unit_price), money(item.amount)) for item in bought
    ]
    for description, *numbers in [tuple(heading), *rows]:
        yield f"{description:<22}" + "".join(f"{number:>12}" for number in numbers)


DOCUMENTS: dict[str, Callable[[], bytes]] = {
    "contract-northgate.pdf": contract,
    "form-equipment-loan.txt": form,
    "invoice-brightwater.pdf": english_invoice,
    "invoice-cascade-3-pages.pdf": long_invoice,
    "order-alpine-tools.txt": purchase_order,
    "receipt-green-leaf.png": receipt,
    "rechnung-bergmann.pdf": german_invoice,
}


def main() -> None:
    """Writes all sample documents."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=SAMPLES, help="the directory to write to")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for name, make in DOCUMENTS.items():
        (out / name).write_bytes(make())


if __name__ == "__main__":
    main()
