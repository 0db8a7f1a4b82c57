"""What a template or a JSON Schema extracts from a document, and the values that the document has for it.

Both become one tree of `Leaf`, `Group` and `Many`; the answer is a tree of the same shape with a `Found` for
each leaf. Sources: README of numind (template types), Unsiloed docs, "Extract data" (`schema_data` is a JSON
Schema).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from prefect_docjobs.simulator.reading.document import DocumentRead
from prefect_docjobs.simulator.reading.fields import item_key
from prefect_docjobs.simulator.reading.pages import NOT_FOUND, Found
from prefect_docjobs.simulator.reading.vocabulary import ITEM_COLUMNS, field_name, folded, snake_case

_DEEPEST = 24
_KINDS = frozenset({"number", "integer", "date", "date-time", "boolean", "verbatim-string"})
_SEPARATORS = re.compile(r"\s*[,;]\s*")
_ITEM_WORDS = frozenset(
    {"item", "items", "line", "lines", "position", "positions", "products", "articles", "rows", "entries"}
)
_TELLING_COLUMNS = 2
_PARTIES = frozenset({"supplier_name", "customer_name"})
_NAME_WORDS = frozenset({"name", "company", "company_name", "legal_name", "full_name"})


class InvalidSchema(ValueError):
    """A template or a schema that cannot be understood."""


@dataclass(frozen=True)
class Leaf:
    """One value.

    Attributes:
        kind: `string`, `verbatim-string`, `number`, `integer`, `date`, `date-time` or `boolean`.
        choices: The only values allowed, if any.
    """

    kind: str = "string"
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    """Named values that belong together."""

    members: Mapping[str, Wanted]


@dataclass(frozen=True)
class Many:
    """Any number of the same."""

    of: Wanted


Wanted: TypeAlias = "Leaf | Group | Many"
Answer: TypeAlias = "Found | dict[str, Answer] | list[Answer]"


def from_template(template: Any, depth: int = 0) -> Wanted:
    """Parses a NuExtract template.

    A text names a type, a list of one is a list of it, a list of several texts is a choice of one of them,
    and such a list in a list is a choice of several.

    Raises:
        InvalidSchema: A leaf is not a text, a list is empty or mixed, or the nesting is too deep.
    """
    _check_depth(depth)
    if isinstance(template, str):
        return Leaf(template if template in _KINDS else "string")
    if isinstance(template, dict):
        return Group({name: from_template(each, depth + 1) for name, each in template.items()})
    if isinstance(template, list) and len(template) == 1:
        return Many(from_template(template[0], depth + 1))
    if isinstance(template, list) and template and all(isinstance(choice, str) for choice in template):
        return Leaf("string", tuple(template))
    raise InvalidSchema("a template holds objects, type names, lists of one, and lists of choices")


def from_json_schema(schema: Any, definitions: Mapping[str, Any] | None = None, depth: int = 0) -> Wanted:
    """Parses a JSON Schema; `$ref` into the schema's own definitions is followed.

    Raises:
        InvalidSchema: It is no object, refers to something missing, or is nested too deeply.
    """
    _check_depth(depth)
    if not isinstance(schema, dict):
        raise InvalidSchema("a schema must be an object")
    known = definitions or {**_mapping(schema.get("definitions")), **_mapping(schema.get("$defs"))}
    inner = _inner_schema(schema, known)
    if inner is not None:
        return from_json_schema(inner, known, depth + 1)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((each for each in kind if each != "null"), None)
    if not isinstance(kind, str):
        kind = "object" if "properties" in schema else "array" if "items" in schema else "string"
    if kind == "object":
        members = _mapping(schema.get("properties"))
        return Group({name: from_json_schema(each, known, depth + 1) for name, each in members.items()})
    if kind == "array":
        return Many(from_json_schema(schema.get("items", {}), known, depth + 1))
    if kind == "string" and schema.get("format") in {"date", "date-time"}:
        kind = str(schema["format"])
    choices = schema.get("enum")
    texts = [each for each in choices if isinstance(each, str)] if isinstance(choices, list) else []
    return Leaf(kind if kind in _KINDS else "string", tuple(texts))


def _check_depth(depth: int) -> None:
    if depth > _DEEPEST:
        raise InvalidSchema("it is nested too deeply")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _inner_schema(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Any:
    """The schema that this one only wraps: the target of its `$ref`, or its first alternative but null."""
    reference = schema.get("$ref")
    if isinstance(reference, str):
        name = reference.rpartition("/")[2]
        if name not in definitions:
            raise InvalidSchema(f"the schema refers to {reference!r}, which it does not define")
        return definitions[name]
    for word in ("anyOf", "oneOf", "allOf"):
        if isinstance(alternatives := schema.get(word), list):
            return next((each for each in alternatives if each != {"type": "null"}), None)
    return None


def answered(read: DocumentRead, wanted: Wanted, path: tuple[str, ...] = ()) -> Answer:
    """The document's values, in the shape of what is wanted.

    Args:
        read: The document.
        wanted: What to extract.
        path: The names that lead there, from the root.
    """
    if isinstance(wanted, Group):
        return {name: answered(read, each, (*path, name)) for name, each in wanted.members.items()}
    if isinstance(wanted, Leaf):
        return _chosen(_found(read, path, wanted.kind), wanted)
    if isinstance(wanted.of, Group):
        return _items(read, wanted.of, path)
    return _several(read, wanted.of, path) if isinstance(wanted.of, Leaf) else []


def plain(answer: Answer) -> Any:
    """The values as plain JSON."""
    if isinstance(answer, Found):
        return answer.value
    if isinstance(answer, list):
        return [plain(each) for each in answer]
    return {name: plain(each) for name, each in answer.items()}


def _found(read: DocumentRead, path: tuple[str, ...], kind: str) -> Found:
    """The field under its whole path, else under its own name unless that would cross two parties."""
    whole = read.find_field("_".join(path), kind)
    if whole.value is not None or len(path) < 2:
        return whole
    parent, own = path[-2:]
    if field_name(parent) in _PARTIES:
        return read.find_field(parent, kind) if snake_case(own) in _NAME_WORDS else NOT_FOUND
    nearer = read.find_field(f"{parent}_{own}", kind)
    if nearer.value is not None:
        return nearer
    return read.find_field(own, kind) if field_name(own) in read.fields else NOT_FOUND


def _chosen(found: Found, leaf: Leaf) -> Found:
    """The finding as one of the leaf's choices: the one that it is, or the first one that it mentions."""
    if not leaf.choices or found.value is None:
        return found
    text = folded(str(found.value))
    exact = next((choice for choice in leaf.choices if folded(choice) == text), None)
    words = set(re.findall(r"\w+", text))
    choice = exact or next((choice for choice in leaf.choices if folded(choice) in words), None)
    return NOT_FOUND if choice is None else Found(choice, found.box, found.text)


