"""Standing by for records that somebody else holds."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support.ledgers import dead, entry, ref
from support.patient_time import patient_time

from prefect_docjobs.errors import JobTimeout
from prefect_docjobs.extraction.owners import OwnerWait
from prefect_docjobs.ledger import Ledger


@patient_time
async def test_who_loses_patience_does_not_take_the_others_along(tmp_path: Path) -> None:
    async with Ledger(str(tmp_path / "ledger.db")) as ledger:
        record = await ledger.claim(entry("a"))
        bystanders = OwnerWait(ledger)
        patient = asyncio.create_task(bystanders.wait(record))
        with pytest.raises(JobTimeout, match="took too long"):
            await bystanders.wait(record, until=asyncio.get_running_loop().time() + 3.0)
        await ledger.submitted(record, ref())
        await asyncio.wait_for(patient, 2.0)
        await bystanders.aclose()


@patient_time
async def test_a_record_that_is_written_released_or_free_is_news(tmp_path: Path) -> None:
    async with Ledger(str(tmp_path / "ledger.db")) as ledger:
        records = [await ledger.claim(entry(name)) for name in ("written", "released", "free", "still")]
        bystanders = OwnerWait(ledger)
        waiting = [asyncio.create_task(bystanders.wait(record)) for record in records]
        await asyncio.sleep(2.0)
        assert not any(task.done() for task in waiting)
        await ledger.submitted(records[0], ref())
        await ledger.delete_intent(records[1])
        await dead(ledger, records[2])
        await asyncio.sleep(1.0)
        assert [task.done() for task in waiting] == [True, True, True, False]
        waiting[3].cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await asyncio.sleep(1.0)
        assert not [task for task in asyncio.all_tasks() if task.get_name() == "docjobs-bystanders"]
