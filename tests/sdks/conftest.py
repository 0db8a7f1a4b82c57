"""One simulator on a port for the whole run, with every official SDK let loose on it at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from sdks.scripts.outcomes import REMOTE_URL
from support.official_sdks import ENVIRONMENTS, KEY, Outcomes, run_script

from prefect_docjobs.simulator.server import run_in_thread
from prefect_docjobs.simulator.settings import Duration, Settings


@pytest.fixture(scope="session")
def sdks() -> Iterator[Mapping[str, Outcomes]]:
    """Each script's outcomes; a test waits only for the script that it asks."""
    settings = Settings(api_key=KEY, duration=Duration(law="fixed", seconds=0.6))
    with run_in_thread(settings) as simulator, ThreadPoolExecutor(len(ENVIRONMENTS)) as threads:
        _put_remote_document(simulator.base_url)
        yield {name: Outcomes(threads.submit(run_script, name, simulator.base_url)) for name in ENVIRONMENTS}


def _put_remote_document(base_url: str) -> None:
    """Tell the simulator what is behind the URL that the scripts submit."""
    document = {"text": "INVOICE\nInvoice number: REMOTE-7\nTotal amount: 77.70 EUR\n"}
    with httpx.Client(base_url=base_url, trust_env=False) as client:
        client.put("/_simulator/documents", json={REMOTE_URL: document}).raise_for_status()
