"""What tests of the ledger write into it, and a clock that they can turn."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from sqlalchemy import text

from prefect_docjobs.ledger import Entry, Ledger, Record
from prefect_docjobs.models import JobRef

ON_POSTGRESQL = pytest.mark.parametrize(
    "url", [pytest.param("postgresql", marks=pytest.mark.xdist_group("postgres"))], indirect=True
)
"""For a test of a ledger that only PostgreSQL can fail."""

TIMES = ("intended_at", "submitted_at", "done_at", "fetched_at", "updated_at", "lease_until")


def entry(name: str = "a", **facts: Any) -> Entry:
    known = {
        "key": name.rjust(64, "0"),
        "provider": "toy",
        "base_url": "https://toy.test",
        "tenant": "acme",
        "product": "extraction",
        "document_name": f"{name}.pdf",
    }
    return Entry(**{**known, **facts})


def ref(job_id: str = "job-a", **facts: Any) -> JobRef:
    known = {
        "provider": "toy",
        "base_url": "https://toy.test",
        "tenant": "acme",
        "product": "extraction",
        "job_id": job_id,
        "document_name": "a.pdf",
        "submitted_at": datetime(2026, 2, 3, tzinfo=timezone.utc),
    }
    return JobRef(**{**known, **facts})


async def deliver(
    ledger: Ledger,
    record: Record,
    job: JobRef,
    body: bytes,
    *,
    content_type: str | None = None,
    **figures: Any,
) -> Record:
    """Keep a result and have it read; where another worker has the record it is kept only."""
    kept = await ledger.kept(record, job, body, content_type=content_type)
    return await ledger.fetched(kept, job, **figures) if kept.mine else kept


async def later(ledger: Ledger, record: Record, seconds: float) -> Record:
    """The record as it would be read so many seconds later, had nobody touched it."""
    earlier = ", ".join(f"{name} = {name} - {seconds}" for name in TIMES)
    backdate = text(f"UPDATE docjobs_jobs SET {earlier} WHERE id = {record.id}")
    await ledger._database.run(lambda connection: connection.execute(backdate), writes=True)
    now = await ledger.record(record.id)
    assert now is not None
    return now


async def dead(ledger: Ledger, record: Record) -> Record:
    """The record as others see it when its holder has died: the lease has run out."""
    return await later(ledger, record, 61.0)