def _items(read: DocumentRead, group: Group, path: tuple[str, ...]) -> list[Answer]:
    """The rows of the table of items, if the list's name or two of its columns are those of such a table."""
    named = bool(path) and not _ITEM_WORDS.isdisjoint(snake_case(path[-1]).split("_"))
    if not named and len({item_key(name) for name in group.members} & ITEM_COLUMNS) < _TELLING_COLUMNS:
        return []

    def cell(item: Mapping[str, Found], name: str, wanted: Wanted) -> Answer:
        if isinstance(wanted, Leaf):
            return _chosen(read.find_in_item(item, name, wanted.kind), wanted)
        return NOT_FOUND

    return [
        {name: cell(item, name, wanted) for name, wanted in group.members.items()} for item in read.line_items
    ]


def _several(read: DocumentRead, leaf: Leaf, path: tuple[str, ...]) -> list[Answer]:
    """The parts of a field that lists values between commas; a number is never taken apart."""
    found = _found(read, path, leaf.kind)
    if found.value is None:
        return []
    if not isinstance(found.value, str) or not leaf.kind.endswith("string"):
        return [found]
    parts = [Found(part, found.box, part) for part in _SEPARATORS.split(found.value) if part]
    return [part for part in (_chosen(each, leaf) for each in parts) if part.value is not None]
