"""Reads a document: its pages, what they say, and what kind of document it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from prefect_docjobs.simulator.reading.fields import (
    currency_in,
    field_named,
    item_key,
    labelled_fields,
    letterhead,
    line_items,
)
from prefect_docjobs.simulator.reading.media import media_type_of
from prefect_docjobs.simulator.reading.pages import NOT_FOUND, Found, PageRead, UnreadableDocument, Value
from prefect_docjobs.simulator.reading.pdf import read_pdf
from prefect_docjobs.simulator.reading.text import read_plain, read_png
from prefect_docjobs.simulator.reading.values import (
    parse_boolean,
    parse_date,
    parse_date_time,
    parse_number,
    uses_decimal_comma,
)
from prefect_docjobs.simulator.reading.vocabulary import field_name, kind_of_title

_HEADING_LINES = 6
_SIGNS_OF_AN_INVOICE = frozenset({"invoice_number", "total_amount"})
_WITH_A_SUPPLIER = frozenset({"invoice", "receipt"})


@dataclass(frozen=True)
class DocumentRead:
    """A document as its reader understood it.

    Attributes:
        pages: The pages in order, at least one.
        text: The text of all pages, joined by blank lines.
        kind: `invoice`, `receipt`, `contract`, `form` or `document`.
        media_type: Read off the bytes, for example `application/pdf`.
        fields: Labelled values under canonical or `snake_case` names.
        line_items: Rows of the table of items: `description`, `quantity`, `unit_price`, `amount` and
            whatever other columns it has.
        sections: First page, last page (1-based, inclusive) and kind of each document in the file.
        decimal_comma: Whether its numbers are written `1.234,50`.
    """

    pages: tuple[PageRead, ...]
    text: str
    kind: str
    media_type: str
    fields: Mapping[str, Found]
    line_items: tuple[Mapping[str, Found], ...]
    sections: tuple[tuple[int, int, str], ...]
    decimal_comma: bool = False

    def find_field(self, name: str, kind: str = "string") -> Found:
        """The field that best answers a name.

        Args:
            name: A name as templates and schemas write it: `vendorName`, `invoice_no`, `Total`.
            kind: `string`, `verbatim-string`, `number`, `integer`, `date`, `date-time` or `boolean`; any
                other kind is taken for `string`.

        Returns:
            The finding; its value is None when the document does not say it, or says nothing of that kind.
        """
        found = field_named(self.fields, name)
        if found is NOT_FOUND and field_name(name) == "document_type":
            found = Found(self.kind, None, self.kind)
        return self._as_kind(found, kind)

    def find_in_item(self, item: Mapping[str, Found], name: str, kind: str = "string") -> Found:
        """Like `find_field`, in one row of `line_items`."""
        return self._as_kind(item.get(item_key(name), NOT_FOUND), kind)

    def _as_kind(self, found: Found, kind: str) -> Found:
        value = None if found.value is None else self._value(found, kind)
        return NOT_FOUND if value is None else Found(value, found.box, found.text)

    def _value(self, found: Found, kind: str) -> Value:
        value = found.value
        if kind in {"number", "integer"}:
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                value = parse_number(found.text, decimal_comma=self.decimal_comma)
            if value is not None and kind == "integer":
                value = int(value) if value == int(value) else None
            return value
        if kind == "boolean":
            return value if isinstance(value, bool) else parse_boolean(found.text)
        if kind == "date":
            return parse_date(str(value))
        if kind == "date-time":
            return parse_date_time(found.text) or parse_date_time(str(value))
        is_verbatim = kind == "verbatim-string" or not isinstance(value, str)
        return found.text or str(value) if is_verbatim else value


def read_document(data: bytes, name: str) -> DocumentRead:
    """Reads PDF, plain text and PNG; of other images only the media type is known.

    Args:
        data: The whole document.
        name: Its file name, for error messages only.

    Raises:
        UnreadableDocument: It is empty, damaged, locked by a password, or of an unknown type.
    """
    media_type = media_type_of(data)
    try:
        pages = _pages(data, media_type)
    except UnreadableDocument as error:
        raise UnreadableDocument(f"{name}: {error}") from error
    text = "\n\n".join(page.text for page in pages)
    decimal_comma = uses_decimal_comma(text)
    fields = labelled_fields(pages, decimal_comma=decimal_comma)
    kind = _title(pages[0]) or ("invoice" if fields.keys() >= _SIGNS_OF_AN_INVOICE else "document")
    if kind in _WITH_A_SUPPLIER and "supplier_name" not in fields and (sender := letterhead(pages)):
        fields["supplier_name"] = sender
    if "currency" not in fields and (currency := currency_in(text)):
        fields["currency"] = currency
    return DocumentRead(
        pages=tuple(pages),
        text=text,
        kind=kind,
        media_type=media_type,
        fields=MappingProxyType(fields),
        line_items=tuple(map(MappingProxyType, line_items(pages, decimal_comma=decimal_comma))),
        sections=_sections(pages, kind),
        decimal_comma=decimal_comma,
    )


def _pages(data: bytes, media_type: str) -> list[PageRead]:
    if not data:
        raise UnreadableDocument("the document is empty")
    if media_type == "application/pdf":
        return read_pdf(data)
    if media_type == "image/png":
        return read_png(data)
    if media_type == "text/plain":
        return read_plain(data)
    if media_type.startswith("image/"):
        return [PageRead(1, "", (), 0.0, 0.0)]
    raise UnreadableDocument(f"a document of type {media_type} cannot be read")


def _title(page: PageRead) -> str | None:
    titles = (kind_of_title(cell.text) for line in page.lines[:_HEADING_LINES] for cell in line)
    return next((kind for kind in titles if kind), None)


def _sections(pages: Sequence[PageRead], kind: str) -> tuple[tuple[int, int, str], ...]:
    """A page whose heading announces another kind of document begins a new section."""
    starts = [(1, kind)]
    for page in pages[1:]:
        title = _title(page)
        if title and title != starts[-1][1]:
            starts.append((page.number, title))
    ends = [start - 1 for start, _ in starts[1:]] + [pages[-1].number]
    return tuple((start, end, title) for (start, title), end in zip(starts, ends, strict=True))
