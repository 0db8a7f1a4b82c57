"""The field of a document that answers a name asked for, as the type asked for."""

from __future__ import annotations

from collections.abc import Mapping

from prefect_docjobs.simulator.reading.parts import NOT_FOUND, Found, Value
from prefect_docjobs.simulator.reading.values import (
    parse_boolean,
    parse_date,
    parse_date_time,
    parse_number,
)
from prefect_docjobs.simulator.reading.vocabulary import field_name, is_canonical


def find(fields: Mapping[str, Found], name: str) -> Found:
    """The field of that name or of a synonym, else the only one whose name has all the words asked for.

    A field with a canonical name of its own never answers to another name: who asks for `date` does not
    get the due date.
    """
    wanted = field_name(name)
    if wanted in fields:
        return fields[wanted]
    if not wanted or is_canonical(wanted):
        return NOT_FOUND
    words = set(wanted.split("_"))
    near = [field for key, field in fields.items() if not is_canonical(key) and words <= set(key.split("_"))]
    return near[0] if len(near) == 1 else NOT_FOUND


def as_kind(found: Found, kind: str, *, decimal_comma: bool) -> Found:
    """The same finding as a value of the kind asked for; its value is None if it is not of that kind.

    Args:
        found: What was found.
        kind: `string`, `verbatim-string`, `number`, `integer`, `date`, `date-time` or `boolean`; any other
            kind is taken for `string`.
        decimal_comma: How the document writes its numbers.
    """
    value = None if found.value is None else _value(found, kind, decimal_comma=decimal_comma)
    return NOT_FOUND if value is None else Found(value, found.box, found.text)


def _value(found: Found, kind: str, *, decimal_comma: bool) -> Value:
    if kind in {"number", "integer"}:
        return _number(found, whole=kind == "integer", decimal_comma=decimal_comma)
    if kind == "boolean":
        return found.value if isinstance(found.value, bool) else parse_boolean(found.text)
    if kind == "date":
        return parse_date(str(found.value))
    if kind == "date-time":
        return parse_date_time(found.text) or parse_date_time(str(found.value))
    if kind == "verbatim-string" or not isinstance(found.value, str):
        return found.text or str(found.value)
    return found.value


def _number(found: Found, *, whole: bool, decimal_comma: bool) -> Value:
    value = found.value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        value = parse_number(found.text, decimal_comma=decimal_comma)
    if value is None or not whole:
        return value
    return int(value) if value == int(value) else None
