"""The values in a tree of fields: their names, the paths that lead to them, and what services call them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from prefect_docjobs.comparison.values import is_found
from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.models import Field

Path: TypeAlias = tuple[str | int, ...]
"""The path to a field: names of objects' children, and indices of lists' elements from 0."""

Names: TypeAlias = Mapping[str, Sequence[str]]
"""For each field the names that services have for it, such as `{"total": ["total_amount", "amount_due"]}`.

A nested field is named by its path, `supplier.name`; a column of a list of objects with brackets behind the
list, `line_items[].amount`. A field's own name counts first, and the first name that a service has a value
for. Only fields that are named are compared.
"""

Row: TypeAlias = Mapping[str, Field]
"""One element of a list of objects: its values by column."""

_BETWEEN_NAMES = re.compile(r"(?<=[^\s.])\.(?=[^\s.])")  # not in `VAT no.` and `price incl. VAT`
_INDICES = re.compile(r"(?:\[\d+\])+\Z")
_INDEX = re.compile(r"\[(\d+)\]")


@dataclass(frozen=True)
class Leaves:
    """The values of one result that has found something, by name.

    Attributes:
        scalars: Single values, and lists of single values as one.
        tables: Lists of objects, row by row; a list inside of a row is one value.
        paths: The paths to scalars and tables by their names, and from a row to its cells by the names of
            columns, such as `line_items[].amount`: a name alone does not say where it ends when names have
            dots themselves. Missing for what was found by another name.
    """

    scalars: Mapping[str, Field] = field(default_factory=dict)
    tables: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    paths: Mapping[str, Path] = field(default_factory=dict)


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
    paths = {name: own.paths[name] for name in (*names, *columns) if name in own.paths}
    return Leaves(chosen, {table: rows for table, rows in renamed.items() if rows}, paths)


def _own_leaves(fields: Mapping[str, Field]) -> Leaves:
    """By the names that the service gives them."""
    scalars, tables, paths = {}, {}, {}
    columns: dict[str, Path] = {}
    for path, end in _ends(fields):
        name = name_of(path)
        if any(item.fields is not None for item in end.items or ()):
            rows = [
                {cell: leaf for cell, leaf in _ends(item.fields or {}) if is_found(leaf.value)}
                for item in end.items or ()
            ]
            tables[name] = [{name_of(cell): leaf for cell, leaf in row.items()} for row in rows]
            columns |= {
                f"{name}[].{name_of(cell)}": cell for cell in sorted({c for row in rows for c in row})
            }
        elif is_found(end.value):
            scalars[name] = end
        else:
            continue
        paths[name] = path
    return Leaves(scalars, tables, {**paths, **columns})


def _ends(fields: Mapping[str, Field], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Field]]:
    """Everything but objects, and the paths through these."""
    for name, child in fields.items():
        if child.fields is None:
            yield (*path, name), child
        else:
            yield from _ends(child.fields, (*path, name))


def _first(values: Mapping[str, Field], names: Sequence[str]) -> Field | None:
    return next((values[name] for name in names if name in values), None)


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
    if not known:
        return []
    here = {
        name: [column for table, column in aliases if table == known[0]] for name, aliases in wanted.items()
    }
    renamed = [{name: _first(row, columns) for name, columns in here.items()} for row in tables[known[0]]]
    return [{name: cell for name, cell in row.items() if cell is not None} for row in renamed]


# -- names and paths


def name_of(path: Path) -> str:
    """The name of what is there: `("line_items", 0, "amount")` is `line_items[0].amount`."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return "".join(steps).removeprefix(".")


def names_along(path: Path) -> Iterator[str]:
    """The names of all that the path leads through, the outermost first, itself last."""
    return (name_of(path[:length]) for length in range(1, len(path) + 1))


def column_of(name: str) -> str:
    """The name without its indices: `line_items[3].amount` becomes `line_items[].amount`."""
    return _INDEX.sub("[]", name)


def path_of(name: str) -> Path:
    """The path that a name most likely means, where there is no tree to look it up in.

    A dot separates when it stands between two characters that are neither blank nor dots; brackets are an
    index when they have digits only and end the name of a list. So `VAT no.`, `price incl. VAT` and
    `amount [EUR]` stay whole, but `P.O. box` does not.
    """
    path: list[str | int] = []
    for word in _BETWEEN_NAMES.split(name):
        own = _INDICES.sub("", word)
        path += [own] if own else []
        path += map(int, _INDEX.findall(word[len(own) :]))
    return tuple(path) if path and isinstance(path[0], str) else (name,)


def _path_in(fields: Mapping[str, Field], name: str) -> Path:
    """The path to a name in this tree, by the names that are there, the longest first.

    The part that is not there yet is read as `path_of` does.
    """
    path, rest = min(_paths(fields, name), key=lambda one: len(one[1]))
    if not path:
        return path_of(name)
    return (*path, *path_of(rest.removeprefix("."))) if rest else path


def _paths(fields: Mapping[str, Field], name: str) -> Iterator[tuple[Path, str]]:
    """Paths that are there already, and the rest of the name behind each."""
    yield (), name
    for key in sorted(fields, key=len, reverse=True):
        if name.startswith(key):
            for path, rest in _paths_below(fields[key], name[len(key) :]):
                yield (key, *path), rest


def _paths_below(node: Field, rest: str) -> Iterator[tuple[Path, str]]:
    if not rest:
        yield (), ""
    elif rest.startswith("."):
        yield (), rest
        yield from ((path, left) for path, left in _paths(node.fields or {}, rest[1:]) if path)
    elif index := _INDEX.match(rest):
        place, items = int(index[1]), node.items or []
        item = items[place] if place < len(items) else Field()
        yield from (((place, *path), left) for path, left in _paths_below(item, rest[index.end() :]))


# -- making trees


def tree_of(leaves: Mapping[Path, Field]) -> dict[str, Field]:
    """The tree that has these values at the ends of these paths; a list is as long as its highest index."""
    tree: dict[str, Field] = {}
    for path, leaf in leaves.items():
        tree = with_leaf(tree, path, leaf)
    return tree


def with_value(fields: Mapping[str, Field], name: str, leaf: Field) -> dict[str, Field]:
    """The same tree, with another value of this name; objects and lists on the way are made where missing.

    The names that are in the tree say where one ends and the next begins: they may have dots and brackets
    themselves. See `path_of` for what is not there.
    """
    return with_leaf(fields, _path_in(fields, name), leaf)


def with_leaf(fields: Mapping[str, Field], path: Path, leaf: Field) -> dict[str, Field]:
    """The same tree, with another field at the end of the path."""
    name = str(path[0])
    return {**fields, name: _with_leaf(fields.get(name, Field()), path[1:], leaf)}


def _with_leaf(node: Field, path: Path, leaf: Field) -> Field:
    if not path:
        return leaf
    index = path[0]
    if isinstance(index, str):
        return node.model_copy(update={"fields": with_leaf(node.fields or {}, path, leaf)})
    items = list(node.items or ())
    items += [Field(fields={})] * (index + 1 - len(items))
    items[index] = _with_leaf(items[index], path[1:], leaf)
    return node.model_copy(update={"items": items})
