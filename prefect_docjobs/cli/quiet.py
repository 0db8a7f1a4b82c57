"""Prefect in a terminal without its messages: what matters is in our own output, and in Prefect's UI."""

from __future__ import annotations

import os
import warnings
from contextvars import ContextVar

debugging: ContextVar[bool] = ContextVar("debugging", default=False)
"""Whether `--debug` was given."""

QUIET = {
    # Only the console: a run's log still goes to Prefect's API.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}
"""Settings for the environment of a process before it imports Prefect."""


def quiet_prefect() -> None:
    """Keep messages and warnings away from the terminal, unless `--debug` was given.

    It has an effect before Prefect is imported. What the user has set is left as it is.
    """
    if debugging.get():
        return
    for name, setting in QUIET.items():
        os.environ.setdefault(name, setting)
    warnings.simplefilter("ignore")
