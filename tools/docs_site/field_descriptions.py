"""For the reference: the settings of blocks, and the values of enumerations.

Settings of blocks are described once, in `Field(description=…)`, where Prefect's forms find it. The reference
is made of docstrings; so they become an `Attributes:` section of the class's own, in the order of the form.
"""

from __future__ import annotations

import ast
import inspect
import re
from importlib import import_module
from typing import Any

from griffe import Class, Docstring, Extension
from pydantic import BaseModel
from pydantic.fields import FieldInfo

BLOCKS = "prefect_docjobs.blocks"
_MODULE = re.compile(r"\b(?:\w+\.)+(?=\w)")


class FieldDescriptions(Extension):
    """Lists the settings of blocks with their types and defaults, and the values of an `Enum`."""

    def on_class_members(self, *, cls: Class, **_: Any) -> None:
        """Called by Griffe for each class whose members it has read."""
        if any(str(base) == "Enum" for base in cls.bases):
            _list_values(cls)
        elif cls.module.path.startswith(BLOCKS):
            _list_settings(cls)


def _list_values(cls: Class) -> None:
    values = [member.value for member in cls.attributes.values() if member.value is not None]
    listed = ", ".join(f"`{ast.literal_eval(str(value))}`" for value in values)
    cls.docstring = Docstring(f"{_text(cls)}\n\nIts values are {listed}.", parent=cls)


def _list_settings(cls: Class) -> None:
    block = getattr(import_module(cls.module.path), cls.name)
    if not issubclass(block, BaseModel):
        return
    lines = [f"    {name} ({_type(info)}): {_about(info)}" for name, info in block.model_fields.items()]
    head, example, code = _text(cls).partition("\n\nExample:")
    attributes = "\n\nAttributes:\n" + "\n".join(lines) if lines else ""
    cls.docstring = Docstring(f"{head}{attributes}{example}{code}", parent=cls)


def _text(cls: Class) -> str:
    return cls.docstring.value if cls.docstring else ""


def _type(info: FieldInfo) -> str:
    return _MODULE.sub("", inspect.formatannotation(info.annotation))


def _about(info: FieldInfo) -> str:
    described = info.description or ""
    if info.is_required():
        return f"{described} Required."
    default = info.get_default(call_default_factory=True, validated_data={})
    return described if default is None else f"{described} Default: `{default!r}`."
