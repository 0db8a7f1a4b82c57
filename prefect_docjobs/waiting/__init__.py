"""Waiting for the jobs of one account: polls, the account's list, streams, pushes.

A job stays scheduled for a poll even while a list, a stream or a push feed covers it: a lost push or a wrong
list delays a job and never loses it.
"""

from __future__ import annotations

from prefect_docjobs.waiting.durations import Forecast
from prefect_docjobs.waiting.pending import WaitLimits
from prefect_docjobs.waiting.waiter import Waiter

__all__ = ["Forecast", "WaitLimits", "Waiter"]
