"""The providers of this package run through the conformance suite that is shipped."""

from __future__ import annotations

import pytest
from support.services import SETTINGS, OurService

from prefect_docjobs.providers.registry import BUILT_IN
from prefect_docjobs.testing import ProviderSuite, SimulatedService


@pytest.fixture(scope="module", params=list(BUILT_IN))
def service(request: pytest.FixtureRequest) -> SimulatedService:
    return OurService(request.param)


class TestProviders(ProviderSuite):
    pass


def test_the_registry_is_in_order_and_every_service_of_it_is_tested() -> None:
    assert list(BUILT_IN) == sorted(BUILT_IN) == sorted(SETTINGS)
