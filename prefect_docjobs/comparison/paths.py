"""Ways into a tree of fields, and the names of what they lead to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from prefect_docjobs.models import Field

Path: TypeAlias = tuple[str | int, ...]
"""The way to a field: names of objects' children, and indices of lists' elements from 0."""

_BETWEEN_NAMES = re.compile(r"(?<=[^\s.])\.(?=[^\s.])")  # not in `VAT no.` and `price incl. VAT`
_INDICES = re.compile(r"(?:\[\d+\])+\Z")
_INDEX = re.compile(r"\[(\d+)\]")


def name_of(path: Path) -> str:
    """The name of what is there: `("line_items", 0, "amount")` is `line_items[0].amount`."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return "".join(steps).removeprefix(".")


def path_of(name: str) -> Path:
    """The way that a name most likely means, where no tree can tell.

    A dot separates when it stands between two characters that are neither blank nor dots; brackets are an
    index when they have digits only and end the name of a list. So `VAT no.`, `price incl. VAT` and
    `amount [EUR]` stay whole, but `P.O. box` does not.
    """
    path = tuple(step for word in _BETWEEN_NAMES.split(name) for step in _steps(word))
    return path if path and isinstance(path[0], str) else (name,)


def path_in(fields: Mapping[str, Field], name: str) -> Path:
    """The way to a name in this tree, by the names that are there, the longest first.

    What of it is not there yet is read as `path_of` does.
    """
    path, rest = min(_ways(fields, name), key=lambda way: len(way[1]))
    if not path:
        return path_of(name)
    return (*path, *path_of(rest.removeprefix("."))) if rest else path


def names_along(path: Path) -> Iterator[str]:
    """The names of all that the way leads through, the outermost first, itself last."""
    return (name_of(path[:length]) for length in range(1, len(path) + 1))


def placed(fields: Mapping[str, Field], path: Path, leaf: Field) -> dict[str, Field]:
    """The same tree, with another field at the end of the way; what leads there is made where missing."""
    name = str(path[0])
    return {**fields, name: _grown(fields.get(name, Field()), path[1:], leaf)}


def column_of(name: str) -> str:
    """The name without its indices: `line_items[3].amount` becomes `line_items[].amount`."""
    return _INDEX.sub("[]", name)


def _steps(word: str) -> Iterator[str | int]:
    name = _INDICES.sub("", word)
    if name:
        yield name
    yield from map(int, _INDEX.findall(word[len(name) :]))


def _ways(fields: Mapping[str, Field], name: str) -> Iterator[tuple[Path, str]]:
    """Ways that are there already, and what of the name is left behind each."""
    yield (), name
    for key in sorted(fields, key=len, reverse=True):
        if name.startswith(key):
            for path, rest in _ways_below(fields[key], name[len(key) :]):
                yield (key, *path), rest


def _ways_below(node: Field, rest: str) -> Iterator[tuple[Path, str]]:
    if not rest:
        yield (), ""
    elif rest.startswith("."):
        yield (), rest
        below = _ways(node.fields or {}, rest[1:])
        yield from ((path, left) for path, left in below if path)
    elif index := _INDEX.match(rest):
        place, items = int(index[1]), node.items or []
        item = items[place] if place < len(items) else Field()
        yield from (((place, *path), left) for path, left in _ways_below(item, rest[index.end() :]))


def _grown(node: Field, path: Path, leaf: Field) -> Field:
    if not path:
        return leaf
    index = path[0]
    if isinstance(index, str):
        return node.model_copy(update={"fields": placed(node.fields or {}, path, leaf)})
    items = list(node.items or ())
    items += [Field(fields={})] * (index + 1 - len(items))
    items[index] = _grown(items[index], path[1:], leaf)
    return node.model_copy(update={"items": items})
