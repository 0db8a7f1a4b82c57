"""Results of made-up services, without a service."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from prefect_docjobs.models import Field, JobRef, Location, Outcome, Phase, Result, Usage


def leaf(value: Any, confidence: float | None = None, page: int | None = None) -> Field:
    locations = () if page is None else (Location(page=page),)
    return Field(value=value, confidence=confidence, locations=locations)


def tree(value: Any) -> Field:
    """Plain data as a field; a field stays what it is."""
    if isinstance(value, Field):
        return value
    if isinstance(value, dict):
        return Field(fields={name: tree(child) for name, child in value.items()})
    if isinstance(value, list):
        return Field(items=[tree(item) for item in value])
    return Field(value=value)


def result(*, provider: str = "mindee", usage: Usage | None = None, **fields: Any) -> Result:
    """A result with these fields, as plain data or as they are."""
    ref = JobRef(
        provider=provider,
        base_url="https://service.test",
        tenant="t",
        product="extraction",
        job_id=f"job-of-{provider}",
        document_name="a.pdf",
        submitted_at=datetime(2026, 11, 1, tzinfo=timezone.utc),
    )
    named = {name: tree(value) for name, value in fields.items()}
    return Result(ref=ref, fields=named, usage=usage or Usage())


def delivered(found: Result, seconds: float = 1.0) -> Outcome:
    return Outcome(document="a.pdf", ref=found.ref, phase=Phase.DONE, result=found, seconds=seconds)
