"""Chunks of made-up documents, for tests that need no service."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from prefect_docjobs.errors import Reason
from prefect_docjobs.loading import Chunk, JobIdentity, SourceFile
from prefect_docjobs.models import Field, JobRef, Outcome, Phase, Result

JOB = JobIdentity("toy/extraction/0123456789abcdef", "toy-job/invoices", "toy", "extraction", "acme")
AT = datetime(2026, 2, 3, 4, 5, 6, tzinfo=timezone.utc)


def field(value: Any) -> Field:
    """A value as a service's answer is read: objects and lists all the way down."""
    if isinstance(value, dict):
        return Field(fields={name: field(child) for name, child in value.items()})
    if isinstance(value, list):
        return Field(items=[field(item) for item in value])
    return Field(value=value, confidence=0.5)


def outcome(values: Mapping[str, Any] | None = None, reason: Reason | None = None) -> Outcome:
    ref = JobRef(
        provider="toy",
        base_url="https://toy.test",
        tenant="acme",
        product="extraction",
        job_id="job-1",
        document_name="a.pdf",
        submitted_at=AT,
    )
    fields = {name: field(value) for name, value in (values or {}).items()}
    result = None if reason else Result(ref=ref, fields=fields)
    phase = Phase.WAIT if reason else Phase.DONE
    return Outcome(document="a.pdf", ref=ref, phase=phase, result=result, reason=reason)


def source(name: str, version: str = "1") -> SourceFile:
    return SourceFile(
        f"file:///in/{name}.pdf",
        f"/in/{name}.pdf",
        f"{name}.pdf",
        1,
        datetime.fromisoformat("2026-01-01"),
        version,
    )


def chunk(
    documents: Mapping[str, Mapping[str, Any]] | None = None, failed: Mapping[str, Reason] | None = None
) -> Chunk:
    """Documents by their names, which stand for their hashes too, with what was found in each."""
    made = Chunk(JOB)
    outcomes = {name: outcome(values) for name, values in (documents or {}).items()}
    outcomes |= {name: outcome(reason=reason) for name, reason in (failed or {}).items()}
    for name, ended in outcomes.items():
        made.add_document(sha256(name), source(name), ended)
        made.add_file(source(name), sha256(name))
    return made


def sha256(name: str) -> str:
    """Something as long as a hash."""
    return name.encode().hex().rjust(64, "0")[-64:]
