"""The query parameters of NuMind's routes; a bad value gets HTTP 400 with plain text.

Sources: numind 0.4.2 SDK, `structured_data_extraction_api.py` (parameters of the job routes, format and
minimum of `timeout`); JobsApi.md (`skip`, `perPage`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from starlette.datastructures import QueryParams

from prefect_docjobs.simulator.numind.errors import bad_query

DEFAULT_TIMEOUT = 3600  # seconds
_LEAST_TIMEOUT = 300.0  # seconds; what is asked below is raised to it
_DURATION = re.compile(r"(\d{1,9})(ms|s|m|h)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def _number_within(low: float, high: float) -> Callable[[str], bool]:
    def fits(text: str) -> bool:
        try:
            return low <= float(text) <= high
        except ValueError:
            return False

    return fits


def _is_whole(text: str) -> bool:
    return re.fullmatch(r"-?\d{1,18}", text) is not None


def _is_resolution(text: str) -> bool:
    return text == "automatic" or (text.isdecimal() and len(text) < 4 and 1 <= int(text) <= 600)


def _is_switch(text: str) -> bool:
    return text in {"true", "false"}


_CHECKS: Mapping[str, Callable[[str], bool]] = {
    "temperature": _number_within(0.0, 2.0),
    "minExampleSimilarity": _number_within(0.0, 1.0),
    "maxExampleTokenNumber": _number_within(0.0, 130_000.0),
    "randomSeed": _is_whole,
    "dpi": _is_resolution,
    "rasterizationDPI": _is_resolution,
    "enableThinking": _is_switch,
    "loopDetection": _is_switch,
    "timeout": lambda text: _DURATION.fullmatch(text) is not None,
}


def check_options(query: QueryParams) -> None:
    """Refuses a bad value of an option of the job routes.

    Raises:
        Rejected: HTTP 400 that names the parameter.
    """
    for name, is_good in _CHECKS.items():
        value = query.get(name)
        if value is not None and not is_good(value):
            raise bad_query(name)


def timeout_seconds(query: QueryParams) -> int:
    """The time that a job may take, in whole seconds; an hour if nothing is said, five minutes at least."""
    match = _DURATION.fullmatch(query.get("timeout", ""))
    if match is None:
        return DEFAULT_TIMEOUT
    return int(max(_LEAST_TIMEOUT, int(match[1]) * _UNITS[match[2]]))


def whole_number(query: QueryParams, name: str, default: int, low: int, high: int) -> int:
    """A whole number from the query.

    Raises:
        Rejected: HTTP 400 that names the parameter.
    """
    value = query.get(name)
    if value is None:
        return default
    if not _is_whole(value) or not low <= int(value) <= high:
        raise bad_query(name)
    return int(value)
