"""The documents that ship with the package, at every service."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest
from support.patient_time import patient_time
from support.services import connected

from prefect_docjobs.errors import Reason
from prefect_docjobs.extraction import extract_many
from prefect_docjobs.models import Document
from prefect_docjobs.providers.registry import BUILT_IN
from prefect_docjobs.simulator import samples

TOTALS = {
    "invoice-brightwater.pdf": 1452.17,
    "invoice-cascade-3-pages.pdf": 4177.38,
    "receipt-green-leaf.png": 25.5,
    "rechnung-bergmann.pdf": 1432.4,
}


@pytest.mark.parametrize("name", BUILT_IN)
@patient_time
async def test_every_sample_gives_its_own_values_or_is_refused_by_type(name: str) -> None:
    paths = sorted(Path(str(item)) for item in files(samples).iterdir() if not item.name.startswith("_"))
    documents = [Document.from_path(path) for path in paths]
    async with connected(name) as at:
        outcomes = [outcome async for _, outcome in extract_many(at.provider, at.http, documents)]

    assert len(outcomes) == len(documents) >= 6
    assert all(outcome.ok or outcome.reason is Reason.INVALID_DOCUMENT for outcome in outcomes)
    results = {outcome.document: outcome.result for outcome in outcomes if outcome.result}
    totals = {name: results[name].fields["total_amount"].value for name in TOTALS if name in results}
    assert totals == TOTALS
