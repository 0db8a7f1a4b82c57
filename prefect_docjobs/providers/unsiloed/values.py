"""Tolerant readers of single JSON values: None, or nothing, for what is not the documented kind."""

from __future__ import annotations

import math
from typing import Any


def number(value: object) -> float | None:
    """A finite number; None for anything else, booleans and NaN included."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        result = float(value)
    except OverflowError:
        return None
    return result if math.isfinite(result) else None


def share(value: object) -> float | None:
    """A number from 0 to 1, such as a confidence; None for anything else."""
    result = number(value)
    return result if result is not None and 0 <= result <= 1 else None


def whole(value: object) -> int | None:
    """A whole number, also one written as `2.0` (the newer OpenAPI types page numbers as floats)."""
    result = number(value)
    return int(result) if result is not None and result.is_integer() else None


def page_number(value: object) -> int | None:
    """A 1-based page number (Unsiloed docs, results.mdx: 1-indexed); None for anything else."""
    result = whole(value)
    return result if result is not None and result >= 1 else None


def text(value: object) -> str | None:
    """A text with something in it; None for anything else."""
    return value if isinstance(value, str) and value.strip() else None


def mapping(value: object) -> dict[str, Any]:
    """An object, or an empty one in place of anything else."""
    return value if isinstance(value, dict) else {}


def objects(value: object) -> list[dict[str, Any]]:
    """The objects of a list, in order; nothing where there is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
