"""The conformance suite for providers, to be run by the packages that have some.

A package describes its simulated service once, and its test module is these lines:

```python
@pytest.fixture(scope="module")
def service() -> SimulatedService:
    return SimulatedAcme()


class TestAcme(ProviderSuite):
    pass
```

It needs the extra `prefect-docjobs[testing]`.
"""

import pytest

pytest.register_assert_rewrite("prefect_docjobs.testing.suite", "prefect_docjobs.testing.hostile")

from prefect_docjobs.testing.clock import virtual_time  # noqa: E402
from prefect_docjobs.testing.service import Conditions, SimulatedService  # noqa: E402
from prefect_docjobs.testing.suite import ProviderSuite  # noqa: E402

__all__ = ["Conditions", "ProviderSuite", "SimulatedService", "virtual_time"]
