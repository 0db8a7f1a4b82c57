"""What the lines of a document say: labelled values and the table of items."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import TypeAlias

from prefect_docjobs.simulator.reading.pages import NOT_FOUND, Cell, Found, Line, PageRead, Word, box_around
from prefect_docjobs.simulator.reading.values import (
    CURRENCY_CODES,
    currency_of,
    is_money,
    parse_date,
    parse_number,
)
from prefect_docjobs.simulator.reading.vocabulary import (
    column_name,
    field_name,
    is_amount,
    is_canonical,
    is_date,
    is_known_column,
    is_known_field,
    kind_of_title,
    snake_case,
)

_LONGEST_LABEL_WORDS = 6
_FEWEST_COLUMNS = 3
_LEADER = re.compile(r"[.\u2026_]{3,}")
_ASIDE = re.compile(rf"\([^)]*\)|\d+(?:[.,]\d+)?\s*%|\b(?:{'|'.join(CURRENCY_CODES)})$")


_NUMERIC_COLUMNS = frozenset({"quantity", "unit_price", "amount"})
_Labelled: TypeAlias = "tuple[str, tuple[Word, ...]]"


def labelled_fields(pages: Sequence[PageRead], *, decimal_comma: bool) -> dict[str, Found]:
    """Every value that stands beside or below its label, under its canonical name; the first one counts."""
    fields: dict[str, Found] = {}
    for page in pages:
        for index, line in enumerate(page.lines):
            below = page.lines[index + 1] if index + 1 < len(page.lines) else ()
            if _columns_of(line):
                continue
            for name, words in _labelled_in(line, below):
                fields.setdefault(name, _typed(name, words, decimal_comma=decimal_comma))
    return fields


def field_named(fields: Mapping[str, Found], name: str) -> Found:
    """The field of that name or of a synonym, else the only one whose name has all the words of this one.

    A field with a canonical name of its own never answers to another name: `date` is not the due date.
    """
    wanted = field_name(name)
    if wanted in fields:
        return fields[wanted]
    if not wanted or is_canonical(wanted):
        return NOT_FOUND
    words = set(wanted.split("_"))
    near = [field for key, field in fields.items() if not is_canonical(key) and words <= set(key.split("_"))]
    return near[0] if len(near) == 1 else NOT_FOUND


def letterhead(pages: Sequence[PageRead]) -> Found | None:
    """Who sends a document: its first line, if that is neither a title nor a label."""
    for cell in (cell for line in pages[0].lines[:2] for cell in line[:1]):
        if kind_of_title(cell.text) is None and _split_label(cell) is None:
            return Found(cell.text, box_around(cell.words), cell.text)
    return None


def currency_in(text: str) -> Found | None:
    """The currency that a document names most often."""
    code = currency_of(text)
    return Found(code, None, code) if code else None


def _typed(name: str, words: tuple[Word, ...], *, decimal_comma: bool) -> Found:
    """The value that words print, as the number or the date that a field of this name holds."""
    text = " ".join(word.text for word in words)
    value: str | float | None = None
    if is_amount(name) or is_money(text):
        value = parse_number(text, decimal_comma=decimal_comma)
    elif is_date(name):
        value = parse_date(text)
    elif name == "currency":
        value = currency_of(text)
    return Found(text if value is None else value, box_around(words), text)


def _labelled_in(line: Line, below: Line) -> Iterator[_Labelled]:
    line = tuple(part for cell in line for part in _parted(cell))
    for index, cell in enumerate(line):
        right = line[index + 1] if index + 1 < len(line) else None
        split = _split_label(cell)
        if split is None:
            yield from _without_colon(cell, right)
            continue
        label, words = split
        value = words or _beside_or_below(cell, right, below)
        name = field_name(_ASIDE.sub(" ", label).strip())
        if name and value:
            yield name, value


def _parted(cell: Cell) -> Iterator[Cell]:
    """The cell, cut before each further label that is known: some PDFs set columns as one run of text."""
    start = 0
    colons = [index for index, word in enumerate(cell.words) if word.text.endswith(":")]
    for before, index in pairwise(colons):
        for first in range(max(before + 1, index - 2), index + 1):
            if is_known_field(" ".join(word.text for word in cell.words[first : index + 1])):
                yield Cell(cell.words[start:first], cell.x0, cell.x1)
                start = first
                break
    yield Cell(cell.words[start:], cell.x0, cell.x1) if start else cell


def _split_label(cell: Cell) -> tuple[str, tuple[Word, ...]] | None:
    """The label of a cell such as `Due date: 3 March` and the words behind it, None if it has no label."""
    for index, word in enumerate(cell.words[:_LONGEST_LABEL_WORDS]):
        if word.text.endswith(":") or _LEADER.fullmatch(word.text):
            ending = "" if _LEADER.fullmatch(word.text) else word.text.rstrip(": ")
            label = " ".join([*(before.text for before in cell.words[:index]), ending]).strip()
            is_label = label[:1].isalpha() and "://" not in label
            return (label, cell.words[index + 1 :]) if is_label else None
    return None


def _beside_or_below(cell: Cell, right: Cell | None, below: Line) -> tuple[Word, ...]:
    if right is not None and _split_label(right) is None:
        return right.words
    under = next((other for other in below if other.overlaps(cell)), None)
    return under.words if under is not None and _split_label(under) is None else ()


def _without_colon(cell: Cell, right: Cell | None) -> Iterator[_Labelled]:
    """A known label with its value in the next cell, or an amount behind its label in the same cell."""
    if len(cell.words) > _LONGEST_LABEL_WORDS:
        return
    name = _known_name(cell.text)
    if name and right is not None:
        if _may_be_value_of(name, right):
            yield name, right.words
    elif len(cell.words) > 1:
        name = _known_name(" ".join(word.text for word in cell.words[:-1]))
        if name and is_amount(name) and parse_number(cell.words[-1].text) is not None:
            yield name, cell.words[-1:]


def _may_be_value_of(name: str, cell: Cell) -> bool:
    """Whether a cell beside a label without a colon can be its value, and not a label or a heading itself."""
    if is_amount(name):
        return parse_number(cell.text) is not None
    if is_date(name):
        return parse_date(cell.text) is not None
    return _split_label(cell) is None and not is_known_field(cell.text)


@lru_cache(maxsize=4096)
def _known_name(text: str) -> str | None:
    label = _ASIDE.sub(" ", text).strip()
    return field_name(label) if is_known_field(label) else None


def line_items(pages: Sequence[PageRead], *, decimal_comma: bool) -> list[Mapping[str, Found]]:
    """The rows below a heading with `description` and two more known columns, over all pages."""
    items: list[Mapping[str, Found]] = []
    columns: list[str] = []
    for line in (line for page in pages for line in page.lines):
        heading = _columns_of(line)
        if heading:
            columns = heading
        elif len(line) == len(columns):
            row: dict[str, Found] = {}
            for name, cell in zip(columns, line, strict=True):
                is_number = name in _NUMERIC_COLUMNS
                number = parse_number(cell.text, decimal_comma=decimal_comma) if is_number else None
                row[name] = Found(cell.text if number is None else number, box_around(cell.words), cell.text)
            if isinstance(row.get("amount", row.get("unit_price", NOT_FOUND)).value, float):
                items.append(row)
        elif (label := _known_name(line[0].text.rstrip(": "))) and is_amount(label):  # the table's sum
            columns = []
    return items


def _columns_of(line: Line) -> list[str]:
    if len(line) < _FEWEST_COLUMNS or any(len(cell.words) > _LONGEST_LABEL_WORDS for cell in line):
        return []
    labels = [_ASIDE.sub(" ", cell.text).strip() for cell in line]
    names = [column_name(label) for label in labels]
    known = [label for label in labels if is_known_column(label)]
    if "description" not in names or len(known) < _FEWEST_COLUMNS or len(set(names)) != len(names):
        return []
    return names


def item_key(name: str) -> str:
    """The canonical name of a column; `item_price`, `lineTotal` and `unit_price` are understood."""
    plain = snake_case(name)
    known = column_name(plain)
    return known if known != plain else column_name(plain.removeprefix("item_").removeprefix("line_"))
