"""Virtual time for tests that use threads, as a ledger on SQLite does: the clock stands still for them."""

from __future__ import annotations

from prefect_docjobs.testing.clock import PatientLoop, virtual_time

__all__ = ["PatientLoop", "patient_time"]

patient_time = virtual_time
"""Run an async test on a `PatientLoop`."""
