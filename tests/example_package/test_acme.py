"""Acme Reader passes the conformance suite of prefect-docjobs."""

from __future__ import annotations

import pytest
from docjobs_acme.simulated import SimulatedAcme

from prefect_docjobs.testing import ProviderSuite, SimulatedService


@pytest.fixture(scope="module")
def service() -> SimulatedService:
    return SimulatedAcme()


class TestAcme(ProviderSuite):
    pass
