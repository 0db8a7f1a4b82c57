"""How the settings of a block look in the forms of Prefect's UI.

Both UIs of Prefect 3.8 show `T | None` as a choice between the words for T and None before anything can be
typed, and show no way to leave a switch alone. So a setting that may be left out is told as a plain T: what
is left empty is not given. Values are told to the form as it shows them, so that an edit keeps them.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, TypeAlias

from pydantic import BeforeValidator, PlainSerializer, SecretStr, WithJsonSchema

_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]+")
_NULL: Final = {"type": "null"}


def _yes_or_no(given: bool | None) -> str | None:
    return None if given is None else ("no", "yes")[given]


def _number_where_it_is_one(given: object) -> object:
    return int(given) if isinstance(given, str) and _WHOLE_NUMBER.fullmatch(given.strip()) else given


def _as_text(given: int | str | None) -> str | None:
    return None if given is None else str(given)


def _separated(given: object) -> object:
    return re.split(r"[\s,]+", given.strip(" \t\r\n,")) if isinstance(given, str) and given else given


YesNo: TypeAlias = Annotated[
    bool | None,
    PlainSerializer(_yes_or_no, return_type=str | None),
    WithJsonSchema({"type": "string", "enum": ["yes", "no"]}),
]
"""Yes, no, or left to the service: a switch could only say yes or no."""

NumberOrWord: TypeAlias = Annotated[
    int | str | None,
    BeforeValidator(_number_where_it_is_one),
    PlainSerializer(_as_text, return_type=str | None),
    WithJsonSchema({"type": "string"}),
]
"""A whole number, or a word of the service such as Unlimited; a text field takes both."""

JsonTree: TypeAlias = Annotated[dict[str, Any] | list[Any] | str | None, WithJsonSchema({"type": "object"})]
"""Any JSON; the form has an editor for it."""

Secrets: TypeAlias = Annotated[
    list[SecretStr],
    BeforeValidator(_separated),
    WithJsonSchema({"type": "string", "format": "password", "writeOnly": True}),
]
"""Several secrets; in a form one masked field, in which they are separated by blanks or commas.

A list would be shown in clear text, and Prefect, which masks a list as one text, would lose it in an edit.
"""


def one_of(*values: str) -> WithJsonSchema:
    """Words of the service as choices in the form; from Python, where it may know more, any text is taken."""
    return WithJsonSchema({"type": "string", "enum": list(values)})


def is_empty(given: object) -> bool:
    """Whether it is what a form makes of a field that was left empty."""
    return given is None or given in ("", {}, [])


def title_of(name: str) -> str:
    """The label of a setting that has no title of its own."""
    return name.replace("_", " ").capitalize()


def without_null(property_: dict[str, Any]) -> None:
    """Tell a setting that may be left out as what it is when it is given."""
    choices = property_.get("anyOf", [])
    if _NULL in choices and len(choices) == 2:
        (kind,) = [choice for choice in choices if choice != _NULL]
        del property_["anyOf"]
        property_.update({**kind, **property_})
    if "default" in property_ and property_["default"] is None:
        del property_["default"]
