"""The values of a result, by name, and what different services call the same thing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

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

_STEP = re.compile(r"([^.\[\]]+)((?:\[\d+\])*)")


@dataclass(frozen=True)
class Leaves:
    """The values of one result that has found something, by name.

    Attributes:
        scalars: Single values, and lists of single values as one.
        tables: Lists of objects, row by row; a list inside of a row is one value.
    """

    scalars: Mapping[str, Field] = field(default_factory=dict)
    tables: Mapping[str, Sequence[Row]] = field(default_factory=dict)


def leaves_of(fields: Mapping[str, Field], names: Names | None = None) -> Leaves:
    """The values in a tree of fields; those that `names` names, by the names that it gives them.

    Raises:
        ConfigurationError: A column's name has no list before its brackets, or no column behind them.
    """
    scalars, tables = dict(_scalars(fields, "")), dict(_tables(fields, ""))
    if names is None:
        return Leaves(scalars, tables)
    columns: dict[str, dict[str, list[tuple[str, str]]]] = {}
    chosen: dict[str, Field] = {}
    for name, aliases in names.items():
        if "[]" in name:
            table, column = _column(name)
            columns.setdefault(table, {})[column] = [_column(alias) for alias in (name, *aliases)]
        elif (found := _first(scalars, (name, *aliases))) is not None:
            chosen[name] = found
    renamed = {table: _renamed(tables, wanted) for table, wanted in columns.items()}
    return Leaves(chosen, {table: rows for table, rows in renamed.items() if rows})


def tree_of(leaves: Mapping[str, Field]) -> dict[str, Field]:
    """The tree of fields whose values have these names; elements of lists in the order of their indices."""
    tree: dict[str, Field] = {}
    for name, leaf in leaves.items():
        tree = with_value(tree, name, leaf)
    return tree


def with_value(fields: Mapping[str, Field], name: str, leaf: Field) -> dict[str, Field]:
    """The same tree, with another value of this name; what leads there is made where it is missing."""
    if name in fields:  # a name that has dots itself
        return {**fields, name: leaf}
    return _placed(fields, _steps(name), leaf)


def column_of(name: str) -> str:
    """The name without its indices: `line_items[3].amount` becomes `line_items[].amount`."""
    return re.sub(r"\[\d+\]", "[]", name)


def _scalars(fields: Mapping[str, Field], prefix: str) -> Iterator[tuple[str, Field]]:
    for name, child in fields.items():
        if child.fields is not None:
            yield from _scalars(child.fields, f"{prefix}{name}.")
        elif not _is_table(child) and is_found(child.value):
            yield f"{prefix}{name}", child


def _tables(fields: Mapping[str, Field], prefix: str) -> Iterator[tuple[str, Sequence[Row]]]:
    for name, child in fields.items():
        if child.fields is not None:
            yield from _tables(child.fields, f"{prefix}{name}.")
        elif _is_table(child):
            yield f"{prefix}{name}", [dict(_cells(item)) for item in child.items or ()]


def _is_table(child: Field) -> bool:
    return any(item.fields is not None for item in child.items or ())


def _cells(item: Field, prefix: str = "") -> Iterator[tuple[str, Field]]:
    for name, child in (item.fields or {}).items():
        if child.fields is not None:
            yield from _cells(child, f"{prefix}{name}.")
        elif is_found(child.value):
            yield f"{prefix}{name}", child


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


def _steps(name: str) -> list[str | int]:
    steps: list[str | int] = []
    for word, indices in _STEP.findall(name):
        steps += [word, *map(int, re.findall(r"\d+", indices))]
    return steps or [name]


def _placed(fields: Mapping[str, Field], steps: Sequence[str | int], leaf: Field) -> dict[str, Field]:
    name = str(steps[0])
    return {**fields, name: _grown(fields.get(name, Field()), steps[1:], leaf)}


def _grown(node: Field, steps: Sequence[str | int], leaf: Field) -> Field:
    if not steps:
        return leaf
    index = steps[0]
    if isinstance(index, str):
        return node.model_copy(update={"fields": _placed(node.fields or {}, steps, leaf)})
    items = list(node.items or ())
    items += [Field(fields={})] * (index + 1 - len(items))
    items[index] = _grown(items[index], steps[1:], leaf)
    return node.model_copy(update={"items": items})
