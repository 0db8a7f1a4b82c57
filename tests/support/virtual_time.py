"""Async tests in virtual time: an hour of polling takes milliseconds and is exact."""

from __future__ import annotations

from prefect_docjobs.simulator.virtual_time import VirtualLoop
from prefect_docjobs.testing.clock import run_on

virtual_time = run_on(VirtualLoop)
"""Run an async test on a `VirtualLoop`."""
