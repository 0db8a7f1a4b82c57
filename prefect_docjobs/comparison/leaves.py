"""The values of a result, by name, and what different services call the same thing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from prefect_docjobs.comparison.paths import Path, name_of, path_in, placed
from prefect_docjobs.comparison.values import is_found
from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.models import Field

Names: TypeAlias = Mapping[str, Sequence[str]]
"""For each field the names that services have for it, such as `{"total": ["total_amount", "amount_due"]}`.

A nested field is named by its way, `supplier.name`; a column of a list of objects with brackets behind the
list, `line_items[].amount`. A field's own name counts first, and the first name that a service has a value
for. Only fields that are named are compared.
"""

Row: TypeAlias = Mapping[str, Field]
"""One element of a list of objects: its values by column."""

Way: TypeAlias = tuple[str, ...]
"""From an object down to a value in it, or to a list."""


@dataclass(frozen=True)
class Leaves:
    """The values of one result that has found something, by name.

    Attributes:
        scalars: Single values, and lists of single values as one.
        tables: Lists of objects, row by row; a list inside of a row is one value.
        ways: The ways to scalars and tables by their names, and from a row to its cells by the names of
            columns, such as `line_items[].amount`. Names may have dots themselves, and do not tell them.
            Missing for what was found by another name.
    """

    scalars: Mapping[str, Field] = field(default_factory=dict)
    tables: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    ways: Mapping[str, Way] = field(default_factory=dict)


def leaves_of(fields: Mapping[str, Field], names: Names | None = None) -> Leaves:
    """The values in a tree of fields; those that `names` names, by the names that it gives them.

    Raises:
        ConfigurationError: A column's name has no list before its brackets, or no column behind them.
    """
    own = _own_leaves(fields)
    if names is None:
        return own
    columns: dict[str, dict[str, list[tuple[str, str]]]] = {}
    chosen: dict[str, Field] = {}
    for name, aliases in names.items():
        if "[]" in name:
            table, column = _column(name)
            columns.setdefault(table, {})[column] = [_column(alias) for alias in (name, *aliases)]
        elif (found := _first(own.scalars, (name, *aliases))) is not None:
            chosen[name] = found
    renamed = {table: _renamed(own.tables, wanted) for table, wanted in columns.items()}
    ways = {name: own.ways[name] for name in (*names, *columns) if name in own.ways}
    return Leaves(chosen, {table: rows for table, rows in renamed.items() if rows}, ways)


def tree_of(leaves: Mapping[Path, Field]) -> dict[str, Field]:
    """The tree that has these values at the ends of these ways; a list is as long as its highest index."""
    tree: dict[str, Field] = {}
    for path, leaf in leaves.items():
        tree = placed(tree, path, leaf)
    return tree


def with_value(fields: Mapping[str, Field], name: str, leaf: Field) -> dict[str, Field]:
    """The same tree, with another value of this name; what leads there is made where it is missing.

    The names that are in the tree say where one ends and the next begins: they may have dots and brackets
    themselves. See `path_of` for what is not there.
    """
    return placed(fields, path_in(fields, name), leaf)


def _own_leaves(fields: Mapping[str, Field]) -> Leaves:
    """By the names that the service gives them."""
    ends = dict(_ends(fields))
    scalars = {way: end for way, end in ends.items() if not _is_table(end) and is_found(end.value)}
    tables = {way: list(map(_cells, end.items or ())) for way, end in ends.items() if _is_table(end)}
    columns = {(table, way) for table, rows in tables.items() for row in rows for way in row}
    return Leaves(
        {name_of(way): leaf for way, leaf in scalars.items()},
        {name_of(way): list(map(_named, rows)) for way, rows in tables.items()},
        {
            **{name_of(way): way for way in (*scalars, *tables)},
            **{f"{name_of(table)}[].{name_of(way)}": way for table, way in sorted(columns)},
        },
    )


def _ends(fields: Mapping[str, Field], way: Way = ()) -> Iterator[tuple[Way, Field]]:
    """Everything but objects, and the ways through these."""
    for name, child in fields.items():
        if child.fields is None:
            yield (*way, name), child
        else:
            yield from _ends(child.fields, (*way, name))


def _is_table(child: Field) -> bool:
    return any(item.fields is not None for item in child.items or ())


def _cells(item: Field) -> dict[Way, Field]:
    return {way: end for way, end in _ends(item.fields or {}) if is_found(end.value)}


def _named(cells: Mapping[Way, Field]) -> Row:
    return {name_of(way): cell for way, cell in cells.items()}


def _first(scalars: Mapping[str, Field], names: Sequence[str]) -> Field | None:
    return next((scalars[name] for name in names if name in scalars), None)


def _column(name: str) -> tuple[str, str]:
    table, brackets, column = name.partition("[].")
    if not (table and brackets and column):
        raise ConfigurationError(f"{name!r} names no column. Write it as 'line_items[].amount'.")
    return table, column


def _renamed(
    tables: Mapping[str, Sequence[Row]], wanted: Mapping[str, Sequence[tuple[str, str]]]
) -> list[Row]:
    """The rows of the first list that any of the columns is known to be in."""
    known = [table for aliases in wanted.values() for table, _ in aliases if table in tables]
    return [_renamed_row(known[0], row, wanted) for row in tables[known[0]]] if known else []


def _renamed_row(table: str, row: Row, wanted: Mapping[str, Sequence[tuple[str, str]]]) -> Row:
    found = {
        name: _first(row, [column for its_table, column in aliases if its_table == table])
        for name, aliases in wanted.items()
    }
    return {name: cell for name, cell in found.items() if cell is not None}
